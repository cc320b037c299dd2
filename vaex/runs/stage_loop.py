"""The loop of one stage, and what happens between its chunks: rows, validation, checkpoints, callbacks, the profile."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vaex.configuration.settings import describe_member
from vaex.core import PyTree, TrainState
from vaex.errors import NonFiniteError, UserError
from vaex.runs import changes
from vaex.runs.console import Console
from vaex.runs.setup import Experiment
from vaex.runs.store import CheckpointStore, DirectoryStore
from vaex.runs.validation import Best, Validator, validation_row
from vaex.training import loop, metrics, multihost, population, profiling
from vaex.training.callbacks import Callback
from vaex.training.divergence import DivergedError, Divergence
from vaex.training.progress import Progress
from vaex.training.signals import Interruption

SHOWN = ("elbo", "reconstruction", "cross_entropy", "kl")
CHECKPOINT_SECONDS = 60.0  # between checkpoints, where no number of steps is given


DIVERGED = "diverged"  # in config.json


class Reporting(NamedTuple):
    """Who hears of training, the console and a user's callbacks; and what may stop it."""

    console: Console
    callbacks: Sequence[Callback] = ()
    interruption: Interruption = Interruption()


def recorded_divergences(config: Mapping[str, Any]) -> tuple[Divergence, ...]:
    """Return the members that have diverged, as the content of a config.json records them."""
    return tuple(Divergence(**record) for record in config.get(DIVERGED, ()))


def described(experiment: Experiment, divergence: Divergence) -> str:
    """Return a sentence that names a member that has diverged by its hyperparameters."""
    settings, several = experiment.settings, len(experiment.recipe.stages) > 1
    name = describe_member(settings, settings.members[divergence.member])
    stage = f" of {divergence.stage}" if several else ""
    return f"{name} diverged at step {divergence.step}{stage} ({divergence.term}) and stays as it was before"


