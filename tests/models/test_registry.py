"""Table of the registry, that a bound it names is the one that is trained, and models that installed packages add."""

import doctest
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex import models
from vaex.cli import main as cli
from vaex.errors import UserError
from vaex.models import FAMILIES, MODELS
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

table = importlib.import_module("vaex.models.__main__")
TRAINED = {"elbo": "elbo", "importance": "importance_bound"}  # bound of the registry -> metric


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    table_rows = [table.row(family, name) for family, entries in FAMILIES.items() for name in entries]
    return {row.name: row._asdict() for row in table_rows}


@pytest.mark.slow
def test_every_model_has_a_row(capsys):
    assert table.main([]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", header)[5:] == ["bound on log p(x)", "lines", "source"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert all(len(re.split(r" {2,}", line)) == len(table.Row._fields) for line in lines)
    starts = {match.start() for match in re.finditer(r"\S+( \S+)*", header)}
    assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines for at in starts - {0})


def test_what_is_read_off_the_recipes(rows):
    assert rows["piwae"]["groups"] == "decoder, encoder" and rows["iwae"]["groups"] == "vae"
    assert rows["vae"]["state"] == "-" and rows["autoencoder"]["state"] != "-"
    assert rows["vae"]["stages"] == "model"
    for name, row in rows.items():
        path = pathlib.Path(str(models.module(name).__file__))
        assert int(row["lines"]) == path.read_text().count("\n") and path.stem == name


def test_state_of_later_stages_is_what_they_carry_over(monkeypatch):
    from helpers import two_stages

    monkeypatch.setattr(table, "module", lambda name: two_stages)
    monkeypatch.setitem(FAMILIES["labels"], "two_stages", models.Entry("", "no", ""))
    row = table.row("labels", "two_stages")
    assert len(row.stages.split(", ")) == 2 and len(row.groups.split(", ")) == 2
    assert row.state != "-"


def test_examples_of_the_table():
    """Run its doctests, which pytest does not collect from a ``__main__``."""
    assert doctest.testmod(table) == (0, 2)


def test_no_model_is_in_two_families():
    assert sum(map(len, FAMILIES.values())) == len(MODELS)


def test_arguments_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        table.main(["vae"])
    assert stop.value.code == 2 and "unrecognized arguments: vae" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.bound in TRAINED])
def test_the_bound_that_the_registry_names_is_the_one_trained(name):
    module = models.module(name)
    spec = table.spec_for(module)
    recipe = module.build(module.Config(**getattr(module, "TINY", {})), spec)
    batch = {
        "x": jnp.asarray(np.random.default_rng(0).integers(0, 17, (8, *spec.shape)) / 16, jnp.float32),
        "y": jnp.arange(8),
    }
    stage = recipe.stages[0]

    @jax.jit
    def outcome(key):
        variables = stage.model.init(key, batch)
        hparams = resolve(as_schedules(module.HParams()), 0)
        return stage.model.objective(key, variables, hparams, batch, train=True)

    result = outcome(jax.random.key(0))
    [loss] = result.losses.values()
    np.testing.assert_allclose(loss, -np.mean(result.metrics[TRAINED[MODELS[name].bound]]), rtol=1e-5)


# --- models of installed packages ---------------------------------------------------------------------------------

X = np.random.default_rng(0).integers(0, 17, (40, 8, 8), np.uint8)
INSTALLED = """
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
        (folder / f"{module}.py").write_text(INSTALLED)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    models.installed_models.cache_clear()
    yield tmp_path
    models.installed_models.cache_clear()


@pytest.mark.slow
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
