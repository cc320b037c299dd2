"""The records that hold vaex together: bundles of pure functions and pytrees of arrays, without logic.

Axes: b batch, k importance samples, d latent, p population, h w c image. Likelihoods and divergences are sums over event
dimensions, in nats; only ``objective`` averages over the batch. Arguments: key, variables, hyperparameters, data.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
from jax.typing import ArrayLike

PyTree: TypeAlias = Any
# of arrays: "x": [b, ...]; with labels "y": [b], or conditions [b, m]; when padded "mask": [b], 1 for rows that count
Batch: TypeAlias = dict[str, Any]
Given: TypeAlias = Mapping[str, jax.Array]  # variables by name
Metrics = dict[str, jax.Array]  # name -> [] or [b]
Distribution: TypeAlias = Any  # an object as ``vaex.distributions`` has them
Figure: TypeAlias = Any  # a record of ``vaex.plots.records``
# applies a function (keys [b], batch of model inputs) -> [b, ...] to all training examples that are kept -> [n, ...] on the host
EachExample: TypeAlias = Callable[[Callable[[jax.Array, Batch], PyTree]], PyTree]


# --- randomness ---------------------------------------------------------------------------------------------------
# A key is folded with the purpose of the draw. Every enum numbers the purposes under one parent key.


class InitKey(enum.IntEnum):
    """Purposes under the key of a model's ``init``."""

    POSTERIOR = 1
    PRIOR = 2
    AUXILIARY = 3  # a critic, a classifier
    FIT = 4  # ``Stage.fit_state``


class StepKey(enum.IntEnum):
    """Purposes under the key of an objective, which itself draws the posterior's samples."""

    PENALTY = 1  # and the corruption of inputs
    DROPOUT = 2  # and other corruption of codes
    PARTS = 3  # of a batch that is computed in parts


class DataKey(enum.IntEnum):
    """Purposes under the key with which stored values become model inputs, which itself draws binarisation and noise."""

    AUGMENTATION = 1


class SampleKey(enum.IntEnum):
    """Purposes under the key of ``sample``, which itself draws z."""

    LABELS = 1


class FigureKey(enum.IntEnum):
    """Purposes under the key of a figure, which itself binarises its examples."""

    LATENTS = 1


class EvaluationKey(enum.IntEnum):
    """Purposes under the key of an evaluation."""

    INPUTS = 0
    POSTERIOR = 1
    LIKELIHOOD_SAMPLES = 2
    LOG_LIKELIHOOD = 3
    OBJECTIVE = 4
    PRIOR_SAMPLES = 5
    SAMPLE_NOISE = 6
    FIGURES = 7
    CLASSIFICATION = 8
    BASELINES = 9
    PREDICTIONS = 10
    TRAINING_EXAMPLES = 11
    AGGREGATE = 12
    BOUNDS = 13


# --- models -------------------------------------------------------------------------------------------------------


class Variables(NamedTuple):
    """Arrays of a model.

    Attributes:
      params: parameter group -> its parameters; most models have one group.
      state: what training changes without a gradient.
    """

    params: dict[str, PyTree]
    state: PyTree = ()


class Outcome(NamedTuple):
    """What one evaluation of an objective gives.

    Attributes:
      losses: parameter group -> its loss, a scalar, nats per example, lower is better.
      state: the next ``Variables.state``.
      metrics: name -> [] or [b]. A [b] metric has a value for each example, which depends on that example and its draws alone;
        what compares the examples of a batch, such as a covariance, is a statistic of the batch, []. Evaluation gives the former
        a standard error over examples, the latter one over batches.
    """

    losses: dict[str, jax.Array]
    state: PyTree
    metrics: Metrics


class Init(Protocol):
    """Initialises the variables from a key and a batch of model inputs."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> Variables: ...


class Objective(Protocol):
    """Evaluates the losses, the next state and the metrics of a batch; ``train`` is static."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /, *, train: bool
    ) -> Outcome: ...


class Encode(Protocol):
    """Returns q(z|x) of batch shape [b], a distribution over z (or codes)."""

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> Distribution: ...


