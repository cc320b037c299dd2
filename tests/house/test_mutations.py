"""The faults of tests/mutations.py can be made: what they change stands in the source, and their tests are there."""

import mutations
import pytest
from helpers import ROOT


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.title)
def test_the_place_of_a_fault_is_there_once(mutation):
    assert (ROOT / mutation.path).read_text().count(mutation.old) == 1
    assert mutation.old != mutation.new
    assert all((ROOT / path).is_file() for path in mutation.tests)


def test_a_survivor_is_told(monkeypatch, capsys):
    harmless = mutations.MUTATIONS[0]._replace(title="none", old="count = int(", new="count = int(", tests=("a.py",))
    monkeypatch.setattr(mutations, "MUTATIONS", (harmless,))
    monkeypatch.setattr(mutations, "copy_repository", lambda to: None)
    monkeypatch.setattr(mutations, "is_noticed", lambda mutation, folder: (False, ""))
    assert mutations.main([]) == 1
    assert "0 of 1 noticed\nsurvived: none" in capsys.readouterr().out
