"""The training loop: one compiled program that runs any number of steps, called with chunks of about half a second
(longer where the members of a population follow one another).

The chunk's bounds are traced, so no length retraces, and nothing of the chunking is visible in the numbers: rows of
metrics are cut at multiples of ``log_every`` by the step counter alone, inside the program.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from vaex.core import Algorithm, Feed, PyTree, TrainState
from vaex.ops import widths
from vaex.training import divergence, multihost, population, sharding
from vaex.training.divergence import DivergedError

CHUNK_SECONDS = 0.5
MOST_SECONDS = 4.0  # of a chunk in which members follow one another: each is copied in and out, which must not count
# of a plan; the allocator reuses arrays of this size, larger ones come from the kernel page by page
WINDOW_BYTES = 16 << 20
MOST_STEPS = 8192  # in one chunk; bounds the plan and the rows that travel with it


class Carry(NamedTuple):
    """What the loop carries from chunk to chunk, and all that a checkpoint holds.

    ``state``: stacked train states, [p, ...]. ``window``: sums of the metrics since the last row, [p, m].
    """

    state: TrainState
    window: jax.Array


class Chunk(NamedTuple):
    """What one call of the program reports. ``rows``: [p, r, m] means of finished windows; ``last``: [p, m] the metrics
    of the last step; ``finite``: [p], whether the member never met a non-finite loss and its variables are sound."""

    rows: np.ndarray
    last: np.ndarray
    finite: np.ndarray


class Window(NamedTuple):
    """The plan of steps ``first``..``stop`` on the devices; it may serve several chunks."""

    first: int
    stop: int
    plan: PyTree


class Program(NamedTuple):
    """A compiled chunk of steps and its properties. ``window(first, stop)`` brings the plan of at most ``capacity`` steps
    to the devices. ``seconds``: how long a chunk should take. ``frozen``: [p], which members stay as they are; copies of a sound
    one take their place in the computation, so that the others get the bits that they would get anyway."""

    call: jax.stages.Compiled
    metric_names: tuple[str, ...]
    capacity: int
    window: Callable[[int, int], Window]
    resident: PyTree
    log_every: int
    compile_seconds: float
    step_traces: int
    flops_per_step: float | None
    seconds: float = CHUNK_SECONDS
    frozen: np.ndarray | None = None


class Draft(NamedTuple):
    """The chunk of steps that training runs, before it is compiled: ``call(carry, resident, plan, first, start, stop,
    log_every)``, which donates the carry. ``row``: the plan of one step; ``traces``: how often the step was traced, in a list."""

    call: jax.stages.Wrapped
    metric_names: tuple[str, ...]
    capacity: int
    row: PyTree
    traces: list[int]


def draft(
    algorithm: Algorithm,
    feed: Feed,
    state: TrainState,
    *,
    log_every: int,
    strategy: str,
    placement: sharding.Placement | None = None,
) -> Draft:
    """Trace the step and put the chunk around it, for a stacked ``state``, of which shapes and dtypes suffice.

    Arguments as of ``compile_program``; the devices of the placement need not be here.
    """
    traces = [0]

    def step(state: TrainState, batch: PyTree):
        traces[0] += 1
        return algorithm.step(state, batch)

    row = jax.tree.map(np.asarray, feed.plan(0, 1))
    one_state = jax.eval_shape(lambda s: jax.tree.map(lambda leaf: leaf[0], s), state)
    batch = jax.eval_shape(lambda r, w: feed.batch(r, jax.tree.map(lambda leaf: leaf[0], w)), feed.resident, row)
    traced, names = sharding.traced_divided(lambda: _traced(step, one_state, batch), placement)
    traced = sharding.divide_step(traced, placement)
    capacity = _capacity(row)

    def get_batch(resident: PyTree, plan: PyTree, index: jax.Array):
        return sharding.divide_batch(feed.batch(resident, jax.tree.map(lambda leaf: leaf[index], plan)), placement)

    most_rows = (capacity - 1) // log_every + 2  # windows that capacity steps can touch
    chunk = _chunk(traced, get_batch, names, most_rows, strategy, placement)
    return Draft(jax.jit(chunk, donate_argnums=0), names, capacity, row, traces)


def compile_program(
    algorithm: Algorithm,
    feed: Feed,
    state: TrainState,
    *,
    log_every: int,
    strategy: str,
    placement: sharding.Placement | None = None,
) -> tuple[Program, Carry]:
    """Compile the loop for a stacked ``state`` ahead of time.

    Args:
      algorithm: gives ``step``.
      feed: gives the batches.
      state: stacked train states; placed on the devices here.
      log_every: steps per row of metrics.
      strategy: "solo", "vmap" or "members".
      placement: the devices, or None for one.
    Returns: the program, and the carry to start it with.
    Raises: ValueError for ``log_every`` below 1.
    """
    if log_every < 1:
        raise ValueError(f"compile_program: log_every={log_every}, expected at least one step per row")
    started, members = time.perf_counter(), state.step.shape[0]
    chunk = draft(algorithm, feed, state, log_every=log_every, strategy=strategy, placement=placement)
    carry = Carry(state, jnp.zeros((members, len(chunk.metric_names)), jnp.float32))
    carry = sharding.place(carry, placement, members=True)
    resident = sharding.place(feed.resident, placement, members=False)

    def window(first: int, stop: int) -> Window:
        stop = min(stop, first + chunk.capacity)
        return Window(first, stop, _placed_plan(feed, chunk.row, first, stop, chunk.capacity, placement))

    plan = window(0, 1).plan
    bounds = (np.int32(0), np.int32(0), np.int32(1), np.int32(log_every))
    compiled = chunk.call.lower(carry, resident, plan, *bounds).compile()
    seconds = time.perf_counter() - started
    in_turn = members // (placement.mesh.shape["population"] if placement else 1) if strategy == "members" else 1
    measures = (log_every, seconds, chunk.traces[0], _flops(compiled), min(MOST_SECONDS, CHUNK_SECONDS * in_turn))
    return Program(compiled, chunk.metric_names, chunk.capacity, window, resident, *measures), carry


def _capacity(row: PyTree) -> int:
    """Steps that a window holds: enough for half a second of the smallest model, bounded in memory."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(row))
    return max(1, min(MOST_STEPS, WINDOW_BYTES // max(size, 1)))


def _placed_plan(
    feed: Feed, row: PyTree, first: int, stop: int, capacity: int, placement: sharding.Placement | None
) -> PyTree:
    """The plan of the steps on the devices, padded to the capacity; ``row``: that of one step, for shapes."""
    if feed.share is None or placement is None or not placement.divides_batch:
        plan = _padded(jax.tree.map(np.asarray, feed.plan(first, stop - first)), capacity)
        return sharding.place(jax.tree.map(jnp.asarray, plan), placement, members=False)
    share = feed.share
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((capacity, *leaf.shape[1:]), leaf.dtype), row)
    return sharding.place_shares(lambda rows: _padded(share(first, stop - first, rows), capacity), shapes, placement)


def _padded(plan: PyTree, capacity: int) -> PyTree:
    def pad(rows: np.ndarray) -> np.ndarray:
        if len(rows) == capacity:
            return rows  # no copy: windows of streamed data are large
        return np.concatenate([rows, np.zeros((capacity - len(rows), *rows.shape[1:]), rows.dtype)])

    return jax.tree.map(pad, plan)


def _flops(compiled: jax.stages.Compiled) -> float | None:
    """Floating point operations of one step by XLA's own count (a loop's body is counted once)."""
    analysis = compiled.cost_analysis()
    flops = (analysis or {}).get("flops")
    return float(flops) if flops and flops > 0 else None


def _traced(step, state: PyTree, batch: PyTree) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """``step``, traced once for these shapes, and the names of its metrics.

    The arrays that it closes over are hidden from XLA's simplifier, which folds them into the arithmetic of a loop, but not of
    a loop within a loop: a prior's zeros would vanish from a solo run and stay in a member's, which would then round differently.
    """
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(state, batch)

    def opaque(state: TrainState, batch: PyTree):
        constants = [
            jax.lax.optimization_barrier(constant) if jnp.issubdtype(constant.dtype, jnp.inexact) else constant
            for constant in closed.consts
        ]
        call = jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(closed.jaxpr, constants))
        return jax.tree.unflatten(jax.tree.structure(shapes), call(*jax.tree.leaves((state, batch))))

    return opaque, tuple(sorted(shapes[1]))


