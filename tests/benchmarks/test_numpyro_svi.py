"""benchmarks/inference/numpyro_svi.py: both libraries reach one optimum of one model."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def benchmark_script():
    pytest.importorskip("numpyro")
    path = ROOT / "benchmarks" / "inference" / "numpyro_svi.py"
    spec = importlib.util.spec_from_file_location("benchmarks_numpyro_svi", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eight schools", "logistic regression"])
def test_the_models_are_one_and_so_are_their_optima(benchmark_script, name):
    """The log-densities agree where NumPyro's is constrained; so do the fits, whose rate decays, and their ELBOs."""
    from numpyro.infer.util import log_density

    problem = benchmark_script.PROBLEMS[name]()
    space = benchmark_script.inference.space(problem.supports)
    for seed in range(2):
        values, _ = space.constrain(jax.random.normal(jax.random.key(seed), (space.size,)))
        expected, _ = log_density(problem.model, (), {}, values)
        np.testing.assert_allclose(problem.log_density(values), expected, rtol=1e-4)
    family, ours, theirs = benchmark_script.fits(problem, 4000, 16)
    mine, other = (jax.jit(fit)(jax.random.key(0)) for fit in (ours, theirs))
    np.testing.assert_allclose(mine["loc"], other["loc"], atol=0.05)
    np.testing.assert_allclose(jnp.exp(mine["log_scale"]), jnp.exp(other["log_scale"]), rtol=0.05)

    def elbo(params):  # by the same draws
        diagnosis = benchmark_script.inference.diagnose(
            jax.random.key(1), problem.log_density, family, params, num_samples=20_000
        )
        return diagnosis.elbo

    np.testing.assert_allclose(elbo(mine), elbo(other), atol=0.003)


@pytest.mark.slow
def test_the_table_has_both_libraries(benchmark_script, capsys):
    flags = ["--steps=20", "--num_samples=2", "--population=3", "--repeats=1"]
    assert benchmark_script.main(flags) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum("vaex" in row for row in rows) == 2 and sum("vectorised" in row for row in rows) == 2
