"""Stores of what training writes, checkpoints and rows of metrics: a run directory, or memory."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from vaex.core import PyTree
from vaex.errors import UserError
from vaex.files import read_json, with_digest, write_json
from vaex.training import multihost
from vaex.training.checkpoint import KEEP, Checkpoints
from vaex.training.metrics import Rows, read_rows

CONFIG = "config.json"
BEST = "best"  # folder of the members' best states, beside their checkpoints
Row = Mapping[str, Any]


class CheckpointStore(Protocol):
    """Checkpoints of one stage, as ``training.checkpoint.Checkpoints`` has them."""

    @property
    def damaged(self) -> tuple[int, ...]: ...

    def latest(self) -> int | None: ...

    def save(self, step: int, tree: PyTree) -> None: ...

    def restore(self, template: PyTree, step: int | None = None) -> PyTree: ...

    def read(self) -> PyTree:
        """Return the newest tree without a template."""
        ...

    def close(self) -> None: ...


class RowStore(Protocol):
    """Rows to which training appends, each with its "step"."""

    def append(self, rows: Sequence[Row]) -> None: ...


class Store(Protocol):
    """What training writes, by stage; "" is the first stage, others go by their names.

    Attributes:
      directory: the run directory, None where all is in memory.
    """

    @property
    def directory(self) -> pathlib.Path | None: ...

    def read_config(self) -> dict[str, Any]:
        """Return the content of config.json, {} before it is written."""
        ...

    def write_config(self, content: Mapping[str, Any]) -> None: ...

    def checkpoints(self, stage: str, keep: int | None = None) -> CheckpointStore:
        """Return a stage's checkpoints, of which so many stay as newer ones are saved; by default two."""
        ...

    def best(self, stage: str) -> CheckpointStore:
        """Return where the best states of a stage's members are kept."""
        ...

    def rows(self, stage: str, name: str, keep_until: int) -> RowStore:
        """Return the rows called ``name``, without those of steps after ``keep_until``."""
        ...

    def read_rows(self, stage: str, name: str) -> list[dict[str, Any]]: ...

    def latest_step(self, stage: str) -> int | None:
        """Return the step of a stage's newest checkpoint, None where there is none."""
        ...


class DirectoryStore:
    """A run directory; later stages have folders in ``stages/``."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory

    def __str__(self) -> str:
        return str(self._directory)

    @property
    def directory(self) -> pathlib.Path:
        return self._directory

    def folder(self, stage: str) -> pathlib.Path:
        """Return the folder of a stage's checkpoints and rows."""
        return self._directory / "stages" / stage if stage else self._directory

    def read_config(self) -> dict[str, Any]:
        path = self._directory / CONFIG
        return read_json(path) if path.exists() else {}

    def write_config(self, content: Mapping[str, Any]) -> None:
        write_json(self._directory / CONFIG, with_digest(content))

    def checkpoints(self, stage: str, keep: int | None = None) -> Checkpoints:
        return Checkpoints(self.folder(stage) / "checkpoints", keep=keep or KEEP)

    def best(self, stage: str) -> Checkpoints:
        return Checkpoints(self.folder(stage) / BEST)

    def rows(self, stage: str, name: str, keep_until: int) -> Rows:
        return Rows(self.folder(stage) / f"{name}.jsonl", keep_until=keep_until)

    def read_rows(self, stage: str, name: str) -> list[dict[str, Any]]:
        return read_rows(self.folder(stage) / f"{name}.jsonl")

    def latest_step(self, stage: str) -> int | None:
        if not (self.folder(stage) / "checkpoints").is_dir():
            return None
        checkpoints = self.checkpoints(stage)
        try:
            return checkpoints.latest()
        finally:
            checkpoints.close()


class MemoryCheckpoints:
    """The newest checkpoint of one stage, a copy of the arrays where they are."""

    def __init__(self) -> None:
        self.newest: tuple[int, PyTree] | None = None
        self.damaged: tuple[int, ...] = ()

    def latest(self) -> int | None:
        return None if self.newest is None else self.newest[0]

    def save(self, step: int, tree: PyTree) -> None:
        # a copy, since the loop donates the original
        self.newest = step, jax.tree.map(jnp.copy, multihost.fetch(tree))

    def restore(self, template: PyTree, step: int | None = None) -> PyTree:
        if self.newest is None or step not in (None, self.newest[0]):
            raise UserError("this run holds no checkpoint; train it first")
        saved = self.newest[1]
        if jax.tree.structure(saved) != jax.tree.structure(template):
            raise UserError("this run was trained with another configuration; train a new one")

        def placed(leaf: jax.Array, like: object) -> jax.Array:
            sharding = getattr(like, "sharding", None)
            return jnp.copy(leaf) if sharding is None else jax.device_put(jnp.copy(leaf), sharding)

        return jax.tree.map(placed, saved, template)

    def read(self) -> PyTree:
        if self.newest is None:
            raise UserError("this run holds no checkpoint; train it first")
        return self.newest[1]

    def close(self) -> None:
        """Do nothing: the checkpoint stays for as long as the run."""


class MemoryRows:
    """Rows in a list."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def append(self, rows: Sequence[Row]) -> None:
        self._rows.extend(dict(row) for row in rows)


class MemoryStore:
    """A run that leaves nothing on the disk."""

    def __init__(self) -> None:
        self._config: dict[str, Any] = {}
        self._checkpoints: dict[str, MemoryCheckpoints] = {}
        self._best: dict[str, MemoryCheckpoints] = {}
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def __str__(self) -> str:
        return "this run"

    @property
    def directory(self) -> None:
        return None

    def read_config(self) -> dict[str, Any]:
        return self._config

    def write_config(self, content: Mapping[str, Any]) -> None:
        self._config = dict(content)

    def checkpoints(self, stage: str, keep: int | None = None) -> MemoryCheckpoints:
        if keep is not None:
            raise UserError(
                f"--keep={keep}: a run in memory holds its last state alone; give out=, or leave the number out"
            )
        return self._checkpoints.setdefault(stage, MemoryCheckpoints())

    def best(self, stage: str) -> MemoryCheckpoints:
        return self._best.setdefault(stage, MemoryCheckpoints())

    def rows(self, stage: str, name: str, keep_until: int) -> MemoryRows:
        kept = [row for row in self.read_rows(stage, name) if row["step"] <= keep_until]
        self._rows[stage, name] = kept
        return MemoryRows(kept)

    def read_rows(self, stage: str, name: str) -> list[dict[str, Any]]:
        return self._rows.get((stage, name), [])

    def latest_step(self, stage: str) -> int | None:
        return self._checkpoints[stage].latest() if stage in self._checkpoints else None

    def copy_to(self, kept: DirectoryStore) -> None:
        """Write everything into a run directory."""
        for sources, place in ((self._checkpoints, kept.checkpoints), (self._best, kept.best)):
            for stage, checkpoints in sources.items():
                if checkpoints.newest is not None:
                    written = place(stage)
                    written.save(*checkpoints.newest)
                    written.close()
        for (stage, name), rows in self._rows.items():
            kept.rows(stage, name, 0).append(rows)
        kept.write_config(self._config)
