"""Autoregressive and coupling flows: masks, what depends on what, NumPyro's transforms, the context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flow_table import filled, points

from vaex import flows as vf
from vaex.flows._networks import made_masks


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize(("d", "hidden"), [(1, (3,)), (2, (2,)), (4, (4, 7)), (5, ()), (5, (16, 5, 9))])
def test_masks_let_through_all_earlier_inputs_and_no_others(d, hidden, with_context):
    """The paths through the masks, counted: output i of both blocks sees exactly the inputs before it."""
    paths = np.eye(d)
    for mask in made_masks(d, hidden, 2, with_context):
        paths = paths @ mask
    np.testing.assert_array_equal(paths > 0, np.tile(np.triu(np.ones((d, d)), 1) > 0, (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [vf.InverseAutoregressive, vf.MaskedAutoregressive])
def test_jacobians_are_triangular(kind):
    """Both ways; below the diagonal nothing is missing."""
    flow = kind(4, (12, 9))
    params, z = filled(flow, dtype=np.float32), points((4,), dtype=np.float32)
    for move in (flow.forward, flow.inverse):
        jacobian = np.asarray(jax.jacfwd(lambda z, move=move: move(params, z)[0])(z))
        np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
        assert np.all(jacobian[np.tril_indices(4)] != 0.0)


def test_the_first_coordinate_sees_the_context():
    flow = vf.InverseAutoregressive(3, (6,), context_dim=2)
    params, z = filled(flow, dtype=np.float32), points((3,), dtype=np.float32)
    jacobian = jax.jacfwd(lambda c: flow.forward(flow.with_context(params, c), z)[0])(params["context"])
    assert np.all(np.abs(jacobian).max(-1) > 1e-6)


def test_maf_and_iaf_are_the_papers_maps():
    """On one network: scales and shifts out of what goes in, one forward and the other back."""
    iaf, maf = vf.InverseAutoregressive(3, (6,)), vf.MaskedAutoregressive(3, (6,))
    params, x = filled(iaf, scale=0.5, dtype=np.float32), points((8, 3), dtype=np.float32)
    shift, log_scale = maf.shift_and_log_scale(params, x)
    value, log_det = iaf.forward(params, x)
    np.testing.assert_allclose(value, x * np.exp(log_scale) + shift, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_det, np.sum(log_scale, -1), rtol=1e-5, atol=1e-6)
    z, log_det = maf.inverse(params, x)
    np.testing.assert_allclose(z, (x - shift) * np.exp(-log_scale), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_det, -np.sum(log_scale, -1), rtol=1e-5, atol=1e-6)


def test_the_iaf_is_numpyros():
    """On the same network, whose log-scales stay within what NumPyro clips to."""
    theirs = pytest.importorskip("numpyro.distributions.flows")
    flow = vf.InverseAutoregressive(4, (8,))
    params, z = filled(flow, scale=0.5, dtype=np.float32), points((6, 4), dtype=np.float32)
    transform = theirs.InverseAutoregressiveTransform(lambda x: flow.shift_and_log_scale(params, x))
    value, log_det = flow.forward(params, z)
    np.testing.assert_allclose(value, transform(z), rtol=1e-6)
    np.testing.assert_allclose(log_det, transform.log_abs_det_jacobian(z, value), rtol=1e-6)
    np.testing.assert_allclose(flow.inverse(params, value)[0], transform.inv(value), rtol=1e-4, atol=1e-5)


def test_permutation_and_chain_are_numpyros():
    transforms = pytest.importorskip("numpyro.distributions.transforms")
    z = points((5, 3), dtype=np.float32)
    order = (2, 0, 1)
    theirs = transforms.ComposeTransform(
        [transforms.PermuteTransform(np.array(order)), transforms.PermuteTransform(np.arange(3)[::-1])]
    )
    ours = vf.chain(vf.Permutation(order), vf.reverse(3))
    np.testing.assert_array_equal(ours.forward(((), ()), z)[0], theirs(z))
    np.testing.assert_array_equal(ours.inverse(((), ()), z)[0], theirs.inv(z))


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", [vf.AffineCoupling, vf.SplineCoupling])
def test_a_coupling_keeps_one_half_and_moves_the_other(kind, flip):
    flow = kind(5, (6,), flip=flip)
    z = points((4, 5), dtype=np.float32, scale=1.0)
    value, _ = flow.forward(filled(flow, dtype=np.float32), z)
    kept = np.arange(5) >= 3 if flip else np.arange(5) < 3
    np.testing.assert_array_equal(value[:, kept], z[:, kept])
    assert np.all(np.abs(value - z)[:, ~kept].max(0) > 1e-3)


def test_log_scales_are_bounded():
    flow = vf.AffineCoupling(2, ())
    params = {"network": ({"kernel": np.zeros((1, 2), np.float32), "bias": np.array([0.0, 1e8], np.float32)},)}
    value, log_det = flow.forward(params, np.ones(2, np.float32))
    assert log_det == 7.0
    np.testing.assert_allclose(value, [1.0, np.exp(7.0)], rtol=1e-6)


def test_a_chain_hands_one_context_to_the_flows_that_take_one():
    layer = vf.InverseAutoregressive(2, (4,), context_dim=3)
    flow = vf.chain(layer, vf.Planar(2), vf.chain(vf.reverse(2), layer))
    context = jnp.ones((5, 3))
    params = flow.with_context(flow.init(jax.random.key(0)), context)
    assert params[0]["context"] is context and params[2][1]["context"] is context
    assert "context" not in params[1] and flow.context_dim == 3
    assert not np.allclose(params[0]["network"][0]["kernel"], params[2][1]["network"][0]["kernel"])