class Decode(Protocol):
    """Returns p(x|z) for z [..., b, d]; labels, where the model reads them, are in ``batch["y"]``."""

    def __call__(self, variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch, /) -> Distribution: ...


class LogWeights(Protocol):
    """Returns log p(x, z) - log q(z|x), [k, b], nats, at ``num_samples`` posterior samples z of each example."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int, /
    ) -> jax.Array: ...


class Sample(Protocol):
    """Returns p(x|z) of ``n`` draws of z from the prior; ``condition`` [n]: their labels, drawn uniformly where it is None."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None, /
    ) -> Distribution: ...


class DrawFigure(Protocol):
    """Returns a figure record of a few examples."""

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> Figure: ...


class Model(NamedTuple):
    """A model is a value: six pure functions, as their Protocols say.

    Attributes:
      log_weights: None where the model defines no density of x.
      compares_examples: whether a loss is no mean over examples, but compares those of its batch, as a covariance does.
    """

    init: Init
    objective: Objective
    encode: Encode
    decode: Decode
    log_weights: LogWeights | None
    sample: Sample
    compares_examples: bool = False


# --- training -----------------------------------------------------------------------------------------------------


class TrainState(NamedTuple):
    """Everything that training changes, arrays only: it checkpoints, shards, vmaps and donates.

    Attributes:
      step: number of steps taken.
      key: root key of the member; step t uses ``fold_in(key, t)``.
      hparams: hyperparameters, each a ``Schedule``.
      variables: parameters and state.
      opt_state: parameter group -> the state of its optimizer.
      average: averaged ``params`` where averaging is on, else ``()``.
    """

    step: jax.Array
    key: jax.Array
    hparams: PyTree
    variables: Variables
    opt_state: PyTree
    average: PyTree = ()


class InitState(Protocol):
    """Makes the first train state of a member; ``given``, where there is any, are variables by name that replace the drawn ones."""

    def __call__(self, key: jax.Array, hparams: PyTree, batch: Batch, given: Given = ..., /) -> TrainState: ...


class Step(Protocol):
    """Advances a train state by one step; the metrics are scalars."""

    def __call__(self, state: TrainState, batch: Batch, /) -> tuple[TrainState, Metrics]: ...


class Algorithm(NamedTuple):
    """How a train state is made and advanced.

    ``metrics["finite"]`` is 1, or 0 where a loss was not finite: the loop then stops and the state is never saved.
    ``vary(accumulate, frozen)``: a variant with batches in so many parts and variables that stay; None for no variants.
    """

    init: InitState
    step: Step
    vary: Callable[[int, tuple[str, ...]], Algorithm] | None = None


class CarryOver(Protocol):
    """Makes the ``Variables.state`` that a later stage begins with from the variables of the finished stages, by name."""

    def __call__(self, finished: Mapping[str, Variables], /) -> PyTree: ...


class FitState(Protocol):
    """Computes ``Variables.state`` of one member from the training examples, on the host, with any library.

    ``variables`` are those with which the stage begins; the result has the structure, shapes and dtypes of their state.
    """

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, examples: EachExample, /) -> PyTree: ...


class Stage(NamedTuple):
    """One training run within a recipe.

    Attributes:
      name: of the stage, unique in the recipe.
      model: what is trained.
      algorithm: how it is trained.
      carry_over: what the stage takes from those before it (their averaged parameters, where there are any). Training passes it
        through, so it is kept in the checkpoint, and a member of a population has its own.
      fit_state: what it computes of the training examples before its first step, in place of what ``carry_over`` or ``init`` made.
      steps: of a later stage that takes a fixed number of them, 0 where it only computes; None where the settings say.
    """

    name: str
    model: Model
    algorithm: Algorithm
    carry_over: CarryOver | None = None
    fit_state: FitState | None = None
    steps: int | None = None


# --- recipes ------------------------------------------------------------------------------------------------------


class LikelihoodSummary(NamedTuple):
    """What reports say of a likelihood: its name in words; ``discrete``, whether it is a probability over the data's levels."""

    title: str = ""
    discrete: bool = False


