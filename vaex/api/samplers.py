"""The samplers of a run's members: fitted when they are asked for, or read from the run directory."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from vaex.core import TrainState
from vaex.errors import UserError
from vaex.runs.fitted import samplers as fitted_samplers
from vaex.runs.setup import Experiment
from vaex.samplers import Sampler


class RunSamplers:
    """Samplers by kind, one for each member, of a run at one step.

    Args:
      directory: the run directory, None for a run in memory.
      step: of the run.
    """

    def __init__(self, directory: pathlib.Path | None, step: int) -> None:
        self._directory, self._step = directory, step
        self._fitted: dict[str, list[Sampler]] = {}

    def fit(self, kind: str, experiment: Callable[[], Experiment], state: TrainState) -> tuple[Sampler, ...]:
        """Return the samplers of this kind, fitted where they are not yet."""
        if kind not in self._fitted:
            self._fitted[kind] = fitted_samplers.samplers_of(experiment(), state, kind)
        return tuple(self._fitted[kind])

    def find(self, kind: str, index: int) -> Sampler:
        """Return a member's sampler that was fitted before.

        Raises: UserError where there is none.
        """
        if kind not in self._fitted:
            known = None if self._directory is None else fitted_samplers.kept(self._directory, self._step, kind)
            if known is None:
                raise UserError(
                    f"sample: no sampler {kind!r} is fitted to this run; call run.fit_sampler({kind!r}) first"
                )
            self._fitted[kind] = known
        return self._fitted[kind][index]

    def keep(self, directory: pathlib.Path) -> None:
        """Write those that were fitted or read into a run directory."""
        for fitted in self._fitted.values():
            fitted_samplers.keep(directory, self._step, fitted)
