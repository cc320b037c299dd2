"""Train, evaluate and draw a model: ``python experiments/run.py --model=beta_vae``. See ``--help``."""

import sys

from vaex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
