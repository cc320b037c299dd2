"""Reported metrics on splits of any size, against the objective on the whole split at once; the law ``evaluation_ignores_division``
holds for every model."""

import dataclasses

import jax
import numpy as np
import pytest

from vaex import testing
from vaex.core import EvaluationKey
from vaex.data.spec import Dataset
from vaex.runs.evaluate import Evaluator
from vaex.runs.measures import MemberEvaluation
from vaex.runs.setup import Experiment
from vaex.runs.store import MemoryStore
from vaex.testing.subject import STEPS, quickly, random_images

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
ALL_SIZES = (1, 2, 499, 501, 600)
AWKWARD = (501,)  # two batches that must not be 500 and 1
# statistics of a batch of every kind, a bound, stages
REPRESENTATIVE = ("beta_tc_vae", "dip_vae", "wae", "vamp_vae", "sparse_autoencoder", "iwae", "vq_vae")
# models without any differ in nothing that a split's size could touch: labels, time, layers, a prior that is drawn from
OTHERS = ("vae", "semi_supervised_vae", "td_vae", "ladder_vae", "poincare_vae")


def evaluation(name: str, n: int) -> MemberEvaluation:
    """The evaluation of a model at its first parameters, on a split of n random images."""
    subject = testing.build_subjects(name)[-1]
    settings = subject.settings._replace(members=subject.settings.members[:1], varied=())
    options = dataclasses.replace(settings.evaluation, eval_images=2, eval_samples=1)
    dataset = Dataset({"train": subject.arrays, "test": random_images(subject.spec.shape, n)}, subject.spec)
    hparams = jax.tree.map(lambda leaf: leaf[:1], subject.hparams)
    stage_steps = (STEPS,) * len(subject.recipe.stages)
    settings = settings._replace(evaluation=options)
    experiment = Experiment(settings, MemoryStore(), dataset, subject.spec, subject.recipe, hparams, stage_steps)
    state = subject.first_state()
    return MemberEvaluation(Evaluator(experiment), state.variables, subject.first_hparams(), lambda done, total: None)


def at_once(member: MemberEvaluation) -> dict[str, np.ndarray]:
    """The metrics of the objective on the whole split, with the key of the evaluation's first batch."""
    evaluator = member.evaluator
    objective = evaluator.run.recipe.model.objective
    key = jax.random.fold_in(jax.random.fold_in(evaluator.key, EvaluationKey.OBJECTIVE), 0)
    batch = {name: column[np.arange(len(evaluator.arrays["x"]))] for name, column in evaluator.inputs.items()}

    @jax.jit
    def metrics(key, variables, hparams, batch):
        return objective(key, variables, hparams, batch, train=False).metrics

    return {name: np.asarray(value) for name, value in metrics(key, member.variables, member.hparams, batch).items()}


@pytest.mark.parametrize("name", [*REPRESENTATIVE, *OTHERS])
def test_the_metrics_of_a_split_are_those_of_all_its_examples_at_once(name):
    for n in ALL_SIZES if name in REPRESENTATIVE else AWKWARD:
        with quickly():
            member = evaluation(name, n)
            result = member.evaluated()
            expected = at_once(member)
        exact = {"index_code_mi", "total_correlation", "dimension_wise_kl"} if name == "beta_tc_vae" else set()
        assert set(result.statistics) == {metric for metric, value in expected.items() if value.ndim == 0} - exact
        for metric, value in expected.items():
            if metric in exact:  # of all posteriors, which a batch only estimates
                continue
            reported, error = result.numbers[metric], result.numbers.get(f"{metric}_standard_error")
            if not np.isfinite(value).all():
                assert reported is None and n == 1, f"{metric} of {n} examples"
                continue
            np.testing.assert_allclose(reported, np.mean(value), rtol=1e-4, atol=1e-5, err_msg=f"{metric}, n = {n}")
            assert f"{metric}_standard_error_over_batches" not in result.numbers  # there is one batch
            if value.ndim == 0:
                assert error is None, f"{metric} is one number of the split, which has no standard error over examples"
            elif n > 1:
                deviation = np.std(value.astype(np.float64), ddof=1) / np.sqrt(n)
                np.testing.assert_allclose(error, deviation, rtol=1e-3, atol=1e-6, err_msg=f"{metric}, n = {n}")


@pytest.mark.parametrize("name", ["vae", *REPRESENTATIVE])
def test_ten_thousand_examples_come_in_batches_that_represent_them(name):
    """Twenty batches of 500. What is not drawn agrees to rounding, other values and statistics within their errors; the squared
    covariances of a batch are above those of all examples, by the variance of a covariance."""
    with quickly():
        member = evaluation(name, 10_000)
        result, expected = member.evaluated(), at_once(member)
        codes = member.evaluator.posterior(member.variables, member.hparams, member.evaluator.inputs)["mean"]
    covariance = np.cov(codes.T.astype(np.float64))
    outer = np.multiply.outer(np.diag(covariance), np.diag(covariance))
    bias = {"squared_covariances": np.sum(outer - np.diag(np.diag(outer))) / 500}
    for metric, value in expected.items():
        reported = result.numbers[metric]
        if value.ndim:
            error = 2 * result.numbers[f"{metric}_standard_error"]  # two draws of z, of the same examples
        else:
            error = 2 * result.numbers[f"{metric}_standard_error_over_batches"]
        assert abs(reported - value.mean() - bias.get(metric, 0.0)) < 4 * error, metric
    if "kl" in expected and name not in ("vamp_vae", "iwae"):  # whose KL is of the draws
        np.testing.assert_allclose(result.numbers["kl"], expected["kl"].mean(), rtol=1e-5)
    assert [len(rows) for rows in member.evaluator.divisions] == [500] * 20
