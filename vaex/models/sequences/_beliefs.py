"""The recipe of models that hold beliefs about the present and jump into the future, of any networks for their conditionals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.core import Batch, Model, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models.sequences import _sequence_figures as sequence_pictures
from vaex.models.sequences import _sequences as sequences
from vaex.models.sequences import _temporal_difference as td


class Parts(NamedTuple):
    """A model's parts as pure functions of one tree of parameters.

    ``init(key, batch) -> params``; ``states(params, x) -> [b, t + 1, r]``, of which beliefs are made, before the first frame
    (there they are zeros) and after each; ``conditionals(params, hparams) -> Conditionals``. ``frames``: networks of frames.
    ``size``: (t, d) of a code. ``state``: r. ``max_jump``, ``pairs``: of training.
    """

    init: Callable[[jax.Array, Batch], PyTree]
    states: Callable[[PyTree, jax.Array], jax.Array]
    conditionals: Callable[[PyTree, Any], td.Conditionals]
    frames: sequences.Frames
    size: tuple[int, int]
    state: int
    max_jump: int
    pairs: int


def model(it: Parts) -> Model:
    """The model of these parts: codes are of the beliefs after each frame, samples begin with the belief before any."""
    length, d = it.size

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        params, x = variables.params["vae"], batch["x"]
        pairs_key, key = jax.random.split(key)
        pairs = td.draw_pairs(pairs_key, it.states(params, x), x, it.pairs, it.max_jump)
        terms = td.pair_terms(key, it.conditionals(params, hparams), pairs)
        density = it.frames.likelihood.density
        metrics = terms._asdict() | ({"prediction_bound": -terms.total} if density else {})
        metrics = {name: jnp.mean(value, axis=-1) for name, value in metrics.items()}
        loss = terms.reconstruction + terms.surprise + hparams.beta * terms.smoothing_kl
        return Outcome({"vae": jnp.mean(loss)}, variables.state, metrics)

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Any:
        params = variables.params["vae"]
        found = it.conditionals(params, hparams).belief(it.states(params, batch["x"])[:, 1:])
        flat = (found.mean.shape[0], -1)
        return distributions.Normal(found.mean.reshape(flat), log_scale=found.log_scale.reshape(flat))

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return it.frames.decode_all(variables.params["vae"], z.reshape(*z.shape[:-1], length, d), hparams)

    def log_weights(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, num_samples: int) -> jax.Array:
        params, x = variables.params["vae"], batch["x"]
        return td.log_weights(key, it.conditionals(params, hparams), it.states(params, x), x, num_samples)

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        params, (first_key, key) = variables.params["vae"], jax.random.split(key)
        conditionals = it.conditionals(params, hparams)
        z = conditionals.belief(jnp.zeros((n, it.state))).sample(first_key)
        return it.frames.decode_all(params, td.roll_out(key, conditionals, z, length), hparams)

    return Model(
        lambda key, batch: Variables({"vae": it.init(key, batch)}),
        objective,
        encode,
        decode,
        log_weights if it.frames.likelihood.density else None,
        sample,
    )


def recipe(it: Parts, config: sequences.Config, spec: Spec) -> Recipe:
    """The recipe of these parts, with pictures of beliefs, jumps and roll-outs.

    ``hparams`` have a ``beta``, the weight of KL(q_S || p_B) in training.
    """
    whole = model(it)

    def believed(key: jax.Array, params: PyTree, hparams: Any, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Latents of the last frame of x, [*shape, b, d]."""
        return it.conditionals(params, hparams).belief(it.states(params, x)[:, -1]).sample(key, shape)

    def predict(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, steps: int, num_samples: int) -> Any:
        params, (now_key, key) = variables.params["vae"], jax.random.split(key)
        now = believed(now_key, params, hparams, batch["x"], (num_samples,))
        then = td.jump_ahead(key, it.conditionals(params, hparams), now, steps, it.max_jump)
        return it.frames.decode(params, then, hparams)

    def follow(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, steps: int) -> jax.Array:
        params, (now_key, key) = variables.params["vae"], jax.random.split(key)
        now = believed(now_key, params, hparams, batch["x"], ())
        ways = td.roll_out(key, it.conditionals(params, hparams), now, steps)
        return it.frames.decode(params, ways, hparams).mean

    def reconstruct(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> jax.Array:
        z = whole.encode(key, variables, hparams, batch).sample(key)
        return whole.decode(variables, hparams, z, batch).mean

    found = sequences.recipe(whole, config, spec, it.frames.likelihood, predict, follow)
    beliefs = {"beliefs": lambda *args: sequence_pictures.draw_beliefs(reconstruct, *args)}
    return found._replace(figures={**found.figures, **beliefs})
