"""Rows of metrics for TensorBoard and Weights & Biases, as callbacks."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaex.errors import UserError, nearest
from vaex.training.callbacks import Callback, Row

LOGGERS = ("tensorboard", "wandb")


def _scalars(row: Row, names: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Yield (metric, member, value) of a row; what is not finite is left out."""
    for metric, values in row.items():
        if metric == "step":
            continue
        for index, value in enumerate(values if isinstance(values, list) else [values]):
            if isinstance(value, int | float) and math.isfinite(value):
                yield metric, names[index] if index < len(names) else f"member {index}", float(value)


def tensorboard(directory: str | os.PathLike[str], names: Sequence[str] = ()) -> Callback:
    """Return a callback that writes rows as TensorBoard's event files, a folder for each member below ``directory``.

    Args:
      directory: of the event files; ``tensorboard --logdir DIRECTORY`` shows them.
      names: of the members; by default "member 0" and so on.
    Raises: UserError where tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        raise UserError('--log_to=tensorboard needs tensorboardX: pip install "vaex-jax[loggers]"') from None
    writers: dict[str, Any] = {}

    def on_rows(rows: Sequence[Row], stage: str) -> None:
        for row in rows:
            for metric, member, value in _scalars(row, names):
                if member not in writers:
                    writers[member] = SummaryWriter(str(pathlib.Path(directory) / member))
                writers[member].add_scalar(f"{stage}/{metric}", value, row["step"])
        for writer in writers.values():
            writer.flush()

    def on_end(run: object) -> None:
        for writer in writers.values():
            writer.close()

    return Callback(on_rows=on_rows, on_end=on_end)


def wandb(names: Sequence[str] = (), **init: Any) -> Callback:
    """Return a callback that logs rows to a run of Weights & Biases, "stage/member/metric" each.

    Args:
      names: of the members; a single one is left out of the metrics' names.
      **init: arguments of ``wandb.init``, such as project, name, config, mode="offline".
    Raises: UserError where wandb is not installed.
    """
    try:
        import wandb as weights_and_biases
    except ModuleNotFoundError:
        raise UserError('--log_to=wandb needs wandb: pip install "vaex-jax[loggers]"') from None
    opened: list[Any] = []

    def on_rows(rows: Sequence[Row], stage: str) -> None:
        if not opened:
            opened.append(weights_and_biases.init(**init))
        for row in rows:
            alone = len(names) < 2
            values = {f"{stage}/{m}" if alone else f"{stage}/{name}/{m}": v for m, name, v in _scalars(row, names)}
            opened[0].log(values | {"step": row["step"]})

    def on_end(run: object) -> None:
        for session in opened:
            session.finish()

    return Callback(on_rows=on_rows, on_end=on_end)


def callbacks_for(
    log_to: str, directory: pathlib.Path | None, names: Sequence[str], settings: dict[str, Any]
) -> list[Callback]:
    """Return the callbacks of ``--log_to``: names of loggers, joined by commas.

    Args:
      log_to: such as "tensorboard,wandb".
      directory: of the run; event files go into its folder tensorboard.
      names: of the members.
      settings: of the run, shown beside its metrics.
    Raises: UserError for an unknown logger, one that is not installed, or event files without a directory.
    """
    makers: dict[str, Callable[[], Callback]] = {
        "tensorboard": lambda: tensorboard(_events(directory), names),
        "wandb": lambda: wandb(
            names, project="vaex", config=settings, dir=None if directory is None else str(directory)
        ),
    }
    chosen = [part.strip() for part in log_to.split(",")]
    if unknown := [part for part in chosen if part not in makers]:
        raise UserError(f"--log_to={log_to}: {nearest(unknown[0], LOGGERS)}")
    return [makers[part]() for part in dict.fromkeys(chosen)]


def _events(directory: pathlib.Path | None) -> pathlib.Path:
    if directory is None:
        raise UserError(
            "--log_to=tensorboard writes into the run directory; give out=, or loggers.tensorboard(folder) as a callback"
        )
    return directory / "tensorboard"
