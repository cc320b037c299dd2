"""Scores of trained runs: what they are of, that they tell codes and samples apart, and what is refused."""

import json

import jax
import numpy as np
import pytest
from helpers.scripts import script
from helpers.trained_runs import TWO_MEMBERS

import vaex
from vaex.api.scores import chosen
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.evaluation import disentanglement, sample_quality
from vaex.evaluation.examples import random_order

FACTORS = np.random.default_rng(0).integers(0, 4, size=(900, 2))
SHIFTED = np.where(np.arange(8) < 1 + FACTORS[:, :1], 1.0, 0.0)[:, :, None] * (0.25 + 0.25 * FACTORS[:, 1:2, None])
IMAGES = np.round(255 * np.tile(SHIFTED, (1, 1, 8))).astype(np.uint8)


@pytest.fixture(scope="module")
def run():
    arrays = {"x": IMAGES[:500], "x_validation": IMAGES[500:600], "x_test": IMAGES[600:]}
    options = {"hidden": 8, "latent_dim": 2, "batch_size": 20, "progress": False}
    return vaex.train("beta_vae", arrays, steps=30, beta=[1, 4], **options)


@pytest.mark.slow
def test_disentanglement_is_of_the_codes_of_each_part(run):
    scores = run.score(["disentanglement"], factors=FACTORS[600:], parts=3)
    assert scores.titles == tuple(run.names) and set(scores.values[0]) == set(disentanglement.PROTOCOLS)
    part = random_order(300)[:100]
    codes = np.asarray(run[1].encode(IMAGES[600:][part]).mean)
    expected = disentanglement.mutual_information_gap(codes, FACTORS[600:][part]).score
    assert scores.values[1]["mig"].values[0] == pytest.approx(expected) and len(scores.values[1]["mig"].values) == 3
    assert "3 parts of 100 of the test split" in scores.protocol["codes"]


@pytest.mark.slow
def test_samples_are_compared_with_examples_and_training_examples_are_the_floor(run, tmp_path):
    scores = run.score(["samples"], features="pixels", parts=2)
    assert scores.titles == (*run.names, "training examples")
    x = IMAGES[600:].reshape(300, -1) / 255
    train = IMAGES[random_order(500)[:300]].reshape(300, -1) / 255
    rows = random_order(300).reshape(2, 150)
    expected = [sample_quality.frechet_distance(train[150 * i : 150 * i + 150], x[rows[i]]) for i in range(2)]
    floor = scores.values[-1]
    np.testing.assert_allclose(floor["frechet_distance"].values, expected, rtol=1e-4, atol=1e-6)
    for member in scores.values[:-1]:
        assert member["frechet_distance"].mean > 10 * floor["frechet_distance"].mean
        assert member["nearest_neighbour_accuracy"].mean > 0.95 and member["coverage"].mean < floor["coverage"].mean
    content = json.loads(scores.save(tmp_path / "scores.json").read_text())
    assert content["scores"]["training examples"]["density"]["mean"] == pytest.approx(floor["density"].mean)
    assert scores.table().splitlines()[0].split()[-2:] == ["training", "examples"]
    assert next(panel.y_label for panel in scores.figure()) == "frechet distance"


@pytest.mark.slow
def test_every_argument_changes_something(run):
    def first(**options):
        return run.score(["samples"], **{"parts": 2, "features": "pixels"} | options).values[0]["kernel_distance"].mean

    changes = [{"features": "pca:3"}, {"show": "sample"}, {"examples": 200}, {"parts": 3}, {"split": "validation"}]
    changes.append({"data": {"x": IMAGES[:300], "x_test": IMAGES[300:500]}})
    assert len({first(), *(first(**change) for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize(("choices", "names"), [({}, ()), ({"factors": FACTORS}, ()), ({}, ("shape",))])
def test_by_default_codes_are_scored_where_factors_are_known(choices, names):
    spec = Spec("own", (8, 8, 1), "grey", levels=256, factor_names=names)
    expected = ("disentanglement", "samples") if choices or names else ("samples",)
    assert tuple(chosen(None, choices, spec).metrics) == expected
    assert chosen(["likelihood"], choices, spec).metrics == ["likelihood"]


@pytest.mark.slow
def test_a_grid_of_factors_is_drawn_from():
    dataset = vaex.Dataset.load("sprites", image_size=16)
    model = vaex.train("vae", dataset, steps=3, hidden=4, latent_dim=3, batch_size=20, progress=False)
    scores = model.score(["disentanglement"], examples=1200)
    assert "4 parts of 300 images, factors drawn" in scores.protocol["codes"] and 0 <= scores.values[0]["mig"].mean <= 1
    assert jax.tree.all(jax.tree.map(np.isfinite, {k: e.mean for k, e in scores.values[0].items()}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["fid"]}, "unknown metric 'fid'; there are disentanglement, samples"),
        ({"metrics": ["disentanglement"]}, r"arrays has no known factors; give factors=, an integer array \[300, f\]"),
        ({"metrics": ["disentanglement"], "factors": FACTORS[:5]}, r"expected integers \[300, f\]"),
        ({"split": "exam"}, "no 'exam' split; there are train, validation, test"),
        ({"parts": 1}, "parts is 1, expected at least 2"),
        ({"parts": 100}, "100 parts of 3 examples are too small"),
        ({"features": "resnet"}, "--features=resnet: expected pixels, pca:D, classifier"),
        ({"features": "classifier"}, "no labels"),
        ({"features": "math:pi_"}, "has no attribute 'pi_'"),
        ({"features": "numpy:ravel"}, r"returned shape \(4800,\) for 75 examples, expected \[n, d\]"),
        ({"data": np.zeros((100, 5, 5), np.uint8)}, "give data of that kind"),
    ],
)
def test_invalid_arguments_are_refused(run, options, message):
    with pytest.raises(UserError, match=message):
        run.score(**{"metrics": ["samples"]} | options)


@pytest.mark.slow
def test_the_command_scores_runs_and_keeps_the_numbers(trained_runs, tmp_path, capsys):
    directory = trained_runs(*TWO_MEMBERS)
    evaluate = script("evaluate")
    assert evaluate.main([str(directory), "--features=classifier", "--parts=2", f"--out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "frechet_distance" in printed and "accuracy 0.9" in printed and "training examples" in printed
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png"]
    assert evaluate.main([str(directory), "--metrics=disentanglement"]) == 2
    assert "has no known factors" in capsys.readouterr().err
    (tmp_path / "text.npy").write_text("no array")
    assert evaluate.main([str(directory), f"--factors={tmp_path / 'text.npy'}"]) == 2
    assert "can't be read" in capsys.readouterr().err
