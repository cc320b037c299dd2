"""The numbers of one member against independent ones: which examples and labels they are of, and what is computed of them."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats as st

from vaex import testing
from vaex.core import EvaluationKey
from vaex.data.spec import Dataset
from vaex.evaluation.examples import chosen_examples
from vaex.evaluation.generation import LabelAgreement
from vaex.runs import measures
from vaex.runs.by_batch import example_keys
from vaex.runs.evaluate import Evaluator
from vaex.runs.measures import MemberEvaluation
from vaex.runs.setup import Experiment
from vaex.runs.store import MemoryStore
from vaex.testing.subject import STEPS, quickly, random_images

N, CHOSEN, K = 23, 6, 4


def evaluation(name: str, *, images: int = CHOSEN, **options) -> MemberEvaluation:
    """The evaluation of a model at its first parameters on 23 random images, of which some are chosen."""
    subject = testing.build_subjects(name, **options)[-1]
    settings = subject.settings._replace(members=subject.settings.members[:1], varied=())
    settings = settings._replace(
        evaluation=dataclasses.replace(settings.evaluation, eval_images=images, eval_samples=K)
    )
    splits = {"train": subject.arrays, "test": random_images(subject.spec.shape, N)}
    hparams = jax.tree.map(lambda leaf: leaf[:1], subject.hparams)
    stage_steps = (STEPS,) * len(subject.recipe.stages)
    dataset = Dataset(splits, subject.spec)
    experiment = Experiment(settings, MemoryStore(), dataset, subject.spec, subject.recipe, hparams, stage_steps)
    state = subject.first_state()
    return MemberEvaluation(Evaluator(experiment), state.variables, subject.first_hparams(), lambda done, total: None)


def test_log_likelihood_and_elbo_are_of_the_same_examples():
    with quickly():
        member = evaluation("vae")
        numbers, statistics, log_likelihoods = member.evaluated()
        evaluator, rows = member.evaluator, np.sort(chosen_examples(N, CHOSEN))
        model = evaluator.run.recipe.model
        key = jax.random.fold_in(jax.random.fold_in(evaluator.key, EvaluationKey.OBJECTIVE), 0)
        everything = {"x": evaluator.inputs["x"][np.arange(N)]}
        objective = jax.jit(lambda *args: model.objective(*args, train=False).metrics)
        elbo = np.asarray(objective(key, member.variables, member.hparams, everything)["elbo"])
        keys = example_keys(jax.random.fold_in(evaluator.key, EvaluationKey.LOG_LIKELIHOOD), rows)
        weigh = jax.jit(model.log_weights, static_argnums=4)
        weights = [
            weigh(jax.random.fold_in(key, 0), member.variables, member.hparams, {"x": everything["x"][row][None]}, K)[
                :, 0
            ]
            for key, row in zip(keys, rows, strict=True)
        ]
    by_hand = scipy.special.logsumexp(np.asarray(weights), axis=1, b=1 / K)
    np.testing.assert_allclose(log_likelihoods, by_hand, rtol=1e-4)
    assert numbers["log_likelihood"] == pytest.approx(by_hand.mean(), rel=1e-5)
    assert numbers["elbo"] == pytest.approx(elbo.mean(), rel=1e-5)
    assert numbers["elbo_same_examples"] == pytest.approx(elbo[rows].mean(), rel=1e-5)
    assert numbers["elbo_same_examples_standard_error"] == pytest.approx(st.sem(elbo[rows]), rel=1e-4)
    gain = by_hand - elbo[rows]
    assert numbers["log_likelihood_above_elbo"] == pytest.approx(gain.mean(), abs=1e-3)
    assert numbers["log_likelihood_above_elbo_standard_error"] == pytest.approx(st.sem(gain), abs=1e-3)
    assert statistics == ()


def test_where_all_examples_are_chosen_there_is_one_elbo():
    with quickly():
        numbers = evaluation("vae", images=1000).evaluated().numbers
    assert "elbo_same_examples" not in numbers and "log_likelihood_above_elbo" in numbers


@pytest.mark.slow
def test_the_training_bound_is_of_training_examples():
    with quickly():
        member = evaluation("vae")
        numbers, train = member.evaluated().numbers, member.evaluator.training_terms(member.variables, member.hparams)
    assert numbers["training_elbo"] == pytest.approx(train.examples["elbo"].mean(), rel=1e-6)
    # closed form, so the same whatever is drawn: of the training images themselves (grey values here, not binarised)
    evaluator = member.evaluator
    x = evaluator.run.dataset.splits["train"]["x"]
    rows = np.sort(chosen_examples(len(x), N))  # one batch, of the size of the split
    inputs = evaluator._prepared(evaluator.run.dataset.splits["train"], EvaluationKey.TRAINING_EXAMPLES)["x"]
    posterior = evaluator.posterior(member.variables, member.hparams, {"x": inputs[rows]})
    kl = 0.5 * np.sum(posterior["mean"] ** 2 + posterior["variance"] - 1 - np.log(posterior["variance"]), axis=1)
    np.testing.assert_allclose(train.examples["kl"], kl, rtol=1e-3, atol=1e-4)
    other = dataclasses.replace(member, evaluator=Evaluator(evaluator.run._replace(own_data=False)))
    with quickly():
        assert not any(name.startswith("training") for name in other.evaluated().numbers)


@pytest.mark.slow
def test_the_generative_classifier_is_compared_with_labels_of_the_same_examples():
    with quickly():
        member = evaluation("conditional_vae")
        scores = member.evaluator.class_log_likelihoods(member.variables, member.hparams, lambda done, total: None)
        numbers = member.evaluated().numbers
    rows = np.sort(chosen_examples(N, CHOSEN))
    right = np.argmax(scores, axis=1) == member.evaluator.arrays["y"][rows]
    assert numbers["generative_accuracy"] == right.mean()
    # the labels are random: other examples' would score otherwise
    assert not np.array_equal(member.evaluator.arrays["y"][rows], member.evaluator.arrays["y"][:CHOSEN])


@pytest.mark.slow
def test_total_correlation_is_that_of_all_posteriors():
    """By loops over all posteriors in float64, at draws of its own: within the errors of both."""
    with quickly():
        member = evaluation("beta_tc_vae")
        numbers, statistics, _ = member.evaluated()
        inputs = {name: column[np.arange(N)] for name, column in member.evaluator.inputs.items()}
        moments = member.evaluator.posterior(member.variables, member.hparams, inputs)
    mean, scale = moments["mean"].astype(np.float64), np.sqrt(moments["variance"].astype(np.float64))
    rng, draws = np.random.default_rng(0), 4000
    which = rng.integers(0, N, draws)
    z = mean[which] + scale[which] * rng.normal(size=(draws, mean.shape[1]))
    pairs = st.norm.logpdf(z[:, None], mean, scale)
    joint = scipy.special.logsumexp(pairs.sum(-1), axis=1, b=1 / N)
    marginals = scipy.special.logsumexp(pairs, axis=1, b=1 / N).sum(-1)
    expected = {
        "index_code_mi": pairs.sum(-1)[np.arange(draws), which] - joint,
        "total_correlation": joint - marginals,
        "dimension_wise_kl": marginals - st.norm.logpdf(z).sum(-1),
    }
    for name, values in expected.items():
        error = np.hypot(st.sem(values), numbers[f"{name}_standard_error"])
        assert abs(numbers[name] - values.mean()) < 4 * error + 1e-6
    assert statistics == ()


@pytest.mark.slow
def test_predictions_are_of_the_frame_that_many_steps_after_the_context():
    with quickly():
        member = evaluation("sequence_vae")
        evaluator, (steps, predict) = member.evaluator, next(iter(member.evaluator.predictive.items()))
        numbers = member._predictions(steps)
        rows, start = evaluator.rows, evaluator.run.spec.shape[0] - max(evaluator.predictive)
        x = evaluator.inputs["x"][rows]
        keys = jax.random.fold_in(jax.random.fold_in(evaluator.key, EvaluationKey.PREDICTIONS), steps)
        frame = x[:, start + steps - 1]
        by_hand = predict(example_keys(keys, rows), member.variables, member.hparams, x[:, :start], frame)
    assert numbers[f"log_p_{steps}_ahead"] == pytest.approx(float(np.mean(by_hand)), rel=1e-5)


def test_the_nearest_neighbour_classifier_gets_images_with_their_own_labels(monkeypatch):
    """Ten labelled ones on either side, chosen at random; -1 is unlabelled."""
    monkeypatch.setattr(measures, "NEIGHBOURS", 10)
    judged = {}

    def keep(train_x, train_y, reconstructions, y, **others):
        judged.update(train=(train_x, train_y), split=(others["originals"], y), reconstructions=reconstructions)
        return LabelAgreement(0.5, 0.5)

    monkeypatch.setattr(measures.generation, "knn_label_agreement", keep)
    with quickly():
        member = evaluation("vae")
        splits = member.evaluator.run.dataset.splits
        for name in ("train", "test"):
            splits[name]["y"] = np.where(
                np.arange(len(splits[name]["y"])) % 3 == 0, -1, np.arange(len(splits[name]["y"]))
            )
        member._agreement()
    for name, (x, y) in {"train": judged["train"], "test": judged["split"]}.items():
        assert len(y) == 10 and np.all(y % 3 > 0) and y.tolist() != [1, 2, 4, 5, 7, 8, 10, 11, 13, 14]
        np.testing.assert_allclose(x, splits[name]["x"][y] / 255.0, rtol=1e-6)  # a label is the number of its image
    assert judged["reconstructions"].shape == (10, 8, 8, 1)
