"""Functions of a user's own that training calls as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from vaex.core import TrainState

Row = Mapping[str, Any]


class OnRows(Protocol):
    """Receives rows of metrics as they are finished, in order.

    A row is {"step": t, metric: [p]}, one number for each member, None where it is not finite; ``stage`` is the name of the stage.
    """

    def __call__(self, rows: Sequence[Row], stage: str, /) -> None: ...


class OnCheckpoint(Protocol):
    """Receives the train state of all members, stacked [p, ...], after each checkpoint.

    Its arrays are the run's own, which the next steps overwrite: copy what is kept.
    """

    def __call__(self, step: int, state: TrainState, stage: str, /) -> None: ...


class OnEnd(Protocol):
    """Receives the trained run, a ``vaex.Run``, once."""

    def __call__(self, run: object, /) -> None: ...


class Callback(NamedTuple):
    """Functions called during training, from the host, between chunks of steps: they change no number of the run.

    With several processes the first one calls them. What they raise stops the run, whose last checkpoint stays.

    Attributes:
      on_rows: after each chunk that finished rows of metrics.
      on_checkpoint: after each checkpoint, the first one, of step 0, included.
      on_end: after training.

    Example:
      >>> callback = Callback(on_rows=lambda rows, stage: print(rows[-1]["step"]))
      >>> callback.on_rows([{"step": 100, "loss": [3.0]}], "model")
      100
    """

    on_rows: OnRows = lambda rows, stage: None
    on_checkpoint: OnCheckpoint = lambda step, state, stage: None
    on_end: OnEnd = lambda run: None
