r"""Full variational Bayes: a posterior over the decoder's weights beside that over the latents (Kingma & Welling 2014, appendix F).

:math:`\log p(X) \ge E_{q(\theta)}[\sum_i \mathrm{ELBO}(x_i; \theta)] - \mathrm{KL}(q(\theta)\,\|\,p(\theta))`, priors standard
normal. A minibatch of m of n examples counts n/m times, and the divergence of the weights once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaex import inference
from vaex.data import Dataset
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.distributions import Bernoulli, Delta, Distribution, Normal
from vaex.divergences import kl
from vaex.errors import UserError
from vaex.plots.records import Curves

BATCH, RATE = 50, 3e-3
PLACES = 20  # on a curve
TRAINING = (50, 200)  # digits
HELD_OUT = 500
HIDDEN = 50
DRAWS = 20  # of the weights, for each value of a curve

Encode = Callable[[Any, jax.Array], Distribution]  # params, x [m, ...] -> q(z|x)
Decode = Callable[[Any, jax.Array], Distribution]  # theta, z [m, d] -> p(x|z, theta)


class Method(NamedTuple):
    """How the decoder's weights are treated: the family of q(theta), and whether they have a prior."""

    family: inference.Family
    prior: bool


def elbo(key: jax.Array, theta: Any, phi: Any, encode: Encode, decode: Decode, x: jax.Array) -> jax.Array:
    """ELBO of each example [m] at one theta, nats, by one draw of z."""
    q = encode(phi, x)
    z = q.sample(key)
    return decode(theta, z).log_prob(x) - kl(q, Normal(jnp.zeros_like(z), 1.0))


def evidence_bound(
    key: jax.Array, params: Any, method: Method, encode: Encode, decode: Decode, x: jax.Array, total: int
) -> jax.Array:
    """Estimate of the lower bound of log p(X), nats, by a minibatch x [m, ...] of ``total`` examples and one draw of theta.

    Of a point mass it is log p(X | theta), bounded, plus log p(theta) where there is a prior.
    """
    theta_key, z_key = jax.random.split(key)
    weights, space = method.family.distribution(params["theta"]), method.family.space
    vector = weights.sample(theta_key)
    prior = Normal(jnp.zeros(space.size), 1.0)
    of_point = -prior.log_prob(vector) if method.prior else 0.0
    penalty = of_point if isinstance(weights, Delta) else kl(weights, prior)
    theta, _ = space.constrain(vector)
    return total * jnp.mean(elbo(z_key, theta, params["phi"], encode, decode, x)) - penalty


class Trained(NamedTuple):
    """Parameters {"theta", "phi"}, and curves [PLACES]: steps, ELBO per example of training and held-out data, the bound."""

    params: Any
    steps: jax.Array
    training: jax.Array
    held_out: jax.Array
    bound: jax.Array


