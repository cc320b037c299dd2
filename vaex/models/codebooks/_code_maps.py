"""Autoencoders whose codes are maps of integers, at one level or several: codes, losses and diagnostics.

All codes of an example in one row, the top map first and each map row by row, are ``n`` integers. Their posterior is a point, so
log p(x|codes) + log p(codes) bounds log p(x) under any prior of the codes; that of the autoencoder by itself is uniform.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import distributions, nets
from vaex.configuration import fields, option, options
from vaex.core import Batch, Latents, Model, Objective, Outcome, PyTree, StepKey, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import latent, likelihoods
from vaex.models.codebooks import _code_networks as code_networks
from vaex.models.codebooks import _quantizers as codebooks
from vaex.models.codebooks._code_networks import Levels, Sizing, apply, beside, downwards, upwards
from vaex.models.networks import network_inputs
from vaex.quantizers import Quantized, Quantizer, perplexity
from vaex.training.step import masked_mean

GROUP = "vae"
First = Sequence[jax.Array]  # of each level, how many of the first codebooks an example is coded by, [b]


class LevelKey(enum.IntEnum):
    """Purposes under the key of ``init`` for each level: ``4 * level + purpose``."""

    ENCODER = 0
    HEAD = 1
    CODEBOOKS = 2
    DECODER = 3

    def fold(self, key: jax.Array, level: int) -> jax.Array:
        """Return the key of a level for this purpose."""
        return jax.random.fold_in(key, len(LevelKey) * level + self)


@options
class Config(codebooks.Config):
    """Static choices of every autoencoder with maps of codes."""

    channels: int = option(32, low=1, doc="Width of the convolutions.")
    blocks: int = option(2, low=0, doc="Number of residual blocks of each convolutional encoder and decoder.")
    hidden: tuple[int, ...] = option(
        (256, 256),
        low=1,
        doc="Widths of the hidden layers of the MLPs of vectors; images and series have convolutions.",
    )
    activation: str = option(
        "relu", doc="Activation function: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid."
    )

    def check(self) -> None:
        super().check()
        nets.activation_function(self.activation)


class Chosen(NamedTuple):
    """What x was encoded to: of each level the vectors z [b, ..., dim] and their ``Quantized``; and p(x|codes)."""

    z: tuple[jax.Array, ...]
    quantized: tuple[Quantized, ...]
    px: Distribution

    def codes(self) -> jax.Array:
        """All codes in a row, [b, n]."""
        maps = (quantized.indices for quantized in reversed(self.quantized))
        return jnp.concatenate([indices.reshape(indices.shape[0], -1) for indices in maps], axis=1)


class EncodeMaps(Protocol):
    """Encodes x [b, *shape]; see ``CodeMaps``."""

    def __call__(
        self, params: PyTree, state: PyTree, hparams: PyTree, x: jax.Array, first: First | None = None, /
    ) -> Chosen: ...


class CodeMaps(NamedTuple):
    """An autoencoder as pure functions of parameters and state; ``levels`` from the data up, ``n`` codes in all.

    ``init(key, batch) -> (params, state)``; ``encode(params, state, hparams, x, first) -> Chosen``, where ``first``, [b] for each
    level or None, is how many of the first residual codebooks code an example;
    ``decode(params, state, hparams, codes [..., n]) -> p(x|codes)``, batch shape [...]; where ``partial``, a code of -1 adds
    nothing to its vector, as each codebook codes what those before it leave.
    """

    spec: Spec
    levels: Levels
    quantizer: Quantizer
    likelihood: likelihoods.Likelihood
    init: Callable[[jax.Array, Batch], tuple[PyTree, PyTree]]
    encode: EncodeMaps
    decode: Callable[[PyTree, PyTree, PyTree, jax.Array], Distribution]
    partial: bool = False

    @property
    def n(self) -> int:
        """Codes of an example."""
        return self.levels[0].stop

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example's codes: [h', w'] of images, [n'] of series and vectors, with several codebooks [..., q]; of several
        levels [n]."""
        slots = self.quantizer.slots
        return (*self.levels[0].size, *([slots] if slots > 1 else [])) if len(self.levels) == 1 else (self.n,)

    @property
    def kinds(self) -> tuple[int, ...]:
        """Codebook of each code, counted from 0."""
        slots, sizes = self.quantizer.slots, [level.stop - level.start for level in reversed(self.levels)]
        return tuple(index * slots + place % slots for index, size in enumerate(sizes) for place in range(size))

    @property
    def latents(self) -> tuple[Latents, ...]:
        """What codes are made of."""
        sizes = (level.stop - level.start for level in reversed(self.levels))
        return tuple(Latents("code", size, self.quantizer.codes, self.partial) for size in sizes)

    def flat(self, z: ArrayLike) -> jax.Array:
        """Codes [..., *shape], or flat already, as integers [..., n]; whole numbers may come as floats."""
        z = jnp.asarray(z)
        z = z if jnp.issubdtype(z.dtype, jnp.integer) else jnp.round(z)
        leading = z.shape[: -len(self.shape)] if z.shape[-len(self.shape) :] == self.shape else z.shape[:-1]
        return z.astype(jnp.int32).reshape(*leading, self.n)

    def names(self, metric: str) -> list[str]:
        """``metric`` of each level: "_0" after its name for the finest and so on, where there are several."""
        return [f"{metric}_{index}" if len(self.levels) > 1 else metric for index in range(len(self.levels))]


