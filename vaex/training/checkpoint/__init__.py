"""Checkpoints by orbax: a damaged one is passed over, and one that does not fit is refused by the name of the parameter."""

from vaex.training.checkpoint.store import DIGESTS, KEEP, Checkpoints

__all__ = ["DIGESTS", "KEEP", "Checkpoints"]
