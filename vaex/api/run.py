"""A trained run: its members as functions, its evaluation and figures, and how it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import html
import operator
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import vaex
from vaex import files, plots
from vaex.api.arguments import replaced
from vaex.api.pages import page
from vaex.api.samplers import RunSamplers
from vaex.api.saving import save_run
from vaex.api.scores import Scores, chosen, score
from vaex.api.trained_model import TrainedModel
from vaex.configuration.settings import Settings, describe_member, replace_run
from vaex.core import Recipe, TrainState
from vaex.data.spec import Dataset, Spec
from vaex.errors import UserError
from vaex.ops.widths import in_single_width
from vaex.results import report
from vaex.runs import changes, lifecycle, setup
from vaex.runs import console as consoles
from vaex.runs.config_file import identity
from vaex.runs.evaluate import Evaluator
from vaex.runs.figures import MemberFigures, training_curve_panels
from vaex.runs.store import MemoryStore, Store
from vaex.runs.train import Trained
from vaex.samplers import Sampler
from vaex.schedules import resolve
from vaex.training import population
from vaex.training.callbacks import Callback
from vaex.training.divergence import Divergence
from vaex.training.step import averaged_variables

if TYPE_CHECKING:
    import matplotlib.figure


class Run(TrainedModel):
    """A trained run, which ``vaex.train`` and ``vaex.load`` return: a sequence of its members, each a ``TrainedModel``.

    A run of one member has all methods of ``TrainedModel`` itself. In a population, choose a member first: ``run[2].encode(x)``.

    Attributes:
      recipe: the model's functions.
      spec: shape and kind of the training data.
      settings: what was trained, and how.
      summary: the newest evaluation, None before there is one; see ``evaluate``.
      step: number of training steps of the last stage.
      diverged: members that have diverged, with the step and what was not finite; they stay as they were before, unevaluated.

    Example::

      run = vaex.train("beta_vae", x, beta=[1, 4], seeds=range(3), steps=2000)
      print(run.table())
    """

    def __init__(
        self,
        settings: Settings,
        spec: Spec,
        recipe: Recipe,
        state: TrainState,
        store: Store,
        *,
        dataset: Dataset | None = None,
        measured: Mapping[str, Any] | None = None,
        summary: dict[str, Any] | None = None,
        diverged: Sequence[Divergence] = (),
    ) -> None:
        self.recipe, self.spec, self.settings, self.summary = recipe, spec, settings, summary
        self._state, self._store, self._dataset = state, store, dataset
        self._places: dict[str, str] = {}  # from which the data was loaded
        self._measured, self.diverged = dict(measured or {}), tuple(diverged)
        self.step = int(np.delete(np.asarray(state.step), [entry.member for entry in self.diverged])[0])
        self._members: dict[int, TrainedModel] = {}
        self._samplers = RunSamplers(self.directory, int(np.asarray(state.step).max()))
        if len(settings.members) == 1:
            member = self._member(0)
            super().__init__(recipe, spec, member.variables, member.hparams, member.step, member.described)
            self._find_sampler = member._find_sampler

    def __getattr__(self, name: str) -> Any:
        # reached only for what a run of several members does not have: the attributes of a single one
        members = len(self.__dict__["settings"].members) if "settings" in self.__dict__ else 1
        if members > 1 and not name.startswith("__"):
            raise AttributeError(
                f"this run has {members} members: choose one of them first, as in run[0].encode(x) ({name!r} belongs to a member)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.settings.members)

    def __getitem__(self, index: int) -> TrainedModel:
        """Return a member, counted from 0 in the order of ``run.settings.members``."""
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"run[{index}]: this run has {len(self)} member(s), counted from 0")
        return self._member(position % len(self))

    def __iter__(self) -> Iterator[TrainedModel]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        members = f", {len(self)} members" if len(self) > 1 else ""
        return (
            f"Run({self.settings.model} on {self.spec.name}{members}, shape={self.spec.shape}, "
            f"likelihood={self.recipe.likelihood.title!r}, step={self.step})"
        )

    def _repr_html_(self) -> str:
        """Return what notebooks show: the run, and its evaluation where there is one."""
        shown = repr(self) if self.summary is None else f"{self!r}\n\n{report.table(self.summary)}"
        return f"<pre>{html.escape(shown)}</pre>"

    @property
    def directory(self) -> pathlib.Path | None:
        """The run directory, None for a run in memory."""
        return self._store.directory

    @property
    def names(self) -> list[str]:
        """Names of the members: the hyperparameters that vary, and the seed."""
        return [describe_member(self.settings, member) for member in self.settings.members]

    @property
    def state(self) -> TrainState:
        """The train states of all members of the last stage, each array with a leading member axis."""
        return self._state

    def rows(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of metrics of a stage: {"step": t, metric: [p]}, one number for each member.

        Args:
          stage: its name; by default the last one.
        Raises: ValueError for an unknown stage.
        """
        names = [known.name for known in self.recipe.stages]
        if stage is not None and stage not in names:
            raise ValueError(f"rows: stage={stage!r}, expected one of {', '.join(names)}")
        index = len(names) - 1 if stage is None else names.index(stage)
        return self._store.read_rows(setup.stage_place(self.recipe, index), "metrics")

    def dataset(self, data: object = None, *, data_dir: str | None = None, manual_dir: str | None = None) -> Dataset:
        """Return the data that the run was trained on, loaded where it is not at hand; or other ``data``, read in the same way.

        Raises: UserError for arrays, which are not kept with a run, data that has changed, and ``data`` that cannot be read.
        """
        if data is not None:
            reading = None if isinstance(data, Dataset) else setup.reading_of(self.settings.data)
            return setup.as_dataset(data, reading, data_dir=data_dir, manual_dir=manual_dir)
        places = {name: value for name, value in {"data_dir": data_dir, "manual_dir": manual_dir}.items() if value}
        if self._dataset is not None and places in ({}, self._places):
            return self._dataset
        path = self._store.read_config().get("data", {}).get("path")
        if path is None:
            raise UserError("this run was trained on arrays, which are not kept with it; give data=, and no directory")
        dataset = setup.load_dataset(dataclasses.replace(self.settings.data, dataset=path, **places))
        old, new = self.spec.data_hash, dataset.spec.data_hash
        if old != new:
            raise UserError(f"{path} is not the data that the run was trained on ({old}, now {new}); give those files")
        self._dataset, self._places = dataset, places
        return dataset

    def evaluate(
        self,
        data: object = None,
        *,
        data_dir: str | None = None,
        manual_dir: str | None = None,
        progress: bool = True,
        **options: Any,
    ) -> dict[str, Any]:
        """Evaluate every member, and draw the figures if the run has a directory.

        Args:
          data: other data than the run's, as for ``vaex.train``; the evaluation is then returned but not kept.
          data_dir, manual_dir: where the run's own data lies, as for ``vaex.train``.
          progress: whether to report progress on standard error.
          **options: eval_split, eval_images, eval_samples, show, figures, as ``--help`` of the command line describes them.
        Returns: the summary, as summary.json holds it; ``run.table()`` shows it.
        Raises: UserError for data that is not there or does not fit.
        """
        settings = self.settings._replace(evaluation=replaced(self.settings.evaluation, options))
        other = data is not None
        dataset = self.dataset(data, data_dir=data_dir, manual_dir=manual_dir)
        store: Store = MemoryStore() if other else self._store
        experiment = self._experiment(settings, dataset, store)._replace(own_data=not other)
        console = consoles.in_python(progress=progress)
        with files.held(store.directory) if store.directory is not None else contextlib.nullcontext():
            summary = lifecycle.evaluated(experiment, Trained(self._state, self._measured, self.diverged), console)
        if not other:
            self.summary, self.settings = summary, settings
        return summary

    def table(self) -> str:
        """Return the evaluation as text, evaluating the run first where that has not been done."""
        summary = self.summary if self.summary is not None else self.evaluate()
        return "\n".join([report.table(summary), report.protocol_line(summary), *report.notes(summary)])

    @in_single_width
    def score(
        self,
        metrics: Sequence[str] | None = None,
        data: object = None,
        *,
        data_dir: str | None = None,
        manual_dir: str | None = None,
        **choices: Any,
    ) -> Scores:
        """Score the codes, samples and bounds of every member by published metrics; see ``vaex.evaluation``.

        Args:
          metrics: "samples" (beside training examples as the floor) and, with ``factors`` or the data's own, "disentanglement" (of
            posterior means) by default; "likelihood" (log p(x) from both sides), "rate_distortion" (and parts of the rate).
          data: other data than the run's, as for ``vaex.train``.
          data_dir, manual_dir: where the run's own data lies.
          **choices: split, factors, features, and so on, as ``vaex.api.scores.Choices`` describes them.
        Raises: UserError for unknown metrics or choices, data without factors or with too few examples.
        """
        dataset = self.dataset(data, data_dir=data_dir, manual_dir=manual_dir)
        self._experiment(self.settings, dataset, MemoryStore())  # refuses data of another kind
        return score(self, dataset, chosen(metrics, choices, dataset.spec))

    @in_single_width
    def fit_sampler(
        self, kind: str, *, data_dir: str | None = None, manual_dir: str | None = None
    ) -> tuple[Sampler, ...]:
        """Fit a density to each member's codes of the training examples, for ``sample(..., sampler=kind)``.

        A run with a directory keeps it there, and reads what was fitted before at the same step.

        Args:
          kind: "gaussian", "full_gaussian", "gmm:10", "flow:4", "second_stage", "knn:5" or "hypersphere"; see ``vaex.samplers``.
          data_dir, manual_dir: where the run's own data lies.
        Returns: the samplers of the members.
        Raises: UserError for another kind, or one that codes of this model cannot have.
        """

        def experiment() -> setup.Experiment:
            dataset = self.dataset(data_dir=data_dir, manual_dir=manual_dir)
            return self._experiment(self.settings, dataset, self._store)

        return self._samplers.fit(kind, experiment, self._state)

    @in_single_width
    def page(
        self,
        path: str | os.PathLike[str],
        member: int | None = None,
        data: object = None,
        *,
        split: str = "test",
        examples: int = 12,
        data_dir: str | None = None,
        manual_dir: str | None = None,
    ) -> pathlib.Path:
        """Write one HTML file in which the decoder runs: sliders, paths between examples, a plane of two latents, samples.

        It opens from a file and reaches for nothing outside. Where the page lacks an operation of the decoder, it holds a table of
        decoded codes, and says so.

        Args:
          path: of the file, which ends in .html.
          member: of a population, counted from 0.
          data: other data than the run's, as for ``vaex.train``.
          split: whose first examples are shown.
          examples: how many.
          data_dir, manual_dir: where the run's own data lies.
        Returns: the path.
        Raises: UserError for a model whose codes are integers, a population without ``member``, or data that does not fit.
        """
        dataset = self.dataset(data, data_dir=data_dir, manual_dir=manual_dir)
        self._experiment(self.settings, dataset, MemoryStore())  # refuses data of another kind
        return page(self, dataset, path, member, split=split, examples=examples)

    def figures(
        self,
        member: int = 0,
        *,
        sampler: str | None = None,
        data_dir: str | None = None,
        manual_dir: str | None = None,
    ) -> dict[str, matplotlib.figure.Figure]:
        """Draw a member's figures, by name; notebooks show them after ``%matplotlib inline``. ``sampler``: see ``fit_sampler``."""
        fitted = None if sampler is None else self.fit_sampler(sampler, data_dir=data_dir, manual_dir=manual_dir)
        chosen = None if fitted is None else fitted[member]
        dataset = self.dataset(data_dir=data_dir, manual_dir=manual_dir)
        evaluator = Evaluator(self._experiment(self.settings, dataset, self._store))
        drawn: dict[str, matplotlib.figure.Figure] = {}

        def keep(name: str, figure: plots.FigureRecord) -> None:
            drawn[name] = plots.draw(figure)

        model = self[member]
        kl = None if self.summary is None else self.summary["members"][member].get("kl_per_latent")
        MemberFigures(evaluator, model.variables, model.hparams, keep, chosen).draw(kl)
        for name, panels in training_curve_panels(evaluator.run).items():
            keep(name, panels)
        return drawn

    def save(self, directory: str | os.PathLike[str]) -> pathlib.Path:
        """Keep the run in a directory, from which ``vaex.load`` reads it.

        Raises: UserError where the directory holds something already.
        """
        folder = save_run(directory, self.settings, self._store, self.summary)
        self._samplers.keep(folder)
        return folder

    @in_single_width
    def continue_to(
        self,
        steps: int,
        data: object = None,
        *,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        data_dir: str | None = None,
        manual_dir: str | None = None,
        change: Mapping[str, Any] | str | None = None,
        **stage_steps: int,
    ) -> Run:
        """Continue training to ``steps`` in all, with the same bits as a run that never stopped.

        Args:
          steps: of the first stage, in all.
          data: the run's data where it has no path, as for ``vaex.train``.
          callbacks, progress: as for ``vaex.train``.
          data_dir, manual_dir: where the run's own data lies.
          change: hyperparameter -> the value it has from here on, in all members; config.json records the step.
          **stage_steps: steps of later stages, such as prior_steps=2000.
        Returns: the run at its new step.
        Raises: UserError for fewer steps than the run has, or other data.
        """
        dataset = self.dataset(data, data_dir=data_dir, manual_dir=manual_dir)
        if dataset.spec.data_hash != self.spec.data_hash:
            raise UserError(
                "continue_to: is not the data that the run was trained on; give the same data, or train a new run"
            )
        later = {stage.name: count for stage, count in zip(self.recipe.stages, self._stage_steps(), strict=True)}
        later |= {name.removesuffix("_steps"): count for name, count in stage_steps.items()}
        text = changes.text_of(self.settings, change)
        settings = replace_run(self.settings, steps=operator.index(steps), epochs=None, overwrite=False, change=text)
        settings = settings._replace(stage_steps={name: later[name] for name in list(later)[1:]})
        completed = lifecycle.run(
            settings,
            consoles.in_python(progress=progress),
            dataset=dataset,
            store=self._store,
            evaluate=False,
            callbacks=callbacks,
        )
        from vaex.api.completed import completed_run  # which makes a Run

        return completed_run(completed, callbacks)

    @in_single_width
    def _member(self, index: int) -> TrainedModel:
        if index not in self._members:
            state = population.member(self._state, index)
            hparams = resolve(state.hparams, state.step)
            variables, described = averaged_variables(state), self._described(index)
            model = TrainedModel(self.recipe, self.spec, variables, hparams, int(state.step), described)
            model._find_sampler = functools.partial(self._samplers.find, index=index)
            self._members[index] = model
        return self._members[index]

    def _described(self, index: int) -> dict[str, Any]:
        identified = identity(changes.with_changes(self.settings, changes.recorded_changes(self._store)))
        member = identified["members"][index]
        shared = {"vaex": vaex.__version__, "model": identified["model"], "options": identified["config"]}
        return {**shared, "seed": member["seed"], "hyperparameters": member["hparams"]}

    def _stage_steps(self) -> tuple[int, ...]:
        places = [setup.stage_place(self.recipe, index) for index in range(len(self.recipe.stages))]
        return tuple(self._store.latest_step(place) or 0 for place in places)

    def _experiment(self, settings: Settings, dataset: Dataset, store: Store) -> setup.Experiment:
        spec = setup.resolve_spec(settings, dataset.spec)
        if (spec.shape, spec.kind, spec.levels) != (self.spec.shape, self.spec.kind, self.spec.levels):
            raise UserError(
                f"{spec.name} has {spec.kind} examples of shape {spec.shape} and {spec.levels} levels, but the run was trained on "
                f"{self.spec.kind} ones of shape {self.spec.shape} and {self.spec.levels} levels; give data of that kind"
            )
        hparams, steps = setup.stack_hparams(settings), self._stage_steps()
        recorded = tuple(changes.recorded_changes(self._store))
        return setup.Experiment(settings, store, dataset, spec, self.recipe, hparams, steps, changes=recorded)
