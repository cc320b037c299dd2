"""Tables of ``benchmarks/RESULTS.md`` that are drawn from JSON: ``python docs/_extensions/drawn_results.py`` writes them anew.

A file of ``benchmarks/results`` is what a command wrote, unchanged. In the page a table stands between ``<!-- drawn: NAME -->`` and
``<!-- end -->``; a name that is not in ``DRAWN`` is refused. ``tests/house/test_documents.py`` compares page and files.
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vaex.files import read_json
from vaex.results import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE, RESULTS = ROOT / "benchmarks" / "RESULTS.md", ROOT / "benchmarks" / "results"
PLACE = re.compile(r"(<!-- drawn: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
SIGNAL = {  # entry of a row -> its column
    "estimator": "estimator",
    "k": "k",
    "encoder_signal_to_noise": "encoder's signal-to-noise",
    "generative_signal_to_noise": "generative network's",
    "encoder_variance": "encoder's variance",
    "encoder_mean_off_dreg": "off",
    "off_in_standard_errors": "in standard errors",
}
BIAS = {
    "estimator": "estimator",
    "relative_bias": "relative bias",
    "largest_bias_in_standard_errors": "largest, in standard errors",
    "variance": "variance",
    "signal_to_noise": "signal-to-noise",
}


def _spelled(name: str) -> str:
    for before, after in (("straight_through_gumbel", "straight-through Gumbel"), ("vimco", "VIMCO"), ("_", " ")):
        name = name.replace(before, after)
    return name


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a table with three digits of each number.

    Example:
      >>> print(markdown([{"name": "dice_game", "value": 0.16667}], {"name": "what", "value": "probability"}))
      | what | probability |
      |---|---|
      | dice game | 0.167 |
      <BLANKLINE>
    """
    lines = [list(columns.values())]
    for row in rows:
        entries = [row[name] for name in columns]
        lines.append([f"{entry:.3g}" if isinstance(entry, float) else _spelled(str(entry)) for entry in entries])
    head, *body = [f"| {' | '.join(cells)} |\n" for cells in lines]
    return head + "|" + "---|" * len(columns) + "\n" + "".join(body)


def summary(content: Mapping[str, Any]) -> str:
    """Return the table that a run prints, of its summary.json."""
    return f"```text\n{report.table(dict(content))}\n```\n"


# name of a place in the page -> its file, and what draws it
DRAWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "default run": ("default_run.json", summary),
    "estimators, continuous": ("estimators.json", lambda content: markdown(content["linear_gaussian"], SIGNAL)),
    "estimators, discrete": ("estimators.json", lambda content: markdown(content["discrete"], BIAS)),
}


def draw(page: str) -> str:
    """Return the page with its tables drawn from the files.

    Raises: KeyError for a place that is not in ``DRAWN``.
    """

    def drawn(match: re.Match[str]) -> str:
        name, function = DRAWN[match[2]]
        return match[1] + function(read_json(RESULTS / name)) + match[3]

    return PLACE.sub(drawn, page)


if __name__ == "__main__":
    PAGE.write_text(draw(PAGE.read_text()))
