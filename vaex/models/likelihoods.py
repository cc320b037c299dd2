"""Likelihoods p(x|z) by name: distributions over x from the outputs of a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import distributions as dist
from vaex.core import LikelihoodSummary, PyTree
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.nets.activations import soft_clip

Name = Literal[
    "auto",
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "laplace",
    "categorical",
    "discretized_logistic",
    "discretized_logistic_mixture",
]
ScaleName = Literal["global", "fixed", "per_pixel"]
COMPONENTS = 10  # of a mixture at each pixel, as in PixelCNN++ and VDVAE
LEVELLED = ("categorical", "discretized_logistic", "discretized_logistic_mixture")


class LikelihoodDistribution(Protocol):
    """Returns p(x|z) from the decoder's outputs ``raw`` [..., *shape, channels]; ``sigma`` is the scale where it is fixed."""

    def __call__(self, params: PyTree, sigma: ArrayLike, raw: jax.Array, /) -> dist.Distribution: ...


class Likelihood(NamedTuple):
    """A family of distributions over x.

    Attributes:
      title: its name in reports.
      channels: number of decoder outputs for each value of x.
      init: its own parameters; {} for none.
      distribution: p(x|z).
      density: whether its log_prob is a log-likelihood of the data; a cross-entropy of grey values is not.
      discrete: whether it is a probability over the levels of the data.
    """

    title: str
    channels: int
    init: Callable[[], PyTree]
    distribution: LikelihoodDistribution
    density: bool = True
    discrete: bool = False

    @property
    def summary(self) -> LikelihoodSummary:
        """Return what reports say of the likelihood."""
        return LikelihoodSummary(self.title, self.discrete)


def choose(name: str, spec: Spec) -> str:
    """Return ``name``, or the likelihood that "auto" stands for with this data.

    It is bernoulli for binary images and for 8-bit or continuous grey ones, which are then binarised dynamically, as is the
    field's custom; discretized_logistic for colour and for coarser levels, where binarisation would lose most of the image;
    gaussian for real vectors and continuous colour.

    Example:
      >>> choose("auto", Spec("cifar10", (32, 32, 3), "color", levels=256))
      'discretized_logistic'
    """
    if name != "auto":
        return name
    if spec.kind == "binary" or (spec.kind == "grey" and spec.levels in (None, 256)):
        return "bernoulli"
    return "gaussian" if spec.levels is None else "discretized_logistic"


def binarization(name: str, spec: Spec) -> str:
    """Return the binarisation that "auto" stands for: dynamic where a bernoulli likelihood meets grey or colour values.

    Example:
      >>> binarization("bernoulli", Spec("digits", (8, 8, 1), "grey", levels=17))
      'dynamic'
    """
    return "dynamic" if name == "bernoulli" and spec.kind in ("grey", "color") else "none"


def build(name: str, spec: Spec, *, scale: str = "global") -> Likelihood:
    """Return the likelihood called ``name``, or chosen by ``choose``, for data of this spec.

    Args:
      name: one of ``Name``.
      spec: with its binarisation already resolved.
      scale: of gaussian, laplace and discretized_logistic: one learned number ("global"), the hyperparameter ``sigma``
        ("fixed"; a gaussian's loss is then the squared error over 2 sigma^2 plus a constant), or an output of the decoder
        for each pixel ("per_pixel").
    Raises: UserError where the data cannot have this likelihood.
    """
    name = choose(name, spec)
    ndims = len(spec.shape)
    if spec.kind == "real" and name not in ("gaussian", "laplace"):
        raise UserError(
            f"--likelihood={name} needs values in [0, 1], but {spec.name} holds real numbers; use --likelihood=gaussian or "
            "laplace, or rescale the data"
        )
    binary = spec.kind == "binary" or spec.binarize != "none"
    if name == "bernoulli":
        title = "bernoulli" if binary else "cross-entropy (bernoulli on grey values: not a density)"
        return Likelihood(title, 1, dict, lambda params, sigma, raw: dist.Bernoulli(raw[..., 0], ndims), binary, binary)
    if name == "continuous_bernoulli":
        return Likelihood(name, 1, dict, lambda params, sigma, raw: dist.ContinuousBernoulli(raw[..., 0], ndims))
    levels = 2 if binary else spec.levels or 0  # 0: values are continuous
    if name in LEVELLED and (not levels or spec.dequantize != "none"):
        remedy = "use --likelihood=gaussian" if not levels else "use --dequantize=none"
        raise UserError(
            f"--likelihood={name} needs data of equally spaced levels, such as uint8; here values are continuous: {remedy}"
        )
    if name == "categorical":
        return Likelihood(
            f"categorical over {levels} levels",
            levels,
            dict,
            lambda params, sigma, raw: dist.LevelCategorical(raw, ndims),
            discrete=True,
        )
    if name == "discretized_logistic_mixture":
        return _mixture(spec, levels)
    return _scaled(name, spec, scale, levels, ndims)


def _mixture(spec: Spec, levels: int) -> Likelihood:
    """Mixture of logistics at each pixel, over all its channels; decoder outputs come by channel, so a few may be left over.

    Raises: UserError for examples other than images.
    """
    if len(spec.shape) != 3:
        raise UserError(
            f"--likelihood=discretized_logistic_mixture needs images, but {spec.name} has examples of shape {spec.shape}; use "
            "--likelihood=discretized_logistic"
        )
    channels = spec.shape[-1]
    parameters_per_pixel = COMPONENTS * dist.DiscretizedLogisticMixture.num_parameters(channels)

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        pixels = raw.reshape(*raw.shape[:-2], -1)[..., :parameters_per_pixel]
        return dist.DiscretizedLogisticMixture.from_parameters(pixels, channels=channels, levels=levels)

    title = f"mixture of {COMPONENTS} discretized logistics"
    return Likelihood(title, -(-parameters_per_pixel // channels), dict, distribution, discrete=True)


def _scaled(name: str, spec: Spec, scale: str, levels: int, ndims: int) -> Likelihood:
    """Likelihood gaussian, laplace or discretized_logistic, whose scale is learned or fixed; means of images start at 1/2."""
    offset = 0.0 if spec.kind == "real" else 0.5
    start = {"real": 0.0}.get(spec.kind, -2.0)

    def init() -> dict[str, jax.Array]:
        return {"log_scale": jnp.full((), start)} if scale == "global" else {}

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        mean = raw[..., 0] + offset
        if scale == "per_pixel":
            log_scale = soft_clip(raw[..., 1] + start)
        else:
            log_scale = jnp.broadcast_to(
                soft_clip(params["log_scale"]) if scale == "global" else jnp.log(sigma), mean.shape
            )
        if name == "gaussian":
            return dist.Normal(mean, log_scale=log_scale, event_ndims=ndims)
        if name == "laplace":
            return dist.Laplace(mean, log_scale=log_scale, event_ndims=ndims)
        return dist.DiscretizedLogistic(mean, log_scale=log_scale, levels=levels, event_ndims=ndims)

    scale_title = {"global": "one learned scale", "fixed": "fixed scale", "per_pixel": "a learned scale per pixel"}[
        scale
    ]
    discrete = name == "discretized_logistic"
    return Likelihood(
        f"{name.replace('_', ' ')}, {scale_title}",
        2 if scale == "per_pixel" else 1,
        init,
        distribution,
        discrete=discrete,
    )
