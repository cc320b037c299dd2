"""Likelihoods p(x|z) by name: distributions over x from the outputs of a decoder."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex import distributions as dist
from vaex.configuration.importing import import_object
from vaex.core import PyTree
from vaex.data.measure import nearly_binary
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.columns import by_column
from vaex.models.count_likelihoods import COUNTS, LIBRARY, counts
from vaex.models.likelihood import Likelihood as Likelihood
from vaex.models.likelihood import LikelihoodDistribution as LikelihoodDistribution
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
    "poisson",
    "negative_binomial",
    "library_poisson",
    "library_negative_binomial",
    "by_column",
]
ScaleName = Literal["global", "fixed", "per_column", "per_pixel"]
MeanName = Literal["free", "bounded", "auto"]
COMPONENTS = 10  # of a mixture at each pixel, as in PixelCNN++ and VDVAE
DENSITIES = ("gaussian", "laplace")
SCALED = (  # that read likelihood_scale
    *("gaussian", "laplace", "discretized_logistic", "negative_binomial", "library_negative_binomial", "by_column"),
)
WITH_MEAN = ("gaussian", "laplace", "discretized_logistic")  # that read mean
LEVELLED = ("categorical", "discretized_logistic", "discretized_logistic_mixture")


class LikelihoodFamily(Protocol):
    """Likelihood of a user's own: returns the ``Likelihood`` for data of a spec.

    It raises UserError, or ValueError, for data that it is not for. ``Likelihood.distribution`` maps the decoder's outputs
    ``raw`` [b, *shape, channels] to a distribution of batch shape [b] and event shape ``spec.shape`` over model inputs, whose
    ``mean`` figures and reconstructions show; all of that is checked by shape before anything is compiled.

    Example::

        def student(spec):
            def distribution(params, sigma, raw):
                return StudentT(loc=raw[..., 0], df=4.0, event_ndims=len(spec.shape))

            return Likelihood("Student's t", channels=1, init=dict, distribution=distribution)

        vaex.train("vae", x, likelihood=student)
    """

    def __call__(self, spec: Spec, /) -> Likelihood: ...


def is_named(likelihood: object) -> TypeGuard[str]:
    """Return True for one of ``Name``, False for a user's own function or its dotted name."""
    return isinstance(likelihood, str) and ":" not in likelihood


def choose(name: str, spec: Spec) -> str:
    """Return ``name``, or the likelihood that "auto" stands for with this data.

    It is by_column for tables with named columns; bernoulli for values that are 0 or 1, or are binarised; negative_binomial for
    vectors of counts (``Spec.counts``), since its learned dispersion leaves Poisson variables as they are; discretized_logistic for
    other levels, such as 8-bit images; gaussian for continuous values, dequantised levels among them.

    Args:
      name: one of ``Name``.
      spec: with its binarisation and dequantisation resolved.
    Example:
      >>> choose("auto", Spec("cifar10", (32, 32, 3), "color", levels=256))
      'discretized_logistic'
    """
    if name != "auto":
        return name
    if spec.columns:
        return "by_column"
    if spec.dequantize != "none":
        return "gaussian"
    if spec.kind == "binary" or spec.binarize != "none":
        return "bernoulli"
    if spec.counts:
        return "negative_binomial"
    return "gaussian" if spec.levels is None else "discretized_logistic"


def binarization(name: str | LikelihoodFamily, spec: Spec, *, dequantize: str = "none") -> str:
    """Return the binarisation that "auto" stands for.

    It is dynamic where a bernoulli likelihood meets grey or colour values, and for images that are nearly binary already
    (``measure.nearly_binary``: handwriting and silhouettes) where the likelihood is "auto" too. Dequantised values stay.

    Args:
      name: of the likelihood.
      spec: of the data as it is stored.
      dequantize: the treatment that is asked for.
    Example:
      >>> binarization("bernoulli", Spec("digits", (8, 8, 1), "grey", levels=17))
      'dynamic'
    """
    if dequantize != "none" or spec.kind not in ("grey", "color"):
        return "none"
    return "dynamic" if name == "bernoulli" or (name == "auto" and nearly_binary(spec)) else "none"


def chosen_before(name: str, spec: Spec) -> str:
    """Return ``name``, or what "auto" stood for in runs whose data had not been measured (no ``Spec.binarization_noise``).

    Grey values were binarised then: 8-bit and continuous ones whatever they were.
    """
    if name != "auto":
        return name
    if spec.kind == "binary" or (spec.kind == "grey" and spec.levels in (None, 256)):
        return "bernoulli"
    return "gaussian" if spec.levels is None else "discretized_logistic"