class StageFit:
    """One stage that is trained from where its checkpoints stand to its number of steps.

    Args:
      experiment: what is run.
      stage: which of its stages, counted from 0.
      state: the members' first states, for shapes.
      reporting: who hears of it.
      diverged: members that have diverged so far, in this stage or before.

    Attributes:
      seconds: spent in steps.
      began, step: the first step and the last one.
      best: the members' best states by the validation split, None where the last ones are kept.
      diverged: members that have diverged, once this stage is trained.
    """

    def __init__(
        self,
        experiment: Experiment,
        stage: int,
        state: TrainState,
        reporting: Reporting,
        diverged: Sequence[Divergence] = (),
    ) -> None:
        run = experiment.settings.run
        self._experiment, self._stage, self._reporting = experiment, stage, reporting
        self._stop, self._place = experiment.stage_steps[stage], experiment.place(stage)
        self._name = experiment.recipe.stages[stage].name
        validates = run.validate_every is not None and self._stop > 0  # else the stage only computes
        self._validator = Validator(experiment, stage) if validates else None
        if self._validator is not None and run.best_metric is not None:
            if (run.validate_every or 0) > self._stop:
                raise UserError(
                    f"--validate_every={run.validate_every}: {self._name} has {self._stop} steps, so there is no best to keep; "
                    f"give at most {self._stop}, or leave --keep out"
                )
            self._validator.check(run.best_metric, state)
        self.best: Best | None = None
        self.seconds, self.began, self.step, self._last_save = 0.0, 0, 0, time.monotonic()
        self._writer: metrics.Writer | None = None
        self._profiler: profiling.Profiler | None = None
        self._checkpoints: CheckpointStore
        self._template: PyTree = None
        self.diverged, self._frozen = tuple(diverged), np.zeros(len(experiment.settings.members), bool)

    def run(self, program: loop.Program, carry: loop.Carry, *, resumed: bool) -> TrainState:
        """Train, and return the state of all members: the best ones where these are kept."""
        experiment, store = self._experiment, self._experiment.store
        options = experiment.settings.run
        self._checkpoints = store.checkpoints(self._place, options.checkpoints_kept)
        kept = store.best(self._place) if options.best_metric and self._stop else None
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), carry
        )
        try:
            start = self._start()
            self._profiler = self._make_profiler(start)
            if start is None:
                if resumed and not self._stage:
                    self._reporting.console.say(f"{store} holds no checkpoint: starting again at step 0")
                self._freeze_recorded(carry, 0)
                self._save(0, carry)  # so that there is a last good state from the first step on
            else:
                carry = self._restored(start)
                self._freeze_recorded(carry, start)
                self._reporting.console.say(f"continuing {store} at step {start} of {self._stop}")
            self._writer = self._make_writer(program, start or 0) if multihost.is_first() else None
            if kept is not None and options.best_metric is not None:
                self.best = Best(options.best_metric, options.patience, kept)
                self.best.resume(store.read_rows(self._place, "metrics"), carry.state, start or 0)
            self.began = self.step = start or 0
            carry = self._fit(program, carry)
        finally:
            self._checkpoints.close()
            if kept is not None:
                kept.close()
        if self._profiler is not None:
            self._profiler.summarize(program.call, self._reporting.console.say)
        chosen = carry.state if self.best is None or self.best.state is None else self.best.state
        return multihost.gathered(chosen)

    def _start(self) -> int | None:
        """Return the step of the newest checkpoint, None where there is none.

        Raises: UserError where it lies beyond the steps that are asked for.
        """
        latest, stop = self._checkpoints.latest(), self._stop
        if latest is not None and latest > stop:
            flag = f"--{self._name}_steps" if self._stage else "--steps"
            raise UserError(
                f"{self._experiment.store} is trained to step {latest} already, beyond step {stop}; give at least "
                f"{flag}={latest}, another --out, or --overwrite to start again"
            )
        return latest

    def _restored(self, step: int) -> loop.Carry:
        """Return the checkpoint of a step, after the changes of hyperparameters that happen there."""
        carry = self._checkpoints.restore(self._template)
        hparams = changes.put_into(carry.state.hparams, self._experiment, self._name, step)
        behind = self._behind(carry, step)
        if behind.any():  # what has diverged stays as it was
            hparams = population.chosen(behind, carry.state.hparams, hparams)
        return carry._replace(state=carry.state._replace(hparams=hparams))

    def _behind(self, carry: loop.Carry, step: int) -> np.ndarray:
        """Return which members have taken fewer steps, [p]."""
        return np.asarray(multihost.fetch(carry.state.step)) < step

    def _freeze_recorded(self, carry: loop.Carry, start: int) -> None:
        """Let members stay as they are that diverged in an earlier stage, or in this one before the step ``start``, as their own
        number of steps says."""
        behind = self._behind(carry, start)
        names = [stage.name for stage in self._experiment.recipe.stages]
        self.diverged = tuple(entry for entry in self.diverged if entry.stage != self._name or behind[entry.member])
        before = [entry.member for entry in self.diverged if entry.stage in names[: self._stage]]
        self._frozen = behind | np.isin(np.arange(len(behind)), before)

    def _fit(self, program: loop.Program, carry: loop.Carry) -> loop.Carry:
        if self.best is not None and self.best.exhausted:
            return carry
        try:
            with self._reporting.interruption.deferred():
                return self._fit_sound(program, carry)
        except DivergedError as error:
            raise NonFiniteError(
                f"training stopped: {error}; the checkpoint of step {self._checkpoints.latest()} is kept in "
                f"{self._experiment.store}. Try a lower --learning_rate or --clip_norm=1"
            ) from None
        finally:
            if self._writer is not None:
                self._writer.close()
            if self._profiler is not None:
                self._profiler.close()

    def _fit_sound(self, program: loop.Program, carry: loop.Carry) -> loop.Carry:
        """Train; a member that diverges stays as it was before that step, and the others go on.

        Raises: DivergedError where no member is left.
        """
        stop, failing = self._stop, {}  # the step at which members diverge, once it is known, and why
        while True:
            program = program._replace(frozen=self._frozen if self._frozen.any() else None)
            try:
                carry = loop.fit(
                    program,
                    carry,
                    self.step,
                    stop,
                    report=self._report,
                    save=self._between_chunks,
                    boundary=self._boundary,
                )
            except DivergedError as error:
                del carry  # donated
                if (self._frozen | np.isin(np.arange(len(self._frozen)), list(error.terms))).all():
                    raise
                carry = self._rolled_back(program)
                located = loop.first_divergence(program, carry, self.step, error.stop)
                if located is None:
                    raise
                stop, failing = located
                continue
            if not failing or self.step < stop:
                return carry
            self._freeze(failing, carry)
            stop, failing = self._stop, {}

    def _rolled_back(self, program: loop.Program) -> loop.Carry:
        """Return the carry after the last sound chunk, computed again from the newest checkpoint."""
        latest = self._checkpoints.latest()
        assert latest is not None  # step 0 was saved

        def stopped(step: int, carry: loop.Carry) -> None:
            (number,) = multihost.largest(self._reporting.interruption.number)
            if number:
                text = f"step {latest} of {self._stop} is saved in {self._experiment.store}; the same command goes on from there"
                raise self._reporting.interruption.error(text, number, saved=True)

        return loop.fit(program, self._restored(latest), latest, self.step, save=stopped)

    def _freeze(self, failing: Mapping[int, str], carry: loop.Carry) -> None:
        """Let members stay as they are, record and report it."""
        # a new array: the last chunk's choice of members may still read the old one, which jax does not copy
        self._frozen = self._frozen | np.isin(np.arange(len(self._frozen)), list(failing))
        for member, term in failing.items():
            divergence = Divergence(member, self._name, self.step, term)
            self.diverged = (*self.diverged, divergence)
            self._reporting.console.warn(f"{described(self._experiment, divergence)}; the others go on")
        latest = self._checkpoints.latest()
        if latest is None or latest < self.step:
            self._save(self.step, carry)
        if multihost.is_first():
            store = self._experiment.store
            store.write_config({**store.read_config(), DIVERGED: [entry._asdict() for entry in self.diverged]})

    def _report(self, first: int, end: int, chunk: loop.Chunk, seconds: float) -> None:
        self.seconds, self.step = self.seconds + seconds, end
        if self._writer is not None:
            self._writer.report(first, end, chunk.rows, chunk.last, seconds)
        if self._profiler is not None:
            self._profiler.after(end - first, seconds)

    def _between_chunks(self, step: int, carry: loop.Carry) -> bool:
        """Validate and save where that is due; return whether to stop early."""
        run = self._experiment.settings.run
        better = self._validate(step, carry.state)
        exhausted = self.best is not None and self.best.exhausted
        late = time.monotonic() - self._last_save > CHECKPOINT_SECONDS
        due = step % run.checkpoint_every == 0 if run.checkpoint_every else late
        number = self._reporting.interruption.number or (signal.SIGTERM if multihost.is_preempted() else 0)
        due, number = multihost.largest(int(due), number)
        if due or number or step == self._stop or better or exhausted:
            self._save(step, carry)
        if better and self.best is not None:
            self.best.keep(step)
        if exhausted and self.best is not None:
            best = ", ".join(map(str, dict.fromkeys(self.best.steps)))
            self._reporting.console.say(
                f"stopped early at step {step}: validation {self.best.metric} has not improved since step {best}"
            )
        if number:
            store = self._experiment.store
            kept = (
                f"saved in {store}; the same command goes on from there"
                if store.directory
                else "nothing is kept without out="
            )
            raise self._reporting.interruption.error(f"step {step} of {self._stop} is done, {kept}", number, saved=True)
        if self._profiler is not None:
            self._profiler.before(step)
        return exhausted

    def _validate(self, step: int, state: TrainState) -> bool:
        """Evaluate the validation split where that is due; return whether a member is better than ever."""
        every = self._experiment.settings.run.validate_every
        if self._validator is None or every is None or step % every:
            return False
        values = {name: np.where(self._frozen, np.nan, metric) for name, metric in self._validator(state).items()}
        if self._writer is not None:
            self._writer.append(validation_row(step, values))
        return self.best is not None and self.best.update(step, values, state)

    def _save(self, step: int, carry: loop.Carry) -> None:
        self._checkpoints.save(step, carry)
        self._last_save = time.monotonic()
        if self._reporting.callbacks:
            state = multihost.fetch(carry.state)
            for callback in self._reporting.callbacks if multihost.is_first() else ():
                callback.on_checkpoint(step, state, self._name)

    def _boundary(self, step: int) -> int | None:
        """Return the next step at which a chunk must end."""
        run = self._experiment.settings.run
        walls = [(step // every + 1) * every for every in (run.checkpoint_every, run.validate_every) if every]
        wall = self._profiler.boundary(step) if self._profiler else None
        return min([*walls, *([] if wall is None else [wall])], default=None)

    def _make_profiler(self, start: int | None) -> profiling.Profiler | None:
        store = self._experiment.store
        if not (self._experiment.settings.run.profile and self._stop):
            return None
        assert isinstance(store, DirectoryStore)  # ``setup.assemble`` refuses others
        folder = store.folder(self._place) / "profile"
        return profiling.Profiler(folder, start or 0, self._stop, writes=multihost.is_first())

    def _make_writer(self, program: loop.Program, start: int) -> metrics.Writer:
        settings, stages = self._experiment.settings, self._experiment.recipe.stages
        progress = None
        if self._reporting.console.progress:
            shown = [name for name in SHOWN if name in program.metric_names] or ["loss"]
            title = settings.model if len(stages) == 1 else f"{settings.model}, {self._name}"
            progress = Progress(title, start, self._stop, settings.run.batch_size or 0, shown)
        calls = [functools.partial(_call_rows, callback, self._name) for callback in self._reporting.callbacks]
        rows, timings = (self._experiment.store.rows(self._place, kind, start) for kind in ("metrics", "timings"))
        return metrics.Writer(rows, timings, program.metric_names, program.log_every, progress, calls)


def _call_rows(callback: Callback, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    callback.on_rows(rows, stage)
