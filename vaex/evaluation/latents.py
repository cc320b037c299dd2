"""What single latent dimensions do: which are used, and what moving along them changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Decode = Callable[[Any], Any]  # z [n, d] float32 -> x [n, ...]


class ActiveUnits(NamedTuple):
    """``active`` [d] bool, and the ``variances`` [d] that were compared with the threshold."""

    active: np.ndarray
    variances: np.ndarray


def active_units(means: ArrayLike, threshold: float = 0.01) -> ActiveUnits:
    r"""Latent dimensions whose posterior mean moves with the data.

    A unit u is active where :math:`\mathrm{Var}_x(\mathrm{E}_{q(z|x)}[z_u])` exceeds ``threshold``; the variance is
    over the examples (divided by n), computed in float64.

    Args:
      means: [n, d], posterior means of n examples.
      threshold: in squared units of z; 0.01 in the paper.
    Returns: ``ActiveUnits`` with ``active`` [d] and ``variances`` [d].
    Raises: ValueError unless means are [n, d] with n >= 2 and finite.
    Example:
      >>> active_units([[1.0, 0.05], [-1.0, -0.05]])
      ActiveUnits(active=array([ True, False]), variances=array([1. , 0.0025]))

    References: Burda, Grosse & Salakhutdinov 2016, section 5.1.
    """
    means = np.asarray(means, np.float64)
    if means.ndim != 2 or means.shape[0] < 2:
        raise ValueError(
            f"active_units: means has shape {means.shape}, expected [n, d] with n >= 2; encode more examples"
        )
    if not np.isfinite(means).all():
        raise ValueError("active_units: means holds NaN or infinity, expected finite values; look at the encoder first")
    variances = means.var(axis=0)
    return ActiveUnits(variances > threshold, variances)


def marginal_kl(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    r"""KL of each latent's Gaussian marginal to the standard normal, averaged over examples.

    :math:`\frac12(\mu^2 + \sigma^2 - 1 - \log\sigma^2)`; for a diagonal posterior their sum is the KL, for a full covariance
    it leaves out the latents' dependence.

    Args:
      mean, variance: [n, d].
    Returns: [d], nats.
    Example:
      >>> marginal_kl(np.zeros((2, 1)), np.ones((2, 1)))
      array([0.])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    return np.mean(0.5 * (mean**2 + variance - 1.0 - np.log(variance)), axis=0)


def order_by_kl(kl: ArrayLike) -> np.ndarray:
    """Latent dimensions by falling KL; equal ones keep their order, NaN comes last.

    Args:
      kl: [d], nats.
    Returns: int [d].
    Raises: ValueError unless kl is [d].
    Example:
      >>> order_by_kl([0.1, 2.0, 0.1, 1.5])
      array([1, 3, 0, 2])
    """
    kl = np.asarray(kl, np.float64)
    if kl.ndim != 1:
        raise ValueError(f"order_by_kl: kl has shape {kl.shape}, expected [d]; average over the examples first")
    return np.argsort(-kl, kind="stable")


def traversal_values(num: int = 11, span: float = 3.0) -> np.ndarray:
    """Equally spaced values of one latent from ``-span`` to ``span``, in standard deviations of the prior.

    Returns: float32 [num].
    Raises: ValueError unless num >= 2 and span > 0.
    Example:
      >>> traversal_values(5)
      array([-3. , -1.5,  0. ,  1.5,  3. ], dtype=float32)
    """
    if num < 2 or not span > 0:
        raise ValueError(f"traversal_values: got num={num}, span={span}, expected num >= 2 and span > 0")
    return np.linspace(-span, span, num, dtype=np.float32)


