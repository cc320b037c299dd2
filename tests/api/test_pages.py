"""Pages of runs: which member, which examples, and the command."""

import json
import re

import pytest
from helpers.scripts import script
from helpers.trained_runs import TWO_MEMBERS

import vaex
from vaex.errors import UserError


def content_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


@pytest.mark.slow
def test_a_member_has_its_page(trained_runs, tmp_path, capsys):
    directory = trained_runs(*TWO_MEMBERS)
    run = vaex.load(directory)
    contents = [content_of(run.page(tmp_path / f"{member}.html", member, examples=5)) for member in (0, 1)]
    assert [content["title"] for content in contents] == [f"beta_vae on digits, {name}" for name in run.names]
    assert contents[0]["blob"] != contents[1]["blob"] and contents[0]["examples"]["count"] == 5
    kl = run.summary["members"][1]["kl_per_latent"]
    assert [control["kl"] for control in contents[1]["controls"]] == sorted(kl, reverse=True)
    with pytest.raises(UserError, match="this run has 2 members; give member=0 to member=1"):
        run.page(tmp_path / "page.html")
    with pytest.raises(UserError, match="member=2, but this run has 2"):
        run.page(tmp_path / "page.html", 2)
    with pytest.raises(UserError, match="no 'valid' split; there are"):
        run.page(tmp_path / "page.html", 0, split="valid")
    assert script("evaluate").main([str(directory), "--page", "--member=1", f"--out={tmp_path / 'pages'}"]) == 0
    written = tmp_path / "pages" / f"{directory.name}.html"
    assert f"written: {written}" in capsys.readouterr().out and content_of(written)["title"] == contents[1]["title"]
