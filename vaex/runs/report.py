"""What a finished run says of itself: the evaluation of each member, summary.json, pictures and a table."""

from __future__ import annotations

import pathlib
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.configuration.grammar import hyperparameter_texts
from vaex.configuration.settings import Settings, describe_member
from vaex.core import EvaluationKey
from vaex.evaluation import figures, generation, latents, likelihood, traversals
from vaex.evaluation.training_curves import training_curves
from vaex.files import atomic_path
from vaex.plots.records import Curves, Grid
from vaex.runs import setup as experiment
from vaex.runs import train as trainer
from vaex.runs.compare import LOG_LIKELIHOODS, aligned, cell
from vaex.runs.evaluate import Evaluator, finite
from vaex.training import metrics as reporting
from vaex.training import population
from vaex.training.step import averaged_variables

PICTURES = 20  # examples to reconstruct; three times as many samples are drawn


def peak_memory() -> int:
    """The most memory that the process held, in bytes: on the accelerator where there is one, else resident on the host."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used) * (1 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import importlib.metadata as metadata
    import platform

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        "vaex": vaex.__version__,
        **{name: metadata.version(name) for name in names},
    }


TABLE = (
    "elbo",
    "reconstruction",
    "cross_entropy",
    "kl",
    "log_likelihood",
    "bits_per_dimension",
    "active_units",
    "accuracy",
    "generative_accuracy",
    "knn_label_agreement",
)


def own_diagnostics(members: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the objective's metrics that are a model's own, not of ``TABLE``: of these a member has standard errors too.

    Example:
      >>> own_diagnostics([{"kl": 3.0, "kl_standard_error": 0.1, "jacobian_norm": 2.0, "jacobian_norm_standard_error": 0.2}])
      ['jacobian_norm']
    """
    names = dict.fromkeys(name for facts in members for name in facts)
    return [name for name in names if f"{name}_standard_error" in names and name not in TABLE]


