"""In float32, over every flow: round trips, extremes, initial parameters, hashing, errors for wrong shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flow_table import FLOWS, both_ways, filled, points

from vaex import flows as vf
from vaex.flows._base import param_shapes


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_round_trip(flow):
    """To 1e-4 of the size of z: the maps are conditioned up to a few hundred at these parameters."""
    params, z = filled(flow, scale=0.5, dtype=np.float32), points((8, 3), dtype=np.float32)
    value, log_det = both_ways(flow)(params, z)["forward"][0][1]
    again, back = both_ways(flow)(params, value)["inverse"][0][1]
    assert value.dtype == again.dtype == log_det.dtype == np.float32
    np.testing.assert_allclose(again, z, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(back, -log_det, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_many_points_are_moved_like_few(flow):
    """48,000 numbers: beyond 32,768 some sums of products came out wrong on CPU (see ``inner`` of the distributions)."""
    params, z = filled(flow, batch=(8,), scale=0.5, dtype=np.float32), points((2000, 8, 3), dtype=np.float32)
    for move in (jax.jit(flow.forward), jax.jit(flow.inverse)):
        value, log_det = move(params, z)
        for start in (0, 1000, 1500, 1950):
            few = slice(start, start + 50)
            expected, expected_log_det = move(params, z[few])
            np.testing.assert_allclose(value[few], expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(log_det[few], expected_log_det, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("params_scale", [0.0, 1e-12, 0.7, 30.0, 1e3, 1e4])
def test_extremes_stay_finite_with_their_gradients(flow, params_scale):
    """No parameters, hardly any, large ones (up to 1e4), at z = 0, near 0, and up to 1e4."""
    params = filled(flow, scale=params_scale, dtype=np.float32)
    for z_scale in (0.0, 1.0, 1e4):
        assert finite(both_ways(flow)(params, points((8, 3), scale=z_scale, dtype=np.float32)))


@pytest.mark.slow
def test_initial_parameters_are_gentle_and_learn(flow):
    """Near the identity (up to signs and order), with a gradient in every leaf."""
    params = flow.init(jax.random.key(0))
    params = flow.with_context(params, points((2,), dtype=np.float32)) if flow.context_dim else params
    z = points((8, 3), dtype=np.float32)
    (_, (value, log_det)), gradients = both_ways(flow)(params, z)["forward"]
    assert np.abs(np.linalg.norm(value, axis=-1) - np.linalg.norm(z, axis=-1)).max() < 0.5
    assert np.abs(log_det).max() < 0.5
    for leaf in jax.tree.leaves(gradients):
        assert leaf.size == 0 or np.abs(leaf).max() > 1e-7


def test_equal_flows_are_one_static_argument(flow):
    """A twin made from the same numbers is equal, hashes alike and is not traced again; no other flow equals it."""
    traces = []

    def program(flow, z):
        traces.append(flow)
        return z

    jitted = jax.jit(program, static_argnums=0)
    twin = type(flow)(**{name: getattr(flow, name) for name in flow.__dataclass_fields__})
    jitted(flow, 1.0), jitted(twin, 1.0)
    assert twin is not flow and twin == flow and hash(twin) == hash(flow) and len(traces) == 1
    assert sum(other == flow for other in FLOWS.values()) == 1


@pytest.mark.slow
def test_parameters_from_an_encoders_output(flow):
    """The vector's numbers are the parameters, each once."""
    size = vf.params_size(flow)
    vector = np.arange(2.0 * size, dtype=np.float32).reshape(2, size)
    params = vf.params_from_vector(flow, vector)
    leaves = [np.reshape(leaf, (2, -1)) for leaf in jax.tree.leaves(params)]
    np.testing.assert_array_equal(np.concatenate([np.zeros((2, 0)), *leaves], -1), vector)
    assert [x.shape for x in jax.tree.leaves(params)] == [(2, *x.shape) for x in jax.tree.leaves(param_shapes(flow))]
    assert jax.tree.structure(params) == jax.tree.structure(param_shapes(flow))
    with pytest.raises(ValueError, match=rf"params_from_vector: vector has shape .*, expected \[..., {size}\]"):
        vf.params_from_vector(flow, jnp.zeros((2, size + 1)))


