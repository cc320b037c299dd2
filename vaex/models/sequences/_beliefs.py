"""The recipe of models that hold beliefs about the present and jump into the future, of any networks for their conditionals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import distributions
from vaex.core import Batch, Model, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models.sequences import _sequence_figures as sequence_figures
from vaex.models.sequences import _sequences as sequences
from vaex.models.sequences import _temporal_difference as td
from vaex.models.sequences._layered import FrameCodes


class BeliefComponents(NamedTuple):
    """A model's components as pure functions of one tree of parameters.

    ``init(key, batch) -> params``; ``states(params, x) -> [b, t + 1, r]``, of which beliefs are made, before the first frame
    (there they are zeros) and after each; ``conditionals(params, hparams) -> Conditionals``. ``frames``: networks of frames.
    ``size``: (t, d) of a code. ``state``: r. ``max_jump``, ``pairs``: of training.
    """

    init: Callable[[jax.Array, Batch], PyTree]
    states: Callable[[PyTree, jax.Array], jax.Array]
    conditionals: Callable[[PyTree, PyTree], td.Conditionals]
    frames: sequences.Frames
    size: tuple[int, int]
    state: int
    max_jump: int
    pairs: int


def model(components: BeliefComponents) -> Model:
    """The model of these components: codes are of the beliefs after each frame; samples go step by step from b_0 on."""
    length, d = components.size

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params, x = variables.params["vae"], batch["x"]
        pairs_key, key = jax.random.split(key)
        pairs = td.draw_pairs(pairs_key, components.states(params, x), x, components.pairs, components.max_jump)
        terms = td.pair_terms(key, components.conditionals(params, hparams), pairs)
        density = components.frames.likelihood.density
        metrics = terms._asdict() | ({"prediction_bound": -terms.total} if density else {})
        metrics = {name: jnp.mean(value, axis=-1) for name, value in metrics.items()}
        loss = terms.reconstruction + terms.surprise + hparams.beta * terms.smoothing_kl
        return Outcome({"vae": jnp.mean(loss)}, variables.state, metrics)

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> FrameCodes:
        params = variables.params["vae"]
        belief = components.conditionals(params, hparams).belief(components.states(params, batch["x"])[:, 1:])
        return FrameCodes(belief)

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> distributions.Distribution:
        return components.frames.decode_all(variables.params["vae"], z.reshape(*z.shape[:-1], length, d), hparams)

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        params, x = variables.params["vae"], batch["x"]
        return td.log_weights(
            key, components.conditionals(params, hparams), components.states(params, x), x, num_samples
        )

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> distributions.Distribution:
        params, (first_key, key) = variables.params["vae"], jax.random.split(key)
        conditionals = components.conditionals(params, hparams)
        z = conditionals.belief(jnp.zeros((n, components.state))).sample(first_key)
        return components.frames.decode_all(params, td.roll_out(key, conditionals, z, length), hparams)

    return Model(
        lambda key, batch: Variables({"vae": components.init(key, batch)}),
        objective,
        encode,
        decode,
        log_weights if components.frames.likelihood.density else None,
        sample,
    )


def recipe(components: BeliefComponents, config: sequences.Config, spec: Spec) -> Recipe:
    """Return the recipe of these components, with figures of beliefs, jumps and roll-outs.

    ``hparams`` have a ``beta``, the weight of KL(q_S || p_B) in training.
    """
    sequence_model = model(components)

    def believed(key: jax.Array, params: PyTree, hparams: PyTree, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Latents of the last frame of x, [*shape, b, d]."""
        return components.conditionals(params, hparams).belief(components.states(params, x)[:, -1]).sample(key, shape)

    def predict(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int, num_samples: int
    ) -> distributions.Distribution:
        params, (now_key, key) = variables.params["vae"], jax.random.split(key)
        now = believed(now_key, params, hparams, batch["x"], (num_samples,))
        then = td.jump_ahead(key, components.conditionals(params, hparams), now, steps, components.max_jump)
        return components.frames.decode(params, then, hparams)

    def follow(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int
    ) -> distributions.Distribution:
        params, (now_key, key) = variables.params["vae"], jax.random.split(key)
        now = believed(now_key, params, hparams, batch["x"], ())
        ways = td.roll_out(key, components.conditionals(params, hparams), now, steps)
        return components.frames.decode(params, ways, hparams)

    def reconstruct(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> jax.Array:
        z = sequence_model.encode(key, variables, hparams, batch).sample(key)
        return sequence_model.decode(variables, hparams, z, batch).mean

    built = sequences.recipe(sequence_model, config, spec, components.frames.likelihood, predict, follow)
    if len(spec.shape) == 2:
        return built
    beliefs = {"beliefs": lambda *args: sequence_figures.draw_beliefs(reconstruct, *args)}
    return built._replace(figures={**built.figures, **beliefs})
