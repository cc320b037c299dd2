"""Laws of evaluation: what is said of an example depends on that example alone, however the split is divided into batches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from vaex.data.spec import Dataset
from vaex.evaluation.objective import objective_values
from vaex.runs.evaluate import Evaluator
from vaex.runs.setup import Experiment
from vaex.runs.store import MemoryStore
from vaex.testing.subject import BATCH, STEPS, NothingToCheck, quickly

if TYPE_CHECKING:
    from vaex.testing.subject import Subject

SPLIT, SMALL, SAMPLES = 10, 4, 3  # examples, examples at a time, and importance samples
ROUNDING = 1e-4  # relative, or absolute below 1
LOSS_ROUNDING = 1e-6  # of a sum over examples, relative to its size
ERRORS = 6.0  # standard errors of a mean over examples


def metrics_per_example_are_of_one(subject: Subject) -> None:
    """A metric of the objective with a value per example does not change where the other examples of its batch do.

    What compares examples of a batch is a scalar: evaluation gives it no standard error over examples.
    """
    subject.require_last_stage("evaluation")
    values_of = objective_values(subject.recipe.stages[-1].model.objective)
    stored = {name: jnp.asarray(values[: 2 * BATCH]) for name, values in subject.arrays.items()}
    variables, hparams, key = subject.first_state().variables, subject.first_hparams(), jax.random.key(5)
    inputs = subject.inputs_of(stored)
    batch = {name: values[:BATCH] for name, values in inputs.items()}
    others = {name: jnp.concatenate([values[:1], values[BATCH + 1 : 2 * BATCH]]) for name, values in inputs.items()}
    with quickly():
        both = [values_of(key, variables, hparams, rows).examples for rows in (batch, others)]
    for name, before in both[0].items():
        of_first = before[0], both[1][name][0]
        assert _close(*of_first), (
            f"the metric {name} of an example is {of_first[0]:.6g}, and {of_first[1]:.6g} beside other examples; report its mean "
            "over the batch, a scalar"
        )


def losses_are_means_of_examples(subject: Subject) -> None:
    """A loss adds what each example gives, unless ``Model.compares_examples`` says that it compares the examples of its batch.

    What some examples change in the loss does not depend on the others: L(a, b) - L(a', b) = L(a, b') - L(a', b'), with the same
    draws. Gradients may then be accumulated over parts of a batch.
    """
    model = subject.recipe.stages[subject.stage].model
    if model.compares_examples:
        raise NothingToCheck("the objective compares the examples of a batch, as its model says")
    stored = {name: jnp.asarray(values[: 2 * BATCH]) for name, values in subject.arrays.items()}
    if subject.recipe.labels is not None:
        stored["y"] = stored["y"].at[: BATCH // 2].set(-1)  # these lack their label
    inputs = subject.inputs_of(stored)
    variables, hparams, key, half = (
        subject.first_state().variables,
        subject.first_hparams(),
        jax.random.key(5),
        BATCH // 2,
    )

    def losses(offsets: jax.Array) -> dict[str, jax.Array]:
        rows = jnp.concatenate([offsets[0] + jnp.arange(half), offsets[1] + half + jnp.arange(half)])
        batch = {name: values[rows] for name, values in inputs.items()}
        return model.objective(key, variables, hparams, batch, train=True).losses

    choices = BATCH * jnp.asarray([[0, 0], [1, 0], [0, 1], [1, 1]])
    with quickly():
        values = jax.jit(lambda choices: jax.lax.map(losses, choices))(choices)
    for group, (first, second, third, fourth) in values.items():
        rounding = ROUNDING * jnp.abs(first - second) + LOSS_ROUNDING * jnp.max(jnp.abs(values[group]))
        assert jnp.abs(first - second - third + fourth) <= rounding, (
            f"the loss of {group} compares the examples of a batch: some change it by {first - second:.6g}, beside others by "
            f"{third - fourth:.6g}; say Model.compares_examples"
        )


def evaluation_ignores_division(subject: Subject) -> None:
    """Evaluation of a split does not depend on batch size, padding or order: log-likelihoods, moments of posteriors and what is
    decoded agree to rounding, means of the objective's metrics per example within the error of its draws."""
    subject.require_last_stage("evaluation")
    variables, hparams = subject.first_state().variables, subject.first_hparams()
    with quickly():
        experiment = _experiment(subject)
        entire, small = Evaluator(experiment, batch=SPLIT), Evaluator(experiment, batch=SMALL)
        backwards = np.arange(SPLIT)[::-1]
        small.rows = backwards
        terms, moments = entire.terms_and_moments(variables, hparams)
        other_terms, other_moments = small.terms_and_moments(variables, hparams)
        pairs = {f"the {name} of posteriors": (moments[name], other_moments[name]) for name in moments}
        bounds = [
            evaluator.log_likelihoods(variables, hparams, lambda done, total: None) for evaluator in (entire, small)
        ]
        if bounds[0] is not None and bounds[1] is not None:
            pairs["log_likelihood"] = bounds[0], bounds[1][backwards]
        labels = None if subject.recipe.labels is None else subject.arrays["y"][:SPLIT]
        pairs["what is decoded"] = (
            entire.decode(variables, hparams, moments["mean"], labels),
            small.decode(variables, hparams, moments["mean"], labels),
        )
    for name, (first, second) in pairs.items():
        assert _close(first, second), (
            f"{name}: depends on how the split is divided, by {np.max(np.abs(first - second)):.3g}"
        )
    for name, values in terms.examples.items():
        difference = values.astype(np.float64) - other_terms.examples[name]
        error = np.std(difference, ddof=1) / np.sqrt(SPLIT)
        drawn = np.abs(np.mean(difference)) < ERRORS * error
        assert drawn or _close(values, other_terms.examples[name]), (
            f"the mean of {name} depends on how the split is divided: it moves by {np.mean(difference):.3g} ± {error:.1g}"
        )


def _close(first: np.ndarray | jax.Array, second: np.ndarray | jax.Array) -> bool:
    return bool(np.allclose(first, second, rtol=ROUNDING, atol=ROUNDING))


def _experiment(subject: Subject) -> Experiment:
    """Return the subject's first member as an experiment whose evaluated split is small."""
    settings = subject.settings
    settings = settings._replace(
        members=settings.members[:1],
        varied=(),
        evaluation=dataclasses.replace(settings.evaluation, eval_images=SPLIT, eval_samples=SAMPLES),
    )
    test = {name: values[:SPLIT] for name, values in subject.arrays.items()}
    dataset = Dataset({"train": subject.arrays, "test": test}, subject.spec)
    hparams = jax.tree.map(lambda leaf: leaf[:1], subject.hparams)
    return Experiment(
        settings, MemoryStore(), dataset, subject.spec, subject.recipe, hparams, (STEPS,) * len(subject.recipe.stages)
    )
