"""Leapfrog steps: volume against the Jacobian in float64, conserved energy, and temperatures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.flows import PhasePoint, generalized_leapfrog, leapfrog, quadratic_tempering


def log_density(z):
    return -jnp.sum(jnp.square(jnp.square(z)) + jnp.sin(z), axis=-1)


def inverse_metric(z):
    """A metric that changes with the position, positive definite everywhere."""
    tilt = jnp.stack([jnp.cos(z[..., 0]), jnp.sin(z[..., 1])], axis=-1)
    return tilt[..., :, None] * tilt[..., None, :] + 0.5 * jnp.eye(2)


def kinetic(z, momentum):
    inverse = inverse_metric(z)
    return 0.5 * jnp.einsum("...i,...ij,...j->...", momentum, inverse, momentum) - 0.5 * jnp.linalg.slogdet(inverse)[1]


def moved(generalized, z, momentum, betas, step_size=(0.1, 0.2)):
    start, step_size = PhasePoint(z, momentum), jnp.asarray(step_size)
    if not generalized:
        return leapfrog(log_density, start, step_size=step_size, inverse_temperatures=betas)
    return generalized_leapfrog(
        log_density, kinetic, start, step_size=step_size, inverse_temperatures=betas, iterations=40
    )


@pytest.mark.parametrize("generalized", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_log_determinant_is_that_of_the_jacobian(generalized):
    with jax.enable_x64(True):
        point = jnp.asarray(np.random.default_rng(0).normal(size=4) * 0.5)
        betas = quadratic_tempering(3, initial=jnp.asarray(0.4, jnp.float64))

        def flow(point):
            end, log_det = moved(generalized, point[:2], point[2:], betas)
            return jnp.concatenate(end), log_det

        jacobian, log_det = jax.jit(jax.jacfwd(flow, has_aux=True))(point)
        np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det, rtol=1e-7)
        np.testing.assert_allclose(log_det, np.log(0.4), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("generalized", [False, True])
def test_energy_is_conserved_to_second_order(generalized):
    """Half the step size leaves a quarter of the error."""
    with jax.enable_x64(True):
        z, momentum = jnp.array([0.3, -0.4]), jnp.array([0.5, 0.2])

        def energy(z, momentum):
            return (kinetic(z, momentum) if generalized else 0.5 * jnp.sum(jnp.square(momentum))) - log_density(z)

        errors = []
        for steps in (20, 40):
            end, _ = moved(generalized, z, momentum, jnp.ones(steps + 1), jnp.asarray(1.0 / steps))
            errors.append(abs(float(energy(*end) - energy(z, momentum))))
        assert errors[0] < 0.01
        np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.1)


def test_temperatures_rise_quadratically_to_one():
    betas = quadratic_tempering(4, initial=0.25)
    np.testing.assert_allclose(betas**-0.5, 2.0 - (np.arange(5) / 4) ** 2, rtol=1e-6)
    with pytest.raises(ValueError, match="num=0, expected at least 1"):
        quadratic_tempering(0, initial=0.5)
