"""Tightness of the bounds of a trained run: ELBO, Renyi and importance-weighted bounds from the same samples, paired.

``python experiments/bounds.py RUN_DIRECTORY --alpha=0.5 --samples=50``. The bound of order alpha is the ELBO at 1 and the
importance bound at 0, and falls as alpha grows. Examples and their binarisation are those of the run's evaluation.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex.bounds import renyi_bound
from vaex.cli.scripts import add_run_flags, folders, numbers
from vaex.configuration.run_options import EvaluationOptions
from vaex.core import EvaluationKey
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.results.compare import aligned, paired_difference
from vaex.runs import setup
from vaex.runs.by_batch import over_batches
from vaex.runs.evaluate import DRAWN_VALUES, LIKELIHOOD_BATCH, Evaluator

NAMES = {0.0: "importance bound", 1.0: "elbo"}


class Bounds(NamedTuple):
    """Bounds of each order and example.

    Attributes:
      alphas: the orders.
      values: [orders, n], nats.
      heading: names the run, its data and its protocol.
    """

    alphas: tuple[float, ...]
    values: np.ndarray
    heading: str


def evaluate(flags: argparse.Namespace) -> Bounds:
    """Evaluate the bounds of one member of the run in ``flags.run``, of all orders from the same samples.

    Raises: UserError where there is no such run, its data has changed, or it defines no density.
    """
    run = vaex.load(flags.run, trust=flags.trust)
    if not 0 <= flags.member < len(run):
        raise UserError(f"--member={flags.member}: {flags.run} has {len(run)} member(s), counted from 0")
    if run.recipe.model.log_weights is None:
        raise UserError(f"{flags.run}: its objective ({run.recipe.likelihood.title}) defines no density, so no bounds")
    model, evaluation = run[flags.member], EvaluationOptions(eval_split=flags.split, eval_images=flags.images)
    settings = run.settings._replace(evaluation=evaluation)
    alphas = tuple(sorted({0.0, 1.0, *(flags.alpha or [default_alpha(settings, model.hparams)])}, reverse=True))
    evaluator = Evaluator(setup.assemble(settings, run.dataset(**folders(flags))))
    values = over_batches(
        bounds_of(run.recipe.model.log_weights, alphas, flags.samples, math.prod(run.spec.shape)),
        jax.random.fold_in(evaluator.key, EvaluationKey.BOUNDS),
        evaluator.inputs,
        model.variables,
        model.hparams,
        size=min(LIKELIHOOD_BATCH, evaluator.batch),
        rows=evaluator.rows,
    )
    heading = (
        f"{settings.model} on {run.spec.name}, step {run.step}, {flags.split} split, {len(values)} examples, K = {flags.samples} "
        f"samples; protocol: {run.spec.protocol}; likelihood: {run.recipe.likelihood.title}; nats per example"
    )
    return Bounds(alphas, np.asarray(values, np.float64).T, heading)


def default_alpha(settings: Any, hparams: Any) -> float:
    """Return the order that a renyi_vae was trained with; 0.5 for other models."""
    return float(hparams.alpha) if settings.model == "renyi_vae" else 0.5


def bounds_of(log_weights: Any, alphas: tuple[float, ...], samples: int, values: int) -> Any:
    """Return a jitted (keys [b], variables, hparams, batch) -> [b, orders], which takes one example after the other."""
    chunk = min(samples, max(1, DRAWN_VALUES // values))

    @jax.jit
    def bounds(keys: jax.Array, variables: Any, hparams: Any, batch: dict[str, jax.Array]) -> jax.Array:
        def of_example(args: tuple[jax.Array, dict[str, jax.Array]]) -> jax.Array:
            keys = jax.random.split(args[0], -(-samples // chunk))
            example = {name: value[None] for name, value in args[1].items()}
            draws = jax.lax.map(lambda part: log_weights(part, variables, hparams, example, chunk), keys)
            return jnp.stack([renyi_bound(draws.ravel()[:samples], alpha=alpha) for alpha in alphas])

        return jax.lax.map(of_example, (keys, batch))

    return bounds


def describe(bounds: Bounds) -> str:
    """Return a table of the bounds from the loosest to the tightest, each with its paired gain on the bound above it."""
    lines = [["bound", "mean", "gain on the bound above", "in standard errors"]]
    for index, (alpha, values) in enumerate(zip(bounds.alphas, bounds.values, strict=True)):
        mean, error, _ = estimate(values)
        cells = [NAMES.get(alpha, f"Renyi, alpha = {alpha:g}"), f"{mean:.4f} ± {error:.2g}", "-", "-"]
        if index:
            gain, uncertain = paired_difference(values, bounds.values[index - 1])
            cells[2:] = [f"{gain:.4f} ± {uncertain:.2g}", f"{gain / uncertain:.1f}" if uncertain > 0 else "-"]
        lines.append(cells)
    return f"{bounds.heading}\n{aligned(lines)}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 2 where the run cannot be evaluated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory")
    parser.add_argument(
        "--alpha",
        type=numbers,
        help="orders, joined by commas (default: that of a renyi_vae, else 0.5)",
    )
    parser.add_argument("--samples", type=int, default=50, help="K, importance samples (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1000, help="examples, at most (default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--member", type=int, default=0, help="of a population (default: %(default)s)")
    add_run_flags(parser)
    flags = parser.parse_args(arguments)
    if flags.samples < 1 or flags.images < 1 or not all(map(math.isfinite, flags.alpha or ())):
        parser.error("--samples and --images must be at least 1, --alpha finite")
    try:
        print(describe(evaluate(flags)))
    except UserError as error:
        print(f"bounds: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
