"""What several test modules share; pytest puts the folder of tests on the path."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]  # of the repository
