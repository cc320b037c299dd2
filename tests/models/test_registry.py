"""Table of the registry: what it reads off the recipes, and that a bound it names is the one that is trained."""

import doctest
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import models
from vaex.models import FAMILIES, MODELS
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

table = importlib.import_module("vaex.models.__main__")
TRAINED = {"elbo": "elbo", "importance": "importance_bound"}  # bound of the registry -> metric


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    table_rows = [table.row(family, name) for family, entries in FAMILIES.items() for name in entries]
    return {row.name: row._asdict() for row in table_rows}


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
