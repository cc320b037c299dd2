"""summary.json: the evaluation of each member, means over seeds, and what the numbers depend on."""

from __future__ import annotations

import pathlib
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex.configuration.grammar import hyperparameter_texts
from vaex.configuration.settings import Settings, describe_member
from vaex.core import PyTree, Variables
from vaex.data.columns import as_table, write_csv
from vaex.evaluation import examples, likelihood
from vaex.evaluation.notes import combined, member_notes
from vaex.files import atomic_path
from vaex.models import MODELS
from vaex.models.conditions import example_labels
from vaex.plots.records import FigureRecord
from vaex.results.compare import LOG_LIKELIHOODS
from vaex.results.report import TABLE, diagnostics
from vaex.runs.changes import recorded_changes, with_changes
from vaex.runs.directory import save_figure
from vaex.runs.evaluate import Evaluator
from vaex.runs.figures import MemberFigures, training_curve_panels
from vaex.runs.fitted.samplers import samplers_of
from vaex.runs.measures import Evaluated, MemberEvaluation, finite
from vaex.runs.setup import Experiment
from vaex.runs.stage_loop import described
from vaex.runs.train import Trained
from vaex.schedules import resolve
from vaex.training import population
from vaex.training.step import averaged_variables

TABLE_ROWS = 1000  # sampled of a table


def summarize(experiment: Experiment, trained: Trained, tell: Callable[[str], None]) -> dict[str, Any]:
    """Evaluate every member and return the content of summary.json.

    On the way, the log-likelihood of each example is kept in the run directory, and figures are drawn, where there is one.

    Args:
      experiment: of the run.
      trained: its last stage.
      tell: told of progress, a line that replaces the one before.
    """
    settings = experiment.settings
    averaged = averaged_variables(trained.state)
    changes = list(experiment.changes) or recorded_changes(experiment.store)
    evaluator = Evaluator(experiment)
    evaluated, notes = _evaluate_members(evaluator, trained, averaged, tell)
    members = [
        {"seed": member.seed, "hparams": _texts(experiment, trained, index, changes), **evaluated[index].numbers}
        for index, member in enumerate(settings.members)
    ]
    lost = {entry.member: entry for entry in trained.diverged}
    for index, entry in lost.items():
        members[index]["diverged"] = {"stage": entry.stage, "step": entry.step, "term": entry.term}
    notes = [f"{described(experiment, entry)}; its numbers are left out" for entry in trained.diverged] + notes
    if lost and settings.evaluation.sampler is not None:
        notes.insert(0, f"--sampler={settings.evaluation.sampler} is left out, since it is fitted to all members")
    statistics = next(of_member.statistics for index, of_member in enumerate(evaluated) if index not in lost)
    sizes = [len(rows) for rows in evaluator.divisions]
    known = [of_member.log_likelihoods for of_member in evaluated if of_member.log_likelihoods is not None]
    log_likelihoods = [
        known[0] * np.nan if of.log_likelihoods is None else of.log_likelihoods for of in evaluated if known
    ]
    directory = experiment.store.directory
    if settings.evaluation.figures and directory is not None:
        for name, panels in training_curve_panels(experiment).items():
            save_figure(directory, f"{name}.png", panels)
    if log_likelihoods and directory is not None:
        with atomic_path(directory / LOG_LIKELIHOODS) as temporary:
            np.savez(temporary, log_likelihood=np.stack(log_likelihoods).astype(np.float32), rows=evaluator.rows)
    recipe, device = experiment.recipe, jax.devices()[0]
    conditional = recipe.labels is not None and recipe.labels.classify is None
    return {
        "model": settings.model,
        "dataset": experiment.spec.name,
        "protocol": experiment.spec.protocol,
        "likelihood": recipe.likelihood.title,
        **({"given": "conditions" if experiment.spec.conditions else "label"} if conditional else {}),
        "data_hash": experiment.spec.data_hash,
        "data_seed": settings.data.data_seed,
        "steps": experiment.steps,
        **({"stage_steps": experiment.later_steps} if experiment.later_steps else {}),
        "batch_size": settings.run.batch_size,
        **({"balanced": True} if settings.data.balance else {}),
        **({"changes": changes} if changes else {}),
        "evaluation": evaluation_record(experiment),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "versions": versions(),
        **trained.measured,
        "parameters": _count(averaged.params) // len(members) or _parameters_before(experiment),
        "peak_memory_bytes": peak_memory(),
        **(
            {"batch_statistics": {"names": statistics, "batches": len(sizes), "examples": [min(sizes), max(sizes)]}}
            if statistics
            else {}
        ),
        "results": group_over_seeds(settings, members, statistics),
        "members": members,
        "notes": notes,
    }