def build(
    name: str | LikelihoodFamily, spec: Spec, *, scale: str = "global", mean: str = "free", totals: bool = False
) -> Likelihood:
    """Return the likelihood called ``name``, or chosen by ``choose``, for data of this spec.

    Args:
      name: one of ``Name``; a likelihood of a user's own, or its name, MODULE:NAME or FILE.py:NAME.
      spec: with its binarisation already resolved.
      scale: of gaussian, laplace and discretized_logistic: one learned number ("global"), one for each column of vectors
        ("per_column"), the hyperparameter ``sigma`` ("fixed"; a gaussian's loss is then the squared error over 2 sigma^2 plus a
        constant), or an output of the decoder for each pixel ("per_pixel").
      mean: of the same three: the decoder's output ("free"), its sigmoid ("bounded"), or its sigmoid unless the data are real
        numbers ("auto").
      totals: whether the decoder is given the example too, whose total count ``library_poisson`` and
        ``library_negative_binomial`` read.
    Raises: UserError where the data cannot have this likelihood.
    """
    if not is_named(name):
        return user_likelihood(import_object("likelihood", name) if isinstance(name, str) else name, spec)
    name = choose(name, spec)
    ndims = len(spec.shape)
    if (name == "by_column") != bool(spec.columns):
        remedy = "use --likelihood=auto"
        if spec.columns:
            remedy = "leave the flag out; a model that has this likelihood alone reads arrays of real numbers"
        holds = "is a table, whose columns have likelihoods of their own" if spec.columns else "is no table"
        raise UserError(f"--likelihood={name}: {spec.name} {holds}; {remedy}")
    if name == "by_column":
        return by_column(spec, scale)
    if name in LIBRARY and not totals:
        raise UserError(
            f"--likelihood={name} reads the total count of an example, which this model's decoder is not given; use "
            f"--likelihood={name.removeprefix('library_')}, or a model such as vae or iwae"
        )
    if name in (*COUNTS, *LIBRARY):
        return counts(name, spec, scale)
    if spec.kind == "real" and name not in ("gaussian", "laplace"):
        raise UserError(
            f"--likelihood={name} needs values in [0, 1], but {spec.name} holds real numbers; use --likelihood=gaussian or "
            "laplace, or rescale the data"
        )
    binary = spec.kind == "binary" or spec.binarize != "none"
    if name == "bernoulli" and spec.dequantize != "none":
        raise UserError(
            f"--likelihood=bernoulli needs values 0 and 1, but --dequantize={spec.dequantize} makes them continuous; use "
            "--dequantize=none, or --likelihood=gaussian"
        )
    if name == "bernoulli":
        title = "bernoulli" if binary else "cross-entropy (bernoulli on grey values: not a density)"
        events = 0 if spec.missing else ndims
        of_bits = Likelihood(title, 1, dict, lambda _, sigma, raw: dist.Bernoulli(raw[..., 0], events), binary, binary)
        return of_observed(of_bits, ndims) if spec.missing else of_bits
    if name == "continuous_bernoulli":
        return Likelihood(name, 1, dict, lambda params, sigma, raw: dist.ContinuousBernoulli(raw[..., 0], ndims))
    levels = 2 if binary else spec.levels or 0  # 0: values are continuous
    if name in LEVELLED and (not levels or spec.dequantize != "none"):
        remedy = "use --likelihood=gaussian" if not levels else "use --dequantize=none"
        raise UserError(
            f"--likelihood={name} needs data of equally spaced levels, such as uint8; here values are continuous: {remedy}"
        )
    if name == "categorical":
        title = f"categorical over {levels} levels"
        return Likelihood(
            title, levels, dict, lambda params, sigma, raw: dist.LevelCategorical(raw, ndims), discrete=True
        )
    if name == "discretized_logistic_mixture":
        return _mixture(spec, levels)
    if spec.kind == "real" and mean == "bounded":
        raise UserError(f"--mean=bounded needs values in [0, 1], but {spec.name} holds real numbers; use --mean=free")
    bounded = mean == "bounded" or (mean == "auto" and spec.kind != "real")
    scaled = _scaled(name, spec, scale, levels, 0 if spec.missing else ndims, bounded)
    return of_observed(scaled, ndims) if spec.missing else scaled


def of_observed(likelihood: Likelihood, ndims: int) -> Likelihood:
    """Return a likelihood of scalars as one of examples of ``ndims`` axes whose missing values, NaN, are marginalised."""

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        return dist.Observed(likelihood.distribution(params, sigma, raw), ndims)

    return likelihood._replace(title=f"{likelihood.title}, of observed values", distribution=distribution)


