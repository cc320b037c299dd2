"""Networks: the only place of vaex that imports Flax (Linen)."""

from vaex.nets.activations import ACTIVATIONS, activation_function
from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.convolution import convolve, convolve_transpose
from vaex.nets.hierarchical import HierarchicalNetwork, Level
from vaex.nets.image import ConvDecoder, ConvEncoder
from vaex.nets.ladder import LadderNetwork
from vaex.nets.mlp import MLP

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Conv",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "HierarchicalNetwork",
    "LadderNetwork",
    "Level",
    "activation_function",
    "convolve",
    "convolve_transpose",
]
