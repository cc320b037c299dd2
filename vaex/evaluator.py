"""The evaluation of each member on one split: the objective's terms, log-likelihood, latents, labels kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from vaex import data
from vaex.evaluation import generation, latents, likelihood, objective
from vaex.experiment import Experiment

BATCH = 500
LIKELIHOOD_BATCH = 100  # per call of the compiled importance bound, so that progress can be told
DRAWN_VALUES = 2**23  # samples decoded at once times values per example, at most
NEIGHBOURS = 10_000  # examples on either side of the nearest-neighbour classifier: enough, and quick


def over_batches(
    function: Callable[..., Any], key: jax.Array, arrays: Mapping[str, np.ndarray], *args: Any, size: int = BATCH
) -> Any:
    """``function(key_i, *args, batch)`` over all examples, its [b, ...] results joined to [n, ...] on the host."""
    parts = []
    for index, batch in enumerate(data.padded_batches(arrays, min(size, len(arrays["x"])))):
        count = int(np.sum(batch.pop("mask")))
        result = function(jax.random.fold_in(key, index), *args, batch)
        parts.append(jax.tree.map(lambda leaf, c=count: np.asarray(leaf)[:c], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


class Evaluator:
    """The compiled functions that evaluate one member after the other, and the split they look at.

    Values are binarised or dequantised once, with a key of the evaluation's own, so that all numbers, members and runs
    are of the same values and may be compared example by example.

    Attributes:
      arrays: the split as stored; inputs: the same as model inputs; intensities: without randomness, for pictures.
    """

    def __init__(self, run: Experiment) -> None:
        spec, recipe, flags = run.spec, run.recipe, run.settings.evaluation
        self.run, self.key = run, jax.random.key(20131220)
        self.arrays = run.dataset.splits[flags.eval_split]
        prepare = jax.jit(lambda key, batch: data.prepare(spec, key, batch["x"]))
        self.inputs = {**self.arrays, "x": over_batches(prepare, jax.random.fold_in(self.key, 0), self.arrays)}
        self.intensities = {**self.arrays, "x": np.asarray(data.intensities(spec, self.arrays["x"]))}
        self._objective = objective.objective_values(recipe.stages[0].model.objective)
        self._posterior = jax.jit(self._moments)
        self._decode = jax.jit(lambda variables, hparams, z: recipe.decode(variables, hparams, z, {}).mean)
        self._draw = jax.jit(lambda key, variables, hparams, z: recipe.decode(variables, hparams, z, {}).sample(key))
        self._bound = None
        if recipe.log_weights is not None:
            chunk = max(1, min(likelihood.SAMPLES_PER_CHUNK, DRAWN_VALUES // math.prod(spec.shape)))
            self._bound = likelihood.log_likelihood(
                recipe.log_weights, num_samples=flags.eval_samples, samples_per_chunk=chunk
            )

    def _moments(self, key: jax.Array, variables: Any, hparams: Any, batch: Any) -> dict[str, jax.Array]:
        posterior = self.run.recipe.encode(key, variables, hparams, batch)
        return {"mean": posterior.mean, "variance": posterior.variance}

    def posterior(self, variables: Any, hparams: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Posterior "mean" and "variance" of each example, [n, d]."""
        return over_batches(self._posterior, jax.random.fold_in(self.key, 1), inputs, variables, hparams)

    def decode(self, variables: Any, hparams: Any, z: np.ndarray, *, show: str = "mean") -> np.ndarray:
        """Examples of ``z`` [n, d]: the likelihood's mean, or with show="sample" a draw from it."""

        def one(key: jax.Array, batch: dict[str, Any]) -> jax.Array:
            if show == "sample":
                return self._draw(key, variables, hparams, batch["x"])
            return self._decode(variables, hparams, batch["x"])

        return over_batches(one, jax.random.fold_in(self.key, 2), {"x": np.asarray(z, np.float32)})

    def log_likelihood(
        self, variables: Any, hparams: Any, tell: Callable[[int, int], None]
    ) -> likelihood.Estimate | None:
        """Importance-weighted log-likelihood of the first ``eval_images`` examples, or None without a density."""
        bound = self._bound
        if bound is None:
            return None
        wanted = min(self.run.settings.evaluation.eval_images, len(self.inputs["x"]))
        done = 0

        def one(key: jax.Array, batch: dict[str, Any]) -> jax.Array:
            nonlocal done
            tell(done, wanted)
            done += len(batch["x"])
            return bound(key, variables, hparams, batch)

        subset = {name: column[:wanted] for name, column in self.inputs.items()}
        values = over_batches(one, jax.random.fold_in(self.key, 3), subset, size=LIKELIHOOD_BATCH)
        tell(wanted, wanted)
        return likelihood.estimate(values)

    def member(self, variables: Any, hparams: Any, tell: Callable[[int, int], None]) -> dict[str, Any]:
        """All numbers of one member, in nats per example unless named otherwise; null where a number is not finite."""
        facts: dict[str, Any] = {}
        key = jax.random.fold_in(self.key, 4)
        for name, values in over_batches(self._objective, key, self.inputs, variables, hparams).items():
            _put(facts, name, likelihood.estimate(values))
        weighted = self.log_likelihood(variables, hparams, tell)
        facts["log_likelihood"] = None
        if weighted is not None:
            _put(facts, "log_likelihood", weighted)
            facts |= self._bits(weighted)
        moments = self.posterior(variables, hparams, self.inputs)
        sound = all(np.isfinite(values).all() for values in moments.values())
        active = latents.active_units(moments["mean"]).active if sound and len(moments["mean"]) > 1 else None
        facts["active_units"] = None if active is None else int(np.sum(active))
        if sound and np.all(moments["variance"] > 0):
            facts["kl_per_latent"] = [round(float(kl), 6) for kl in latents.marginal_kl(**moments)]
        if "y" in self.arrays and len(self.run.spec.shape) == 3:
            facts |= self._agreement(variables, hparams)
        return facts

    def _bits(self, weighted: likelihood.Estimate) -> dict[str, float]:
        """Bits per dimension, where the likelihood bounds the probability of the data's own levels."""
        spec, discrete = self.run.spec, self.run.recipe.likelihood.discrete
        if spec.levels in (None, 2) or spec.binarize != "none" or not (discrete or spec.dequantize == "uniform"):
            return {}
        size = math.prod(spec.shape)
        bits = likelihood.bits_per_dimension(weighted.mean, size, levels=spec.levels, density=not discrete)
        return {"bits_per_dimension": bits} if math.isfinite(bits) else {}

    def _agreement(self, variables: Any, hparams: Any) -> dict[str, float | None]:
        """Whether reconstructions keep their original's label in the eyes of a classifier of the training images."""
        train = self.run.dataset.splits["train"]
        known, seen = (np.flatnonzero(labels >= 0)[:NEIGHBOURS] for labels in (train["y"], self.arrays["y"]))
        originals = {name: column[seen] for name, column in self.intensities.items()}
        if len(known) < 1 or len(seen) < 1:  # -1 is unlabelled
            return {}
        rebuilt = self.decode(variables, hparams, self.posterior(variables, hparams, originals)["mean"])
        if not np.isfinite(rebuilt).all():
            return {}
        found = generation.knn_label_agreement(
            np.asarray(data.intensities(self.run.spec, train["x"][known])),
            train["y"][known],
            rebuilt,
            originals["y"],
            k=min(5, len(known)),
            originals=originals["x"],
        )
        return {"knn_label_agreement": found.agreement, "knn_accuracy_on_originals": found.accuracy}


def _put(facts: dict[str, Any], name: str, estimate: likelihood.Estimate) -> None:
    facts[name] = finite(estimate.mean)
    facts[f"{name}_standard_error"] = finite(estimate.standard_error)


def finite(value: float) -> float | None:
    """``value``, or None (JSON's null) where it is NaN or infinite.

    Example:
      >>> finite(1.5), finite(math.nan)
      (1.5, None)
    """
    return float(value) if math.isfinite(value) else None