class Latents(NamedTuple):
    """What neighbouring entries of a code are, so that evaluation and figures treat them as such.

    Attributes:
      kind: "normal", latents with a standard normal prior; "free", with any other prior; "sphere", a unit vector;
        "categorical", the one-hot or the class probabilities of one variable with a uniform prior; "code", integers from 0 to
        ``classes`` - 1, each with a learned prior, whose posterior is a point; or one of ``evaluation.latents.register_kind``.
      size: how many entries.
      classes: number of values of a "code".
      partial: whether decode takes -1 for a code that is left out.
    """

    kind: str
    size: int
    classes: int = 0
    partial: bool = False


class ClassLogWeights(Protocol):
    """Returns log p(x, z|y) - log q(z|x, y) of every class, [k, b, classes], nats."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int, /
    ) -> jax.Array: ...


class Labels(NamedTuple):
    """How a model reads labels: ``batch["y"]`` in encode and decode, and the ``condition`` [n] of sample; -1 is unlabelled.

    Attributes:
      classes: labels are 0..classes-1; 0 for conditions.
      classify: q(y|x), a model's own classifier. Such a model treats y as a latent variable: its ELBO and log_weights are of x
        alone, and encode takes the most probable label where none is given. None: they are of x given y, which is always given.
      class_log_weights: log weights of every class; by default log_weights of the batch repeated with each label.
      prior_only: z depends on y, but not x given z, nor q(z|x), which read no label. conditions: of y [b, conditions], no classes.
    """

    classes: int
    classify: Encode | None = None
    class_log_weights: ClassLogWeights | None = None
    prior_only: bool = False
    conditions: int = 0


class Predict(Protocol):
    """Returns the distribution of the frame that comes ``steps`` after the last of ``batch["x"]``, of batch shape [k, b].

    ``batch["x"]`` [b, t, ...] may hold any number of frames; k is ``num_samples`` of the latents.
    """

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int, num_samples: int, /
    ) -> Distribution: ...


class Sequences(NamedTuple):
    """How a model of sequences, "x" [b, t, ...], predicts frames to come."""

    predict: Predict


class Recipe(NamedTuple):
    """What a model file builds: its stages, and what evaluation and figures need to know of it.

    All functions take x as model inputs (float32, in [0, 1] for images); where data is stored otherwise, callers prepare it first.

    Attributes:
      stages: trained one after the other.
      likelihood: what reports say of p(x|z).
      figures: name -> the model's own figures.
      latents: what a code [d] is made of, from its first entry to its last; () where all are "normal". Codes may also be arrays
        of more axes, whose entries are counted in their order; decode then takes them flat, too.
      labels: None for a model that reads none.
      sequences: None for a model of single examples.
    """

    stages: tuple[Stage, ...]
    likelihood: LikelihoodSummary = LikelihoodSummary()
    figures: Mapping[str, DrawFigure] = {}
    latents: tuple[Latents, ...] = ()
    labels: Labels | None = None
    sequences: Sequences | None = None

    @property
    def model(self) -> Model:
        """The last stage's model, whose functions loading and evaluation use; its state holds what it took from the others."""
        return self.stages[-1].model


# --- data ---------------------------------------------------------------------------------------------------------


class Plan(Protocol):
    """Returns host arrays with leading axis ``count`` for the steps from ``first_step`` on, a pure function of both."""

    def __call__(self, first_step: int, count: int, /) -> PyTree: ...


class TakeBatch(Protocol):
    """Returns the batch of one row of a plan, inside the compiled loop."""

    def __call__(self, resident: PyTree, row: PyTree, /) -> Batch: ...


class Share(Protocol):
    """Returns these rows of the batches of a plan that holds the examples themselves, [count, b, ...]."""

    def __call__(self, first_step: int, count: int, rows: slice, /) -> PyTree: ...


class Feed(NamedTuple):
    """How batches reach the compiled loop.

    Attributes:
      resident: arrays that stay on the device.
      plan: what each step is to read.
      batch: a row of a plan as a batch.
      share: rows of a batch that one device or process needs, of a plan that holds the examples themselves; else None.
    """

    resident: PyTree
    plan: Plan
    batch: TakeBatch
    share: Share | None = None
