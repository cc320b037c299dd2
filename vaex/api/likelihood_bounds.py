"""Log-likelihoods of a trained run from both sides, and the rate of its codes taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.bounds import importance_bound, mixture_log_weights
from vaex.core import Distribution, EvaluationKey, Recipe
from vaex.data.loader.lazy_inputs import LazyInputs
from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.evaluation.annealing import annealed_bounds, density_fit_log_likelihood, simulated_sandwich
from vaex.evaluation.examples import SEED, chosen_examples
from vaex.evaluation.likelihood import SAMPLES_PER_CHUNK, Estimate, estimate, weighted_log_likelihood

if TYPE_CHECKING:
    from vaex.api.run import Run
    from vaex.api.trained_model import TrainedModel

Tell = Callable[[str], None]
FIT_LATENTS = 5  # most latents for which the density fit of the AEVB paper is made


class LikelihoodChoices(NamedTuple):
    """How log-likelihoods are estimated.

    Attributes:
      images: examples of the split, chosen at random, and simulated ones.
      importance_samples: K, of each example.
      temperatures, chains, leapfrog_steps: of annealed importance sampling, for each example.
    """

    images: int = 100
    importance_samples: int = 1000
    temperatures: int = 1000
    chains: int = 16
    leapfrog_steps: int = 10


def standard_normal_prior(recipe: Recipe) -> bool:
    """Return True where all entries of a code have a standard normal prior."""
    return all(block.kind == "normal" for block in recipe.latents)


def model_inputs(run: Run, dataset: Dataset, split: str, images: int) -> np.ndarray:
    """Return chosen examples of a split as model inputs, binarised or dequantised by a fixed key."""
    x = dataset.splits[split]["x"]
    key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.INPUTS)
    return LazyInputs(run.spec, key, x, images)[chosen_examples(len(x), images)]


def likelihood_scores(
    run: Run, dataset: Dataset, split: str, choices: LikelihoodChoices, tell: Tell
) -> tuple[list[dict[str, Estimate]], dict[str, str]]:
    """Return the estimates of each member, means over examples, and their protocol.

    Raises: UserError for a model without a density, one that reads labels, or numbers below 1.
    """
    if wrong := [name for name, value in choices._asdict().items() if value < 1]:
        raise UserError(f"likelihood: {wrong[0]}={getattr(choices, wrong[0])}, expected at least 1")
    if run.recipe.model.log_weights is None:
        raise UserError("likelihood: this run's objective defines no density; choose other metrics")
    if run.recipe.labels is not None:
        raise UserError("likelihood: this model reads labels; run.log_likelihood and run.evaluate estimate its density")
    x = model_inputs(run, dataset, split, choices.images)
    annealed = standard_normal_prior(run.recipe)
    rows = []
    for index in range(len(run)):
        row = _importance(run[index], x, choices)
        if annealed:
            row |= _annealed(run[index], x, choices, lambda text, name=run.names[index]: tell(f"{name}: {text}"))
        rows.append({name: estimate(np.asarray(values)) for name, values in row.items()})
    chains = f"{choices.chains} chains of {choices.temperatures} temperatures, {choices.leapfrog_steps} leapfrog steps"
    examples = f"{len(x)} examples of the {split} split"
    protocol = {
        "log_likelihood": f"importance bound, K = {choices.importance_samples}, nats, of {examples}; ± over examples",
        "effective_sample_size": f"of these K = {choices.importance_samples} weights",
    }
    if annealed:
        protocol |= {
            "annealed_log_likelihood": f"annealed importance sampling of the same examples: {chains}",
            "annealed_effective_sample_size": f"of the weights of these {choices.chains} chains",
            "simulated_lower, simulated_upper": f"of {choices.images} examples that the model simulates; upper: a reverse chain",
            "sandwich_gap": "upper less lower bound of each simulated example, nats",
        }
        if "density_fit_log_likelihood" in rows[0]:
            protocol["density_fit_log_likelihood"] = (
                "Hamiltonian chains, a Gaussian fit (Kingma & Welling, app. D); no bound"
            )
    else:
        protocol["annealed"] = "left out: the prior of this model is no standard normal"
    if len(run) > 1:
        bound, reason = _several_encoders(run, x, choices)
        protocol["several_encoders"] = reason
        for row in rows if bound else ():
            row |= bound
    return rows, protocol


def _importance(model: TrainedModel, x: np.ndarray, choices: LikelihoodChoices) -> dict[str, jax.Array]:
    log_weights = model.recipe.model.log_weights
    assert log_weights is not None
    chunk = max(1, min(SAMPLES_PER_CHUNK, 2**22 // max(1, x[0].size)))
    weighted = weighted_log_likelihood(log_weights, num_samples=choices.importance_samples, samples_per_chunk=chunk)
    key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.LOG_LIKELIHOOD)
    bound = weighted(key, model.variables, model.hparams, {"x": jnp.asarray(x)})
    return {"log_likelihood": bound.bound, "effective_sample_size": bound.effective_sample_size}


def _annealed(model: TrainedModel, x: np.ndarray, choices: LikelihoodChoices, tell: Tell) -> dict[str, jax.Array]:
    def decode(z: jax.Array) -> Distribution:
        return model.recipe.model.decode(model.variables, model.hparams, z, {})

    latents = int(np.prod(model.latent_shape))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(SEED), EvaluationKey.BOUNDS), 3)
    options = {name: getattr(choices, name) for name in ("temperatures", "chains", "leapfrog_steps")}
    bounds = annealed_bounds(keys[0], decode, x, latents, **options, tell=tell)
    sandwich = simulated_sandwich(keys[1], decode, choices.images, latents, **options, tell=tell)
    values = {
        "annealed_log_likelihood": bounds.bound,
        "annealed_effective_sample_size": bounds.effective_sample_size,
        "simulated_lower": sandwich.lower,
        "simulated_upper": sandwich.upper,
        "sandwich_gap": sandwich.upper - sandwich.lower,
    }
    if latents <= FIT_LATENTS:
        options = {name: getattr(choices, name) for name in ("temperatures", "leapfrog_steps")}
        values["density_fit_log_likelihood"] = density_fit_log_likelihood(
            keys[2], decode, x, latents, **options, tell=tell
        )
    return values


def _several_encoders(run: Run, x: np.ndarray, choices: LikelihoodChoices) -> tuple[dict[str, Estimate], str]:
    """Return the bounds of all encoders together where the members have one decoder, and what they are or why there are none."""
    members = [run[index] for index in range(len(run))]
    first = members[0]
    normal = standard_normal_prior(run.recipe)
    same = all(_same_decoder(first.variables.params, member.variables.params) for member in members[1:])
    if not (normal and same):
        return (
            {},
            "left out: members have decoders or priors of their own; see --init_from and --freeze=decoder,likelihood",
        )
    draws = max(1, choices.importance_samples // len(members))

    def bound(key: jax.Array, example: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = {"x": example[None]}
        posteriors = [m.recipe.model.encode(key, m.variables, m.hparams, batch) for m in members]
        z = jnp.stack([q.sample(jax.random.fold_in(key, i), (draws,))[:, 0] for i, q in enumerate(posteriors)])
        log_q = jnp.stack([q.log_prob(z[:, :, None])[:, :, 0] for q in posteriors])
        prior = -0.5 * jnp.sum(jnp.square(z) + jnp.log(2 * jnp.pi), axis=-1)
        log_px = jnp.stack(
            [first.recipe.model.decode(first.variables, first.hparams, part, {}).log_prob(example) for part in z]
        )
        weights = mixture_log_weights(log_px + prior, log_q)
        return jnp.mean(weights), importance_bound(weights.reshape(-1))

    key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.LIKELIHOOD_SAMPLES)
    keys, examples = jax.random.split(key, len(x)), jnp.asarray(x)
    elbo, weighted = jax.jit(lambda k, v: jax.lax.map(lambda pair: bound(*pair), (k, v)))(keys, examples)
    values = {"several_encoders_elbo": elbo, "several_encoders_log_likelihood": weighted}
    reason = f"all {len(members)} encoders as one mixture, {draws} samples of each (MISELBO and its importance-weighted version)"
    return {name: estimate(np.asarray(of_examples)) for name, of_examples in values.items()}, reason


def _same_decoder(params: Mapping[str, Mapping[str, object]], others: Mapping[str, Mapping[str, object]]) -> bool:
    """Return True where all parameters but the encoder's are equal."""

    def beside_encoder(tree: Mapping[str, Mapping[str, object]]) -> list[np.ndarray]:
        parts = [
            {name: part for name, part in group.items() if name not in ("encoder", "posterior")}
            for group in tree.values()
        ]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(parts)]

    return all(np.array_equal(a, b) for a, b in zip(beside_encoder(params), beside_encoder(others), strict=True))
