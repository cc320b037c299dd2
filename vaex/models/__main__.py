"""Registry as a table: ``python -m vaex.models``. Groups, state and stages are read off the recipes; nothing is compiled."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaex.core import PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import MissingPackageError, require_train
from vaex.models import FAMILIES, frames, module

SPEC = Spec("digits", (8, 8, 1), "grey", levels=17, num_classes=10, num_training_examples=1397)


def spec_for(model: ModuleType) -> Spec:
    """Return ``SPEC``, or that of sequences for a model of sequences."""
    count = frames(model)
    return SPEC if count is None else SPEC._replace(shape=(count, *SPEC.shape))


class Row(NamedTuple):
    """Row of the table.

    Attributes:
      name: of the model.
      family: its folder.
      groups: parameter groups of all stages.
      state: names in the state of all stages.
      stages: their names.
      bound: as of ``Entry``.
      lines: of its own file.
      source: paper that introduced it.
    """

    name: str
    family: str
    groups: str
    state: str
    stages: str
    bound: str
    lines: str
    source: str


def row(family: str, name: str) -> Row:
    """Return the row of a model of the registry, with its TINY config.

    Example:
      >>> row("autoencoders", "vae")[2:6]
      ('vae', '-', 'model', 'elbo')
    """
    model, entry = module(name), FAMILIES[family][name]
    spec = spec_for(model)
    recipe = model.build(model.Config(**getattr(model, "TINY", {})), spec)
    variables = shapes(recipe, spec)
    groups = [group for of_stage in variables.values() for group in of_stage.params]
    state = [name for of_stage in variables.values() for name in names_in_state(of_stage.state)]
    lines = len(pathlib.Path(str(model.__file__)).read_text().splitlines())
    return Row(name, family, joined(groups), joined(state), joined(variables), entry.bound, str(lines), entry.source)


def joined(names: Iterable[str]) -> str:
    """Join different names in their order; a dash for none."""
    return ", ".join(dict.fromkeys(names)) or "-"


def shapes(recipe: Recipe, spec: Spec) -> dict[str, Variables]:
    """Return the shapes of each stage's variables as training begins, by the name of the stage."""
    batch = {"x": jnp.zeros((8, *spec.shape)), "y": jnp.zeros(8, jnp.int32)}
    variables: dict[str, Variables] = {}
    for stage in recipe.stages:
        of_stage = jax.eval_shape(stage.model.init, jax.random.key(0), batch)
        if stage.carry_over is not None:
            of_stage = of_stage._replace(state=jax.eval_shape(stage.carry_over, variables))
        variables[stage.name] = of_stage
    return variables


def names_in_state(state: PyTree) -> list[str]:
    """Return the names in ``Variables.state``; "unnamed" for a state without names, none for an empty one.

    Example:
      >>> names_in_state({"mean": 1, "covariance": 2}), names_in_state((1, 2)), names_in_state(())
      (['mean', 'covariance'], ['unnamed'], [])
    """
    if not jax.tree.leaves(state):
        return []
    return list(state) if isinstance(state, dict) else list(getattr(state, "_fields", ["unnamed"]))


def main(arguments: list[str] | None = None) -> int:
    """Print the table, family by family."""
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
