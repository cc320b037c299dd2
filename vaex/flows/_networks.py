"""Dense and masked networks as functions of a tuple of layers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.flows.protocol import Params

Layer = dict[str, jax.Array]  # kernel [in, out], bias [out], and context_kernel [c, out] in the first layer of some

_LAST_LAYER = 0.01  # the share of its usual scale with which the last layer starts: near the identity, yet not at it


def init_layers(key: jax.Array, sizes: tuple[int, ...], context_dim: int = 0) -> tuple[Layer, ...]:
    """Layers between the sizes, kernels [in, out] of variance 2 / in; the first also takes the context."""
    keys = jax.random.split(key, len(sizes))
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        scale = _LAST_LAYER if i == len(sizes) - 2 else 2.0**0.5
        width = max(fan_in + (context_dim if i == 0 else 0), 1)
        kernel = scale * jax.random.normal(keys[i], (fan_in, fan_out)) / width**0.5
        layers.append({"kernel": kernel, "bias": jnp.zeros((fan_out,))})
        if i == 0 and context_dim:
            layers[0]["context_kernel"] = scale * jax.random.normal(keys[-1], (context_dim, fan_out)) / width**0.5
    return tuple(layers)


def apply_layers(
    params: Params,
    x: jax.Array,
    activation: Callable[[jax.Array], jax.Array],
    masks: tuple[np.ndarray, ...] | None = None,
) -> jax.Array:
    """The network of ``params["network"]`` at x [..., in], with ``params["context"]`` where its first layer takes one."""
    layers = params["network"]
    for i, layer in enumerate(layers):
        kernel = layer["kernel"] if masks is None else layer["kernel"] * masks[i]
        x = _multiply(x, kernel) + layer["bias"]
        if "context_kernel" in layer:
            x = x + _multiply(params["context"], layer["context_kernel"])
        x = activation(x) if i < len(layers) - 1 else x
    return x


def _multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.einsum("...i,...io->...o", x, kernel)


@functools.cache
def made_masks(dimension: int, hidden: tuple[int, ...], num_outputs: int, with_context: bool) -> tuple[np.ndarray, ...]:
    """Masks [in, out] that let output i of each of ``num_outputs`` blocks see the inputs before i alone.

    A hidden unit of degree k sees the inputs 1..k. Degree 0 sees the context alone, and is all that output 1 may see.
    Germain et al. 2015, eqs. 8, 12 and 13.
    """
    least = 0 if with_context else min(1, dimension - 1)
    degrees = [np.arange(1, dimension + 1)]
    degrees += [least + np.arange(width) % (dimension - least) for width in hidden]
    masks = [before[:, None] <= after[None, :] for before, after in itertools.pairwise(degrees)]
    masks.append(np.tile(degrees[-1][:, None] < degrees[0][None, :], (1, num_outputs)))
    return tuple(mask.astype(np.float32) for mask in masks)
