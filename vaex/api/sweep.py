"""Runs that differ in options, one for each combination of their values."""

from __future__ import annotations

import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from vaex import plots
from vaex.api.run import Run
from vaex.results import side_by_side
from vaex.results.compare import compare, read_log_likelihoods
from vaex.runs.config_file import identity

if TYPE_CHECKING:
    import matplotlib.figure


class Sweep(Sequence[Run]):
    """A sequence of runs, which ``vaex.train`` returns where an option has several values.

    Attributes:
      names: what each run has of these options, such as "latent_dim=2".

    Example::

      sweep = vaex.train("beta_vae", x, latent_dim=[2, 10, 32], seeds=range(3), steps=2000)
      print(sweep.table())
      z = sweep["latent_dim=10"][0].encode(x).mean
    """

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = dict(runs)
        self.names = list(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int | str) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...

    def __getitem__(self, index: int | str | slice) -> Run | list[Run]:
        """Return the run of this number or name."""
        if isinstance(index, str):
            if index not in self._runs:
                raise KeyError(f"sweep[{index!r}]: there are {', '.join(self.names)}")
            return self._runs[index]
        return list(self._runs.values())[index]

    def __repr__(self) -> str:
        return "\n".join([f"Sweep of {len(self)} runs", *(f"  {name}: {run!r}" for name, run in self._runs.items())])

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def table(self) -> str:
        """Return all runs in one table, evaluating first those that have not been evaluated; see ``vaex.results.compare``."""
        summaries = self._summaries()
        places = {str(run.directory): name for name, run in self._runs.items() if run.directory is not None}
        kept = read_log_likelihoods({place: summaries[name] for place, name in places.items()})
        return compare(summaries, {places[place]: values for place, values in kept.items()} or None)

    def save_csv(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write all numbers of all runs to a CSV file; see ``vaex.results.side_by_side.rows``."""
        return side_by_side.write_csv(path, self._summaries())

    def figure(self, metric: str = "elbo") -> matplotlib.figure.Figure:
        """Draw a metric of all runs as bars, with standard errors over seeds where there are several.

        Raises: UserError for a metric that no run has.
        """
        return plots.draw(side_by_side.bars(self._summaries(), metric))

    def _summaries(self) -> dict[str, dict[str, Any]]:
        """The evaluation of each run, with its options."""
        return {
            name: {
                **(run.summary if run.summary is not None else run.evaluate()),
                "options": identity(run.settings)["config"],
            }
            for name, run in self._runs.items()
        }
