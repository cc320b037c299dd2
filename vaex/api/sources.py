"""What a run in Python may begin with: the variables of another run, or of a member of one."""

from __future__ import annotations

import numpy as np

from vaex.api.run import Run
from vaex.api.trained_model import TrainedModel
from vaex.errors import UserError
from vaex.runs import setup, warm_start
from vaex.training.parts import variable_names


def source_of(run: Run | TrainedModel) -> warm_start.Source:
    """Return what another run may begin with: a run's variables, or a member's.

    Raises: UserError for what is neither, and for a member of a run of several stages.
    """
    if isinstance(run, Run):
        places = [setup.stage_place(run.recipe, index) for index in range(len(run.recipe.stages))]
        return warm_start.source_in(run._store, places, str(run.directory or "this run"))
    if not isinstance(run, TrainedModel):
        raise UserError(f"train: init_from is a {type(run).__name__}; give a run, a member of one, or a run directory")
    if len(run.recipe.stages) > 1:
        raise UserError(
            "train: init_from is a member of a run of several stages; give the run, or its directory:member"
        )
    arrays = {name: np.asarray(leaf)[None] for name, leaf in variable_names(run.variables).items()}
    return warm_start.Source("this member", None, run.step, {"": arrays}, 1)
