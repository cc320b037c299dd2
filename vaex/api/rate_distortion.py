"""Rate and distortion of a trained run's codes, and the parts of the rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from vaex.api.likelihood_bounds import standard_normal_prior
from vaex.bounds.evidence import standard_normal_like
from vaex.core import Batch, EvaluationKey, Model, PyTree, Variables
from vaex.distributions import Normal
from vaex.divergences import kl
from vaex.errors import UserError
from vaex.evaluation.aggregate_posterior import aggregate_kl
from vaex.evaluation.examples import SEED
from vaex.evaluation.likelihood import Estimate, estimate

if TYPE_CHECKING:
    from vaex.api.run import Run
    from vaex.api.trained_model import TrainedModel

BATCH = 500
DRAWS = 8  # of z for each example
AGGREGATE_DRAWS = 1000  # of z at which the density of the aggregate posterior is taken
PARTS = "index_code_mi, total_correlation, dimension_wise_kl"
PROTOCOL = {
    "rate": "E[log q(z|x) - log p(z)], nats: in closed form, or minus the ELBO less the distortion; ± over examples",
    "distortion": f"E[-log p(x|z)], nats, {DRAWS} draws of z; ± over examples",
    PARTS: "parts of the rate (Chen et al. 2018, eq. 2), for the aggregate posterior of these examples, "
    f"{AGGREGATE_DRAWS} draws of z; ± over draws",
}


def rate_distortion_scores(
    run: Run, inputs: np.ndarray, tell: Callable[[str], None]
) -> tuple[list[dict[str, Estimate]], dict[str, str]]:
    """Return the rate, the distortion and, of diagonal Gaussian posteriors under a standard normal prior, the parts of the rate.

    Args:
      run: whose members are scored.
      inputs: [n, ...], as the model reads them.
      tell: hears which member is measured.
    Returns: the estimates of each member, and their protocol.
    Raises: UserError for a model without a density, or one that reads labels.
    """
    if run.recipe.model.log_weights is None:
        raise UserError("rate_distortion: this run's objective defines no density; choose other metrics")
    if run.recipe.labels is not None:
        raise UserError("rate_distortion: this model reads labels; run.evaluate reports its bound and its terms")
    terms = _terms(run.recipe.model)
    rows = []
    for index in range(len(run)):
        tell(f"rate and distortion: {run.names[index]}")
        rows.append(_scores(run[index], terms, inputs))
    protocol = dict(PROTOCOL)
    if "total_correlation" not in rows[0]:
        del protocol[PARTS]
        protocol["parts of the rate"] = (
            "left out: they are computed for diagonal Gaussians under a standard normal prior"
        )
    return rows, protocol


Terms = Callable[[jax.Array, Variables, PyTree, Batch], tuple[jax.Array, jax.Array]]


def _terms(model: Model) -> Terms:
    """Return a jitted function to rate and distortion, [b] each."""
    log_weights = model.log_weights
    assert log_weights is not None

    @jax.jit
    def terms(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array]:
        def distortion(draw_key: jax.Array) -> jax.Array:
            code_key, noise_key = jax.random.split(draw_key)
            z = model.encode(code_key, variables, hparams, batch).sample(noise_key)
            return -model.decode(variables, hparams, z, batch).log_prob(batch["x"])

        distortion_key, weight_key = jax.random.split(key)
        mean_distortion = jnp.mean(jax.lax.map(distortion, jax.random.split(distortion_key, DRAWS)), axis=0)
        elbo = jnp.mean(log_weights(weight_key, variables, hparams, batch, DRAWS), axis=0)
        return -elbo - mean_distortion, mean_distortion

    return terms


def _scores(model: TrainedModel, terms: Terms, inputs: np.ndarray) -> dict[str, Estimate]:
    key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.AGGREGATE)
    terms_key, aggregate_key = jax.random.split(key)
    rates, distortions, means, log_scales = [], [], [], []
    encode = jax.jit(model.recipe.model.encode)
    for number, start in enumerate(range(0, len(inputs), BATCH)):
        batch_key, batch = jax.random.fold_in(terms_key, number), {"x": jnp.asarray(inputs[start : start + BATCH])}
        rate, distortion = terms(batch_key, model.variables, model.hparams, batch)
        posterior = encode(batch_key, model.variables, model.hparams, batch)
        if isinstance(posterior, Normal) and standard_normal_prior(model.recipe):
            rate = kl(posterior, standard_normal_like(posterior))
            means.append(np.asarray(posterior.mean).reshape(len(rate), -1))
            log_scales.append(0.5 * np.log(np.asarray(posterior.variance)).reshape(len(rate), -1))
        rates.append(np.asarray(rate))
        distortions.append(np.asarray(distortion))
    row = {"rate": estimate(np.concatenate(rates)), "distortion": estimate(np.concatenate(distortions))}
    if means:
        row |= aggregate_kl(aggregate_key, np.concatenate(means), np.concatenate(log_scales), AGGREGATE_DRAWS)._asdict()
    return row
