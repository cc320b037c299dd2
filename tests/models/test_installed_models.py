"""Models that an installed package adds by entry points."""

import re

import numpy as np
import pytest

import vaex
from vaex import models
from vaex.cli import main as cli
from vaex.errors import UserError

X = np.random.default_rng(0).integers(0, 17, (40, 8, 8), np.uint8)
MODEL = """
from vaex.models import gaussian
from vaex.models.gaussian import Config, HParams
TINY = {"latent_dim": 2, "hidden": (8,)}
DEFAULTS = {"dataset": "digits"}
def build(config, spec):
    return gaussian.recipe(config, spec, lambda hparams, terms: terms.kl)
"""


def install(folder, distribution, entries, modules=()):
    """Lay out a package and the metadata of its distribution, as pip does."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[vaex.models]", *lines, ""]))
    for module in modules:
        (folder / f"{module}.py").write_text(MODEL)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    models.installed_models.cache_clear()
    yield tmp_path
    models.installed_models.cache_clear()


def test_a_model_of_a_package_is_listed_and_trained(site, capsys):
    install(site, "vae-zoo", {"zoo_vae": "zoo_of_models"}, ["zoo_of_models"])
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert re.search(r"zoo_vae +zoo_of_models \(vae-zoo 1\.5\)", capsys.readouterr().out)
    assert models.module("zoo_vae").__name__ == "zoo_of_models"
    run = vaex.train("zoo_vae", X, steps=1, hidden=(8,), latent_dim=2, progress=False)
    assert run.settings.model == "zoo_vae" and run.encode(X[:2]).mean.shape == (2, 2)
    with pytest.raises(UserError, match="no model is called 'zoo_va'; did you mean zoo_vae"):
        models.module("zoo_va")


@pytest.mark.parametrize(
    ("entries", "name", "problem"),
    [
        (
            {"zoo-vae": "zoo_of_models"},
            "zoo-vae",
            "no name in letters, digits and underscores; use --model=zoo_of_models",
        ),
        ({"zoo": "zoo_of_models:build"}, "zoo", "zoo_of_models:build is no module"),
        ({"zoo": "zoo_of_nothing"}, "zoo", "vae-zoo 1.5 says that it is zoo_of_nothing, and there is no such module"),
    ],
)
def test_entries_that_cannot_be_used_are_refused(site, entries, name, problem):
    install(site, "vae-zoo", entries)
    with pytest.raises(UserError, match=problem) as caught:
        models.module(name)
    assert "\n" not in str(caught.value)


def test_names_of_vaex_stay_ours(site, capsys):
    install(site, "vae-zoo", {"vae": "zoo_of_models"}, ["zoo_of_models"])
    assert models.module("vae").__name__ == "vaex.models.autoencoders.vae"
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    listed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(vae-zoo 1.5; the name is that of a model of vaex; use --model=zoo_of_models)" in listed


def test_two_packages_of_one_name(site):
    install(site, "vae-zoo", {"zoo_vae": "zoo_of_models"}, ["zoo_of_models"])
    install(site, "other-zoo", {"zoo_vae": "other_models"}, ["other_models"])
    with pytest.raises(UserError, match=r"zoo_vae, of other-zoo 1\.5 and vae-zoo 1\.5: several packages"):
        models.module("zoo_vae")
    assert models.module("other_models").__name__ == "other_models"
