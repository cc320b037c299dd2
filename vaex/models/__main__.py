"""The registry as a table: ``python -m vaex.models``. Players, state and stages are read off the recipes; nothing is compiled."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex.core import Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import MissingPackageError, require_train
from vaex.models import FAMILIES, frames, module

SPEC = Spec("digits", (8, 8, 1), "grey", levels=17, num_classes=10, num_training_examples=1397)


def spec_for(found: Any) -> Spec:
    """``SPEC``, of sequences where the module reads these."""
    count = frames(found)
    return SPEC if count is None else SPEC._replace(shape=(count, *SPEC.shape))


class Row(NamedTuple):
    """What the table says of a model. ``players`` and ``state`` are of all stages; ``lines`` are those of its own file."""

    name: str
    family: str
    players: str
    state: str
    stages: str
    bound: str
    lines: str
    source: str


def row(family: str, name: str) -> Row:
    """The facts of one model of the registry, on its TINY config.

    Example:
      >>> row("autoencoders", "vae")[2:6]
      ('vae', '-', 'model', 'elbo')
    """
    found, entry = module(name), FAMILIES[family][name]
    spec = spec_for(found)
    recipe = found.build(found.Config(**getattr(found, "TINY", {})), spec)
    variables = shapes(recipe, spec)
    players = [player for one in variables.values() for player in one.params]
    state = [field for one in variables.values() for field in fields(one.state)]
    lines = len(pathlib.Path(str(found.__file__)).read_text().splitlines())
    return Row(name, family, joined(players), joined(state), joined(variables), entry.bound, str(lines), entry.source)


def joined(names: Iterable[str]) -> str:
    """Different names in their order; a dash for none."""
    return ", ".join(dict.fromkeys(names)) or "-"


def shapes(recipe: Recipe, spec: Spec) -> dict[str, Variables]:
    """Stage -> the shapes of its variables as training begins."""
    batch = {"x": jnp.zeros((8, *spec.shape)), "y": jnp.zeros(8, jnp.int32)}
    found: dict[str, Variables] = {}
    for stage in recipe.stages:
        one = jax.eval_shape(stage.model.init, jax.random.key(0), batch)
        found[stage.name] = (
            one if stage.carry_over is None else one._replace(state=jax.eval_shape(stage.carry_over, found))
        )
    return found


def fields(state: Any) -> list[str]:
    """The names in ``Variables.state``; one word for a state without names, none for an empty one.

    Example:
      >>> fields({"mean": 1, "covariance": 2}), fields((1, 2)), fields(())
      (['mean', 'covariance'], ['unnamed'], [])
    """
    if not jax.tree.leaves(state):
        return []
    return list(state) if isinstance(state, dict) else list(getattr(state, "_fields", ["unnamed"]))


def main(arguments: list[str] | None = None) -> int:
    """Print the table, the models of a family together."""
    argparse.ArgumentParser(prog="python -m vaex.models", description=__doc__).parse_args(arguments)
    require_train("python -m vaex.models")
    table = [row(family, name) for family, entries in FAMILIES.items() for name in entries]
    header = Row(*("bound on log p(x)" if name == "bound" else name for name in Row._fields))
    widths = [max(map(len, column)) for column in zip(header, *table, strict=True)]
    for line in (header, *table):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MissingPackageError as error:
        sys.exit(f"vaex: {error}")
