"""Faults made by hand in evaluation, likelihoods and the reading of data, each of which the tests have to find.

Every fault is a small change of one place of the source. It is made in a copy of the repository, and the tests that are named
beside it run there: a fault under which they pass has survived. Exit code 1 if one did.

Command: ``python tests/mutations.py`` (``--only=TEXT``: faults whose title contains it)
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("vaex", "tests", "experiments", "benchmarks", "docs")
EVERY = ("-m", "slow or not slow")
SLOWEST = 600  # seconds of the tests of one fault


class Mutation(NamedTuple):
    """A fault: ``old`` stands once in ``path`` and becomes ``new``; ``tests`` are to notice."""

    title: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


LIKELIHOOD, EXAMPLES = "tests/evaluation/test_likelihood.py", "tests/evaluation/test_examples.py"
SPLITS, LATENTS = "tests/runs/test_splits.py", "tests/evaluation/test_latents.py"
DENSITIES, COUNTS = (
    "tests/distributions/test_distributions_golden.py",
    "tests/distributions/test_count_distributions.py",
)
NPZ, MEASURES, TRANSFORMS = (
    "tests/data/sources/test_npz.py",
    "tests/data/test_data_measure.py",
    "tests/data/test_transforms.py",
)

MUTATIONS = (
    Mutation(
        "padding of the last batch is counted",
        "vaex/runs/by_batch.py",
        'count = int(np.sum(batch.pop("mask")))',
        'count = len(batch.pop("mask"))',
        (SPLITS, "tests/runs/test_evaluator.py"),
    ),
    Mutation(
        "examples come back in the order of batches",
        "vaex/runs/by_batch.py",
        "order = np.argsort(np.concatenate(batches))",
        "order = np.arange(sum(map(len, batches)))",
        (SPLITS, "tests/runs/test_evaluator.py"),
    ),
    Mutation(
        "an example's draws depend on its place in the batch",
        "vaex/runs/by_batch.py",
        "return _fold_in_each(key, np.asarray(rows, np.uint32))",
        "return _fold_in_each(key, np.arange(len(rows), dtype=np.uint32))",
        ("vaex/runs/by_batch.py", SPLITS),
    ),
    Mutation(
        "standard errors divide by n",
        "vaex/evaluation/likelihood.py",
        "np.std(values, ddof=1)",
        "np.std(values, ddof=0)",
        ("vaex/evaluation/likelihood.py", LIKELIHOOD),
    ),
    Mutation(
        "unequal batches weigh the same",
        "vaex/evaluation/likelihood.py",
        "mean=float(np.average(over_batches.values, weights=sizes))",
        "mean=float(np.average(over_batches.values))",
        (LIKELIHOOD,),
    ),
    Mutation(
        "surplus samples of the last chunk are counted",
        "vaex/evaluation/likelihood.py",
        "(index * size + jnp.arange(size) < num_samples)",
        "(index * size + jnp.arange(size) >= 0)",
        (LIKELIHOOD,),
    ),
    Mutation(
        "chunks of samples draw the same",
        "vaex/evaluation/likelihood.py",
        "weights = log_weights(jax.random.fold_in(key, index), size)",
        "weights = log_weights(key, size)",
        (LIKELIHOOD,),
    ),
    Mutation(
        "evaluation takes the first examples",
        "vaex/evaluation/examples.py",
        "return random_order(n)[:count]",
        "return np.arange(n)[:count]",
        (EXAMPLES, "vaex/evaluation/examples.py"),
    ),
    Mutation(
        "a rest of the split is left out",
        "vaex/evaluation/examples.py",
        "np.array_split(rows, max(1, len(rows) // size))",
        "np.array_split(rows[: max(1, len(rows) // size) * size], max(1, len(rows) // size))",
        (EXAMPLES, "vaex/evaluation/examples.py"),
    ),
    Mutation(
        "the KL per latent halves the variance's logarithm",
        "vaex/evaluation/latents.py",
        "0.5 * (mean**2 + variance - 1.0 - np.log(variance))",
        "0.5 * (mean**2 + variance - 1.0 - 0.5 * np.log(variance))",
        (LATENTS,),
    ),
    Mutation(
        "active units compare deviations with the threshold of variances",
        "vaex/evaluation/latents.py",
        "variances = means.var(axis=0)",
        "variances = means.std(axis=0)",
        (LATENTS, "vaex/evaluation/latents.py"),
    ),
    Mutation(
        "index-code mutual information is that of the marginals",
        "vaex/evaluation/aggregate_posterior.py",
        "estimate(conditional - joint), estimate(joint - product)",
        "estimate(conditional - product), estimate(joint - product)",
        ("tests/evaluation/test_aggregate_posterior.py",),
    ),
    Mutation(
        "Bayes' rule without the prior",
        "vaex/evaluation/classification.py",
        "jax.nn.log_softmax(log_px + log_prior, axis=-1)",
        "jax.nn.log_softmax(log_px, axis=-1)",
        ("tests/evaluation/test_classification.py",),
    ),
    Mutation(
        "the lowest level has no tail",
        "vaex/distributions/discretized_logistic.py",
        "first, last = level <= 0, level >= top",
        "first, last = level < 0, level >= top",
        ("tests/distributions/test_distributions.py", DENSITIES),
    ),
    Mutation(
        "the mean of levels is the location",
        "vaex/distributions/discretized_logistic.py",
        "        return level_mean(loc, log_scale, self.levels)",
        "        return jnp.clip(loc, 0.0, 1.0)",
        ("tests/distributions/test_distributions_moments.py",),
    ),
    Mutation(
        "missing entries count as observed zeros",
        "vaex/distributions/independent.py",
        "jnp.where(observed, self.base.log_prob(filled), 0.0)",
        "self.base.log_prob(jnp.where(observed, value, 0.0))",
        ("tests/distributions/test_distributions.py", "vaex/distributions/independent.py"),
    ),
    Mutation(
        "densities of tables are those of standardised columns",
        "vaex/models/likelihoods.py",
        "log_scale + np.asarray(np.log(unit), np.float32)",
        "log_scale + np.zeros_like(np.asarray(unit, np.float32))",
        ("tests/api/test_missing_values.py",),
    ),
    Mutation(
        "levels are divided by their number",
        "vaex/data/transforms.py",
        "values / (spec.levels - 1)",
        "values / spec.levels",
        (TRANSFORMS, "vaex/data/transforms.py"),
    ),
    Mutation(
        "the noise of dequantisation is a level wide on either side",
        "vaex/data/transforms.py",
        "(stored.astype(jnp.float32) + jax.random.uniform(key, stored.shape))",
        "(stored.astype(jnp.float32) + jax.random.uniform(key, stored.shape, minval=-1.0))",
        (TRANSFORMS,),
    ),
    Mutation(
        "channels first is transposed to width by height",
        "vaex/data/storage/layouts.py",
        '"[n, c, h, w]", (0, 2, 3, 1)',
        '"[n, c, h, w]", (0, 3, 2, 1)',
        (NPZ,),
    ),
    Mutation(
        "arrays of four channels that look like channels first pass",
        "vaex/data/storage/layouts.py",
        "shape[3] > 4 and (shape[1] < shape[3] or",
        "shape[3] > 4 and (shape[1] < shape[3] and shape[1] in (1, 3) or",
        (NPZ,),
    ),
    Mutation(
        "split-off examples stay in the training split",
        "vaex/data/storage/splits.py",
        'cuts["train"] = order[len(missing) * size :]',
        'cuts["train"] = order',
        (NPZ, "vaex/data/storage/splits.py"),
    ),
    Mutation(
        "every grey image is binarised by default",
        "vaex/data/measure.py",
        "noise is not None and noise <= NEARLY_BINARY",
        "noise is not None and noise <= 1.0",
        (MEASURES,),
    ),
    Mutation(
        "steps begin one example late",
        "vaex/data/order.py",
        "epoch, offset = divmod(position + filled, n)",
        "epoch, offset = divmod(position + filled + 1, n)",
        ("tests/data/test_order.py",),
    ),
    Mutation(
        "the posterior's own noise is left out of imputed deviations",
        "vaex/evaluation/imputation.py",
        "jnp.sum(weights * (px.variance + jnp.square(px.mean - mean)), axis=0)",
        "jnp.sum(weights * px.variance, axis=0)",
        ("tests/evaluation/test_imputation.py",),
    ),
)


def copy_repository(to: pathlib.Path) -> None:
    """Copy what tests read."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "CITATION.cff"):
        shutil.copy2(path, to / path.name)


