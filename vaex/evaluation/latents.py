"""Latent variables of a code: what they are called, how informative each is, and which ones the model uses.

Axes: n examples, d entries of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.core import Latents
from vaex.errors import nearest

BUILT_IN = ("normal", "free", "sphere", "categorical", "code")
_REGISTERED: dict[str, LatentKind] = {}


class LatentKind(NamedTuple):
    """How evaluation and figures treat a block of ``size`` entries of a code that is one variable of a kind of your own.

    Attributes:
      path: posterior means [n, size] of some examples -> [t, size], what a traversal puts in the place of the first one's entries.
      kl: means and variances of posteriors, [n, size] each -> KL divergence from the prior, averaged over them, nats; None where
        there is no closed form.
      active: posterior means [n, size] -> whether the model uses the variable; by default whether an entry is active.
    """

    path: Callable[[np.ndarray], ArrayLike]
    kl: Callable[[np.ndarray, np.ndarray], float] | None = None
    active: Callable[[np.ndarray], bool] | None = None


def register_kind(name: str, kind: LatentKind) -> None:
    """Make ``name`` a kind of ``vaex.core.Latents``, with which a model file describes its codes.

    Raises: ValueError for the name of a built-in kind.
    Example:
      >>> register_kind("share", LatentKind(lambda means: np.linspace(0.0, 1.0, 5)[:, None]))
      >>> [variable.name for variable in latent_variables((Latents("share", 1), Latents("normal", 1)), 2)]
      ['share0', 'z0']
    """
    if name in BUILT_IN:
        raise ValueError(f"register_kind: {name!r} is built in; choose another name")
    _REGISTERED[name] = kind


def registered_kind(name: str) -> LatentKind | None:
    """Return the kind of this name, None for a built-in one.

    Raises: ValueError for a name that is neither.
    """
    if name in BUILT_IN:
        return None
    if name not in _REGISTERED:
        known = (*BUILT_IN, *_REGISTERED)
        raise ValueError(f"Latents: kind is {name!r}; {nearest(name, known)}; register_kind adds others")
    return _REGISTERED[name]


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


def marginal_kl(mean: ArrayLike, variance: ArrayLike) -> np.ndarray:
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
    """Order of latent dimensions by falling KL; equal ones keep their order, NaN comes last.

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


class LatentVariable(NamedTuple):
    """One latent variable: the entries ``start`` to ``stop`` of a code, as a block of ``kind`` (see ``vaex.core.Latents``).

    ``name``: z0, z1, ... for real numbers, c0, c1, ... for categorical variables. A sphere of any dimension is one variable. A
    block of integer codes counts as one, named after its first entry. Variables of registered kinds are numbered by kind.
    """

    name: str
    kind: str
    start: int
    stop: int

    def select(self, codes: np.ndarray) -> np.ndarray:
        """Return this variable's entries of ``codes`` [..., d]."""
        return codes[..., self.start : self.stop]


def latent_variables(blocks: Sequence[Latents], d: int) -> tuple[LatentVariable, ...]:
    """Return the latent variables of a code of ``d`` entries.

    Args:
      blocks: as ``Recipe.latents``; () where all entries are "normal".
      d: entries of a code.
    Raises: ValueError where the blocks don't make up ``d`` entries.
    Example:
      >>> [variable.name for variable in latent_variables((Latents("normal", 2), Latents("categorical", 10)), 12)]
      ['z0', 'z1', 'c0']
    """
    blocks = blocks or (Latents("normal", d),)
    if sum(block.size for block in blocks) != d:
        raise ValueError(
            f"latent_variables: got blocks of {[block.size for block in blocks]} entries, expected {d} in all, like the codes; "
            "correct the recipe's latents"
        )
    variables: list[LatentVariable] = []
    start = numbers = 0
    blocks_of: dict[str, int] = {}
    for kind, size, *_ in blocks:
        if kind in ("normal", "free"):
            variables += [LatentVariable(f"z{numbers + i}", kind, start + i, start + i + 1) for i in range(size)]
            numbers += size
        elif kind == "code":
            variables.append(LatentVariable(f"codes {start}", kind, start, start + size))
        elif kind == "sphere":
            variables.append(LatentVariable("sphere", kind, start, start + size))
        else:
            registered = registered_kind(kind)
            name = f"{'c' if registered is None else kind}{blocks_of.setdefault(kind, 0)}"
            variables.append(LatentVariable(name, kind, start, start + size))
            blocks_of[kind] += 1
        start += size
    return tuple(variables)


