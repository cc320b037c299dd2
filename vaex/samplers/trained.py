"""Samplers that are trained by gradients: a normalizing flow, and a second-stage VAE of the codes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from vaex import flows
from vaex.distributions import Normal, Transformed
from vaex.divergences import gaussian_kl

STEPS, BATCH, LEARNING_RATE = 3000, 256, 1e-3  # of Adam, whose rate falls to 0 as a cosine
HIDDEN = 128  # width of a flow's networks, at least
FIRST_LOG_SCALE = -2.0  # of p(z|u), for codes of variance 1; from 0 the second stage may stay at a collapsed posterior
WIDTHS = (256, 256)  # of the hidden layers of the second stage's encoder and decoder

Params: TypeAlias = dict[str, jax.Array]
Tree: TypeAlias = Any  # a pytree of parameters, as optax has them


def fit_flow(codes: np.ndarray, layers: int, seed: int) -> dict[str, np.ndarray]:
    """Return the arrays of a masked autoregressive flow of so many layers, fitted to codes [n, d] by maximum likelihood.

    References: Papamakarios et al. 2017.
    """
    standard, moments = _standardized(codes)
    flow, init_key = _flow(codes.shape[1], layers), jax.random.key(seed)

    def loss(key: jax.Array, params: Tree, z: jax.Array) -> jax.Array:
        return -jnp.mean(Transformed(_normal(z.shape[1]), flow, params).log_prob(z))

    trained = _minimised(loss, flow.init(init_key), standard, init_key)
    return {**moments, **{f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(trained))}}


def draw_flow(arrays: Mapping[str, np.ndarray], layers: int, key: jax.Array, n: int) -> jax.Array:
    """Draw codes [n, d] from the flow of these arrays."""
    d = len(arrays["location"])
    flow = _flow(d, layers)
    structure = jax.tree.structure(jax.eval_shape(flow.init, key))
    params = jax.tree.unflatten(structure, [arrays[f"leaf{i}"] for i in range(structure.num_leaves)])
    return jnp.asarray(arrays["location"]) + arrays["scale"] * Transformed(_normal(d), flow, params).sample(key, (n,))


def fit_second_stage(codes: np.ndarray, latents: int, seed: int) -> dict[str, np.ndarray]:
    """Return the arrays of a VAE of the codes [n, d] with so many latents, fitted to its ELBO; p(z|u) has one learned scale.

    References: Dai & Wipf 2019, section 4.
    """
    standard, moments = _standardized(codes)
    d, (encoder_key, decoder_key, train_key) = codes.shape[1], jax.random.split(jax.random.key(seed), 3)
    params = _init_layers(encoder_key, "encoder", (d, *WIDTHS, 2 * latents))
    params |= _init_layers(decoder_key, "decoder", (latents, *WIDTHS, d)) | {"log_scale": jnp.full((), FIRST_LOG_SCALE)}

    def loss(key: jax.Array, params: Params, z: jax.Array) -> jax.Array:
        mean, log_scale = jnp.split(_apply_layers(params, "encoder", z), 2, axis=-1)
        log_scale = 7.0 * jnp.tanh(log_scale / 7.0)
        u = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
        reconstruction = Normal(_apply_layers(params, "decoder", u), log_scale=params["log_scale"])
        return jnp.mean(gaussian_kl(mean, log_scale) - reconstruction.log_prob(z))

    trained = _minimised(loss, params, standard, train_key)
    return {**moments, **{name: np.asarray(array) for name, array in trained.items()}}


def draw_second_stage(arrays: Mapping[str, np.ndarray], key: jax.Array, n: int) -> jax.Array:
    """Draw codes [n, d] from p(z|u), u of a standard normal."""
    u_key, z_key = jax.random.split(key)
    u = jax.random.normal(u_key, (n, arrays["decoder_weights0"].shape[0]))
    mean = _apply_layers(arrays, "decoder", u)
    z = mean + jnp.exp(arrays["log_scale"]) * jax.random.normal(z_key, mean.shape)
    return jnp.asarray(arrays["location"]) + arrays["scale"] * z


def _minimised(
    loss: Callable[[jax.Array, Tree, jax.Array], jax.Array], params: Tree, codes: np.ndarray, key: jax.Array
) -> Tree:
    """Return parameters after ``STEPS`` steps on ``loss(key, params, codes [b, d])``, batches drawn with replacement."""
    import optax

    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, STEPS))
    )

    @jax.jit
    def run(params: Tree, codes: jax.Array) -> Tree:
        def step(carry: tuple[Tree, Tree], number: jax.Array) -> tuple[tuple[Tree, Tree], None]:
            params, state = carry
            rows_key, loss_key = jax.random.split(jax.random.fold_in(key, number))
            batch = codes[jax.random.randint(rows_key, (min(BATCH, len(codes)),), 0, len(codes))]
            gradient = jax.grad(loss, argnums=1)(loss_key, params, batch)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(STEPS))[0][0]

    return jax.device_get(run(params, jnp.asarray(codes, jnp.float32)))


def _standardized(codes: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return codes of mean 0 and variance 1, and their "location" and "scale" [d]; a constant latent keeps its scale."""
    values = np.asarray(codes, np.float64)
    location, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, 1.0)
    moments = {"location": location.astype(np.float32), "scale": scale.astype(np.float32)}
    return ((values - location) / scale).astype(np.float32), moments


def _normal(d: int) -> Normal:
    return Normal(jnp.zeros(d), 1.0)


def _flow(d: int, layers: int) -> flows.Chain:
    """Return masked autoregressive layers with the order of the coordinates reversed between them."""
    parts: list[flows.Flow] = []
    for layer in range(layers):
        parts += [flows.reverse(d)] * (layer > 0)
        parts.append(flows.MaskedAutoregressive(d, (max(HIDDEN, d), max(HIDDEN, d))))
    return flows.chain(*parts)


def _init_layers(key: jax.Array, name: str, sizes: tuple[int, ...]) -> Params:
    """Return weights, normal with variance 2 / inputs, and biases 0."""
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weights = jax.random.normal(jax.random.fold_in(key, layer), (inputs, outputs))
        params[f"{name}_weights{layer}"] = weights * np.sqrt(2.0 / inputs)
        params[f"{name}_biases{layer}"] = jnp.zeros(outputs)
    return params


def _apply_layers(params: Mapping[str, jax.Array | np.ndarray], name: str, x: jax.Array) -> jax.Array:
    for layer in range(len(WIDTHS) + 1):
        x = x @ params[f"{name}_weights{layer}"] + params[f"{name}_biases{layer}"]
        x = jax.nn.relu(x) if layer < len(WIDTHS) else x
    return x
