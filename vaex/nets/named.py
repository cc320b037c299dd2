"""Networks by name: for each the encoder and the decoder, and the data that it is for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from vaex.nets.convnets import ConvDecoder, ConvEncoder
from vaex.nets.grids import GridDecoder, GridEncoder
from vaex.nets.mlp import MLP
from vaex.nets.protocols import Network
from vaex.nets.resnet import ResNetDecoder, ResNetEncoder
from vaex.nets.series import RecurrentDecoder, RecurrentEncoder, TransformerDecoder, TransformerEncoder

Shape = tuple[int, ...]


class NetworkSizes(NamedTuple):
    """Sizes of a network; which of them count depends on its kind.

    Attributes:
      hidden: widths of dense layers.
      channels: of convolutional stages, from the data on.
      activation: name, see ``activation_function``.
    """

    hidden: tuple[int, ...]
    channels: tuple[int, ...]
    activation: str


class NetworkKind(NamedTuple):
    """An encoder and a decoder for data of some shapes.

    Attributes:
      needs: the data that it is for, in words.
      fits: shape of an example -> whether it is for such data.
      encoder: sizes, shape of an example, features -> network from examples and a condition to features.
      decoder: sizes, shape, numbers that the likelihood takes for each value -> network from latents to as many numbers.
      convolutional: whether it has stages of ``channels``.
    """

    needs: str
    fits: Callable[[Shape], bool]
    encoder: Callable[[NetworkSizes, Shape, int], Network]
    decoder: Callable[[NetworkSizes, Shape, int], Network]
    convolutional: bool = False


def _mlp_encoder(sizes: NetworkSizes, shape: Shape, features: int) -> Network:
    return MLP(sizes.hidden, features, sizes.activation, event_ndims=len(shape))


def _mlp_decoder(sizes: NetworkSizes, shape: Shape, outputs: int) -> Network:
    return MLP(sizes.hidden[::-1], math.prod(shape) * outputs, sizes.activation)


def _conv_encoder(sizes: NetworkSizes, shape: Shape, features: int) -> Network:
    return ConvEncoder(features, sizes.channels, sizes.hidden[0], sizes.activation)


def _conv_decoder(sizes: NetworkSizes, shape: Shape, outputs: int) -> Network:
    height, width, channels = shape
    return ConvDecoder((height, width, channels * outputs), sizes.channels, sizes.hidden[0], sizes.activation)


def _resnet_encoder(sizes: NetworkSizes, shape: Shape, features: int) -> Network:
    channels = sizes.channels
    return ResNetEncoder(features, channels[-1], len(channels), hidden=sizes.hidden[0], activation=sizes.activation)


def _resnet_decoder(sizes: NetworkSizes, shape: Shape, outputs: int) -> Network:
    (height, width, colours), channels = shape, sizes.channels
    image = (height, width, colours * outputs)
    return ResNetDecoder(image, channels[-1], len(channels), hidden=sizes.hidden[0], activation=sizes.activation)


def _grid_encoder(axes: int) -> Callable[[NetworkSizes, Shape, int], Network]:
    return lambda sizes, shape, features: GridEncoder(
        shape, axes, features, sizes.channels, sizes.hidden[0], sizes.activation
    )


def _grid_decoder(axes: int) -> Callable[[NetworkSizes, Shape, int], Network]:
    return lambda sizes, shape, outputs: GridDecoder(
        (*shape, outputs), axes, sizes.channels, sizes.hidden[0], sizes.activation
    )


def _transformer_encoder(sizes: NetworkSizes, shape: Shape, features: int) -> Network:
    return TransformerEncoder(shape, features, sizes.hidden[0], len(sizes.hidden), sizes.activation)


def _transformer_decoder(sizes: NetworkSizes, shape: Shape, outputs: int) -> Network:
    return TransformerDecoder((*shape, outputs), sizes.hidden[0], len(sizes.hidden), sizes.activation)


def _is_image(shape: Shape) -> bool:
    return len(shape) == 3 and min(shape[:2]) >= 8


def _has_grid(axes: int) -> Callable[[Shape], bool]:
    return lambda shape: len(shape) > 1 and len(shape) >= axes and min(shape[:axes]) >= 4


NETWORKS: dict[str, NetworkKind] = {
    "mlp": NetworkKind("any data", lambda shape: True, _mlp_encoder, _mlp_decoder),
    "conv": NetworkKind("images of at least 8x8", _is_image, _conv_encoder, _conv_decoder, convolutional=True),
    "resnet": NetworkKind("images of at least 8x8", _is_image, _resnet_encoder, _resnet_decoder, convolutional=True),
    "conv1d": NetworkKind(
        "series [t, ...] of at least 4 steps", _has_grid(1), _grid_encoder(1), _grid_decoder(1), convolutional=True
    ),
    "conv3d": NetworkKind(
        "volumes [d, h, w] of at least 4 a side", _has_grid(3), _grid_encoder(3), _grid_decoder(3), convolutional=True
    ),
    "recurrent": NetworkKind(
        "series [t, ...]",
        lambda shape: len(shape) > 1,
        lambda sizes, shape, features: RecurrentEncoder(shape, features, sizes.hidden[0], sizes.activation),
        lambda sizes, shape, outputs: RecurrentDecoder((*shape, outputs), sizes.hidden[0], sizes.activation),
    ),
    "transformer": NetworkKind(
        "series [t, ...]", lambda shape: len(shape) > 1, _transformer_encoder, _transformer_decoder
    ),
}
