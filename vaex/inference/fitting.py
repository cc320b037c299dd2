"""Fits of a family to a log-density: ``fit``, and ``init``, ``step`` and ``sample`` for a loop of your own. All are pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from vaex.errors import UserError
from vaex.estimators import LogJoint
from vaex.inference.families import Family, Params, PointMass
from vaex.inference.objectives import VariationalObjective, reverse_kl
from vaex.inference.subsampling import Minibatches
from vaex.inference.supports import Parameters

# log-density of one pytree of parameters (unbatched), up to a constant: a scalar in nats
LogDensity: TypeAlias = Callable[[Any], jax.Array]


class State(NamedTuple):
    """What a step changes: the family's parameters and the optimizer's state."""

    params: Params
    optimizer: optax.OptState


class RelativeChange(NamedTuple):
    """Rule that ends a fit: by how much the loss fell from one window of steps to the next.

    It ends where the fall, plus twice its standard error, is below ``tolerance`` times the loss's size (at least one nat). The
    error takes steps as independent.
    """

    tolerance: ArrayLike = 0.01
    window: int = 100

    def __call__(self, before: jax.Array, after: jax.Array) -> jax.Array:
        """Return True where the fit may end; losses [window] each."""
        fall = jnp.mean(before) - jnp.mean(after)
        error = jnp.sqrt((jnp.var(before) + jnp.var(after)) / self.window)
        return fall + 2.0 * error < self.tolerance * jnp.maximum(jnp.abs(jnp.mean(after)), 1.0)


class History(NamedTuple):
    """Losses of a fit [steps], nats, NaN after the end; and the number of steps taken."""

    loss: jax.Array
    steps: jax.Array


def log_target(log_density: LogDensity, family: Family) -> LogJoint:
    """Log-density of the unconstrained vector: z [..., d] -> [...], the map's log-determinant added.

    Of a ``PointMass`` the log-determinant is left out: its mode is that of the declared parameters.

    Args:
      log_density: one pytree of parameters -> scalar, nats.
      family: whose space maps the vector to the parameters.
    Raises: ValueError (at the call) if ``log_density`` does not give a scalar.
    """

    def single(z: jax.Array) -> jax.Array:
        parameters, log_det = family.space.constrain(z)
        value = jnp.asarray(log_density(parameters))
        if value.shape != ():
            raise ValueError(
                f"fit: log_density(parameters) has shape {value.shape}, expected (); sum it over data and parameters"
            )
        return value if isinstance(family, PointMass) else value + log_det

    def batched(z: jax.Array) -> jax.Array:
        flat = jax.vmap(single)(z.reshape(-1, z.shape[-1]))
        return flat.reshape(z.shape[:-1])

    return batched


def init(
    key: jax.Array, family: Family, optimizer: optax.GradientTransformation, *, params: Params | None = None
) -> State:
    """Return the state before the first step.

    Args:
      key: a key.
      family: the variational family.
      optimizer: of optax.
      params: to begin from; by default the family's own.
    """
    first: Params = family.init(key) if params is None else jax.tree.map(jnp.asarray, params)
    return State(first, optimizer.init(first))


def step(
    key: jax.Array,
    state: State,
    log_density: LogDensity,
    family: Family,
    *,
    objective: VariationalObjective,
    optimizer: optax.GradientTransformation,
    num_samples: int,
) -> tuple[State, jax.Array]:
    """Take one gradient step.

    Args:
      key: a key of this step alone.
      state: as from ``init``.
      log_density: one pytree of parameters -> scalar, nats, up to a constant. Of ``minibatches`` the step draws one; in a loop
        over batches of your own, n/m times the log-likelihood of m of n examples, plus the log prior once.
      family: the variational family.
      objective: such as ``reverse_kl()``.
      optimizer: the one of ``init``.
      num_samples: of each gradient.
    Returns: the next state, and the loss before the step, nats.
    """
    if isinstance(log_density, Minibatches):
        log_density = log_density.draw(jax.random.fold_in(key, 1))
    target = log_target(log_density, family)

    def loss(params: Params) -> jax.Array:
        return objective(key, family.distribution(params), target, num_samples)

    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, moments = optimizer.update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), moments), value


def fit(
    key: jax.Array,
    log_density: LogDensity,
    family: Family,
    *,
    objective: VariationalObjective | None = None,
    steps: int = 2000,
    optimizer: optax.GradientTransformation | None = None,
    num_samples: int = 16,
    params: Params | None = None,
    stop: RelativeChange | None = None,
) -> tuple[Params, History]:
    """Fit a family to a log-density.

    Pure: put the whole call under ``jit``, or ``vmap`` a function that calls it over keys, data (closed over by
    ``log_density``), and hyperparameters of objective and optimizer.

    Args:
      key: a key; step t folds in t.
      log_density: one pytree of parameters -> scalar, nats, up to a constant. It may be minus a NumPyro model's potential, whose
        unconstrained parameters are all ``real``, or ``minibatches`` of many examples.
      family: with the supports of the parameters.
      objective: ``reverse_kl()`` by default.
      steps: of the optimizer; the most, where ``stop`` is given.
      optimizer: of optax; by default Adam whose learning rate falls from 0.05 to 0 by a cosine over ``steps``, or stays at 0.01
        where ``stop`` is given.
      num_samples: of each gradient.
      params: to begin from; by default the family's own.
      stop: rule that ends the fit early.
    Returns: the family's parameters, and the history.
    Raises: UserError for fewer than one step, or a window of ``stop`` longer than half of the steps.
    Example:
      >>> from vaex.inference import MeanField, positive, real, sample
      >>> family = MeanField({"mean": real(), "scale": positive()})
      >>> def log_density(p):
      ...     return -0.5 * (p["mean"] - 3.0) ** 2 - p["scale"]
      >>> params, history = fit(jax.random.key(0), log_density, family, steps=300)
      >>> sample(jax.random.key(1), family, params, 1000)["mean"].shape
      (1000,)
    """
    if steps < 1 or (stop is not None and not 1 <= stop.window <= steps // 2):
        raise UserError(
            f"fit: steps is {steps}" + ("" if stop is None else f", the rule's window {stop.window}") + "; expected at "
            "least one step, and two windows of at least one"
        )
    objective = reverse_kl() if objective is None else objective
    if optimizer is None:
        optimizer = optax.adam(0.01 if stop is not None else optax.cosine_decay_schedule(0.05, steps))
    root_init, root_steps = jax.random.split(key)
    state = init(root_init, family, optimizer, params=params)

    def advance(state: State, number: jax.Array) -> tuple[State, jax.Array]:
        step_key = jax.random.fold_in(root_steps, number)
        return step(
            step_key, state, log_density, family, objective=objective, optimizer=optimizer, num_samples=num_samples
        )

    if stop is None:
        state, losses = jax.lax.scan(advance, state, jnp.arange(steps))
        return state.params, History(losses, jnp.asarray(steps))
    return _until(stop, advance, state, steps)


def _until(
    stop: RelativeChange, advance: Callable[[State, jax.Array], tuple[State, jax.Array]], state: State, steps: int
) -> tuple[Params, History]:
    """Advance window by window until the rule says so."""
    windows, width = steps // stop.window, stop.window
    state, first = jax.lax.scan(advance, state, jnp.arange(width))
    losses = jnp.full((windows, width), jnp.nan, first.dtype).at[0].set(first)

    def going(carry: tuple[State, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return ~carry[3] & (carry[2] < windows)

    def body(carry: tuple[State, jax.Array, jax.Array, jax.Array]) -> tuple[State, jax.Array, jax.Array, jax.Array]:
        state, losses, count, _ = carry
        state, window = jax.lax.scan(advance, state, count * width + jnp.arange(width))
        return state, losses.at[count].set(window), count + 1, stop(losses[count - 1], window)

    state, losses, count, _ = jax.lax.while_loop(going, body, (state, losses, jnp.asarray(1), jnp.asarray(False)))
    tail = jnp.full(steps - windows * width, jnp.nan, losses.dtype)
    return state.params, History(jnp.append(losses.reshape(-1), tail), count * width)


def sample(key: jax.Array, family: Family, params: Params, num_samples: int) -> Parameters:
    """Draw parameters of the log-density from a fitted family.

    Args:
      key: a key.
      family: the family.
      params: as from ``fit``.
      num_samples: k.
    Returns: the pytree of parameters; each leaf leads with k.
    """
    z = family.distribution(params).sample(key, (num_samples,))
    return jax.vmap(lambda one: family.space.constrain(one)[0])(z)
