"""Likelihoods of counts: rates that the decoder gives, or shares of an example's total, its library size."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import distributions as dist
from vaex.core import PyTree
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.likelihood import Likelihood
from vaex.nets.activations import soft_clip

COUNTS = ("poisson", "negative_binomial")
LIBRARY = ("library_poisson", "library_negative_binomial")
SCALES = {
    "global": "one learned dispersion",
    "fixed": "fixed dispersion",
    "per_column": "a learned dispersion per column",
    "per_pixel": "a learned dispersion per value",
}


def log_counts(spec: Spec, x: jax.Array) -> jax.Array:
    """Return log(1 + count) of model inputs, which hold counts as shares of the largest one: what networks read beside totals."""
    assert spec.levels is not None
    return jnp.log1p(x * (spec.levels - 1))


def counts(name: str, spec: Spec, scale: str) -> Likelihood:
    r"""Return a likelihood of counts, which model inputs hold as shares of the largest one.

    Rates of poisson and negative_binomial start at the geometric mean of 1 and the largest count. Those of library_poisson and
    library_negative_binomial are :math:`l \rho`: l is the total count of the example, and the decoder gives the shares
    :math:`\rho`, which add up to 1; the density is that of x given l. Where there is no example, as for samples, l is the geometric
    mean of the training totals, ``spec.typical_total``.

    Args:
      name: one of ``COUNTS`` and ``LIBRARY``.
      spec: of the data.
      scale: of the dispersion; see ``likelihoods.build``.
    Raises: UserError for data that is no counts.
    References: Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Methods, with observed library sizes.
    """
    binary = spec.kind == "binary" or spec.binarize != "none"
    if binary or spec.levels is None or spec.dequantize != "none":
        got = "0 and 1" if binary else "real numbers" if spec.kind == "real" else "continuous values"
        remedy = "use --likelihood=bernoulli" if binary else "give integers, or use --likelihood=gaussian"
        raise UserError(f"--likelihood={name} needs counts 0, 1, 2, ..., but {spec.name} holds {got}; {remedy}")
    if name in LIBRARY and len(spec.shape) != 1:
        raise UserError(
            f"--likelihood={name} is for vectors, and {spec.name} has examples of shape {spec.shape}; use "
            f"{name.removeprefix('library_')}"
        )
    largest, ndims = spec.levels - 1, len(spec.shape)
    unit, middle = 1.0 / largest, 0.5 * math.log(largest)
    typical = math.log(spec.typical_total or largest)

    def log_rate(raw: jax.Array, x: jax.Array | None) -> jax.Array:
        if name in COUNTS:
            return middle + soft_clip(raw[..., 0], 12.0)
        total = typical if x is None else jnp.log(jnp.maximum(jnp.sum(x, axis=-1, keepdims=True) * largest, 1.0))
        return total + jax.nn.log_softmax(raw[..., 0], axis=-1)

    def init() -> dict[str, jax.Array]:
        shape = spec.shape if scale == "per_column" else ()
        learned = name.endswith("negative_binomial") and scale in ("global", "per_column")
        return {"log_scale": jnp.zeros(shape)} if learned else {}

    def given(params: PyTree, sigma: ArrayLike, raw: jax.Array, x: jax.Array | None) -> dist.Distribution:
        mean = log_rate(raw, x)
        if name.endswith("poisson"):
            return dist.Poisson(mean, ndims, unit)
        # the scale is the coefficient of variation of the rates, the square root of the dispersion
        if scale == "per_pixel":
            log_scale = soft_clip(raw[..., 1])
        else:
            log_scale = jnp.log(sigma) if scale == "fixed" else soft_clip(params["log_scale"])
        return dist.NegativeBinomial(mean, jnp.broadcast_to(2.0 * log_scale, mean.shape), ndims, unit)

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        return given(params, sigma, raw, None)

    of_total = ", rates as shares of the total count, which is given" if name in LIBRARY else ""
    title = "poisson" if name.endswith("poisson") else f"negative binomial, {SCALES[scale]}"
    channels = 2 if scale == "per_pixel" and not name.endswith("poisson") else 1
    return Likelihood(
        title + of_total, channels, init, distribution, discrete=True, given=given if name in LIBRARY else None
    )
