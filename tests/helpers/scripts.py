"""The scripts of experiments/ as modules."""

import importlib.util
import types

from helpers import ROOT

SMALL_CODEBOOK = [  # flags of vq_vae
    "--channels=2",
    "--blocks=0",
    "--codes=4",
    "--code_dim=2",
    "--prior_width=4",
    "--prior_layers=1",
    "--prior_heads=2",
]


def script(name: str) -> types.ModuleType:
    """``experiments/NAME.py``, imported afresh."""
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", ROOT / "experiments" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
