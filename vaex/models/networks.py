"""Options that models share, and the encoder and decoder that are built from them."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import nets
from vaex.configuration import fields, option, options
from vaex.configuration.importing import import_object
from vaex.core import Batch, PyTree
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.columns import column_inputs, column_width
from vaex.models.conditions import condition_vectors
from vaex.models.count_likelihoods import log_counts
from vaex.ops.cpu_conv.layout import batch_is_sharded
from vaex.training.optimizers import Optimizer, check_optimizer

UserNetwork: TypeAlias = str | Any  # its name, or what ``nets.UserNetwork`` says


@options
class BaseConfig:
    """Options of every model: its likelihood and its optimizer."""

    likelihood: likelihoods.Name = option(
        "auto",
        objects=True,
        doc="Distribution of x given z; auto chooses one by the kind of data. One of your own: MODULE:NAME or FILE.py:NAME.",
    )
    likelihood_scale: likelihoods.ScaleName = option(
        "global",
        doc="Scale of a gaussian, laplace or discretized_logistic likelihood: one learned number (global), one for each column of "
        "vectors (per_column), the hyperparameter sigma (fixed), or an output of the decoder for each pixel (per_pixel); of a "
        "negative_binomial one, the standard deviation of the rates over their mean.",
    )
    mean: likelihoods.MeanName = option(
        "free",
        doc="Mean of a gaussian, laplace or discretized_logistic likelihood of images: the decoder's output (free), its "
        "sigmoid, which stays between black and white (bounded), or that unless the data are real numbers (auto).",
    )
    optimizer: Optimizer = option(
        "adam",
        doc="Name of the optimizer: adam, adamax, adabelief, amsgrad, lion, momentum, nadam, radam, rmsprop or sgd; in Python "
        "also a function of the learning rate.",
    )

    def check(self) -> None:
        """Raise UserError where options do not fit one another; subclasses add to it."""
        check_optimizer(self.optimizer)


@options
class NetworkConfig(BaseConfig):
    """Options of every model with an encoder and a decoder."""

    latent_dim: int = option(10, low=1, doc="Number of latent variables.")
    network: Literal["mlp", "conv", "resnet", "conv1d", "conv3d", "recurrent", "transformer"] = option(
        "mlp",
        doc="Encoder and decoder: mlp for any data; conv and resnet for images of at least 8x8; conv1d, recurrent and transformer "
        "for series, whose first axis is time; conv3d for volumes.",
    )
    hidden: tuple[int, ...] = option(
        (256, 256),
        low=1,
        doc="Widths of the hidden layers of an MLP, such as 500x500; convolutional networks have one dense layer, of the first "
        "width, which recurrent networks and transformers have too, and a transformer has as many layers as there are widths.",
    )
    channels: tuple[int, ...] = option(
        (32, 32, 64, 64),
        low=1,
        doc="Channels of the convolutional stages, each of which halves the image as far as its size allows; resnet has the last "
        "in all of them.",
        needs={"network": ("conv", "resnet", "conv1d", "conv3d")},
    )
    activation: str = option(
        "relu", doc="Activation function: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid."
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32",
        doc="Arithmetic of encoder and decoder, mlp or conv; parameters, likelihood, KL and optimizer stay float32.",
    )
    encoder: UserNetwork | None = option(
        None,
        doc="Encoder of your own, MODULE:NAME or FILE.py:NAME: a Flax module or (init, apply) that maps x [b, *shape] to [b, ...]; "
        "a dense layer follows.",
    )
    decoder: UserNetwork | None = option(
        None,
        doc="Decoder of your own, as encoder: it maps z [b, d] to [b, ...], as many numbers a row as the likelihood takes.",
    )

    def check(self) -> None:
        super().check()
        if nets.NETWORKS[self.network].convolutional and not (self.channels and self.hidden):
            raise UserError(f"--network={self.network} needs at least one width in --channels and in --hidden")
        if self.network != "mlp" and not self.hidden:
            raise UserError(f"--network={self.network} needs at least one width in --hidden")
        if self.network == "transformer" and self.hidden[0] % nets.HEADS:
            raise UserError(
                f"--network=transformer: the first width in --hidden is {self.hidden[0]}, expected a multiple of {nets.HEADS}"
            )
        nets.activation_function(self.activation)
        if self.precision != "float32":
            given = [name for name in ("encoder", "decoder") if getattr(self, name) is not None]
            if given or self.network not in ("mlp", "conv"):
                which = f"--{given[0]} of your own" if given else f"--network={self.network}"
                raise UserError(
                    f"--precision={self.precision} is for --network=mlp and conv, not for {which}; leave it out"
                )
        if self.encoder is not None and self.decoder is not None:
            declared = fields(type(self))
            useless = [name for name in self.unused_beside_own() if getattr(self, name) != declared[name].default]
            if useless:
                raise UserError(f"--{useless[0]} does nothing beside --encoder and --decoder; leave it out")

    def unused_beside_own(self) -> tuple[str, ...]:
        """Return the options that do nothing where both encoder and decoder are the user's own."""
        return ("network", "hidden", "channels", "activation")