def _chunk(
    step, get_batch, names: tuple[str, ...], most_rows: int, strategy: str, placement: sharding.Placement | None
):
    finite_index = names.index("finite")

    def run(advance, check, carry: Carry, resident, plan, first, start, stop, log_every):
        """Steps start..stop; leading member axis or none, as ``advance`` and ``check`` have it."""
        base = start // log_every

        def alive(last) -> jax.Array:
            return jnp.all(last[..., finite_index] > 0)

        def one_step(loop):
            index, state, window, _ = loop
            state, metrics = advance(state, get_batch(resident, plan, index - first))
            vector = jnp.stack([jnp.asarray(metrics[name], jnp.float32) for name in names], axis=-1)
            return index + 1, state, window + vector, vector

        def one_row(loop):
            """Advance to the end of the row's window, or of the chunk; making rows within a step would slow tiny ones."""
            index, state, window, rows, last = loop
            row = index // log_every
            end = jnp.minimum((row + 1) * log_every, stop)
            inner = (index, state, window, last)
            index, state, window, last = jax.lax.while_loop(lambda c: (c[0] < end) & alive(c[3]), one_step, inner)
            # over the steps since the last row: "finite" counts them, also where a resumed run changes log_every
            mean = window / window[..., finite_index, None]
            rows = jax.lax.dynamic_update_index_in_dim(rows, mean, row - base, 0)
            window = jnp.where(index % log_every == 0, jnp.zeros_like(window), window)
            return index, state, window, rows, last

        rows = jnp.zeros((most_rows, *carry.window.shape), jnp.float32)  # [rows, ..., m]
        loop = (start, carry.state, carry.window, rows, jnp.ones_like(carry.window))
        _, state, window, rows, last = jax.lax.while_loop(lambda c: (c[0] < stop) & alive(c[4]), one_row, loop)
        return Carry(state, window), rows, last, check(state)

    def solo(carry, *args):
        out = run(step, divergence.is_sound, jax.tree.map(lambda leaf: leaf[0], carry), *args)
        return jax.tree.map(lambda leaf: leaf[None], out)

    def vmapped(carry, *args):
        out, rows, last, sound = run(jax.vmap(step, in_axes=(0, None)), jax.vmap(divergence.is_sound), carry, *args)
        return out, jnp.swapaxes(rows, 0, 1), last, sound

    def members(carry, *args):
        return jax.lax.map(lambda member: run(step, divergence.is_sound, member, *args), carry)

    chunk = {"solo": solo, "vmap": vmapped, "members": members}[strategy]
    return sharding.map_members(chunk, placement)


