"""The table over which the laws of the flows run; a new flow is one row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vaex import flows as vf
from vaex.flows._base import param_shapes

LAYER = vf.InverseAutoregressive(3, (6,), context_dim=2)
FLOWS = {
    "planar": vf.Planar(3),
    "radial": vf.Radial(3),
    "householder": vf.Householder(3, 2),
    "sylvester": vf.Sylvester(3, num_units=2, num_reflections=2),
    "triangular sylvester": vf.Sylvester(3, num_units=3, num_reflections=0),
    "affine coupling": vf.AffineCoupling(3, (6,)),
    "flipped affine coupling": vf.AffineCoupling(3, (6, 5), flip=True, context_dim=2),
    "spline coupling": vf.SplineCoupling(3, (6,), num_bins=4, context_dim=2),
    "flipped spline coupling": vf.SplineCoupling(3, (), num_bins=3, flip=True),
    "iaf": LAYER,
    "maf": vf.MaskedAutoregressive(3, (6, 5)),
    "maf with context": vf.MaskedAutoregressive(3, (6,), context_dim=2),
    "permutation": vf.Permutation((2, 0, 1)),
    "chain": vf.chain(LAYER, vf.reverse(3), vf.Planar(3), vf.chain(LAYER, vf.Householder(3, 1))),
}


def filled(flow, *, batch=(), scale=0.7, dtype=np.float64, seed=0):
    """Random parameters for a flow, per example where there are batch axes, and a random context where it takes one."""
    generator = np.random.default_rng(seed)

    def leaf(shape):
        return np.asarray(scale * generator.standard_normal((*batch, *shape)), dtype)

    params = jax.tree.map(lambda struct: leaf(struct.shape), param_shapes(flow))
    return flow.with_context(params, leaf((flow.context_dim,))) if flow.context_dim else params


def points(shape, *, scale=1.5, dtype=np.float64, seed=1):
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype)


def total(move, params, z):
    """One number that sees every value and every log-determinant, of size 1 whatever z; and the two themselves."""
    value, log_det = move(params, z)
    size = jax.lax.stop_gradient(1.0 + jnp.max(jnp.abs(value)))
    weights = np.random.default_rng(2).standard_normal(value.shape).astype(value.dtype)
    return jnp.sum(weights * value) / size + jnp.sum(log_det * weights[..., 0]), (value, log_det)


@functools.cache
def both_ways(flow):
    """(params, z) -> for each direction ((total, (value, log_det)), gradients); compiled once for a flow."""

    @jax.jit
    def program(params, z):
        moves = {"forward": flow.forward, "inverse": flow.inverse}
        grad = jax.value_and_grad(total, (1, 2), has_aux=True)
        return {name: grad(move, params, z) for name, move in moves.items()}

    return program
