"""Planar, radial, Sylvester and Householder flows: exact values, constraints, the scalar root, orthogonality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flow_table import filled, points

from vaex import flows as vf
from vaex.flows._tanh import SMALLEST_GAIN, constrain, slope, tanh_root


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_root_is_exact_to_rounding(dtype):
    """The residual is a few roundings of its terms, from slopes of a thousandth to 1e8 and targets from 1e-20 to 1e8."""
    with jax.enable_x64(True):
        gain, target = np.meshgrid(
            [1e-3, 0.01, 0.5, 1.0, 2.0, 30.0, 1e4, 1e8], [0.0, 1e-20, 1e-3, 0.3, 1.0, 5.0, 99.0, 1e4, 1e8]
        )
        gain, target = gain.astype(dtype), np.concatenate([target, -target]).astype(dtype)
        gain = np.concatenate([gain, gain])
        v = np.asarray(jax.jit(tanh_root)(target, gain), np.float64)
        bend = (gain.astype(np.float64) - 1) * np.tanh(v)
        assert np.all(
            np.abs(v + bend - target) <= 8 * np.finfo(dtype).eps * (np.abs(v) + np.abs(bend) + np.abs(target))
        )
        assert np.all(np.sign(v) == np.sign(target))


@pytest.mark.slow
def test_the_roots_gradients_are_those_of_the_implicit_function():
    with jax.enable_x64(True):
        for target, gain in ((0.7, 0.1), (-2.0, 5.0), (30.0, 40.0), (0.0, 0.5)):
            gradient = jax.grad(tanh_root, (0, 1))(target, gain)
            for i, step in enumerate(np.eye(2) * 1e-6):
                ends = [tanh_root(target + s * step[0], gain + s * step[1]) for s in (1, -1)]
                np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, gradient[i], rtol=1e-6, atol=1e-8)


def test_the_constraint():
    """Above -1 by the margin, 0 at 0 to full relative precision, increasing; the gain is 1 + c."""
    x = np.array([-1e8, -50.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 50.0, 1e8], np.float32)
    c, gain = (np.asarray(y) for y in constrain(x))
    assert np.all(gain >= SMALLEST_GAIN) and np.all(np.diff(gain) >= 0) and c[4] == 0.0
    np.testing.assert_allclose(gain, 1 + c.astype(np.float64), rtol=1e-4)
    np.testing.assert_allclose(c[[3, 5]], x[[3, 5]] * (1 - SMALLEST_GAIN) * (1 - np.exp(-1)), rtol=1e-5)


def test_the_slope_does_not_cancel():
    with jax.enable_x64(True):
        v = np.array([0.0, 1e-8, 0.1, 3.0, 9.0, 15.0])
        exact = 1 + (1e8 - 1) / np.cosh(v) ** 2
        np.testing.assert_allclose(slope(jnp.float64(1e8), v), exact, rtol=1e-12)
    np.testing.assert_allclose(slope(jnp.float32(1e8), v.astype(np.float32)), exact, rtol=1e-5)


@pytest.mark.slow
def test_planar_is_the_papers_map_where_its_constraint_holds():
    """The value moves along u hat, with w'u hat = c(w'u); parallel to w only."""
    flow = vf.Planar(3)
    params, z = filled(flow), points((5, 3))
    with jax.enable_x64(True):
        weight, direction = params["weight"], params["direction"]
        product = weight @ direction
        hat = direction + (constrain(product)[0] - product) * weight / (weight @ weight)
        value, log_det = flow.forward(params, z)
        inner = z @ weight + params["bias"]
        np.testing.assert_allclose(value, z + hat * np.tanh(inner)[:, None], rtol=1e-12)
        psi = (1 - np.tanh(inner) ** 2)[:, None] * weight
        np.testing.assert_allclose(log_det, np.log(1 + psi @ hat), rtol=1e-9)  # Rezende & Mohamed 2015, eq. 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", [vf.Planar, vf.Radial])
def test_strong_contractions_are_invertible(kind):
    """Parameters that the textbook map folds at: volumes stay positive and the inverse comes back."""
    flow = kind(2)
    strong = {
        vf.Planar: {"weight": np.array([3.0, 0.0]), "direction": np.array([-40.0, 1.0]), "bias": np.array(0.2)},
        vf.Radial: {"centre": np.array([0.1, 0.2]), "log_alpha": np.array(0.5), "beta": np.array(-30.0)},
    }[kind]
    with jax.enable_x64(True):
        z = points((200, 2), scale=0.5)
        value, log_det = flow.forward(strong, z)
        assert np.all(log_det < 0.1) and np.all(np.isfinite(log_det)) and log_det.min() < -3
        np.testing.assert_allclose(flow.inverse(strong, value)[0], z, rtol=1e-9, atol=1e-9)


def test_radial_is_the_papers_map():
    flow = vf.Radial(3)
    params, z = filled(flow), points((5, 3))
    with jax.enable_x64(True):
        value, log_det = flow.forward(params, z)
        alpha = np.exp(7 * np.tanh(params["log_alpha"] / 7))
        beta = alpha * np.asarray(constrain(params["beta"])[0])
        offset = z - params["centre"]
        r = np.linalg.norm(offset, axis=-1)
        h = 1 / (alpha + r)
        np.testing.assert_allclose(value, z + beta * h[:, None] * offset, rtol=1e-12)
        exact = 2 * np.log(1 + beta * h) + np.log(1 + beta * h - beta * r * h**2)  # Rezende & Mohamed 2015, eq. 14
        np.testing.assert_allclose(log_det, exact, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 5])
def test_householder_is_orthogonal(n):
    """The matrix by NumPy's reflections; norms kept, the determinant (-1)^n."""
    flow = vf.Householder(4, n)
    params, z = filled(flow), points((6, 4))
    exact = np.eye(4)
    for v in params["vectors"]:
        exact = (np.eye(4) - 2 * np.outer(v, v) / (v @ v)) @ exact
    with jax.enable_x64(True):
        q = np.asarray(flow.matrix(params))
        np.testing.assert_allclose(q, exact, atol=1e-12)
        np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(q), (-1.0) ** n, rtol=1e-12)
        np.testing.assert_allclose(flow.forward(params, z)[0], z @ q.T, atol=1e-12)
        np.testing.assert_allclose(flow.inverse(params, z)[0], z @ q, atol=1e-12)
        np.testing.assert_array_equal(flow.forward(params, z)[1], 0.0)
        many = flow.matrix(filled(flow, batch=(3, 2)))
        np.testing.assert_allclose(many @ many.mT, np.broadcast_to(np.eye(4), (3, 2, 4, 4)), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 2), (3, 0), (4, 3)])
