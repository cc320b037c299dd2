"""How tight the bounds of one trained run are: elbo, Renyi and importance-weighted bounds of the same samples, paired.

``python experiments/bounds.py RUN_DIRECTORY --alpha=0.5 --samples=50``. The bound of order alpha is the elbo at 1 and the
importance bound at 0, and falls as alpha grows; examples and their binarisation are those of the run's own evaluation.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.bounds import renyi_bound
from vaex.configuration.flags import EvaluationFlags
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.runs import identity
from vaex.runs import setup as experiment
from vaex.runs import trained as codec
from vaex.runs.compare import aligned, paired_difference
from vaex.runs.evaluate import DRAWN_VALUES, LIKELIHOOD_BATCH, Evaluator, over_batches

NAMES = {0.0: "importance bound", 1.0: "elbo"}


class Bounds(NamedTuple):
    """``values``: the bound of each order alpha and example, nats, [orders, n]; ``heading`` says of what."""

    alphas: tuple[float, ...]
    values: np.ndarray
    heading: str


def evaluate(flags: argparse.Namespace) -> Bounds:
    """The bounds of one member of the run in ``flags.run``, of all orders from the same samples.

    Raises: UserError where there is no such run, its data has changed, or it defines no density.
    """
    run = codec.load(flags.run, member=flags.member)
    facts = identity.read(pathlib.Path(flags.run).expanduser() / "config.json")
    settings = identity.restore(facts["identity"])
    source = {"dataset": facts["data"]["path"], "data_dir": flags.data_dir, "manual_dir": flags.manual_dir}
    settings = settings._replace(
        data=dataclasses.replace(settings.data, **source),
        evaluation=EvaluationFlags(eval_split=flags.split, eval_images=flags.images),
    )
    assembled = experiment.assemble(settings)
    if assembled.spec.data_hash != run.spec.data_hash:
        raise UserError(
            f"{source['dataset']}: is not the data that the run was trained on ({run.spec.data_hash}, now "
            f"{assembled.spec.data_hash}); give the same files"
        )
    if run.recipe.log_weights is None:
        raise UserError(f"{flags.run}: its objective ({run.recipe.likelihood.title}) defines no density, so no bounds")
    alphas = tuple(sorted({0.0, 1.0, *(flags.alpha or [own_alpha(settings, run.hparams)])}, reverse=True))
    evaluator = Evaluator(assembled)
    values = over_batches(
        bounds_of(run.recipe.log_weights, alphas, flags.samples, math.prod(run.spec.shape)),
        jax.random.fold_in(evaluator.key, 9),
        evaluator.inputs,
        run.variables,
        run.hparams,
        size=min(LIKELIHOOD_BATCH, evaluator.batch),
        count=flags.images,
    )
    heading = (
        f"{settings.model} on {run.spec.name}, step {run.step}, {flags.split} split, {len(values)} examples, K = {flags.samples} "
        f"samples; protocol: {run.spec.protocol}; likelihood: {run.recipe.likelihood.title}; nats per example"
    )
    return Bounds(alphas, np.asarray(values, np.float64).T, heading)


def own_alpha(settings: Any, hparams: Any) -> float:
    """The order that a renyi_vae was trained with; 0.5 for other models."""
    return float(hparams.alpha) if settings.model == "renyi_vae" else 0.5


def bounds_of(log_weights: Any, alphas: tuple[float, ...], samples: int, values: int) -> Any:
    """A jitted (key, variables, hparams, batch) -> [b, orders], one example after the other."""
    chunk = min(samples, max(1, DRAWN_VALUES // values))

    @jax.jit
    def found(key: jax.Array, variables: Any, hparams: Any, batch: dict[str, jax.Array]) -> jax.Array:
        def one(args: tuple[jax.Array, dict[str, jax.Array]]) -> jax.Array:
            keys = jax.random.split(args[0], -(-samples // chunk))
            example = {name: value[None] for name, value in args[1].items()}
            draws = jax.lax.map(lambda part: log_weights(part, variables, hparams, example, chunk), keys)
            return jnp.stack([renyi_bound(draws.ravel()[:samples], alpha) for alpha in alphas])

        return jax.lax.map(one, (jax.random.split(key, len(batch["x"])), batch))

    return found


def describe(found: Bounds) -> str:
    """The bounds from the loosest to the tightest, each with what it gains on the one before, paired."""
    lines = [["bound", "mean", "more than the one before", "in standard errors"]]
    for index, (alpha, values) in enumerate(zip(found.alphas, found.values, strict=True)):
        mean, error, _ = estimate(values)
        cells = [NAMES.get(alpha, f"Renyi, alpha = {alpha:g}"), f"{mean:.4f} ± {error:.2g}", "-", "-"]
        if index:
            gain, uncertain = paired_difference(values, found.values[index - 1])
            cells[2:] = [f"{gain:.4f} ± {uncertain:.2g}", f"{gain / uncertain:.1f}" if uncertain > 0 else "-"]
        lines.append(cells)
    return f"{found.heading}\n{aligned(lines)}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 2 where the run cannot be evaluated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory")
    parser.add_argument(
        "--alpha",
        type=lambda text: [float(part) for part in text.split(",")],
        help="orders, joined by commas (default: that of a renyi_vae, else 0.5)",
    )
    parser.add_argument("--samples", type=int, default=50, help="K, importance samples (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1000, help="examples, at most (default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--member", type=int, default=0, help="of a population (default: %(default)s)")
    parser.add_argument("--data_dir", help="where prepared data sets live")
    parser.add_argument("--manual_dir", help="where original files lie that you downloaded yourself")
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
