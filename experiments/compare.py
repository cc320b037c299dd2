"""Finished runs side by side: ``python experiments/compare.py runs/*``. One table for each protocol and likelihood.

Below it, where examples and importance samples are the same, each log-likelihood minus that of the first run, paired.
"""

import argparse
import sys

from vaex.errors import UserError
from vaex.results.compare import compare, read_log_likelihoods, read_runs


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and write what is asked for; return 2 where a directory holds no finished run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories")
    parser.add_argument(
        "--csv", metavar="FILE", help="all numbers of all runs, a row for each value of what a run varies"
    )
    parser.add_argument("--figure", metavar="FILE.png", help="the metric as bars, with standard errors over seeds")
    parser.add_argument("--metric", default="elbo", help="which metric the figure shows (default: elbo)")
    try:
        given = parser.parse_args(arguments)
        if given.figure is not None and not given.figure.lower().endswith(".png"):
            raise UserError(f"--figure={given.figure}: expected a name that ends in .png")
        summaries = read_runs(given.runs)
        print(compare(summaries, read_log_likelihoods(summaries)))
        if given.csv is not None:
            from vaex.results.side_by_side import write_csv

            print(f"\nall numbers: {write_csv(given.csv, summaries)}")
        if given.figure is not None:
            from vaex import plots
            from vaex.results.side_by_side import bars

            print(f"\n{given.metric}: {plots.save(bars(summaries, given.metric), given.figure)}")
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
