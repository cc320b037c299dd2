"""Models: one folder a family, one file a variant, and the registry of their names."""

from vaex.models.installed import installed_models
from vaex.models.registry import FAMILIES, MODELS, Entry, frames, known_models, module

__all__ = ["FAMILIES", "MODELS", "Entry", "frames", "installed_models", "known_models", "module"]
