"""Denoising, sparse and contractive autoencoders, each measured against a plain one on what it is for.

``python experiments/autoencoders.py`` trains short populations on digits and prints three tables: the squared error of
reconstructions from corrupted images, by a plain and by a denoising autoencoder of the same architecture and steps; how close the
mean activations of a sparse autoencoder's latents come to their target; and the norm of a contractive autoencoder's Jacobian
beside its reconstruction, where weight 0 is the plain autoencoder. Means ± standard errors are over seeds; --out keeps the runs
and a figure.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex import data, plots
from vaex.cli import main as cli
from vaex.cli.parse import parse
from vaex.configuration.grammar import read_seeds
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.files import read_json
from vaex.models.autoencoders import denoising_autoencoder
from vaex.plots.records import Grid
from vaex.results.compare import aligned, cell
from vaex.runs.trained_model import TrainedModel

CORRUPTIONS = ("gaussian", "masking", "salt_and_pepper")
TARGETS = ("0.05", "0.1", "0.2")
CONTRACTIONS = ("0", "0.03", "1")
SHOWN = 10  # images in the figure


def trained(
    flags: argparse.Namespace, folder: pathlib.Path, name: str, *options: str
) -> tuple[list[TrainedModel], Any]:
    """Train a model through the command line, which reports on standard error; return the members and the summary."""
    folder = folder / name
    options = (f"--model={name.partition('.')[0]}", *options, f"--steps={flags.steps}", f"--seeds={flags.seeds}")
    with contextlib.redirect_stdout(sys.stderr):
        cli.run(parse([*options, f"--out={folder}", f"--eval_split={flags.split}", "--no-figures"]))
    summary = read_json(folder / "summary.json")
    return [vaex.load(folder, member=index) for index in range(len(summary["members"]))], summary


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


def denoising(flags: argparse.Namespace, folder: pathlib.Path) -> tuple[str, Grid]:
    """Return the first table and its figure."""
    digits = data.load("digits")
    x = data.intensities(digits.spec, digits.splits[flags.split]["x"])
    plain, _ = trained(flags, folder, "autoencoder")
    lines = [["corruption", "corrupted", "autoencoder", "denoising_autoencoder", "difference"]]
    rows, labels = [x[:SHOWN]], ["original"]
    for kind in CORRUPTIONS:
        runs, _ = trained(flags, folder, f"denoising_autoencoder.{kind}", f"--corruption={kind}")
        noisy = denoising_autoencoder.corruption(kind)(jax.random.key(1), runs[0].hparams, x)
        errors = [[squared_error(reconstructed(run, noisy), x) for run in group] for group in (plain, runs)]
        difference = [b - a for a, b in zip(*errors, strict=True)]
        lines.append([kind, cell(squared_error(jnp.clip(noisy, 0.0, 1.0), x)), *map(over_seeds, [*errors, difference])])
        rows += [noisy[:SHOWN], reconstructed(plain[0], noisy[:SHOWN]), reconstructed(runs[0], noisy[:SHOWN])]
        labels += [kind.replace("_", " "), "plain", "denoising"]
    grid = Grid(np.clip(np.stack(rows), 0.0, 1.0), tuple(labels), title="Reconstructions from corrupted images")
    return f"squared error per image of reconstructions from corrupted images\n{aligned(lines)}", grid


def sparsity(flags: argparse.Namespace, folder: pathlib.Path) -> str:
    """Return the second table: mean activations on the split, and on the training images the latent farthest from its target."""
    digits = data.load("digits")
    runs, summary = trained(flags, folder, "sparse_autoencoder", f"--target_activation={','.join(TARGETS)}")
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


def contraction(flags: argparse.Namespace, folder: pathlib.Path) -> str:
    """Return the third table, of the run's diagnostics."""
    _, summary = trained(flags, folder, "contractive_autoencoder", f"--contraction={','.join(CONTRACTIONS)}")
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
        with tempfile.TemporaryDirectory() as temporary:
            folder = flags.out or pathlib.Path(temporary)
            print(
                f"digits, {flags.split} split, {flags.steps} steps, seeds {flags.seeds}; ± is the standard error over seeds\n"
            )
            table, grid = denoising(flags, folder)
            print(table, sparsity(flags, folder), contraction(flags, folder), sep="\n\n")
    except UserError as error:
        print(f"autoencoders: {error}", file=sys.stderr)
        return 2
    if flags.out:
        plots.save(grid, flags.out / "denoised.png")
        print(f"\nfigure: {flags.out / 'denoised.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
