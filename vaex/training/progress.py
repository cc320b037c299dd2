"""How far training is, for people: a bar on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO


def in_notebook() -> bool:
    """Return True within a Jupyter kernel, which shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class NotebookBar:
    """A bar below the cell of a notebook; it needs IPython alone, no widgets."""

    def __init__(self, title: str) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        self._title, self._html = title, HTML
        self._handle = display(HTML(html.escape(title)), display_id=True)

    def update(self, step: int, stop: int, status: str) -> None:
        """Show the step and the status."""
        bar = f'<progress value="{step}" max="{stop}" style="width: 20em"></progress>'
        text = html.escape(f"{step}/{stop}  {status}")
        if self._handle is not None:  # None where IPython shows nothing
            self._handle.update(self._html(f"{html.escape(self._title)} {bar} <code>{text}</code>"))


class Progress:
    """One bar on a terminal or in a notebook, plain lines elsewhere: step, speed, the main metrics (mean over members), time left.

    Args:
      title: what is being trained.
      start, stop: steps.
      batch_size: for examples per second.
      shown: names of the metrics to show, in order.
      stream: where to write; standard error by default.
    """

    LINE_SECONDS = 10.0

    def __init__(
        self, title: str, start: int, stop: int, batch_size: int, shown: Sequence[str], stream: TextIO | None = None
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._stream = stream or sys.stderr
        self._batch_size, self._shown, self._stop = batch_size, tuple(shown), stop
        self._speed, self._chunks = 0.0, 0
        self._last_line = time.monotonic() - self.LINE_SECONDS
        console = Console(file=self._stream)
        self._bar = None
        if console.is_terminal and not console.is_dumb_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(title, total=stop, completed=start, status="")
            self._bar.start()
        self._notebook = NotebookBar(title) if self._bar is None and stream is None and in_notebook() else None
        self._title = title

    def update(self, step: int, steps: int, seconds: float, metrics: Mapping[str, float]) -> None:
        """After a chunk of ``steps`` steps in ``seconds``, now at ``step``.

        The first chunk also loads the program, and may be of one step: it says nothing of the speed.
        """
        if not self._chunks and step < self._stop:
            speed, left = "", ""
        else:
            now = steps / max(seconds, 1e-9)
            self._speed = now if not self._speed else 0.7 * self._speed + 0.3 * now
            speed = f"{self._speed:,.0f} steps/s  {self._speed * self._batch_size:,.0f} examples/s  "
            left = f"  {(self._stop - step) / max(self._speed, 1e-9):.0f} s left"
        self._chunks += 1
        values = "  ".join(f"{name} {metrics[name]:.2f}" for name in self._shown if name in metrics)
        status = f"{speed}{values}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, status=status)
        elif self._notebook is not None:
            self._notebook.update(step, self._stop, f"{status}{left}")
        elif time.monotonic() - self._last_line >= self.LINE_SECONDS or step >= self._stop:
            self._last_line = time.monotonic()
            print(f"{self._title}: step {step}/{self._stop}  {status}{left}", file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
