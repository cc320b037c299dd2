"""The list of slow examples is of examples that are there."""

import pkgutil

import pytest
from helpers.doctests import SLOW


@pytest.mark.parametrize("name", sorted(SLOW))
def test_slow_examples_are_there(name):
    assert ">>>" in pkgutil.resolve_name(name).__doc__
