"""Models: one folder a family, one file a variant, and the registry of their names."""

from vaex.models.registry import FAMILIES, MODELS, Entry, frames, module

__all__ = ["FAMILIES", "MODELS", "Entry", "frames", "module"]
