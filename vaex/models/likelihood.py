"""What a likelihood p(x|z) is to a model: a family of distributions over x, from the outputs of a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

from vaex import distributions as dist
from vaex.core import LikelihoodSummary, PyTree


class LikelihoodDistribution(Protocol):
    """Returns p(x|z) from the decoder's outputs ``raw`` [..., *shape, channels]; ``sigma`` is the scale where it is fixed."""

    def __call__(self, params: PyTree, sigma: ArrayLike, raw: jax.Array, /) -> dist.Distribution: ...


class GivenExample(Protocol):
    """Returns p(x|z) as ``LikelihoodDistribution`` does, given what a density may read of the example x [..., *shape], or None."""

    def __call__(
        self, params: PyTree, sigma: ArrayLike, raw: jax.Array, x: jax.Array | None, /
    ) -> dist.Distribution: ...


class Likelihood(NamedTuple):
    """A family of distributions over x.

    Attributes:
      title: its name in reports.
      channels: number of decoder outputs for each value of x.
      init: its own parameters; {} for none.
      distribution: p(x|z).
      density: whether its log_prob is a log-likelihood of the data; a cross-entropy of grey values is not.
      discrete: whether it is a probability over the levels of the data.
      given: p(x|z) given also a statistic of x, such as its total count; None where there is none.
    """

    title: str
    channels: int
    init: Callable[[], PyTree]
    distribution: LikelihoodDistribution
    density: bool = True
    discrete: bool = False
    given: GivenExample | None = None

    @property
    def summary(self) -> LikelihoodSummary:
        """Return what reports say of the likelihood."""
        return LikelihoodSummary(self.title, self.discrete)