def kl_per_latent(variables: Sequence[LatentVariable], mean: ArrayLike, variance: ArrayLike) -> np.ndarray | None:
    """KL of each latent variable to its prior, averaged over examples; None where one has no closed form.

    Args:
      variables: from ``latent_variables``.
      mean, variance: [n, d], of the posteriors; of a categorical variable the mean holds its probabilities.
    Returns: [r] in nats, one per variable: of a normal one see ``marginal_kl``; of a categorical one, exact; of a registered kind
      what that gives.
    Example:
      >>> kl_per_latent(latent_variables((Latents("categorical", 2),), 2), [[1.0, 0.0]], [[0.0, 0.0]]).round(4)
      array([0.6931])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    kl = []
    for variable in variables:
        if variable.kind == "normal" and np.all(variable.select(variance) > 0):
            kl.append(marginal_kl(variable.select(mean), variable.select(variance))[0])
        elif variable.kind == "categorical":
            probabilities = variable.select(mean)
            logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
            kl.append(np.mean(np.sum(probabilities * logs, axis=-1)) + np.log(probabilities.shape[-1]))
        elif (registered := registered_kind(variable.kind)) is not None and registered.kl is not None:
            kl.append(registered.kl(variable.select(mean), variable.select(variance)))
        else:
            return None
    return np.array(kl)


def count_active(variables: Sequence[LatentVariable], mean: ArrayLike, variance: ArrayLike) -> int:
    """Count the latents that move with the data, by ``active_units``.

    A categorical variable is one latent, active where the probability of some class is, and so is one of a registered kind. On a
    sphere coordinates are counted,
    and of integer codes the entries that are not the same for all examples. Points without a prior have no scale to compare with
    (the codes of an autoencoder): there a latent is active whose variance exceeds a hundredth of the latents' mean variance.

    Args:
      variables: from ``latent_variables``.
      mean, variance: [n, d], of the posteriors.
    Example:
      >>> mixed = latent_variables((Latents("categorical", 2), Latents("normal", 1)), 3)
      >>> count_active(mixed, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.zeros((2, 3)))
      1
    """
    active, variances = active_units(mean)
    free = [variable for variable in variables if variable.kind == "free"]
    if free and not np.any(np.concatenate([variable.select(np.asarray(variance)) for variable in free], axis=-1)):
        scale = np.mean(np.concatenate([variable.select(variances) for variable in free]))
        for variable in free:
            active[variable.start : variable.stop] = variable.select(variances) > 0.01 * scale
    return sum(_count(variable, active, np.asarray(mean, np.float64)) for variable in variables)


def _count(variable: LatentVariable, active: np.ndarray, mean: np.ndarray) -> int:
    """Return how many latents of a variable are active, where ``active`` [d] is whether an entry is."""
    registered, entries = registered_kind(variable.kind), variable.select(active)
    if registered is not None and registered.active is not None:
        return int(registered.active(variable.select(mean)))
    if registered is not None or variable.kind == "categorical":
        return int(np.any(entries))
    return int(np.sum(entries))


def location_and_scale(variable: LatentVariable, mean: ArrayLike, variance: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation of a number: under its prior, or where the prior is learned, under the aggregate posterior.

    Args:
      variable: of the kind "normal" or "free".
      mean, variance: [n, d], of the posteriors of some examples.
    """
    if variable.kind == "normal":
        return 0.0, 1.0
    means, variances = variable.select(np.asarray(mean)), variable.select(np.asarray(variance))
    return float(np.mean(means)), float(np.sqrt(np.var(means) + np.mean(variances)))
