"""Runs whose hyperparameters follow schedules of several pieces, or functions of the step."""

import sys

import jax
import numpy as np
import optax
import pytest

import vaex
from vaex.errors import UserError
from vaex.schedules import resolve

QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False}
X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
RATES = "import optax\nrate = optax.warmup_cosine_decay_schedule(0.0, 0.01, 4, 12)\ndef flat(step):\n    return {}\n"


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state.variables)]


def rates(run, step):
    return np.asarray(jax.vmap(lambda hparams: resolve(hparams, step).learning_rate)(run.state.hparams))


@pytest.fixture(scope="module")
def population():
    function = optax.warmup_cosine_decay_schedule(0.0, 0.01, 4, 12)
    grid = [0.01, "ramp:0:0.01:4+cosine:0.01:0:8", function]
    return vaex.train("vae", X, learning_rate=grid, steps=10, **QUICK)


@pytest.mark.slow
def test_a_population_mixes_numbers_pieces_and_functions(population):
    function = optax.warmup_cosine_decay_schedule(0.0, 0.01, 4, 12)
    for step in (0, 2, 7, 50):
        np.testing.assert_allclose(
            rates(population, step), [0.01, function(step), function(step)], rtol=1e-6, atol=1e-9
        )
    for leaf in leaves(population):  # the same rates, up to their last digits
        np.testing.assert_allclose(leaf[1], leaf[2], rtol=2e-4, atol=2e-5)
        assert leaf.size < 10 or not np.allclose(leaf[0], leaf[2], atol=1e-4)
    assert population.names[2].startswith("learning_rate=join_schedules(")  # as optax calls it


NAMELESS = "learning_rate: .* has no name by which a run directory could record it; .*my_rates.py:rate"


def test_a_function_without_a_name_is_refused_for_a_directory(tmp_path):
    with pytest.raises(UserError, match=NAMELESS):
        vaex.train("vae", X, learning_rate=optax.linear_schedule(0.1, 0.0, 9), out=tmp_path / "run", **QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_with_a_function_without_a_name_is_not_saved(population, tmp_path):
    with pytest.raises(UserError, match=NAMELESS):
        population.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_function_with_a_name_is_recorded_and_compared(tmp_path, monkeypatch):
    file = tmp_path / "my_rates.py"
    file.write_text(RATES.format("0.01 + 0.0 * step"))
    options = {"learning_rate": [f"{file}:rate", f"{file}:flat"], **QUICK}
    run = vaex.train("vae", X, out=tmp_path / "run", steps=5, **options)
    resumed = vaex.train("vae", X, out=tmp_path / "run", steps=10, **options)
    unbroken = vaex.train("vae", X, steps=10, **options)
    for left, right in zip(leaves(resumed), leaves(unbroken), strict=True):
        np.testing.assert_array_equal(left, right)
    assert run.step == 5 and resumed.step == 10
    with pytest.raises(UserError, match="importing it runs code; say trust=True"):
        vaex.load(tmp_path / "run")
    loaded = vaex.load(tmp_path / "run", trust=True)
    np.testing.assert_array_equal(rates(loaded, 7), rates(resumed, 7))
    file.write_text(RATES.format("0.02 + 0.0 * step"))
    for name in [name for name in sys.modules if name.startswith("my_rates_")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"holds a run of another configuration: learning_rate: .*0\.01.* -> .*0\.02"):
        vaex.train("vae", X, out=tmp_path / "run", steps=12, **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (optax.linear_schedule(0.1, -0.1, 100), "learning_rate=.*expected values of at least 0"),
        ("math:sqrt", "learning_rate=math:sqrt: sqrt fails on a traced step"),
        ("no_such_rates:rate", "No module named 'no_such_rates'; check the spelling"),
        ("optax:no_such_rate", "optax has no no_such_rate"),
    ],
)
def test_functions_that_do_not_fit_are_refused(value, message):
    with pytest.raises(UserError, match=message) as caught:
        vaex.train("vae", X, learning_rate=value, **QUICK)
    assert "\n" not in str(caught.value)
