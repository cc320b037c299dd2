"""Offline pages of trained runs; ``vaex.page`` writes them."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.page import write_page

if TYPE_CHECKING:
    from vaex.api.run import Run

SHOWN = 1000  # examples whose codes give ranges, marks, and where no evaluation has, the KL of each latent


def page(
    run: Run,
    dataset: Dataset,
    path: str | os.PathLike[str],
    member: int | None,
    *,
    split: str,
    examples: int,
) -> pathlib.Path:
    """Write the page of a member; ``Run.page`` describes the arguments.

    Raises: UserError.
    """
    if member is None and len(run) > 1:
        raise UserError(f"page: this run has {len(run)} members; give member=0 to member={len(run) - 1} (--member)")
    index = member or 0
    if not 0 <= index < len(run):
        raise UserError(f"page: member={index}, but this run has {len(run)} member(s), counted from 0")
    if split not in dataset.splits:
        raise UserError(f"page: the data has no {split!r} split; there are {', '.join(dataset.splits)}")
    part = dataset.splits[split]
    count = min(SHOWN, len(part["x"]))
    x, y = part["x"][:count], part["y"][:count] if "y" in part and run.spec.num_classes else None
    kl = None if run.summary is None else run.summary["members"][index].get("kl_per_latent")
    name = f", {run.names[index]}" if len(run) > 1 else ""
    title = f"{run.settings.model} on {run.spec.name}{name}"
    return write_page(run[index], path, x, y, examples=examples, kl=kl, title=title)
