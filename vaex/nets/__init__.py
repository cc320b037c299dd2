"""Networks: the only place of vaex that imports Flax (Linen)."""

from vaex.nets.activations import ACTIVATIONS, activation_function
from vaex.nets.mlp import MLP

__all__ = ["ACTIVATIONS", "MLP", "activation_function"]
