"""Networks; the only room that imports Flax (Linen).

``mlp``, ``convnets``, ``resnet``, ``grids`` and ``series`` hold encoders and decoders, which ``named`` lists by name;
``transformer`` and ``recurrent`` networks over sequences, ``top_down`` and ``ladder`` networks of hierarchies of latents.
``protocols`` says what a network of your own must offer.
"""

from vaex.nets.activations import ACTIVATIONS, activation_function, soft_clip
from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.convnets import ConvDecoder, ConvEncoder
from vaex.nets.grids import GridDecoder, GridEncoder
from vaex.nets.ladder import LadderNetwork
from vaex.nets.mlp import MLP
from vaex.nets.named import NETWORKS, NetworkKind, NetworkSizes
from vaex.nets.precision import InBfloat16
from vaex.nets.protocols import HierarchicalNetwork, Network, Source, TopDownPass
from vaex.nets.recurrent import GRU, hidden_states
from vaex.nets.resnet import ResidualDecoder, ResidualEncoder, ResNetDecoder, ResNetEncoder
from vaex.nets.series import HEADS, RecurrentDecoder, RecurrentEncoder, TransformerDecoder, TransformerEncoder
from vaex.nets.top_down import Level, TopDownNetwork
from vaex.nets.transformer import CausalTransformer, Dropout, sample_codes
from vaex.nets.user_networks import AdaptedDecoder, AdaptedEncoder, UserNetwork

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "HEADS",
    "MLP",
    "NETWORKS",
    "AdaptedDecoder",
    "AdaptedEncoder",
    "CausalTransformer",
    "Conv",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "Dropout",
    "GridDecoder",
    "GridEncoder",
    "HierarchicalNetwork",
    "InBfloat16",
    "LadderNetwork",
    "Level",
    "Network",
    "NetworkKind",
    "NetworkSizes",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResidualDecoder",
    "ResidualEncoder",
    "Source",
    "TopDownNetwork",
    "TopDownPass",
    "TransformerDecoder",
    "TransformerEncoder",
    "UserNetwork",
    "activation_function",
    "hidden_states",
    "sample_codes",
    "soft_clip",
]