def user_likelihood(family: LikelihoodFamily, spec: Spec) -> Likelihood:
    """Return a user's likelihood for data of this spec, checked by shape.

    Raises: UserError where it is none, is not for this data, or its distribution does not fit.
    """
    called = getattr(family, "__name__", type(family).__name__)
    try:
        likelihood = family(spec)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(
            f"likelihood: {called} fails on the spec of {spec.name}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(likelihood, Likelihood):
        raise UserError(
            f"likelihood: {called} returns a {type(likelihood).__name__}, expected a Likelihood of vaex.models.likelihoods; give a "
            "function of the data's spec that returns one"
        )
    if likelihood.channels < 1:
        raise UserError(
            f"likelihood: {called} takes {likelihood.channels} decoder outputs for a value, expected at least 1"
        )

    def parts(key: jax.Array, raw: jax.Array, x: jax.Array) -> dict[str, Any]:
        px = likelihood.distribution(likelihood.init(), jnp.ones(()), raw)
        return {"mean": px.mean, "log_prob": px.log_prob(x), "sample": px.sample(key)}

    batch, raw = (2, *spec.shape), jax.ShapeDtypeStruct((2, *spec.shape, likelihood.channels), jnp.float32)
    try:
        shapes = jax.eval_shape(parts, jax.random.key(0), raw, jax.ShapeDtypeStruct(batch, jnp.float32))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"likelihood: {called} fails on decoder outputs of shape {raw.shape}: {type(error).__name__}: {reason}"
        ) from error
    for part, expected in (("mean", batch), ("log_prob", (2,)), ("sample", batch)):
        shape = getattr(shapes[part], "shape", None)
        if shape != expected:
            raise UserError(
                f"likelihood: {called} has a {part} of shape {shape} for outputs {raw.shape}, expected {expected}: one event "
                "for each example"
            )
    return likelihood


def least_scale(name: str, spec: Spec) -> float:
    r"""Least scale of a gaussian or laplace likelihood with a scale per pixel; 0 for real numbers.

    A density of data with levels says nothing below their distance :math:`\delta`, and could be raised without limit by pixels
    that never change. At :math:`\delta / \sqrt{2\pi}` (gaussian) or :math:`\delta / 2` (laplace) the density times
    :math:`\delta` is 1 at its peak: no level gets more than all of the probability. Where one value is frequent, such as the
    black of a background, ``spec.least_scale`` is larger, half the standard deviation of all values (``measure.least_scale``).
    """
    if spec.kind == "real":
        return 0.0
    if spec.levels is None:
        return spec.least_scale
    distance = 1.0 / (spec.levels if spec.dequantize != "none" else spec.levels - 1)
    return max(spec.least_scale, distance / (math.sqrt(2 * math.pi) if name == "gaussian" else 2.0))


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


def in_columns(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Return location and scale of the columns of real vectors, [d] each, float32."""
    return np.asarray(spec.location, np.float32), np.asarray(spec.scale, np.float32)


def _scaled(name: str, spec: Spec, scale: str, levels: int, ndims: int, bounded: bool) -> Likelihood:
    """Likelihood gaussian, laplace or discretized_logistic, whose scale is learned or fixed.

    Means of images start at 1/2. Of real numbers, means and scales are in standard deviations of their column, around its mean;
    where columns are not standardised, means and learned scales are in ``spec.unit``. Scales that are densities' and differ by
    pixel lie above ``least_scale``.

    Raises: UserError for a scale per column of what has no columns.
    """
    if scale == "per_column" and len(spec.shape) > 2:
        raise UserError(
            f"--likelihood_scale=per_column is for vectors and series; {spec.name} has shape {spec.shape}: use per_pixel"
        )
    offset, unit = in_columns(spec) if spec.location else (0.0 if spec.kind == "real" else 0.5, spec.unit)
    start = {"real": 0.0}.get(spec.kind, -2.0)
    least = least_scale(name, spec) if scale == "per_pixel" and name in DENSITIES else 0.0

    def init() -> dict[str, jax.Array]:
        shape = spec.shape[-1:] if scale == "per_column" else ()
        return {"log_scale": jnp.full(shape, start)} if scale in ("global", "per_column") else {}

    def in_unit(log_scale: jax.Array) -> jax.Array:
        return log_scale if spec.unit == 1 and not spec.location else log_scale + np.asarray(np.log(unit), np.float32)

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        mean = (raw[..., 0] if spec.unit == 1 and not spec.location else unit * raw[..., 0]) + offset
        mean = jax.nn.sigmoid(raw[..., 0]) if bounded else mean
        if scale == "per_pixel":
            log_scale = in_unit(soft_clip(raw[..., 1] + start))
            log_scale = jnp.logaddexp(log_scale, math.log(least)) if least else log_scale
        elif scale in ("global", "per_column"):
            log_scale = jnp.broadcast_to(in_unit(soft_clip(params["log_scale"])), mean.shape)
        else:  # in the data's own numbers, or in standard deviations of standardised columns
            log_scale = jnp.broadcast_to(in_unit(jnp.log(sigma)) if spec.location else jnp.log(sigma), mean.shape)
        if name == "gaussian":
            return dist.Normal(mean, log_scale=log_scale, event_ndims=ndims)
        if name == "laplace":
            return dist.Laplace(mean, log_scale=log_scale, event_ndims=ndims)
        return dist.DiscretizedLogistic(mean, log_scale=log_scale, levels=levels, event_ndims=ndims)

    above = f" of at least {least:.2g}" if least else ""
    titles = {
        "global": "one learned scale",
        "fixed": "fixed scale",
        "per_column": "a learned scale per column",
        "per_pixel": f"a learned scale per pixel{above}",
    }
    means = ", bounded means" if bounded else ""
    title, channels = f"{name.replace('_', ' ')}, {titles[scale]}{means}", 2 if scale == "per_pixel" else 1
    return Likelihood(title, channels, init, distribution, discrete=name == "discretized_logistic")