TINY: dict[str, Any] = {"latent_dim": 2, "hidden": (16,), "channels": (4, 4)}


class InitNetworks(Protocol):
    """Initialises the parameters of encoder, decoder and likelihood from a key and a batch of model inputs."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> PyTree: ...


class RunEncoder(Protocol):
    """Returns the encoder's outputs [b, features] for x [b, *shape], and labels where the model reads them."""

    def __call__(self, params: PyTree, x: jax.Array, label: jax.Array | None = None, /) -> jax.Array: ...


class RunDecoder(Protocol):
    """Returns p(x|z) for z [..., d], labels where the model reads them, and the example x where its total is given.

    ``sigma``: scale of the likelihood if fixed.
    """

    def __call__(
        self,
        params: PyTree,
        sigma: ArrayLike,
        z: jax.Array,
        label: jax.Array | None = None,
        x: jax.Array | None = None,
        /,
    ) -> Distribution: ...


class Networks(NamedTuple):
    """Encoder and decoder of a model as pure functions of one tree of parameters."""

    init: InitNetworks
    encode: RunEncoder
    decode: RunDecoder


def network_inputs(spec: Spec, x: jax.Array) -> jax.Array:
    """Return what networks read of model inputs: real numbers standardised by column, or in ``spec.unit``; others as they are.

    Where entries may be missing they are read as 0, and as many entries follow that are 1 where a value is observed: the last
    axis is twice as long (``network_shape``). Columns of tables are read as ``columns.column_inputs`` says.
    """
    if spec.columns:
        return column_inputs(spec, x)
    if spec.location:
        scaled = (x - jnp.asarray(spec.location, x.dtype)) / jnp.asarray(spec.scale, x.dtype)
    else:
        scaled = x if spec.unit == 1 else x / spec.unit
    if not spec.missing:
        return scaled
    observed = ~jnp.isnan(x)
    return jnp.concatenate([jnp.where(observed, scaled, 0.0), observed.astype(x.dtype)], axis=-1)


def network_shape(spec: Spec) -> tuple[int, ...]:
    """Return the shape of one example as networks read it."""
    if spec.columns:
        return (column_width(spec),)
    return (*spec.shape[:-1], 2 * spec.shape[-1]) if spec.missing else spec.shape


def _named(config: NetworkConfig, spec: Spec) -> tuple[nets.NetworkKind, nets.NetworkSizes]:
    """Return the kind of network that ``config.network`` names, and its sizes.

    Raises: UserError where it is not for such data.
    """
    kind = nets.NETWORKS[config.network]
    if not kind.fits(spec.shape):
        raise UserError(
            f"--network={config.network} needs {kind.needs}, but {spec.name} has examples of shape {spec.shape}; use --network=mlp"
        )
    return kind, nets.NetworkSizes(config.hidden, config.channels, config.activation)


def encoder_module(config: NetworkConfig, spec: Spec, features: int) -> nets.Network:
    """Return the network from examples of this spec, and a condition [..., n] where one is given, to [..., features].

    Raises: UserError where the network does not fit the data.
    """
    kind, sizes = _named(config, spec)
    return _in_precision(config, kind.encoder(sizes, network_shape(spec), features))


