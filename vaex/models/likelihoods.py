"""From a decoder's raw output to a distribution over x: the likelihoods that every model shares, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from vaex import distributions as dist
from vaex.core import LikelihoodSummary
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


class Likelihood(NamedTuple):
    """``channels`` raw numbers per value; ``init() -> params``; ``distribution(params, sigma, raw [..., *shape, channels])``.

    ``title`` names it in reports. ``density``: whether its log_prob is a log-likelihood of the data (a cross-entropy of
    grey values is not). ``discrete``: whether it is a probability over the data's levels.
    """

    title: str
    channels: int
    init: Callable[[], Any]
    distribution: Callable[..., Any]
    density: bool = True
    discrete: bool = False

    @property
    def summary(self) -> LikelihoodSummary:
        """The likelihood as reports name it."""
        return LikelihoodSummary(self.title, self.discrete)


def choose(name: str, spec: Spec) -> str:
    """The likelihood that "auto" means for this data.

    bernoulli for binary images and for 8-bit or continuous grey ones (which are then binarised dynamically, the field's
    custom); discretized_logistic for colour and for coarser levels, where binarising would lose most of the image;
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
    """The binarisation that "auto" means: dynamic where a bernoulli likelihood meets grey or colour values.

    Example:
      >>> binarization("bernoulli", Spec("digits", (8, 8, 1), "grey", levels=17))
      'dynamic'
    """
    return "dynamic" if name == "bernoulli" and spec.kind in ("grey", "color") else "none"


def build(name: str, spec: Spec, *, scale: str = "global") -> Likelihood:
    """The likelihood called ``name`` (see ``choose``) for data of this spec.

    Args:
      name: one of ``Name``.
      spec: with its binarisation already resolved.
      scale: for gaussian, laplace and discretized_logistic: one learned scale ("global"), the hyperparameter ``sigma``
        ("fixed"; a gaussian's loss is then the squared error over 2 sigma^2 plus a constant), or one that the decoder
        gives for each pixel ("per_pixel").
    Raises: UserError where the data can't have this likelihood.
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
    """Mixtures of logistics at each pixel, over all its channels; raw numbers come by channel, so a few may be left over.

    Raises: UserError for examples other than images.
    """
    if len(spec.shape) != 3:
        raise UserError(
            f"--likelihood=discretized_logistic_mixture needs images, but {spec.name} has examples of shape {spec.shape}; use "
            "--likelihood=discretized_logistic"
        )
    channels = spec.shape[-1]
    wanted = COMPONENTS * dist.DiscretizedLogisticMixture.num_parameters(channels)

    def distribution(params: Any, sigma: jax.Array, raw: jax.Array) -> dist.DiscretizedLogisticMixture:
        pixels = raw.reshape(*raw.shape[:-2], -1)[..., :wanted]
        return dist.DiscretizedLogisticMixture.from_parameters(pixels, channels=channels, levels=levels)

    title = f"mixture of {COMPONENTS} discretized logistics"
    return Likelihood(title, -(-wanted // channels), dict, distribution, discrete=True)


def _scaled(name: str, spec: Spec, scale: str, levels: int, ndims: int) -> Likelihood:
    """gaussian, laplace and discretized_logistic, whose scale is learned or fixed. Raw means of images start at 1/2."""
    offset = 0.0 if spec.kind == "real" else 0.5
    start = {"real": 0.0}.get(spec.kind, -2.0)

    def init() -> dict[str, jax.Array]:
        return {"log_scale": jnp.full((), start)} if scale == "global" else {}

    def distribution(params: dict[str, jax.Array], sigma: jax.Array, raw: jax.Array) -> Any:
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

    words = {"global": "one learned scale", "fixed": "fixed scale", "per_pixel": "a learned scale per pixel"}[scale]
    discrete = name == "discretized_logistic"
    return Likelihood(
        f"{name.replace('_', ' ')}, {words}", 2 if scale == "per_pixel" else 1, init, distribution, discrete=discrete
    )