def is_noticed(mutation: Mutation, folder: pathlib.Path) -> tuple[bool, str]:
    """Return whether the tests fail with the fault, and the line that tells which.

    Raises: ValueError where the text to be changed does not stand there once.
    """
    path = folder / mutation.path
    source = path.read_text()
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.title}: {mutation.path} has {source.count(mutation.old)} of {mutation.old!r}")
    path.write_text(source.replace(mutation.old, mutation.new))
    try:
        command = [sys.executable, "-m", "pytest", "-n0", "-q", "-x", "-p", "no:cacheprovider", *EVERY, *mutation.tests]
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SLOWEST, check=False
        )
    finally:
        path.write_text(source)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):  # neither passed nor failed, such as tests that were not found
        raise ValueError(
            f"{mutation.title}: pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
        )
    return done.returncode == 1, failed[0].split(" - ")[0] if failed else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make every fault in turn, and return 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="faults whose title contains this text")
    chosen = [one for one in MUTATIONS if parser.parse_args(arguments).only in one.title]
    survivors = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_repository(folder)
        for number, mutation in enumerate(chosen, 1):
            start = time.perf_counter()
            noticed, by = is_noticed(mutation, folder)
            survivors += [] if noticed else [mutation.title]
            state = f"noticed by {by.split(maxsplit=1)[-1]}" if noticed else "SURVIVED"
            print(
                f"{number}/{len(chosen)}  {mutation.title}: {state} ({time.perf_counter() - start:.0f} s)", flush=True
            )
    print(
        f"{len(chosen) - len(survivors)} of {len(chosen)} noticed" + "".join(f"\nsurvived: {one}" for one in survivors)
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
