"""The registry's table: what it reads off the recipes, and that a bound it names is the one that is trained."""

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
    found = [table.row(family, name) for family, entries in FAMILIES.items() for name in entries]
    return {one.name: one._asdict() for one in found}


def test_every_model_has_a_row(capsys):
    assert table.main([]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", header)[5:] == ["bound on log p(x)", "lines", "source"]
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert all(len(re.split(r" {2,}", line)) == len(table.Row._fields) for line in lines)
    starts = {match.start() for match in re.finditer(r"\S+( \S+)*", header)}
    assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines for at in starts - {0})


def test_what_is_read_off_the_recipes(rows):
    assert rows["piwae"]["players"] == "decoder, encoder" and rows["iwae"]["players"] == "vae"
    assert rows["vae"]["state"] == "-" and rows["autoencoder"]["state"] != "-"
    assert rows["vae"]["stages"] == "model"
    for name, one in rows.items():
        path = pathlib.Path(str(models.module(name).__file__))
        assert int(one["lines"]) == path.read_text().count("\n") and path.stem == name


def test_state_of_later_stages_is_what_their_prepare_gives(monkeypatch):
    from helpers import two_stages

    monkeypatch.setattr(table, "module", lambda name: two_stages)
    monkeypatch.setitem(FAMILIES["labels"], "mine", models.Entry("", "no", ""))
    found = table.row("labels", "mine")
    assert len(found.stages.split(", ")) == 2 and len(found.players.split(", ")) == 2
    assert found.state != "-"


def test_its_examples():
    """pytest collects no doctests from a ``__main__``."""
    assert doctest.testmod(table) == (0, 2)


def test_no_model_stands_in_two_families():
    assert sum(map(len, FAMILIES.values())) == len(MODELS)


def test_other_words_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        table.main(["vae"])
    assert stop.value.code == 2 and "unrecognized arguments: vae" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.bound in TRAINED])
def test_the_bound_that_the_registry_names_is_the_one_trained(name):
    found = models.module(name)
    spec = table.spec_for(found)
    recipe = found.build(found.Config(**getattr(found, "TINY", {})), spec)
    batch = {
        "x": jnp.asarray(np.random.default_rng(0).integers(0, 17, (8, *spec.shape)) / 16, jnp.float32),
        "y": jnp.arange(8),
    }
    stage = recipe.stages[0]

    @jax.jit
    def outcome(key):
        variables = stage.model.init(key, batch)
        hparams = resolve(as_schedules(found.HParams()), 0)
        return stage.model.objective(key, variables, hparams, batch, train=True)

    result = outcome(jax.random.key(0))
    [loss] = result.losses.values()
    np.testing.assert_allclose(loss, -np.mean(result.metrics[TRAINED[MODELS[name].bound]]), rtol=1e-5)
