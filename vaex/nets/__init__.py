"""Networks: the only place of vaex that imports Flax (Linen)."""

from vaex.nets.activations import ACTIVATIONS, activation_function
from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.convnets import ConvDecoder, ConvEncoder
from vaex.nets.ladder import LadderNetwork
from vaex.nets.mlp import MLP
from vaex.nets.recurrent import GRU, hidden_states
from vaex.nets.resnet import ResidualDecoder, ResidualEncoder
from vaex.nets.top_down import Level, TopDownNetwork
from vaex.nets.transformer import CausalTransformer, Dropout, sample_codes

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
    "LadderNetwork",
    "Level",
    "ResidualDecoder",
    "ResidualEncoder",
    "TopDownNetwork",
    "activation_function",
    "hidden_states",
    "sample_codes",
]
