r"""Sequence VAE: latents of each frame behind a recurrent network that remembers those before.

Objective, in nats per sequence: the negative elbo, summed over time,
:math:`\sum_t -\mathbb E\log p(x_t|h_t, z_t) + \beta\,\mathbb E\,\mathrm{KL}(q(z_t|h_t, x_t)\,\|\,p(z_t|h_t))`, with
:math:`h_{t+1} = \mathrm{GRU}(h_t, z_t)`. As the state remembers latents and not frames, p(x|z) is a decoder of all latents, and
predictions need no generated frames.

Source: Chung et al. 2015, A recurrent latent variable model for sequential data, eqs. 5 to 11, with the state of Hafner et al. 2019
(PlaNet), section 3.
Command: ``python experiments/run.py --model=sequence_vae``
Result: 4,000 steps, learning rate falling to 1e-5, test: log p of the frame 1, 5 and 10 ahead -37.6, -38.9, -40.2; of the last
frame with flips -106.7, -278.6, -325.9; log-likelihood of a sequence -616.1 (K = 100).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.configuration import hparam, hyperparameters
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import latent
from vaex.models.sequences import _sequences as sequences
from vaex.models.sequences._sequences import DEFAULTS, FRAMES, TINY, Config
from vaex.models.sequences._state_space import Cell, Path, PathPosterior, PathPrior, draw_path, follow_path
from vaex.schedules import Scalar

__all__ = ["DEFAULTS", "FRAMES", "TINY", "Config", "HParams", "build"]


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of the sequence VAE."""

    beta: Scalar = hparam(1.0, low=0.0, doc="Weight of the KL.")


def networks(config: Config, frames: sequences.Frames) -> tuple[latent.InitParams, Callable[[PyTree], Cell]]:
    """``init(key, batch) -> params``, and ``cell(params)``, one step of time."""
    d, r = config.latent_dim, config.recurrent
    gru, gaussian = nets.GRU(r), sequences.gaussian_map(config)

    def cell(params: PyTree) -> Cell:
        def at(name: str, network: nets.Network, *inputs: jax.Array) -> jax.Array:
            return network.apply({"params": params[name]}, *inputs)

        return Cell(
            lambda shape: jnp.zeros((*shape, r)),
            lambda h: sequences.moments(at("prior", gaussian, h)),
            lambda h, evidence: sequences.moments(at("posterior", gaussian, h, evidence)),
            lambda h, z: at("gru", gru, h, z),
        )

    def init_params(key: jax.Array, batch: Batch) -> PyTree:
        h, z, evidence = jnp.zeros((1, r)), jnp.zeros((1, d)), jnp.zeros((1, config.hidden[0]))
        frames_key, gru_key, prior_key, posterior_key = jax.random.split(key, 4)
        return frames.init(frames_key, batch) | {
            "gru": gru.init(gru_key, h, z)["params"],
            "prior": gaussian.init(prior_key, h)["params"],
            "posterior": gaussian.init(posterior_key, h, evidence)["params"],
        }

    return init_params, cell


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the sequence VAE for data of this spec."""
    d, r = config.latent_dim, config.recurrent
    frames, size = sequences.frames(config, spec, r + d), (spec.shape[0], d)
    init_params, cell = networks(config, frames)

    def posterior(params: PyTree, hparams: PyTree, batch: Batch) -> PathPosterior:
        return PathPosterior(params, frames.encode(params, batch["x"]), cell, size)

    def decode(params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        path = follow_path(cell(params), z.reshape(*z.shape[:-1], *size))
        return frames.decode_all(params, inputs(path), hparams)

    def inputs(path: Path) -> jax.Array:
        return jnp.concatenate([path.h, path.z], axis=-1)

    def drawn(key: jax.Array, params: PyTree, x: jax.Array, shape: tuple[int, ...]) -> Path:
        noise = jax.random.normal(key, (*shape, len(x), x.shape[1], d))
        return draw_path(cell(params), noise, frames.encode(params, x))

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        path = drawn(key, params, batch["x"], ())
        log_px, kl = frames.decode_all(params, inputs(path), hparams).log_prob(batch["x"]), jnp.sum(path.kl(), axis=-1)
        loss = jnp.mean(hparams.beta * kl - log_px)
        return Outcome({"vae": loss}, variables.state, latent.metrics(frames.likelihood, log_px, kl))

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        """Log weights in one path, where posterior, prior and decoder alone would take three."""
        params = variables.params["vae"]
        path = drawn(key, params, batch["x"], (num_samples,))
        log_px = frames.decode_all(params, inputs(path), hparams).log_prob(batch["x"])
        return log_px + path.log_p() - path.log_q()

    def beyond(key: jax.Array, params: PyTree, x: jax.Array, steps: int, shape: tuple[int, ...]) -> jax.Array:
        """What the decoder reads of the frames after x, [*shape, b, steps, r + d]."""
        path_key, key = jax.random.split(key)
        now = drawn(path_key, params, x, shape).end
        noise = jax.random.normal(key, (*shape, len(x), steps, d))
        return inputs(draw_path(cell(params), noise, start=now))

    def predict(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int, num_samples: int
    ) -> Distribution:
        params = variables.params["vae"]
        last = beyond(key, params, batch["x"], steps, (num_samples,))[..., -1, :]
        return frames.decode(params, last, hparams)

    def follow(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int) -> Distribution:
        params = variables.params["vae"]
        return frames.decode(params, beyond(key, params, batch["x"], steps, ()), hparams)

    components = latent.Components(
        init_params, posterior, lambda params, hparams: PathPrior(params, cell, size), decode, frames.likelihood
    )
    model = latent.model(components, objective)
    model = model._replace(log_weights=log_weights) if frames.likelihood.density else model
    return sequences.recipe(model, config, spec, frames.likelihood, predict, follow)
