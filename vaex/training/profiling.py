"""``--profile``: a trace of some training steps for xprof or perfetto, and the time of each op as a table."""

from __future__ import annotations

import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from vaex.errors import UserError
from vaex.files import atomic_path

WARM_UP = 9  # steps before the trace: the loop's first two chunks
STEPS = 64  # in the trace, at most: a small model runs thousands a second, and each op of each step is a record
SHOWN = 10  # ops that are printed; ops.txt holds all
CONTROL = re.compile(r"(while|conditional|call)(\.\d+)?")  # ops that only run others


class Op(NamedTuple):
    """An op of the compiled program: its seconds over all calls, without those of ops that it runs, and its calls."""

    name: str
    seconds: float
    count: int


def check_steps(left: int) -> None:
    """Raise UserError unless more steps are left to train than the warm-up takes."""
    if left <= WARM_UP:
        raise UserError(
            f"--profile: {max(left, 0)} steps are left to train, expected more than {WARM_UP} (the trace begins there); give a "
            "larger --steps, another --out, or --overwrite to start again"
        )


class Profiler:
    """Traces one chunk of steps, after ``WARM_UP`` steps, into ``folder``; what an earlier trace left there is removed.

    Args:
      folder: the run's "profile".
      start, stop: the steps to be trained.
      writes: whether this process traces; all processes cut their chunks alike.
    Raises: UserError where fewer steps are left than the warm-up takes.
    """

    def __init__(self, folder: pathlib.Path, start: int, stop: int, *, writes: bool = True) -> None:
        check_steps(stop - start)
        self.folder, self.steps, self.seconds = folder, 0, 0.0
        self._first, self._last = start + WARM_UP, min(start + WARM_UP + STEPS, stop)
        self._writes, self._tracing = writes, False

    def boundary(self, step: int) -> int | None:
        """The next step at which a chunk must end."""
        return next((wall for wall in (self._first, self._last) if step < wall), None)

    def before(self, step: int) -> None:
        """Called between chunks, with the next step: begins the trace."""
        if step == self._first and self._writes:
            if self.folder.is_dir() and not self.folder.is_symlink():
                shutil.rmtree(self.folder)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # Python's calls would fill the trace, and they wait for the device anyway
            jax.profiler.start_trace(self.folder, profiler_options=options)
            self._tracing = True

    def after(self, steps: int, seconds: float) -> None:
        """Called after a chunk of ``steps`` steps in ``seconds``: ends the trace."""
        if self._tracing:
            self.close()
            self.steps, self.seconds = steps, seconds

    def close(self) -> None:
        """End the trace, also where training stopped in it."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def summarize(self, program: jax.stages.Compiled, say: Callable[[str], None]) -> None:
        """Write ops.txt, and say its first lines; ``program``: the compiled one, which knows where its ops come from."""
        if not self.steps:
            return
        newest = max(self.folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
        ops = op_times(jax.profiler.ProfileData.from_file(str(newest)))
        lines = table(ops, origins(program.as_text() or ""), self.steps, self.seconds)
        with atomic_path(self.folder / "ops.txt") as temporary:
            temporary.write_text("\n".join(lines) + "\n")
        for line in lines[: 2 + SHOWN]:
            say(line)
        say(f"all ops: {self.folder / 'ops.txt'}; the trace, for xprof or ui.perfetto.dev: {newest.parent}")


def op_times(profile: Any) -> list[Op]:
    """The ops of a trace (jax.profiler.ProfileData), the longest first: of the accelerators, where there are any, else of the host.

    An accelerator's plane has a line "XLA Ops", or one per stream; the CPU's ops are events of its threads that name an op.
    Ops that only run others (loops, branches) are left out.
    """
    planes = list(profile.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:") and list(plane.lines)]
    totals: dict[str, tuple[float, int]] = {}
    for plane in devices or planes:
        lines = list(plane.lines)
        for line in [line for line in lines if line.name == "XLA Ops"] or lines:
            for name, nanoseconds in _own_times(_ops_of(line)):
                if not CONTROL.fullmatch(name):
                    seconds, count = totals.get(name, (0.0, 0))
                    totals[name] = seconds + nanoseconds * 1e-9, count + 1
    ops = [Op(name, seconds, count) for name, (seconds, count) in totals.items()]
    return sorted(ops, key=lambda op: (-op.seconds, op.name))


def _ops_of(line: Any) -> list[tuple[float, float, str]]:
    """(start, duration, op) of a line's events that are ops."""
    events = []
    for event in line.events:
        name = next((str(value) for key, value in event.stats if key == "hlo_op"), None)
        if name is None and line.name.startswith(("XLA Ops", "Stream")):  # an op by its text, or a kernel of no op's
            name = event.name
        if name is not None:
            events.append((event.start_ns, event.duration_ns, name.split(" = ")[0].lstrip("%")))
    return events


def _own_times(events: Sequence[tuple[float, float, str]]) -> Iterator[tuple[str, float]]:
    """Each event's duration less that of the events within it; events of one line nest or follow one another."""
    running: list[list[Any]] = []  # [end, name, own duration], outermost first
    for start, duration, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while running and running[-1][0] <= start:
            _, ended, remaining = running.pop()
            yield ended, remaining
        if running:
            running[-1][2] -= duration
        running.append([start + duration, name, duration])
    for _, ended, remaining in reversed(running):
        yield ended, remaining


def origins(text: str) -> dict[str, str]:
    """Op -> where in the model it comes from, out of a compiled program's text; of a fusion, its last op.

    Example:
      >>> origins('  %dot.1 = f32[2]{0} dot(%a, %b), metadata={op_name="jit(solo)/while/body/closed_call/encoder/dot"}')
      {'dot.1': 'encoder/dot'}
    """
    pairs = re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*?op_name="([^"]*)"', text, re.MULTILINE)
    return {op: re.sub(r"^jit\(\w+\)/|(while/body|closed_call|shard_map)/", "", name) for op, name in pairs}


def table(ops: Sequence[Op], origin: Mapping[str, str], steps: int, seconds: float) -> list[str]:
    """Lines: what was traced, the head of the columns, an op each.

    Example:
      >>> print("\\n".join(table([Op("dot.1", 0.003, 6), Op("add.2", 0.001, 3)], {"dot.1": "encoder/dot"}, 3, 0.005)))
      profile of 3 steps, 1.667 ms each; 2 ops take 1.333 ms of it (threads and devices add up)
        share  ms/step  calls/step    us each  op, and where it comes from
        75.0%    1.000         2.0      500.0  dot.1  encoder/dot
        25.0%    0.333         1.0      333.3  add.2
    """
    total = sum(op.seconds for op in ops)
    head = f"profile of {steps} steps, {1e3 * seconds / steps:.3f} ms each; "
    if not ops:
        return [head + "the profiler wrote no times of ops on this platform"]
    head += f"{len(ops)} ops take {1e3 * total / steps:.3f} ms of it (threads and devices add up)"
    lines = [head, "  share  ms/step  calls/step    us each  op, and where it comes from"]
    for op in ops:
        numbers = f"{op.seconds / max(total, 1e-12):7.1%} {1e3 * op.seconds / steps:8.3f} {op.count / steps:11.1f}"
        lines.append(f"{numbers} {1e6 * op.seconds / op.count:10.1f}  {op.name}  {origin.get(op.name, '')}".rstrip())
    return lines