def run_chunk(
    program: Program, carry: Carry, start: int, stop: int, window: Window | None = None
) -> tuple[Carry, Chunk]:
    """Steps ``start``..``stop`` (at most ``program.capacity``); the given carry is donated.

    Args:
      program, carry: from ``compile_program``.
      start, stop: steps.
      window: holds them; made here where absent.
    Raises: ValueError for fewer steps than one, more than the capacity, or steps outside the window.
    """
    if not 0 < stop - start <= program.capacity:
        raise ValueError(f"run_chunk: steps {start} to {stop}, expected 1 to {program.capacity} steps")
    window = program.window(start, stop) if window is None else window
    if not window.first <= start < stop <= window.stop:
        raise ValueError(
            f"run_chunk: steps {start} to {stop}, but the window holds {window.first} to {window.stop}; give one that holds them"
        )
    bounds = (np.int32(window.first), np.int32(start), np.int32(stop), np.int32(program.log_every))
    before, frozen = carry, program.frozen
    if frozen is not None:
        carry = population.with_stand_ins(carry, frozen)
    carry, rows, last, sound = program.call(carry, program.resident, window.plan, *bounds)
    finished = stop // program.log_every - start // program.log_every
    rows, last, sound = (np.asarray(array) for array in multihost.fetch((rows, last, sound)))
    finite = (last[:, program.metric_names.index("finite")] > 0) & sound
    if frozen is not None:
        carry, finite = population.chosen(frozen, before, carry), finite | frozen
        rows, last = (np.where(frozen.reshape(-1, *(1,) * (array.ndim - 1)), np.nan, array) for array in (rows, last))
    return carry, Chunk(rows[:, :finished], last, finite)  # cut on the host: each length would compile