def _texts(
    experiment: Experiment, trained: Trained, index: int, changes: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The hyperparameters of a member after changes, as text; "old->new" for one that changed and that the run varies.

    A member that has diverged has those of the step at which it did.
    """
    settings, stages = experiment.settings, [stage.name for stage in experiment.recipe.stages]
    end = next((entry for entry in trained.diverged if entry.member == index), None)
    if end is not None:
        last = stages.index(end.stage), end.step
        changes = [record for record in changes if (stages.index(record["stage"]), record["step"]) <= last]
    first = hyperparameter_texts(settings.members[index].hparams)
    texts = hyperparameter_texts(with_changes(settings, changes).members[index].hparams)
    changed = {name: f"{first[name]}->{texts[name]}" for name in settings.varied if first[name] != texts[name]}
    return texts | changed


def _evaluate_members(
    evaluator: Evaluator, trained: Trained, averaged: Variables, tell: Callable[[str], None]
) -> tuple[list[Evaluated], list[str]]:
    """The evaluation of each member, with hyperparameters as at its step; its figures are drawn; and what is to be said of all.
    Members that have diverged are left out."""
    state, lost = trained.state, {entry.member for entry in trained.diverged}
    experiment, settings = evaluator.run, evaluator.run.settings
    bound = MODELS[settings.model].bound if settings.model in MODELS else ""
    kind, members, notes = settings.evaluation.sampler, [], []
    samplers = None if kind is None or lost else samplers_of(experiment, state, kind)
    for index, member in enumerate(settings.members):
        if index in lost:
            members.append(Evaluated({"log_likelihood": None}, (), None))
            notes.append([])
            continue
        title = describe_member(settings, member)
        variables = jax.device_get(population.member(averaged, index))
        hparams = resolve(population.member(state.hparams, index), np.asarray(state.step)[index])

        def progress(done: int, total: int, title: str = title) -> None:
            tell(f"evaluating {title}: {done}/{total} examples")

        evaluated = MemberEvaluation(evaluator, variables, hparams, progress).evaluated()
        members.append(evaluated)
        values = {name: float(value) for name, value in vars(hparams).items() if value is not None}
        notes.append(member_notes(evaluated.numbers, bound, values, experiment.recipe.latents))
        directory = experiment.store.directory
        if settings.evaluation.figures and directory is not None:
            folder = f"{title}/" if len(settings.members) > 1 else ""

            def save(name: str, figure: FigureRecord, place: pathlib.Path = directory, folder: str = folder) -> None:
                save_figure(place, f"{folder}{name}.png", figure)

            sampler = None if samplers is None else samplers[index]
            figures = MemberFigures(evaluator, variables, hparams, save, sampler)
            figures.draw(evaluated.numbers.get("kl_per_latent"))
            if experiment.spec.columns:
                table = as_table(experiment.spec.columns, figures.rows(TABLE_ROWS))
                with atomic_path(directory / "tables" / folder / "samples.csv") as temporary:
                    write_csv(temporary, table)
    return members, combined(notes, [describe_member(settings, member) for member in settings.members])


def _count(params: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _parameters_before(experiment: Experiment) -> int:
    """Return the number of parameters of the last stage that has any, where the last one of all has none."""
    spec, rows = experiment.spec, experiment.settings.run.batch_size or 1
    batch = {"x": jnp.zeros((rows, *spec.shape)), **example_labels(spec, rows)}
    shapes = (
        jax.eval_shape(stage.model.init, jax.random.key(0), batch).params for stage in experiment.recipe.stages[::-1]
    )
    return next((count for count in map(_count, shapes) if count), 0)


def evaluation_record(experiment: Experiment) -> dict[str, Any]:
    """Return which examples the numbers stand for, and what was drawn; a finished run is evaluated again where these differ."""
    options = experiment.settings.evaluation
    total = len(experiment.dataset.splits[options.eval_split]["x"])
    return {
        "split": options.eval_split,
        "examples": total,
        "log_likelihood_examples": min(options.eval_images, total),
        "examples_version": examples.VERSION,
        "importance_samples": options.eval_samples,
        "log_likelihood_file": None if experiment.recipe.model.log_weights is None else LOG_LIKELIHOODS,
        "figures": options.show if options.figures else None,
        **({} if options.sampler is None else {"sampler": options.sampler}),
    }


def group_over_seeds(
    settings: Settings, members: Sequence[dict[str, Any]], statistics: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return one record per combination of hyperparameters: mean and standard error over its seeds of each number, without members
    that have diverged.

    Args:
      settings: whose members they are.
      members: numbers of each.
      statistics: names of those that are statistics of a batch.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for numbers in members:
        groups.setdefault(tuple(numbers["hparams"][name] for name in settings.varied), []).append(numbers)
    table = []
    for texts, group in groups.items():
        seeds = sum("diverged" not in numbers for numbers in group)
        record: dict[str, Any] = {**dict(zip(settings.varied, texts, strict=True)), "seeds": seeds}
        for name in (*TABLE, *diagnostics(members, statistics)):
            values = [numbers[name] for numbers in group if numbers.get(name) is not None]
            if values:
                mean, error, _ = likelihood.estimate(np.asarray(values))
                record[name] = {"mean": finite(mean), "standard_error": finite(error)}
        table.append(record)
    return table


def peak_memory() -> int:
    """Return the most memory that the process held, in bytes: on the accelerator where there is one, else resident on the host."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used) * (1 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    import importlib.metadata as metadata
    import platform

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        "vaex": vaex.__version__,
        **{name: metadata.version(name) for name in names},
    }