def _in_precision(config: NetworkConfig, network: nets.Network) -> nets.Network:
    return network if config.precision == "float32" else nets.InBfloat16(network)


def _modules(
    config: NetworkConfig, spec: Spec, features: int, likelihood: likelihoods.Likelihood, width: int
) -> tuple[nets.Network, nets.Network]:
    """Return the networks that encode and decode: those of ``config.network``, or the user's own."""
    size = math.prod(spec.shape) * likelihood.channels
    if config.encoder is not None:
        encoder = nets.AdaptedEncoder(_own("encoder", config.encoder), network_shape(spec), features, width)
    else:
        encoder = encoder_module(config, spec, features)
    if config.decoder is not None:
        return encoder, nets.AdaptedDecoder(_own("decoder", config.decoder), config.latent_dim, size, width)
    kind, sizes = _named(config, spec)
    return encoder, _in_precision(config, kind.decoder(sizes, spec.shape, likelihood.channels))


def _own(flag: str, network: str | nets.UserNetwork) -> nets.UserNetwork:
    return import_object(flag, network) if isinstance(network, str) else network


def networks(
    config: NetworkConfig, spec: Spec, features: int, likelihood: likelihoods.Likelihood, width: int = 0
) -> Networks:
    """Return encoder and decoder for data of this spec.

    With ``width``, the number of classes or of conditions, both read labels whose shape broadcasts with the leading axes of the
    other input: [b], or [classes, 1] for all classes at once, which computes the encoder's first product (in a convolutional one,
    its convolutions) only once; or conditions [b, width]. Label -1 adds nothing.

    Raises: UserError where the network does not fit the data.
    """
    encoder, decoder = _modules(config, spec, features, likelihood, width)

    def vectors(caller: str, label: jax.Array | None) -> jax.Array | None:
        if width and label is None:
            given = f"[b, {width}] numbers" if spec.conditions else "[b] integers"
            raise ValueError(f"{caller}: this model reads labels, but the batch has none; give y, {given}")
        return condition_vectors(spec, label) if width and label is not None else None

    def read(x: jax.Array) -> jax.Array:
        return network_inputs(spec, x) if likelihood.given is None else log_counts(spec, x)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        z, label = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, width)) if width else None
        return {
            "encoder": encoder.init(encoder_key, read(batch["x"][:1]), label)["params"],
            "decoder": decoder.init(decoder_key, z, label)["params"],
            "likelihood": likelihood.init(),
        }

    def encode(params: PyTree, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        if x.shape[1:] != spec.shape:
            raise ValueError(f"encode: x has shape {x.shape}, expected [b, {', '.join(map(str, spec.shape))}]")
        return encoder.apply({"params": params["encoder"]}, read(x), vectors("encode", label))

    def decode(
        params: PyTree, sigma: ArrayLike, z: jax.Array, label: jax.Array | None = None, x: jax.Array | None = None
    ) -> Distribution:
        condition = vectors("decode", label)
        if condition is not None:
            condition = _rows(jnp.broadcast_to(condition, (*z.shape[:-1], width)))
        flat: Any = decoder.apply({"params": params["decoder"]}, _rows(z), condition)
        raw = _of_rows(flat, z.shape[:-1], (*spec.shape, likelihood.channels))
        if likelihood.given is not None:
            return likelihood.given(params["likelihood"], sigma, raw, x)
        return likelihood.distribution(params["likelihood"], sigma, raw)

    return Networks(init, encode, decode)


def _rows(array: jax.Array) -> jax.Array:
    """[..., b, d] -> [n, d].

    A batch that is divided over devices leads, since they can't hold parts of it in an array where samples do: each would compute
    all rows.
    """
    if array.ndim > 2 and batch_is_sharded():
        array = jnp.moveaxis(array, -2, 0)
    return array.reshape(-1, array.shape[-1])


def _of_rows(rows: jax.Array, leading: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """[n, ...] in the order of ``_rows`` -> [*leading, *shape]."""
    if len(leading) > 1 and batch_is_sharded():
        return jnp.moveaxis(rows.reshape(leading[-1], *leading[:-1], *shape), 0, len(leading) - 1)
    return rows.reshape(*leading, *shape)
