"""Denoising, sparse and contractive autoencoders, each measured against a plain one on what it is for.

``python experiments/autoencoders.py`` trains short populations on digits and prints three tables: the squared error of
reconstructions from corrupted images, by a plain and by a denoising autoencoder of the same architecture and steps; how close the
mean activations of a sparse autoencoder's latents come to their target; and the norm of a contractive autoencoder's Jacobian
beside its reconstruction, where weight 0 is the plain autoencoder. Means ± standard errors are over seeds; --out keeps the runs
and a figure.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex import data, plots
from vaex.api.run import Run
from vaex.api.trained_model import TrainedModel
from vaex.configuration.grammar import read_seeds
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.models.autoencoders import denoising_autoencoder
from vaex.plots.records import Grid
from vaex.results.compare import aligned, cell

CORRUPTIONS = ("gaussian", "masking", "salt_and_pepper")
TARGETS = ("0.05", "0.1", "0.2")
CONTRACTIONS = ("0", "0.03", "1")
SHOWN = 10  # images in the figure


def trained(flags: argparse.Namespace, name: str, **options: Any) -> Run:
    """Train and evaluate a model, which reports on standard error; with --out the run is kept in the folder ``name`` there."""
    return vaex.train(
        name.partition(".")[0],
        steps=flags.steps,
        seeds=read_seeds(flags.seeds),
        out=None if flags.out is None else flags.out / name,
        evaluate=True,
        eval_split=flags.split,
        figures=False,
        **options,
    )


def summary_of(run: Run) -> dict[str, Any]:
    """Return the evaluation of a run that was trained with one."""
    assert run.summary is not None
    return run.summary


def over_seeds(values: list[float]) -> str:
    """Format a mean and its standard error."""
    mean, error, _ = estimate(np.asarray(values))
    return cell(mean, error if len(values) > 1 else None)


def reconstructed(run: TrainedModel, x: jax.Array) -> jax.Array:
    """Reconstruct x, which may lie outside the data's range; the reconstructions are clipped to it."""
    z = run.recipe.model.encode(jax.random.key(0), run.variables, run.hparams, {"x": x}).mean
    return jnp.clip(run.recipe.model.decode(run.variables, run.hparams, z, {}).mean, 0.0, 1.0)


def squared_error(reconstruction: jax.Array, x: jax.Array) -> float:
    """Squared error, summed over pixels and averaged over images."""
    return float(jnp.mean(jnp.sum(jnp.square(reconstruction - x), axis=range(1, x.ndim))))


def denoising(flags: argparse.Namespace) -> tuple[str, Grid]:
    """Return the first table and its figure."""
    digits = data.load("digits")
    x = data.intensities(digits.spec, digits.splits[flags.split]["x"])
    plain = trained(flags, "autoencoder")
    lines = [["corruption", "corrupted", "autoencoder", "denoising_autoencoder", "difference"]]
    rows, labels = [x[:SHOWN]], ["original"]
    for kind in CORRUPTIONS:
        runs = trained(flags, f"denoising_autoencoder.{kind}", corruption=kind)
        noisy = denoising_autoencoder.corruption(kind)(jax.random.key(1), runs[0].hparams, x)
        errors = [[squared_error(reconstructed(run, noisy), x) for run in group] for group in (plain, runs)]
        difference = [b - a for a, b in zip(*errors, strict=True)]
        lines.append([kind, cell(squared_error(jnp.clip(noisy, 0.0, 1.0), x)), *map(over_seeds, [*errors, difference])])
        rows += [noisy[:SHOWN], reconstructed(plain[0], noisy[:SHOWN]), reconstructed(runs[0], noisy[:SHOWN])]
        labels += [kind.replace("_", " "), "plain", "denoising"]
    grid = Grid(np.clip(np.stack(rows), 0.0, 1.0), tuple(labels), title="Reconstructions from corrupted images")
    return f"squared error per image of reconstructions from corrupted images\n{aligned(lines)}", grid


def sparsity(flags: argparse.Namespace) -> str:
    """Return the second table: mean activations on the split, and on the training images the latent farthest from its target."""
    digits = data.load("digits")
    runs = trained(flags, "sparse_autoencoder", target_activation=[float(target) for target in TARGETS])
    summary = summary_of(runs)
    lines = [["target", "mean activation", "farthest latent off by", "reconstruction"]]
    for target, record in zip(TARGETS, summary["results"], strict=True):
        members = zip(runs, summary["members"], strict=True)
        matching = [run for run, member in members if member["hparams"]["target_activation"] == target]
        means = [np.mean(run.encode(digits.splits["train"]["x"]).mean, axis=0) for run in matching]
        farthest = max(float(np.max(np.abs(mean / float(target) - 1.0))) for mean in means)
        lines.append(
            [target, recorded(record, "mean_activation"), f"{farthest:.1%}", recorded(record, "reconstruction")]
        )
    heading = (
        f"sparse_autoencoder, {len(means[0])} latents; the farthest of all latents and seeds, on the training images"
    )
    return f"{heading}\n{aligned(lines)}"


def contraction(flags: argparse.Namespace) -> str:
    """Return the third table, of the run's diagnostics."""
    runs = trained(flags, "contractive_autoencoder", contraction=[float(weight) for weight in CONTRACTIONS])
    summary = summary_of(runs)
    names = ("reconstruction", "jacobian_norm", "relative_jacobian_norm")
    lines = [["contraction", *names]]
    lines += [[r["contraction"], *(recorded(r, name) for name in names)] for r in summary["results"]]
    return f"contractive_autoencoder; 0 is the plain autoencoder; reconstruction in nats\n{aligned(lines)}"


def recorded(record: dict[str, Any], name: str) -> str:
    """Format a number of a summary's results, with its standard error over seeds."""
    return cell(record[name]["mean"], record[name]["standard_error"])


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; with --out, keep the runs and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each run (default: %(default)s)")
    parser.add_argument("--seeds", default="0:3", help="(default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the runs and denoised.png (default: not kept)")
    flags = parser.parse_args(arguments)
    try:
        read_seeds(flags.seeds)
        print(
            f"digits, {flags.split} split, {flags.steps} steps, seeds {flags.seeds}; ± is the standard error over seeds\n"
        )
        table, grid = denoising(flags)
        print(table, sparsity(flags), contraction(flags), sep="\n\n")
    except UserError as error:
        print(f"autoencoders: {error}", file=sys.stderr)
        return 2
    if flags.out:
        plots.save(grid, flags.out / "denoised.png")
        print(f"\nfigure: {flags.out / 'denoised.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