def code_maps(config: Config, spec: Spec, factors: tuple[int, ...]) -> CodeMaps:
    """The autoencoder of ``config`` for data of this spec; ``factors`` as in ``code_networks.levels``.

    Raises: UserError where the data are of another kind or too small, can't have the likelihood, or leave an option without effect.
    """
    _refuse_idle(config, spec)
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    kind = codebooks.quantizer(config)
    sizes = config.channels, config.blocks, config.hidden, config.activation
    networks = code_networks.levels(spec, factors, Sizing(*sizes, kind.dim, kind.slots, likelihood.channels))

    def books(params: PyTree, index: int) -> PyTree:
        return params[f"level_{index}"].get("codebooks", ())

    def likelihood_of(params: PyTree, hparams: PyTree, raw: jax.Array, leading: tuple[int, ...]) -> Distribution:
        shaped = raw.reshape(*leading, *spec.shape, likelihood.channels)
        return likelihood.distribution(params["likelihood"], hparams.sigma, shaped)

    def encode(params: PyTree, state: PyTree, hparams: PyTree, x: jax.Array, first: First | None = None) -> Chosen:
        if x.shape[1:] != spec.shape:
            raise ValueError(f"encode: x has shape {x.shape}, expected [b, {', '.join(map(str, spec.shape))}]")
        features, levels = upwards(networks, params, network_inputs(spec, x)), []

        def choose(index: int, above: jax.Array | None) -> jax.Array:
            z = apply(networks, params, index, "head", beside(features[index], above))
            of_vectors = None if first is None else per_vector(first[index], z)
            levels.insert(0, (z, kind.quantize(books(params, index), state[f"level_{index}"], z, of_vectors)))
            return levels[0][1].codes

        px = likelihood_of(params, hparams, downwards(networks, params, choose), x.shape[:1])
        z, quantized = zip(*levels, strict=True)
        return Chosen(z, quantized, px)

    def decode(params: PyTree, state: PyTree, hparams: PyTree, codes: jax.Array) -> Distribution:
        rows = codes.reshape(-1, codes.shape[-1])

        def choose(index: int, above: jax.Array | None) -> jax.Array:
            level = networks[index]
            indices = rows[:, level.start : level.stop].reshape(-1, *level.size, kind.slots)
            return kind.lookup(books(params, index), state[f"level_{index}"], indices)

        return likelihood_of(params, hparams, downwards(networks, params, choose), codes.shape[:-1])

    def init(key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = _first(networks, kind, key, network_inputs(spec, batch["x"]))
        return params | {"likelihood": likelihood.init()}, state

    return CodeMaps(spec, networks, kind, likelihood, init, encode, decode, config.quantizer == "residual")


def _refuse_idle(config: Config, spec: Spec) -> None:
    """Raise UserError for sizes of networks that these data have none of."""
    vectors, declared = len(spec.shape) == 1, fields(type(config))
    for name in ("channels", "blocks") if vectors else ("hidden",):
        if getattr(config, name) != declared[name].default:
            has, others = ("an MLP", "--hidden") if vectors else ("convolutions", "--channels and --blocks")
            raise UserError(
                f"--{name} does nothing for examples of shape {spec.shape}, which have {has}: leave it out, or give {others}"
            )


def _first(
    networks: Levels, kind: Quantizer, key: jax.Array, x: jax.Array
) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """First parameters and state; codebooks are made of what the first encoders give."""
    params, state, features = {}, {}, [x]
    for index, level in enumerate(networks):
        encoder_params = level.encoder.init(LevelKey.ENCODER.fold(key, index), features[-1][:1])["params"]
        params[f"level_{index}"] = {"encoder": encoder_params}
        features.append(apply(networks, params, index, "encoder", features[-1]))

    def choose(index: int, above: jax.Array | None) -> jax.Array:
        of_level, name, inputs = params[f"level_{index}"], f"level_{index}", beside(features[index + 1], above)
        if (head := networks[index].head) is not None:
            of_level["head"] = head.init(LevelKey.HEAD.fold(key, index), inputs[:1])["params"]
        z = apply(networks, params, index, "head", inputs)
        books, state[name] = kind.init(LevelKey.CODEBOOKS.fold(key, index), z)
        if jax.tree.leaves(books):
            of_level["codebooks"] = books
        codes = kind.quantize(books, state[name], z).codes
        decoder_key = LevelKey.DECODER.fold(key, index)
        of_level["decoder"] = networks[index].decoder.init(decoder_key, beside(codes, above)[:1])["params"]
        return codes

    downwards(networks, params, choose)
    return params, state


def per_vector(mask: jax.Array | None, z: jax.Array) -> jax.Array | None:
    """The mask [b] of a batch for each vector of z [b, ..., dim]."""
    return None if mask is None else jnp.broadcast_to(mask.reshape(-1, *[1] * (z.ndim - 2)), z.shape[:-1])


def summed(values: jax.Array) -> jax.Array:
    """Values [b, ...] of an example's vectors, summed: [b]."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def diagnostics(vq: CodeMaps, chosen: Chosen, mask: jax.Array | None, some: bool = False) -> dict[str, jax.Array]:
    """ "perplexity" [] and "usage" [] of each level's codes in the batch, the latter a share; and "commitment" [b], the squared
    distances of vectors to their codes, summed. ``some``: whether vectors may lack codes of some codebooks."""
    distances = [summed(quantized.commitment_loss) for quantized in chosen.quantized]
    metrics = {"commitment": jnp.sum(jnp.stack(distances), axis=0)}
    shares = codebooks.shares_of_some if some else codebooks.shares
    for index, (z, quantized) in enumerate(zip(chosen.z, chosen.quantized, strict=True)):
        share = shares(quantized.indices, vq.quantizer.codes, per_vector(mask, z))
        metrics[vq.names("perplexity")[index]] = jnp.mean(perplexity(share))
        metrics[vq.names("usage")[index]] = jnp.mean(share > 0, dtype=jnp.float32)
    return metrics


def objective(vq: CodeMaps) -> Objective:
    """The loss of the autoencoder by itself: -log p(x|codes) and the quantizer's losses, all per example."""

    def outcome(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        state, mask = variables.state, batch.get("mask")
        first = _first_codebooks(vq, key, hparams, len(batch["x"])) if train else None
        chosen = vq.encode(variables.params[GROUP], state, hparams, batch["x"], first)
        log_px = chosen.px.log_prob(batch["x"])
        loss, after = -log_px, dict(state)
        for index, (z, quantized) in enumerate(zip(chosen.z, chosen.quantized, strict=True)):
            counted, name = per_vector(mask, z), f"level_{index}"
            loss = loss + summed(vq.quantizer.loss(hparams, quantized, z, counted))
            level_key = jax.random.fold_in(key, index)
            after[name] = vq.quantizer.update(level_key, hparams, state[name], z, quantized.indices, counted)
        kl = jnp.full_like(log_px, vq.n * math.log(vq.quantizer.codes))
        metrics = latent.metrics(vq.likelihood, log_px, kl) | diagnostics(vq, chosen, mask, first is not None)
        after = jax.lax.stop_gradient(after) if train else state
        return Outcome({GROUP: masked_mean(loss, mask)}, after, metrics)

    return outcome


def _first_codebooks(vq: CodeMaps, key: jax.Array, hparams: PyTree, b: int) -> First | None:
    """How many of the first codebooks code each example in training, of each level; None without dropout."""
    if hparams.quantizer_dropout is None:
        return None
    slots, first = vq.quantizer.slots, []
    for index in range(len(vq.levels)):
        level_key = jax.random.fold_in(jax.random.fold_in(key, StepKey.DROPOUT), index)
        some_key, number_key = jax.random.split(level_key)
        some = jax.random.uniform(some_key, (b,)) < hparams.quantizer_dropout
        first.append(jnp.where(some, jax.random.randint(number_key, (b,), 1, slots + 1), slots))
    return first


class CodeLogProb(Protocol):
    """Returns log p(codes) [b], nats, of codes [b, n]; labels, where the prior reads them, are in ``batch["y"]``."""

    def __call__(self, variables: Variables, codes: jax.Array, batch: Batch, /) -> jax.Array: ...


class SampleCodes(Protocol):
    """Draws codes [m, n] from the prior; ``condition`` [m]: their labels, drawn uniformly where it is None."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, m: int, condition: ArrayLike | None, /
    ) -> jax.Array: ...


class CodePrior(NamedTuple):
    """p(codes): its log-probabilities and its samples."""

    log_prob: CodeLogProb
    sample: SampleCodes


class DrawCodes(Protocol):
    """Draws codes [m, n] from a learned prior at a temperature, with labels [m] or None, after given codes [m, t] or None."""

    def __call__(
        self,
        key: jax.Array,
        variables: Variables,
        m: int,
        temperature: jax.Array | float,
        label: ArrayLike | None,
        prefix: jax.Array | None,
        /,
    ) -> jax.Array: ...


def uniform(vq: CodeMaps) -> CodePrior:
    """All codes equally probable."""
    nats, codes = vq.n * math.log(vq.quantizer.codes), vq.quantizer.codes
    return CodePrior(
        lambda variables, rows, batch: jnp.full(len(rows), -nats),
        lambda key, variables, hparams, m, condition: jax.random.randint(key, (m, vq.n), 0, codes),
    )


def model(
    vq: CodeMaps,
    prior: CodePrior,
    init: Callable[[jax.Array, Batch], Variables],
    objective: Objective,
    unpacked: Callable[[Variables], tuple[PyTree, PyTree]],
) -> Model:
    """The model of this autoencoder with this prior over its codes.

    Args:
      vq: the autoencoder.
      prior: over its codes.
      init, objective: as in ``Model``.
      unpacked: variables -> the parameters and the state of the autoencoder.
    """

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> distributions.Delta:
        codes = vq.encode(*unpacked(variables), hparams, batch["x"]).codes()
        return distributions.Delta(codes.reshape(-1, *vq.shape), len(vq.shape))

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return vq.decode(*unpacked(variables), hparams, vq.flat(z))

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        chosen = vq.encode(*unpacked(variables), hparams, batch["x"])
        log_joint = chosen.px.log_prob(batch["x"]) + prior.log_prob(variables, chosen.codes(), batch)
        return jnp.broadcast_to(
            log_joint, (num_samples, *log_joint.shape)
        )  # the posterior is a point: all samples are one

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        return vq.decode(*unpacked(variables), hparams, prior.sample(key, variables, hparams, n, condition))

    return Model(init, objective, encode, decode, log_weights if vq.likelihood.density else None, sample)