def test_wrong_points_and_structures_are_refused(flow):
    params, name = filled(flow, dtype=np.float32), type(flow).__name__
    with pytest.raises(ValueError, match=rf"{name}.forward: z has shape \(4, 2\), expected \[..., 3\]"):
        jax.eval_shape(flow.forward, params, np.zeros((4, 2)))
    with pytest.raises(ValueError, match=rf"{name}.inverse: value has shape \(\), expected \[..., 3\]"):
        flow.inverse(params, 1.0)
    with pytest.raises(ValueError, match=rf"{name}.forward: params (have structure|are|have no context)"):
        flow.forward([np.zeros(3)], np.zeros(3))


class Shift:
    """A flow without the base class: z -> z + 1."""

    dimension, context_dim = 3, 0

    def init(self, key):
        return ()

    def forward(self, params, z):
        return z + 1.0, jnp.zeros(z.shape[:-1])

    def inverse(self, params, value):
        return value - 1.0, jnp.zeros(value.shape[:-1])

    def with_context(self, params, context):
        raise ValueError("Shift takes no context")


def test_a_chain_takes_any_flow_that_offers_the_protocol():
    assert all(isinstance(flow, vf.Flow) for flow in FLOWS.values())
    flow, z = vf.chain(Shift(), vf.reverse(3)), jnp.arange(6.0).reshape(2, 3)
    value, log_det = flow.forward(flow.init(jax.random.key(0)), z)
    np.testing.assert_array_equal(value, z[:, ::-1] + 1)
    np.testing.assert_array_equal(flow.inverse(((), ()), value)[0], z)
    np.testing.assert_array_equal(log_det, np.zeros(2))
    with pytest.raises(ValueError, match="expected one or more flows"):
        vf.chain(Shift(), object())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FLOWS if name != "permutation"])
def test_wrong_parameters_are_refused(name):
    flow = FLOWS[name]
    params = filled(flow, dtype=np.float32)
    with pytest.raises(ValueError, match=r"has shape \(7,.*expected .*one for each example"):
        flow.forward(jax.tree.map(lambda x: np.broadcast_to(x, (7, *x.shape)), params), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"behind leading axes that broadcast to the batch axes \(\)"):
        flow.forward(jax.tree.map(lambda x: x[None], params), np.zeros(3))
    if flow.context_dim:
        with pytest.raises(ValueError, match=r"no context \[..., 2\]; call with_context"):
            flow.forward(flow.init(jax.random.key(0)), np.zeros(3))
        with pytest.raises(ValueError, match=r"with_context: context has shape \(3,\), expected \[..., 2\]"):
            flow.with_context(flow.init(jax.random.key(0)), np.zeros(3))
    else:
        with pytest.raises(ValueError, match="with_context: context_dim is 0"):
            flow.with_context(params, np.zeros(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vf.Planar(0), "Planar: dimension is 0, expected an int of at least 1"),
        (lambda: vf.Radial(2.0), "Radial: dimension is 2.0"),
        (lambda: vf.Householder(3, 0), "num_reflections is 0"),
        (lambda: vf.Sylvester(3, 4, 2), "num_units is 4, expected at most dimension 3"),
        (lambda: vf.AffineCoupling(1), "AffineCoupling: dimension is 1, expected an int of at least 2"),
        (lambda: vf.AffineCoupling(2, [8]), r"hidden is \[8\], expected a tuple"),
        (lambda: vf.SplineCoupling(2, num_bins=1000), "expected fewer than 1000 bins"),
        (lambda: vf.SplineCoupling(2, bound=0.0), "a positive bound"),
        (lambda: vf.InverseAutoregressive(5, (3,)), "a width in hidden is 3, expected an int of at least 4"),
        (lambda: vf.MaskedAutoregressive(5, (4,), context_dim=1), "expected an int of at least 5"),
        (lambda: vf.Permutation((0, 2)), r"order is \(0, 2\), expected a tuple with each of 0..d-1 once"),
        (lambda: vf.reverse(0), "reverse: dimension is 0"),
        (lambda: vf.chain(), "expected one or more flows"),
        (lambda: vf.chain(vf.Planar(2), vf.Planar(3)), r"dimensions are \[2, 3\]"),
        (
            lambda: vf.chain(vf.AffineCoupling(2, context_dim=1), vf.AffineCoupling(2, context_dim=2)),
            "share one context",
        ),
        (lambda: vf.chain(vf.Planar(2)).forward((), np.zeros(2)), "a tuple of 0, expected a tuple of 1"),
        (lambda: vf.chain(vf.Planar(2)).with_context(({},), np.zeros(2)), "no flow of the chain takes a context"),
    ],
)
def test_wrong_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