def train(
    key: jax.Array,
    method: Method,
    phi: Any,
    theta: jax.Array,
    encode: Encode,
    decode: Decode,
    x: jax.Array,
    held_out: jax.Array,
    steps: int,
) -> Trained:
    """Ascend the bound of x [n, ...] by Adam from ``phi`` and the unconstrained weights ``theta``; one compiled program."""
    first = {"theta": {**method.family.init(key), "loc": theta}, "phi": phi}
    optimizer, every = optax.adam(RATE), max(1, steps // PLACES)

    def loss(params: Any, key: jax.Array) -> jax.Array:
        row_key, bound_key = jax.random.split(key)
        rows = jax.random.choice(row_key, len(x), (min(BATCH, len(x)),), replace=False)
        return -evidence_bound(bound_key, params, method, encode, decode, x[rows], len(x)) / len(x)

    def advance(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, moments = carry
        updates, moments = optimizer.update(jax.grad(loss)(params, key), moments)
        return (optax.apply_updates(params, updates), moments), None

    def measure(params: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def at(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            theta_key, z_key = jax.random.split(key)
            vector = method.family.distribution(params["theta"]).sample(theta_key)
            weights, _ = method.family.space.constrain(vector)
            bounds = [jnp.mean(elbo(z_key, weights, params["phi"], encode, decode, of)) for of in (x, held_out)]
            return bounds[0], bounds[1], evidence_bound(key, params, method, encode, decode, x, len(x)) / len(x)

        return jax.tree.map(jnp.mean, jax.vmap(at)(jax.random.split(jax.random.key(1), DRAWS)))

    def place(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], Any]:
        carry, _ = jax.lax.scan(advance, carry, jax.random.split(key, every))
        return carry, measure(carry[0])

    (params, _), curves = jax.lax.scan(place, (first, optimizer.init(first)), jax.random.split(key, PLACES))
    return Trained(params, every * jnp.arange(1, PLACES + 1), *curves)


class _Network(nn.Module):
    """One hidden layer of tanh."""

    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.outputs)(jnp.tanh(nn.Dense(HIDDEN)(x)))


def full_bayes(dataset: Dataset, *, steps: int, latents: int) -> tuple[list[Curves], list[list[str]], tuple[str, ...]]:
    """Return curves, table and findings for few binarised images: weights as a point (maximum likelihood, MAP) and in full.

    Raises: UserError for data of fewer training images, or that is rendered in training.
    """
    needed = max(TRAINING) + HELD_OUT
    if dataset.source is not None or len(dataset.splits["train"]["x"]) < needed:
        raise UserError(f"figure F needs {needed} training images that are stored; choose another --dataset")
    images = chosen_intensities(dataset.spec, dataset.splits["train"]["x"], np.arange(needed), 500)
    pixels = jnp.asarray(images.reshape(len(images), -1) > 0.5, jnp.float32)
    encoder, decoder = _Network(2 * latents), _Network(pixels.shape[1])

    def encode(phi: Any, x: jax.Array) -> Normal:
        mean, log_scale = jnp.split(jnp.asarray(encoder.apply(phi, x)), 2, axis=-1)
        return Normal(mean, log_scale=log_scale)

    def decode(theta: Any, z: jax.Array) -> Bernoulli:
        return Bernoulli(jnp.asarray(decoder.apply(theta, z)))

    phi = encoder.init(jax.random.key(0), pixels[:1])
    theta = decoder.init(jax.random.key(1), jnp.zeros((1, latents)))
    supports = jax.tree.map(lambda leaf: inference.real(*leaf.shape), theta)
    point, field = inference.PointMass(supports), inference.MeanField(supports, scale=0.05)
    methods = {"ML": Method(point, False), "MAP": Method(point, True), "full Bayes": Method(field, True)}
    table = [
        ["training digits", "weights", "training ELBO", "held-out ELBO", "difference", "bound of log p(X) per digit"]
    ]
    panels, findings = [], []
    for count in TRAINING:
        lines: dict[str, np.ndarray] = {}
        overfitting: dict[str, float] = {}
        at = np.zeros(0)
        for name, method in methods.items():
            fit = jax.jit(
                lambda key, x, method=method: train(
                    key,
                    method,
                    phi,
                    method.family.space.unconstrain(theta),
                    encode,
                    decode,
                    x,
                    pixels[-HELD_OUT:],
                    steps,
                )
            )(jax.random.key(2), pixels[:count])
            at = np.asarray(fit.steps)
            lines[f"{name}, training"], lines[f"{name}, held out"] = np.asarray(fit.training), np.asarray(fit.held_out)
            overfitting[name] = float(fit.training[-1] - fit.held_out[-1])
            ends = (fit.training[-1], fit.held_out[-1], overfitting[name])
            bound = "-" if isinstance(method.family, inference.PointMass) else f"{fit.bound[-1]:.2f}"
            table.append([str(count), name, *(f"{value:.2f}" for value in ends), bound])
        differences = ", ".join(f"{name} {value:.2f}" for name, value in overfitting.items())
        findings.append(f"{count} digits: training less held-out ELBO is {differences}")
        panels.append(Curves(at, lines, "steps", "ELBO (nats)", f"{count} training digits"))
    return panels, table, tuple(findings)
