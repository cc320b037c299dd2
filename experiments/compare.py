"""Finished runs side by side: ``python experiments/compare.py runs/*``. One table for each protocol and likelihood.

Below it, where examples and importance samples are the same, each log-likelihood minus that of the first run, paired.
"""

import argparse
import sys

from vaex.errors import UserError
from vaex.results.compare import compare, read_log_likelihoods, read_runs


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 2 where a directory holds no finished run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="run directories")
    try:
        summaries = read_runs(parser.parse_args(arguments).runs)
        print(compare(summaries, read_log_likelihoods(summaries)))
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
