"""Loops that accelerators take without a loop compute the same, and on a CPU stay loops."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import flows
from vaex.ops.bessel import log_scaled_bessel, mean_length
from vaex.ops.platforms import compiling_for, plain_lowering, traced_for, unroll


def leapfrog(z):
    start = flows.PhasePoint(z, 0.5 * z)
    betas = flows.quadratic_tempering(3, initial=0.5)
    end, log_det = flows.leapfrog(lambda z: -jnp.sum(z**4, -1), start, step_size=0.1, inverse_temperatures=betas)
    return jnp.sum(end.position) + log_det


@pytest.mark.slow
@pytest.mark.parametrize(
    "function",
    [lambda k: jnp.sum(log_scaled_bessel(4.0, k)), lambda k: jnp.sum(mean_length(4.0, k)[0]), leapfrog],
    ids=["log_scaled_bessel", "mean_length", "leapfrog"],
)
def test_what_is_unrolled_is_the_same(function):
    x = jnp.array([0.3, 2.0, 40.0]) / (40.0 if function is leapfrog else 1.0)
    loop = jax.make_jaxpr(jax.value_and_grad(function))(x)
    with compiling_for("tpu"):
        unrolled = jax.make_jaxpr(jax.value_and_grad(lambda x: function(x)))(x)
    # of a recurrence over no orders nothing changes
    assert str(unrolled).count("unroll=1\n") < str(loop).count("unroll=1\n")
    expected, found = (jax.extend.core.jaxpr_as_fun(jaxpr)(x) for jaxpr in (loop, unrolled))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-5, atol=1e-6)


def test_loops_stay_on_a_cpu_in_exported_programs_and_where_they_are_long():
    assert (unroll(3, most=8), unroll(3, most=8, most_on_cpu=4), unroll(5, most=8, most_on_cpu=4)) == (1, 3, 1)
    with compiling_for("cuda"):
        assert (unroll(3, most=8), unroll(8, most=8), unroll(9, most=8), unroll(0, most=8)) == (3, 8, 1, 1)
        assert (unroll(5, most=8, most_on_cpu=4), traced_for()) == (5, "cuda")
        with plain_lowering():
            assert (unroll(3, most=8, most_on_cpu=4), traced_for()) == (1, "")
