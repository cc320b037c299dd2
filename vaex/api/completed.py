"""What training has completed, as a run."""

from __future__ import annotations

from collections.abc import Sequence

from vaex.api.run import Run
from vaex.runs import lifecycle
from vaex.runs.stored import stored_state
from vaex.training import multihost
from vaex.training.callbacks import Callback


def completed_run(completed: lifecycle.Completed, callbacks: Sequence[Callback] = ()) -> Run:
    """Return what training has completed as a ``Run``, after calling the callbacks' ``on_end`` with it."""
    experiment, trained = completed.experiment, completed.trained
    if trained is None:
        state, measured = stored_state(experiment.store, experiment.settings, experiment.recipe, experiment.spec), {}
    else:
        state, measured = trained.state, trained.measured
    run = Run(
        experiment.settings,
        experiment.spec,
        experiment.recipe,
        state,
        experiment.store,
        dataset=experiment.dataset,
        measured=measured,
        summary=completed.summary,
        diverged=completed.diverged,
    )
    for callback in callbacks if multihost.is_first() else ():
        callback.on_end(run)
    return run