def group_over_seeds(settings: Settings, members: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per combination of hyperparameters: mean and standard error over its seeds of each number."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for member, facts in zip(settings.members, members, strict=True):
        texts = hyperparameter_texts(member.hparams)
        groups.setdefault(tuple(texts[name] for name in settings.varied), []).append(facts)
    table = []
    for values, group in groups.items():
        record: dict[str, Any] = {**dict(zip(settings.varied, values, strict=True)), "seeds": len(group)}
        for name in (*TABLE, *own_diagnostics(members)):
            numbers = [facts[name] for facts in group if facts.get(name) is not None]
            if numbers:
                mean, error, _ = likelihood.estimate(np.asarray(numbers))
                record[name] = {"mean": finite(mean), "standard_error": finite(error)}
        table.append(record)
    return table


def summarize(run: experiment.Experiment, trained: trainer.Trained, tell: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate every member and return the content of summary.json; keeps each example's log-likelihood and draws the pictures
    on the way."""
    settings, flags = run.settings, run.settings.evaluation
    evaluator = Evaluator(run)
    averaged = averaged_variables(trained.state)
    device = jax.devices()[0]
    members, log_likelihoods = [], []
    for index, member in enumerate(settings.members):
        title = describe_member(settings, member)
        variables = jax.device_get(population.member(averaged, index))
        hparams = resolved(run.hparams, index, run.stage_steps[-1])
        evaluator_tell = lambda done, total, t=title: tell(f"evaluating {t}: {done}/{total} examples")  # noqa: E731
        found, values = evaluator.member(variables, hparams, evaluator_tell)
        facts = {"seed": member.seed, "hparams": hyperparameter_texts(member.hparams), **found}
        members.append(facts)
        log_likelihoods += [] if values is None else [values.astype(np.float32)]
        if flags.figures:
            folder = run.directory / "figures" / (title if len(settings.members) > 1 else "")
            draw_member(evaluator, variables, hparams, facts, folder)
    if flags.figures:
        for index, stage in enumerate(run.recipe.stages):
            name = f"training_curves_{stage.name}.png" if index else "training_curves.png"
            rows = reporting.read_rows(run.folder(index) / "metrics.jsonl")
            draw_curves(settings, rows, run.directory / "figures" / name)
    if log_likelihoods:
        with atomic_path(run.directory / LOG_LIKELIHOODS) as temporary:
            np.savez(temporary, log_likelihood=np.stack(log_likelihoods))
    return {
        "model": settings.model,
        "dataset": run.spec.name,
        "protocol": run.spec.protocol,
        "likelihood": run.recipe.likelihood.title,
        **({"given": "label"} if run.recipe.labels is not None and run.recipe.labels.classify is None else {}),
        "data_hash": run.spec.data_hash,
        "data_seed": settings.data.data_seed,
        "steps": run.steps,
        **({"stage_steps": run.later_steps} if run.later_steps else {}),
        "batch_size": settings.run.batch_size,
        "evaluation": evaluation_record(run),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "versions": versions(),
        **trained.measured,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(averaged.params)) // len(members),
        "peak_memory_bytes": peak_memory(),
        "results": group_over_seeds(settings, members),
        "members": members,
    }


def evaluation_record(run: experiment.Experiment) -> dict[str, Any]:
    """Which examples the numbers stand for, and what was drawn; a finished run is evaluated again where these differ."""
    flags = run.settings.evaluation
    total = len(run.dataset.splits[flags.eval_split]["x"])
    return {
        "split": flags.eval_split,
        "examples": total,
        "log_likelihood_examples": min(flags.eval_images, total),
        "importance_samples": flags.eval_samples,
        "log_likelihood_file": None if run.recipe.model.log_weights is None else LOG_LIKELIHOODS,
        "figures": flags.show if flags.figures else None,
    }


def resolved(hparams: Any, index: int, step: int) -> Any:
    """One member's hyperparameters at ``step``."""
    from vaex.schedules import resolve

    return resolve(population.member(hparams, index), np.int32(step))


# --- pictures -----------------------------------------------------------------------------------------------------


def draw_member(
    evaluator: Evaluator, variables: Any, hparams: Any, facts: dict[str, Any], folder: pathlib.Path
) -> None:
    """Reconstructions, samples, traversals, KL per latent, and the manifold of a two-dimensional latent space.

    Of a model that reads labels, traversals and manifold have the first example's, and samples show every class.
    """
    run, show = evaluator.run, evaluator.run.settings.evaluation.show
    spec, recipe = run.spec, run.recipe
    few = evaluator.shown(np.arange(min(PICTURES, len(evaluator.arrays["x"]))))
    mean = evaluator.posterior(variables, hparams, few)["mean"]
    if recipe.sequences is not None:
        draw_sequences(evaluator, variables, hparams, few, mean, folder)
        return
    latent_variables, kl = evaluator.latent_variables(mean), facts.get("kl_per_latent")
    if kl is not None:
        plots.save(figures.kl_bars(kl, [variable.name for variable in latent_variables]), folder / "kl_per_latent.png")
    if len(spec.shape) != 3:
        draw_vectors(evaluator, variables, hparams, few, mean, folder)
        return

    labels = evaluator.labels(variables, hparams, few)

    def decode(z: np.ndarray, labels: np.ndarray | None = labels) -> np.ndarray:
        if labels is not None and len(labels) != len(z):
            labels = np.full(len(z), labels[0])
        return np.clip(evaluator.decode(variables, hparams, z, labels, show=show), 0.0, 1.0)

    plots.save(figures.reconstruction_grid(few["x"], decode(mean)), folder / "reconstructions.png")
    if labels is None:
        samples = figures.sample_grid(drawn_images(evaluator, variables, hparams, 3 * PICTURES))
        plots.save(samples, folder / "samples.png")
    else:
        draw_classes(evaluator, variables, hparams, few["x"], mean, folder)
    many = evaluator.shown(np.arange(min(evaluator.batch, len(evaluator.arrays["x"]))))
    moments = evaluator.posterior(variables, hparams, many)
    paths = traversals.traversal_paths(latent_variables, moments["mean"], moments["variance"], kl)
    images = traversals.decode_paths(decode, paths.codes)
    most, count = traversals.MOST_PATHS, len(latent_variables)
    some = f": {most} latents of {count}" if count > most else ""
    grid = figures.traversal_grid(images, paths.names, paths.kl, paths.columns, title=f"Latent traversals{some}")
    plots.save(grid, folder / "traversals.png")
    if [variable.kind for variable in latent_variables] in (["normal"] * 2, ["free"] * 2):
        places = [latents.location_and_scale(variable, **moments) for variable in latent_variables]
        location, scale = np.array(places).T
        grid = generation.manifold(lambda z: decode(location + scale * z))
        plots.save(figures.manifold_grid(grid), folder / "manifold.png")
    draw_own(evaluator, variables, hparams, few, folder)


def draw_own(
    evaluator: Evaluator, variables: Any, hparams: Any, few: dict[str, np.ndarray], folder: pathlib.Path
) -> None:
    """The model's own figures."""
    for name, figure in evaluator.run.recipe.figures.items():
        plots.save(
            figure(jax.random.fold_in(evaluator.key, EvaluationKey.FIGURES), variables, hparams, few),
            folder / f"{name}.png",
        )


def draw_sequences(
    evaluator: Evaluator,
    variables: Any,
    hparams: Any,
    few: dict[str, np.ndarray],
    mean: np.ndarray,
    folder: pathlib.Path,
) -> None:
    """Sequences over their reconstructions, samples in a row each, and the model's own figures."""
    some = slice(PICTURES // 4)
    rebuilt = evaluator.decode(variables, hparams, mean, None, show=evaluator.run.settings.evaluation.show)
    plots.save(figures.sequence_grid(few["x"][some], np.clip(rebuilt[some], 0, 1)), folder / "reconstructions.png")
    samples = drawn_images(evaluator, variables, hparams, PICTURES // 2)
    plots.save(Grid(samples, (), tuple(map(str, range(1, 1 + samples.shape[1]))), "Samples"), folder / "samples.png")
    draw_own(evaluator, variables, hparams, few, folder)


def drawn_images(evaluator: Evaluator, variables: Any, hparams: Any, n: int, label: int | None = None) -> np.ndarray:
    """n samples as they are shown, [n, h, w, c]; those of different labels have the same z."""
    condition = None if label is None else np.full(n, label, np.int32)
    drawn = evaluator.run.recipe.model.sample(
        jax.random.fold_in(evaluator.key, EvaluationKey.PRIOR_SAMPLES), variables, hparams, n, condition
    )
    mean = evaluator.run.settings.evaluation.show == "mean"
    images = drawn.mean if mean else drawn.sample(jax.random.fold_in(evaluator.key, EvaluationKey.SAMPLE_NOISE))
    return np.clip(np.asarray(images), 0.0, 1.0)


def draw_classes(
    evaluator: Evaluator, variables: Any, hparams: Any, originals: np.ndarray, mean: np.ndarray, folder: pathlib.Path
) -> None:
    """Samples with a class in each row and the same z (or noise) in each column; and examples' own z in every class, where the
    label has a say in what z looks like."""
    spec, show = evaluator.run.spec, evaluator.run.settings.evaluation.show
    classes = range(min(spec.num_classes, PICTURES))
    names = tuple(spec.label_names[label] if spec.label_names else str(label) for label in classes)
    samples = np.stack([drawn_images(evaluator, variables, hparams, PICTURES // 2, label) for label in classes])
    labels = evaluator.run.recipe.labels
    prior_only = labels is not None and labels.prior_only
    title = "Samples: the same random numbers in each column" if prior_only else "Samples: the same z in each column"
    plots.save(Grid(samples, names, title=title), folder / "samples.png")
    if prior_only:
        return
    few = len(originals[: PICTURES // 2])
    z, every = np.repeat(mean[:few], len(names), axis=0), np.tile(np.asarray(classes, np.int32), few)
    changed = np.clip(evaluator.decode(variables, hparams, z, every, show=show), 0.0, 1.0)
    images = np.concatenate([originals[:few, None], changed.reshape(few, len(names), *spec.shape)], axis=1)
    grid = Grid(images, (), ("original", *names), "Each original's z in every class")
    plots.save(grid, folder / "classes.png")


def draw_vectors(
    evaluator: Evaluator,
    variables: Any,
    hparams: Any,
    few: dict[str, np.ndarray],
    mean: np.ndarray,
    folder: pathlib.Path,
) -> None:
    """Vectors that are not images: the first one and its reconstruction as curves over the dimensions."""
    spec = evaluator.run.spec
    show = evaluator.run.settings.evaluation.show
    original = few["x"][0]
    labels = evaluator.labels(variables, hparams, few)
    rebuilt = evaluator.decode(variables, hparams, mean[:1], None if labels is None else labels[:1], show=show)[0]
    lines = {"original": original, "reconstruction": rebuilt}
    curves = Curves(np.arange(spec.shape[0]), lines, "dimension", "value", "A test example and its reconstruction")
    plots.save(curves, folder / "reconstructions.png")


def draw_curves(settings: Settings, rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Training curves: one panel per metric, all members in each."""
    if not rows:
        return
    labels = [describe_member(settings, member) for member in settings.members]
    plots.save(list(training_curves(rows, members=labels).values()), path)


# --- words --------------------------------------------------------------------------------------------------------


def table(summary: dict[str, Any]) -> str:
    """The results as a plain table: a row per member, and below several seeds their mean ± its standard error.

    The last columns are the model's own diagnostics.
    """
    records = summary["results"]
    varied = [name for name, value in records[0].items() if isinstance(value, str)]
    known = set().union(*records)
    shown = [name for name in (*TABLE, *own_diagnostics(summary["members"])) if name in known]
    lines = [[*varied, "seed", *shown]]
    for record in records:
        values = [str(record[name]) for name in varied]
        members = [m for m in summary["members"] if all(m["hparams"][name] == record[name] for name in varied)]
        for member in members:
            lines.append([*values, str(member["seed"]), *(cell(member.get(name)) for name in shown)])
        if len(members) > 1:
            unknown = {"mean": None, "standard_error": None}
            pairs = (record.get(name, unknown) for name in shown)
            lines.append([*values, "mean", *(cell(pair["mean"], pair["standard_error"]) for pair in pairs)])
    return aligned(lines)


def speed(summary: dict[str, Any]) -> str:
    """How long training took to compile (or to load, where the cache held the program), and how fast it ran.

    Example:
      >>> speed({"compile_seconds": 4.102, "steps_per_second": 2140.4})
      'compiled in 4.1 s, trained at 2,140 steps/s'
    """
    return f"compiled in {summary['compile_seconds']:.1f} s, trained at {summary['steps_per_second']:,.0f} steps/s"


def sentence(summary: dict[str, Any]) -> str:
    """Under which protocol and likelihood the table's numbers were measured."""
    facts = summary["evaluation"]
    parts = [
        f"nats per example; {summary['dataset']}, {facts['split']} split ({facts['examples']} examples)",
        f"protocol: {summary['protocol']}",
        f"likelihood: {summary['likelihood']}{', of x given its label' if 'given' in summary else ''}",
    ]
    if summary["members"][0]["log_likelihood"] is not None:
        count, samples = facts["log_likelihood_examples"], facts["importance_samples"]
        parts.append(f"log_likelihood: importance-weighted, K = {samples}, on {count} examples")
    return "; ".join(parts)


def show(directory: pathlib.Path, summary: dict[str, Any]) -> None:
    """Print the results of a run, and where its files are."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(table(summary))
    print(sentence(summary))
    if summary.get("steps_per_second"):
        print(speed(summary))
    if (directory / "figures").is_dir():
        print(f"figures: {directory / 'figures'}")
    print(f"in Python: run = vaex.load({str(directory)!r})")