class _Ahead:
    """Windows of steps ``start``..``stop`` in order, the next one made in a thread while the current one is in use."""

    def __init__(self, program: Program, start: int, stop: int) -> None:
        self._program, self._stop = program, stop
        self._thread = ThreadPoolExecutor(1, "vaex-data")
        self._wide = widths.is_wide()  # as it is here, which a thread does not see
        self._next: Future[Window] = self._thread.submit(self._window, start, stop)
        self._current: Window | None = None

    def _window(self, start: int, stop: int) -> Window:
        same = widths.is_wide() == self._wide
        with contextlib.nullcontext() if same else jax.enable_x64(self._wide):
            return self._program.window(start, stop)

    def at(self, step: int) -> Window:
        """The window that holds ``step``; steps only go up."""
        while self._current is None or step >= self._current.stop:
            self._current = None  # frees its memory before the next but one is made
            self._current = self._next.result()
            if self._current.stop < self._stop:
                self._next = self._thread.submit(self._window, self._current.stop, self._stop)
        return self._current

    def close(self) -> None:
        """Waits for what is under way."""
        self._thread.shutdown(cancel_futures=True)


def fit(
    program: Program,
    carry: Carry,
    start: int,
    stop: int,
    *,
    report: Callable[[int, int, Chunk, float], None] = lambda start, end, chunk, seconds: None,
    save: Callable[[int, Carry], bool | None] = lambda step, carry: None,
    boundary: Callable[[int], int | None] = lambda step: None,
) -> Carry:
    """Train from step ``start`` to ``stop``.

    Args:
      program, carry: from ``compile_program``; the carry is donated.
      report: called after each chunk with (first step, next step, chunk, seconds).
      save: called after each chunk with (step, carry) while the carry is valid; decides itself whether to write. True ends the
        training early.
      boundary: step -> the next step at which a chunk must end (for checkpoints at exact steps), or None.
    Returns: the carry after step ``stop``, or after that at which ``save`` ended the training.
    Raises: DivergedError that names the step, the members and the first non-finite term; ``save`` never sees such a carry.
      ValueError for a boundary that is not ahead.
    """
    length, step = 1, start
    ahead = _Ahead(program, start, stop)
    try:
        while step < stop:
            wall = boundary(step)
            if wall is not None and wall <= step:
                raise ValueError(f"fit: boundary({step}) is {wall}, expected a later step or None")
            window = ahead.at(step)
            end = min(step + length, window.stop, stop if wall is None else wall)
            began = time.perf_counter()
            carry, chunk = run_chunk(program, carry, step, end, window)
            seconds = time.perf_counter() - began
            if not chunk.finite.all():
                state = multihost.fetch(carry.state)
                raise DivergedError(end, divergence.terms_of(state, program.metric_names, chunk.last, chunk.finite))
            report(step, end, chunk, seconds)
            if save(end, carry):
                break
            per_step = seconds / (end - step)
            (length,) = multihost.agree(max(1, min(int(program.seconds / max(per_step, 1e-9)), 8 * (end - step))))
            step = end
    finally:
        ahead.close()
    return carry


def first_divergence(program: Program, carry: Carry, start: int, stop: int) -> tuple[int, dict[int, str]] | None:
    """Return the first of the steps ``start``..``stop`` at which members diverge, and member -> what is not finite; None where none
    does. The given carry stays valid.

    Args:
      program, carry: as in ``fit``.
      start, stop: steps.
    """
    carry, window = jax.tree.map(jnp.copy, carry), program.window(start, stop)
    for step in range(start, stop):
        if step >= window.stop:
            window = program.window(step, stop)
        carry, chunk = run_chunk(program, carry, step, step + 1, window)
        if not chunk.finite.all():
            state = multihost.fetch(carry.state)
            terms = divergence.terms_of(state, program.metric_names, chunk.last, chunk.finite)
            return step, {member: term for member, (_, term) in terms.items()}
    return None
