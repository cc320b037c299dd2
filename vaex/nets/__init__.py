"""Networks: the only place of vaex that imports Flax (Linen)."""

from vaex.nets.activations import ACTIVATIONS, activation_function
from vaex.nets.autoregressive import CausalTransformer, Dropout, sample_codes
from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.hierarchical import HierarchicalNetwork, Level
from vaex.nets.image import ConvDecoder, ConvEncoder
from vaex.nets.ladder import LadderNetwork
from vaex.nets.mlp import MLP
from vaex.nets.recurrent import GRU, states_over_time
from vaex.nets.residual import ResidualDecoder, ResidualEncoder
from vaex.ops.cpu_conv.api import convolve, convolve_transpose

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "MLP",
    "CausalTransformer",
    "Conv",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "Dropout",
    "HierarchicalNetwork",
    "LadderNetwork",
    "Level",
    "ResidualDecoder",
    "ResidualEncoder",
    "activation_function",
    "convolve",
    "convolve_transpose",
    "sample_codes",
    "states_over_time",
]
