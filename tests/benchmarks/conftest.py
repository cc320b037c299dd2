"""The benchmarks are scripts: their folder is on the path when they run."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))