def test_sylvester_is_the_papers_map_on_orthonormal_columns(m, n):
    flow = vf.Sylvester(4, m, n)
    params, z = filled(flow), points((6, 4))
    with jax.enable_x64(True):
        q = np.asarray(flow.basis(params))
        np.testing.assert_allclose(q.T @ q, np.eye(m), atol=1e-12)
        if n == 0:
            np.testing.assert_array_equal(q, np.eye(4)[:, :m])
        outer, inner = (
            np.triu(params[name], 1) + np.diag(0.999**0.5 * np.tanh(np.diag(params[name])))
            for name in ("outer", "inner")
        )
        h = np.tanh(z @ q @ inner.T + params["bias"])
        value, log_det = flow.forward(params, z)
        np.testing.assert_allclose(value, z + h @ outer.T @ q.T, rtol=1e-10, atol=1e-12)
        exact = np.sum(np.log1p((1 - h**2) * np.diag(outer) * np.diag(inner)), -1)  # van den Berg et al. 2018, eq. 11
        np.testing.assert_allclose(log_det, exact, rtol=1e-9, atol=1e-12)
        again = flow.inverse(params, value)[0]
        np.testing.assert_allclose(again, z, rtol=1e-9, atol=1e-9)


def test_as_many_reflections_as_units_reach_every_basis_up_to_signs():
    """Householder's QR decomposition gives the vectors."""
    target = np.linalg.qr(points((4, 2)))[0]
    vectors, rest = [], target.copy()
    for j in range(2):
        v = rest[:, j].copy()
        v[:j] = 0.0
        v[j] += np.sign(v[j]) * np.linalg.norm(v)
        rest = rest - 2 * np.outer(v, v @ rest) / (v @ v)
        vectors.append(v)
    flow = vf.Sylvester(4, 2, 2)
    with jax.enable_x64(True):
        q = np.asarray(flow.basis({"vectors": np.stack(vectors)}))
    np.testing.assert_allclose(np.abs(np.sum(q * target, 0)), 1.0, rtol=1e-12)
