"""The records that hold vaex together: bundles of pure functions and pytrees of arrays, without logic.

Axes: b batch, k importance samples, d latent, p population, h w c image. Likelihoods and divergences are sums over event
dimensions, in nats; only ``objective`` averages over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax

PyTree = Any
Batch = dict[str, jax.Array]  # "x": [b, ...]; with labels "y": [b]; when padded "mask": [b], 1 for rows that count


class Variables(NamedTuple):
    """Arrays of a model. ``params`` has one entry per player; ``state`` is what training changes without a gradient."""

    params: dict[str, PyTree]
    state: PyTree = ()


class Outcome(NamedTuple):
    """What one evaluation of an objective gives.

    ``losses``: one scalar per player, nats per example, lower is better. ``state``: the next ``Variables.state``.
    ``metrics``: name -> [] or [b]; a [b] metric is averaged over its axis under ``batch["mask"]``.
    """

    losses: dict[str, jax.Array]
    state: PyTree
    metrics: dict[str, jax.Array]


class Model(NamedTuple):
    """A model is a value: six pure functions.

    ``init(key, batch) -> Variables``;
    ``objective(key, variables, hparams, batch, *, train) -> Outcome``;
    ``encode(key, variables, hparams, batch) -> latents``, a distribution over z (or codes);
    ``decode(variables, hparams, z, batch) -> distribution`` over x;
    ``log_weights(key, variables, hparams, batch, num_samples) -> [k, b]``, log p(x, z) - log q(z|x), or None where the
    model defines no density;
    ``sample(key, variables, hparams, n, condition) -> distribution`` over n images, z drawn from the prior.
    """

    init: Callable[..., Variables]
    objective: Callable[..., Outcome]
    encode: Callable[..., Any]
    decode: Callable[..., Any]
    log_weights: Callable[..., jax.Array] | None
    sample: Callable[..., Any]


class TrainState(NamedTuple):
    """Everything that training changes, arrays only: it checkpoints, shards, vmaps and donates.

    ``average`` is the averaged ``params`` where averaging is on, else ``()``.
    """

    step: jax.Array
    key: jax.Array
    hparams: PyTree
    variables: Variables
    opt_state: PyTree
    average: PyTree = ()


class Algorithm(NamedTuple):
    """How a state is made and advanced: ``init(key, hparams, batch) -> TrainState``, ``step(state, batch) -> (state, metrics)``.

    ``metrics["finite"]`` is 1, or 0 where a loss was not finite: the loop then stops and the state is never saved.
    """

    init: Callable[..., TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]


class Stage(NamedTuple):
    """One training run within a recipe.

    ``prepare(finished) -> pytree``: the ``Variables.state`` that a later stage begins with, made of the variables of the
    stages before, by name (the averaged parameters where there are any). Training passes it through, so it is kept in the
    checkpoint, and a member of a population has its own.
    """

    name: str
    model: Model
    algorithm: Algorithm
    hparams: PyTree
    prepare: Callable[..., PyTree] | None = None


class LikelihoodFacts(NamedTuple):
    """What reports say of a likelihood: its name, and whether it is a probability over the data's levels."""

    title: str = ""
    discrete: bool = False


class Latents(NamedTuple):
    """What neighbouring entries of a code are, so that evaluation and pictures treat them as such.

    ``kind``: "normal", latents with a standard normal prior; "free", with any other prior; "sphere", a unit vector;
    "categorical", the one-hot or the class probabilities of one variable with a uniform prior; "code", integers from 0 to
    ``classes`` - 1, each a variable with a learned prior, whose posterior is a point. ``size``: how many entries.
    """

    kind: Literal["normal", "free", "sphere", "categorical", "code"]
    size: int
    classes: int = 0


class Labels(NamedTuple):
    """That a model reads labels: ``batch["y"]`` in encode and decode, and the ``condition`` [n] of sample; -1 is unlabelled.

    ``classes``: labels are 0..classes-1. ``classify(key, variables, hparams, batch) -> q(y|x)``: a model's own classifier; such a
    model treats y as a latent variable: its elbo and log_weights are those of x alone, and encode takes the most probable label
    where none is given. None: the label is always given, and elbo and log_weights are of x given y.
    ``class_log_weights(key, variables, hparams, batch, num_samples) -> [k, b, classes]``, log p(x, z|y) - log q(z|x, y) of every
    class; by default log_weights of the batch repeated with each label.
    ``prior_only``: z depends on y, but x given z does not, nor q(z|x): encode and decode read no label.
    """

    classes: int
    classify: Callable[..., Any] | None = None
    class_log_weights: Callable[..., jax.Array] | None = None
    prior_only: bool = False


class Sequences(NamedTuple):
    """That a model reads sequences, "x" [b, t, ...], and foretells them.

    ``predict(key, variables, hparams, batch, steps, num_samples) -> distribution`` of the frame that comes ``steps`` after the last
    of ``batch["x"]``, which may hold any number of frames; its batch shape is [k, b], an entry for each sample of the latents.
    """

    predict: Callable[..., Any]


class Recipe(NamedTuple):
    """What a model file builds: its stages, and the functions over all of them that loading and evaluation use.

    They take the variables of the last stage, whose ``state`` holds what its ``prepare`` took from the stages before.
    ``figures``: name -> function(key, variables, hparams, batch) -> a figure record.
    ``latents``: what a code [d] is made of, from its first entry to its last; () where all are "normal". Codes may also be arrays
    of more axes, whose entries are counted in their order; decode then takes them flat, too.
    ``labels``: None for a model that reads none. ``sequences``: None for a model of single examples.
    All take x as model inputs (float32, in [0, 1] for images); where data is stored otherwise, callers prepare it first.
    """

    stages: tuple[Stage, ...]
    encode: Callable[..., Any]
    decode: Callable[..., Any]
    log_weights: Callable[..., jax.Array] | None
    sample: Callable[..., Any]
    likelihood: LikelihoodFacts = LikelihoodFacts()
    figures: Mapping[str, Callable[..., Any]] = {}
    latents: tuple[Latents, ...] = ()
    labels: Labels | None = None
    sequences: Sequences | None = None


class Feed(NamedTuple):
    """How batches reach the compiled loop.

    ``resident``: arrays that stay on the device; ``plan(first_step, count) -> pytree`` of host arrays with leading axis
    ``count``, a pure function of its arguments; ``batch(resident, row) -> Batch`` takes one row of a plan, inside the loop.
    ``share(first_step, count, rows)``: where a plan holds the examples themselves, [count, b, ...], these rows of the batch:
    devices and processes that divide the batch ask for their own only. None where a plan is small.
    """

    resident: PyTree
    plan: Callable[[int, int], PyTree]
    batch: Callable[[PyTree, PyTree], Batch]
    share: Callable[[int, int, slice], PyTree] | None = None
