"""The evaluation of each member on one split: the objective's terms, log-likelihood, latents, labels kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import numpy as np

from vaex import data
from vaex.data.inputs import Inputs, shown
from vaex.evaluation import generation, latents, likelihood, objective
from vaex.experiment import Experiment

BATCH = 500
BATCH_VALUES = 2**27  # of the images of a batch, at most: 0.5 GB; larger images come in smaller batches
LIKELIHOOD_BATCH = 100  # per call of the compiled importance bound, so that progress can be told
DRAWN_VALUES = 2**23  # samples decoded at once times values per example, at most
NEIGHBOURS = 10_000  # examples on either side of the nearest-neighbour classifier: enough, and quick
NEIGHBOUR_VALUES = 2**27  # and values on either side: the first labelled examples that make up 0.5 GB


def over_batches(
    function: Callable[..., Any],
    key: Any,
    arrays: Mapping[str, np.ndarray],
    *args: Any,
    size: int = BATCH,
    count: int | None = None,
) -> Any:
    """``function(key_i, *args, batch)`` over the first ``count`` examples, its [b, ...] results joined to [n, ...] on the host.

    Arrays are read a batch at a time; what comes back, of all examples, is to be small. ``key`` may be a tuple of keys.
    """
    n = len(arrays["x"]) if count is None else min(count, len(arrays["x"]))
    size = min(size, n)
    whole: list[np.ndarray] = []
    tree: Any = None
    for index, batch in enumerate(data.padded_batches(arrays, size, n)):
        rows = int(np.sum(batch.pop("mask")))
        keys = jax.tree.map(lambda one, i=index: jax.random.fold_in(one, i), key)
        leaves, tree = jax.tree.flatten(function(keys, *args, batch))
        whole = whole or [np.empty((n, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        for into, leaf in zip(whole, leaves, strict=True):
            into[index * size : index * size + rows] = np.asarray(leaf)[:rows]
    return jax.tree.unflatten(tree, whole)


class Evaluator:
    """The compiled functions that evaluate one member after the other, and the split they look at.

    Values are binarised or dequantised with a key of the evaluation's own, so that all numbers, members and runs are of the
    same values and may be compared example by example. The split may exceed the memory: it is read and prepared batch by
    batch, and only codes and numbers of all its examples are kept, never their values.

    Attributes:
      arrays: the split as stored; inputs: the same as model inputs, made as they are read; batch: examples at a time.
    """

    def __init__(self, run: Experiment) -> None:
        spec, recipe, flags = run.spec, run.recipe, run.settings.evaluation
        self.run, self.key = run, jax.random.key(20131220)
        self.arrays = run.dataset.splits[flags.eval_split]
        self.batch = max(1, min(BATCH, BATCH_VALUES // math.prod(spec.shape)))
        prepared = Inputs(spec, jax.random.fold_in(self.key, 0), self.arrays["x"], self.batch)
        self.inputs = {**self.arrays, "x": cast(np.ndarray, prepared)}
        self._objective = objective.objective_values(recipe.stages[-1].model.objective)
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
        key = jax.random.fold_in(self.key, 1)
        return over_batches(self._posterior, key, inputs, variables, hparams, size=self.batch)

    def shown(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Chosen examples of the split, values as they are shown: without randomness."""
        chosen = {name: column[rows] for name, column in self.arrays.items() if name != "x"}
        return {"x": shown(self.run.spec, self.arrays["x"], rows, self.batch), **chosen}

    def decode(self, variables: Any, hparams: Any, z: np.ndarray, *, show: str = "mean") -> np.ndarray:
        """Examples of ``z`` [n, d]: the likelihood's mean, or with show="sample" a draw from it."""

        def one(key: jax.Array, batch: dict[str, Any]) -> jax.Array:
            if show == "sample":
                return self._draw(key, variables, hparams, batch["x"])
            return self._decode(variables, hparams, batch["x"])

        return over_batches(one, jax.random.fold_in(self.key, 2), {"x": np.asarray(z, np.float32)}, size=self.batch)

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

        size = min(LIKELIHOOD_BATCH, self.batch)
        values = over_batches(one, jax.random.fold_in(self.key, 3), self.inputs, size=size, count=wanted)
        tell(wanted, wanted)
        return likelihood.estimate(values)

    def member(
        self, variables: Any, hparams: Any, tell: Callable[[int, int], None]
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """All numbers of one member, in nats per example unless named otherwise; null where a number is not finite.

        Beside them the log-likelihood of each example that has one, [n], or None without a density.
        """
        facts: dict[str, Any] = {}

        def look(keys: tuple[jax.Array, jax.Array], batch: dict[str, Any]) -> Any:
            return self._objective(keys[0], variables, hparams, batch), self._posterior(
                keys[1], variables, hparams, batch
            )

        keys = jax.random.fold_in(self.key, 4), jax.random.fold_in(self.key, 1)
        terms, moments = over_batches(look, keys, self.inputs, size=self.batch)  # together: reading is slow
        for name, values in terms.items():
            _put(facts, name, likelihood.estimate(values))
        weighted = self.log_likelihood(variables, hparams, tell)
        facts["log_likelihood"] = None
        if weighted is not None:
            _put(facts, "log_likelihood", weighted)
            facts |= self._bits(weighted)
        sound = all(np.isfinite(values).all() for values in moments.values())
        active = latents.active_units(moments["mean"]).active if sound and len(moments["mean"]) > 1 else None
        facts["active_units"] = None if active is None else int(np.sum(active))
        if sound and np.all(moments["variance"] > 0):
            facts["kl_per_latent"] = [round(float(kl), 6) for kl in latents.marginal_kl(**moments)]
        if "y" in self.arrays and len(self.run.spec.shape) == 3:
            facts |= self._agreement(variables, hparams)
        return facts, None if weighted is None else weighted.values

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
        train, spec = self.run.dataset.splits["train"], self.run.spec
        most = min(NEIGHBOURS, NEIGHBOUR_VALUES // math.prod(spec.shape))
        known, seen = (np.flatnonzero(labels >= 0)[:most] for labels in (train["y"], self.arrays["y"]))
        if len(known) < 1 or len(seen) < 1:  # -1 is unlabelled
            return {}
        originals = self.shown(seen)
        rebuilt = self.decode(variables, hparams, self.posterior(variables, hparams, originals)["mean"])
        if not np.isfinite(rebuilt).all():
            return {}
        found = generation.knn_label_agreement(
            shown(spec, train["x"], known, self.batch),
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