def latent_traversals(decode: Decode, base_z: ArrayLike, order: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Decodes ``base_z`` with one latent at a time replaced by each of ``values``.

    Args:
      decode: z [n, d] -> x [n, ...]; called once with len(order) * len(values) rows of float32.
      base_z: [d], the point to start from, such as the posterior mean of an example.
      order: [r], the latents to move, one row each; ``order_by_kl`` puts the most informative first.
      values: [t], such as ``traversal_values()``.
    Returns: [r, t, ...]; entry [i, j] has latent order[i] at values[j] and all others at base_z.
    Raises: ValueError for wrong shapes, or an order that names no latent of base_z.
    Example:
      >>> latent_traversals(lambda z: z, [0.5, 0.5], order=[1, 0], values=[-1.0, 1.0]).tolist()
      [[[0.5, -1.0], [0.5, 1.0]], [[-1.0, 0.5], [1.0, 0.5]]]
    """
    base_z, values = np.asarray(base_z, np.float32), np.asarray(values, np.float32)
    order = np.asarray(order)
    if base_z.ndim != 1 or order.ndim != 1 or values.ndim != 1 or 0 in (base_z.size, order.size, values.size):
        raise ValueError(
            f"latent_traversals: base_z, order, values have shapes {base_z.shape}, {order.shape}, {values.shape}, "
            "expected [d], [r], [t], none empty; pass one example"
        )
    if order.dtype.kind not in "iu" or order.min() < 0 or order.max() >= len(base_z):
        raise ValueError(f"latent_traversals: order is {order.tolist()}, expected integers from 0 to {len(base_z) - 1}")
    z = np.tile(base_z, (len(order), len(values), 1))
    z[np.arange(len(order)), :, order] = values
    return decoded("latent_traversals", decode, z)


def interpolate(decode: Decode, z0: ArrayLike, z1: ArrayLike, num: int = 10, *, spherical: bool = False) -> np.ndarray:
    r"""Decodes the way from ``z0`` to ``z1``, both ends included.

    Linear: :math:`(1-t) z_0 + t z_1`. Spherical: :math:`[\sin((1-t)\omega) z_0 + \sin(t\omega) z_1] / \sin\omega` with
    the angle :math:`\omega` between them, which keeps to norms that are typical of the prior; linear as
    :math:`\omega \to 0`.

    Args:
      decode: z [n, d] -> x [n, ...]; called once.
      z0, z1: [d] or [b, d].
      num: points on each way, >= 2.
      spherical: great circle instead of straight line.
    Returns: [num, ...], or [b, num, ...].
    Raises: ValueError for wrong shapes or num; and for a spherical way from a zero vector, or between opposite ones,
      where there is none or no single one.
    Example:
      >>> interpolate(lambda z: z, [0.0, 2.0], [2.0, 0.0], num=3).tolist()
      [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
      >>> interpolate(lambda z: z, [0.0, 2.0], [2.0, 0.0], num=3, spherical=True).round(4)[1]
      array([1.4142, 1.4142], dtype=float32)

    References: White 2016, "Sampling generative networks", section 2.1.
    """
    z0, z1 = np.asarray(z0, np.float64), np.asarray(z1, np.float64)
    if z0.shape != z1.shape or z0.ndim not in (1, 2) or z0.size == 0:
        raise ValueError(f"interpolate: z0, z1 have shapes {z0.shape}, {z1.shape}, expected the same [d] or [b, d]")
    if num < 2:
        raise ValueError(f"interpolate: num is {num}, expected at least 2; both ends are included")
    t = np.linspace(0.0, 1.0, num)[:, None]
    start, end = z0[..., None, :], z1[..., None, :]
    z = _great_circle(start, end, t) if spherical else (1.0 - t) * start + t * end
    return decoded("interpolate", decode, z)


def _great_circle(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(start, axis=-1, keepdims=True), np.linalg.norm(end, axis=-1, keepdims=True)
    if min(norm.min() for norm in norms) == 0.0:
        raise ValueError("interpolate: z0 or z1 is zero and has no direction; use spherical=False")
    # Half-angle form: exact for small angles, where arccos of the dot product loses half of its digits.
    unit0, unit1 = start / norms[0], end / norms[1]
    difference, total = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (unit1 - unit0, unit1 + unit0))
    angle = 2.0 * np.arctan2(difference, total)
    if angle.max() > np.pi - 1e-6:
        raise ValueError(
            "interpolate: z0 and z1 point in opposite directions, expected a single great circle between them; "
            "use spherical=False"
        )
    # np.sinc(x) = sin(pi x) / (pi x) is defined at zero, so equal directions need no case of their own.
    scaled = angle / np.pi
    whole = np.sinc(scaled)
    return ((1.0 - t) * np.sinc((1.0 - t) * scaled) * start + t * np.sinc(t * scaled) * end) / whole


def decoded(caller: str, decode: Decode, z: np.ndarray) -> np.ndarray:
    """Decodes z [..., d] in one call and gives the images the leading axes of z.

    Raises: ValueError if decode does not return one x per z.
    Example:
      >>> decoded("example", lambda z: z.sum(-1, keepdims=True), np.ones((2, 3, 4))).shape
      (2, 3, 1)
    """
    flat = z.reshape(-1, z.shape[-1]).astype(np.float32)
    x = np.asarray(decode(flat))
    if x.shape[:1] != flat.shape[:1]:
        raise ValueError(
            f"{caller}: decode gave shape {x.shape} for z of shape {flat.shape}, expected [{len(flat)}, ...]; "
            "return the mean of p(x|z) as an array"
        )
    return x.reshape(*z.shape[:-1], *x.shape[1:])
