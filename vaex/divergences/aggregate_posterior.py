"""The aggregate posterior from a minibatch: total correlation, and the decomposition of the average KL."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import Distribution, Normal
from vaex.ops.arrays import lift
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.ops.scalars import softplus

Sampling = Literal["weighted", "stratified"]


class AggregateDensities(NamedTuple):
    """Log-densities [b] of latents, in nats: ``conditional`` log q(z|x), ``joint`` log q(z), ``marginals`` sum_j log q(z_j)."""

    conditional: jax.Array
    joint: jax.Array
    marginals: jax.Array


class KLDecomposition(NamedTuple):
    """Terms [b] of the KL to the prior, in nats, each to be averaged over the batch; their sum is log q(z|x) - log p(z)."""

    index_code_mi: jax.Array
    total_correlation: jax.Array
    dimension_wise_kl: jax.Array


def aggregate_densities(
    z: jax.Array, mean: jax.Array, log_scale: jax.Array, dataset_size: int, *, sampling: Sampling = "stratified"
) -> AggregateDensities:
    r"""Log-densities of latents under the aggregate posterior :math:`q(z) = \frac1N\sum_n q(z|x_n)`, from a minibatch.

    - ``weighted``: :math:`\frac1{NB}\sum_j q(z_i|x_j)`. Its logarithm is too low: by log B where the posterior that z was
      drawn from dominates the sum, by log N where all posteriors overlap. These shifts carry little gradient.
    - ``stratified``: that posterior weighs 1/N, each of the other B - 1 (N-1)/(N(B-1)): unbiased for q(z) itself where
      the batch is drawn without replacement. (The published weights give one of the others a different weight; these are
      their mean over the order of the batch, which has the same expectation and less variance.)

    Args:
      z: [b, d], one sample of each posterior.
      mean: [b, d], posterior means of the same examples.
      log_scale: [b, d], log standard deviations.
      dataset_size: N, at least b.
      sampling: "weighted" or "stratified".
    Returns: three arrays [b], float32 or wider. Memory grows as b b d.
    Raises: ValueError if the shapes disagree or ``dataset_size`` is out of range.
    Example:
      >>> z = jnp.zeros((4, 2))
      >>> aggregate_densities(z, z, z, 4).joint.shape
      (4,)

    References: Chen et al. 2018, eq. 5 and appendices C.1-C.2.
    """
    _check("aggregate_densities", z, mean, log_scale, dataset_size, sampling)
    z, mean, log_scale = lift(z, mean, log_scale)
    # [d, i, j]: log q(z_i | x_j) of each latent; with the latents last, a step on CPU takes four times as long
    pairs = Normal(mean.T[:, None], log_scale=log_scale.T[:, None], event_ndims=0).log_prob(z.T[:, :, None])
    batch = z.shape[0]
    same_example = jnp.eye(batch, dtype=bool)
    if sampling == "weighted":
        log_weights = jnp.full((batch, batch), -math.log(dataset_size * batch), z.dtype)
    else:
        others = (dataset_size - 1) / (dataset_size * max(batch - 1, 1))
        log_weights = jnp.where(same_example, -math.log(dataset_size), math.log(others) if others else -jnp.inf).astype(
            z.dtype
        )
    joint = log_sum_exp(log_weights + jnp.sum(pairs, axis=0), axis=-1)
    marginals = jnp.sum(log_sum_exp(log_weights + pairs, axis=-1), axis=0)
    return AggregateDensities(Normal(mean, log_scale=log_scale).log_prob(z), joint, marginals)


def total_correlation(
    z: jax.Array, mean: jax.Array, log_scale: jax.Array, dataset_size: int, *, sampling: Sampling = "stratified"
) -> jax.Array:
    r"""Total correlation :math:`\log q(z) - \sum_j \log q(z_j)` per example, in nats, from a minibatch.

    Its mean over the batch estimates the KL of the aggregate posterior from the product of its marginals. Biased: it is a
    difference of logarithms of means. See ``aggregate_densities`` for the two ways of weighting.

    Args:
      z: [b, d], one sample of each posterior.
      mean: [b, d], posterior means of the same examples.
      log_scale: [b, d], log standard deviations.
      dataset_size: N, at least b.
      sampling: "weighted" or "stratified".
    Returns: [b], not averaged.
    Raises: ValueError if the shapes disagree or ``dataset_size`` is out of range.
    Example:
      >>> z = jnp.array([[-1.0, -1.0], [1.0, 1.0]])  # two far points: log 2 nats of dependence
      >>> print(*(f"{x:.4f}" for x in total_correlation(z, z, jnp.full((2, 2), -5.0), 2)))
      0.6931 0.6931

    References: Chen et al. 2018, eq. 2.
    """
    _check("total_correlation", z, mean, log_scale, dataset_size, sampling)
    densities = aggregate_densities(z, mean, log_scale, dataset_size, sampling=sampling)
    return densities.joint - densities.marginals


def decompose_kl(
    z: jax.Array,
    mean: jax.Array,
    log_scale: jax.Array,
    dataset_size: int,
    *,
    prior: Distribution | None = None,
    sampling: Sampling = "stratified",
) -> KLDecomposition:
    r"""Average KL to the prior as index-code mutual information + total correlation + dimension-wise KL, in nats.

    :math:`[\log q(z|x) - \log q(z)] + [\log q(z) - \sum_j\log q(z_j)] + [\sum_j\log q(z_j) - \log p(z)]`, per example.

    Args:
      z: [b, d], one sample of each posterior.
      mean: [b, d], posterior means of the same examples.
      log_scale: [b, d], log standard deviations.
      dataset_size: N, at least b.
      prior: a factorised distribution over [d] with ``log_prob``; the standard normal by default.
      sampling: "weighted" or "stratified"; see ``aggregate_densities``.
    Returns: three arrays [b], not averaged.
    Raises: ValueError if the shapes disagree or ``dataset_size`` is out of range.
    Example:
      >>> z = jnp.array([[-1.0, -1.0], [1.0, 1.0]])
      >>> print(f"{decompose_kl(z, z, jnp.full((2, 2), -5.0), 2).index_code_mi.mean():.4f}")  # tells the two apart
      0.6931

    References: Chen et al. 2018, eq. 2; Hoffman & Johnson 2016.
    """
    _check("decompose_kl", z, mean, log_scale, dataset_size, sampling)
    conditional, joint, marginals = aggregate_densities(z, mean, log_scale, dataset_size, sampling=sampling)
    if prior is None:
        prior = Normal(jnp.zeros(np.shape(z)[-1:], jnp.result_type(z)), 1.0)
    return KLDecomposition(conditional - joint, joint - marginals, marginals - prior.log_prob(z))


def permute_latents(key: jax.Array, z: jax.Array) -> jax.Array:
    """Shuffle each latent over the batch independently: samples of the product of marginals from samples of the joint.

    Args:
      key: a key.
      z: [b, d].
    Returns: [b, d].
    Raises: ValueError if the shape is not [b, d].
    Example:
      >>> permute_latents(jax.random.key(0), jnp.arange(6.0).reshape(3, 2)).sum(0)
      Array([6., 9.], dtype=float32)

    References: Kim & Mnih 2018, algorithm 1.
    """
    if np.ndim(z) != 2:
        raise ValueError(f"permute_latents: z has shape {np.shape(z)}, expected [b, d]; flatten the latent axes")
    return jax.random.permutation(key, z, axis=0, independent=True)


def density_ratio_loss(joint_logits: jax.Array, permuted_logits: jax.Array) -> jax.Array:
    r"""Loss of the critic per pair, in nats: logistic regression of joint against permuted samples.

    :math:`-\tfrac12[\log\sigma(D(z)) + \log(1-\sigma(D(\bar z)))]`. At its minimum D(z) is the log density ratio, and the
    mean of D over joint samples is then the total correlation: the penalty is the critic's logits themselves, averaged.

    Args:
      joint_logits: [b], D of latents as encoded.
      permuted_logits: [b], D of ``permute_latents`` of another half of the batch.
    Returns: [b], not averaged.
    Raises: ValueError if the shapes differ.
    Example:
      >>> print(*(f"{x:.4f}" for x in density_ratio_loss(jnp.zeros(2), jnp.zeros(2))))
      0.6931 0.6931

    References: Kim & Mnih 2018, eq. 3 and algorithm 2.
    """
    if np.shape(joint_logits) != np.shape(permuted_logits):
        raise ValueError(
            f"density_ratio_loss: permuted_logits has shape {np.shape(permuted_logits)}, expected "
            f"{np.shape(joint_logits)} like joint_logits; squeeze the critic's output"
        )
    joint_logits, permuted_logits = lift(joint_logits, permuted_logits)
    return 0.5 * (softplus(-joint_logits) + softplus(permuted_logits))


def density_ratio_total_correlation(joint_logits: jax.Array) -> jax.Array:
    """Total correlation per example, in nats, by a critic that tells joint samples from permuted ones: its logits.

    Args:
      joint_logits: [b], the critic's log-odds that a latent is from the joint, trained by ``density_ratio_loss``.
    Returns: [b], float32 or wider, not averaged; the average estimates the total correlation as well as the critic is good.
    Raises: ValueError if there is a trailing class axis.
    Example:
      >>> density_ratio_total_correlation(jnp.array([0.5, 1.5])).mean()
      Array(1., dtype=float32)

    References: Kim & Mnih 2018, eq. 3.
    """
    if np.ndim(joint_logits) != 1:
        raise ValueError(
            f"density_ratio_total_correlation: joint_logits has shape {np.shape(joint_logits)}, expected [b]; squeeze it, or "
            "take the difference of two class logits"
        )
    return lift(joint_logits)[0]


def _check(name: str, z: jax.Array, mean: jax.Array, log_scale: jax.Array, dataset_size: int, sampling: str) -> None:
    shapes = [np.shape(x) for x in (z, mean, log_scale)]
    if len(shapes[0]) != 2 or len(set(shapes)) != 1:
        raise ValueError(
            f"{name}: z, mean and log_scale have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}, expected one shape [b, d]; "
            "give one sample of each posterior"
        )
    if isinstance(dataset_size, int) and dataset_size < shapes[0][0]:
        raise ValueError(
            f"{name}: dataset_size is {dataset_size}, expected at least the batch's {shapes[0][0]}; it is the size of the "
            "whole training set"
        )
    if sampling not in ("weighted", "stratified"):
        raise ValueError(f"{name}: sampling is {sampling!r}, expected one of these: weighted, stratified")
