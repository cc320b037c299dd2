"""Known factors of a user's data: read, split off beside their examples, kept out of training, used by scores; what is refused."""

import jax
import numpy as np
import pytest

import vaex
from vaex.data import registry
from vaex.errors import UserError

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, 4, size=(900, 2))
IMAGES = np.repeat(60 * FACTORS[:, :1, None] + FACTORS[:, 1:, None], 16, axis=1).reshape(-1, 4, 4).astype(np.uint8)


def check(dataset, names):
    assert dataset.spec.factor_names == names
    for arrays in dataset.splits.values():
        factors = arrays["factors"]
        assert factors.dtype == np.int32
        np.testing.assert_array_equal(arrays["x"][:, 0, 0, 0], 60 * factors[:, 0] + factors[:, 1])


def test_factors_stay_beside_their_examples_where_splits_are_split_off(tmp_path):
    arrays = {"x": IMAGES, "factors": FACTORS.astype(np.float32), "factor_names": np.array(["level", "shade"])}
    np.savez(tmp_path / "mine.npz", **arrays)
    check(registry.load(str(tmp_path / "mine.npz")), ("level", "shade"))
    check(vaex.Dataset.from_arrays(arrays), ("level", "shade"))
    unnamed = {"x_train": IMAGES[:500], "x_validation": IMAGES[500:700], "x_test": IMAGES[700:]}
    unnamed |= {"factors_train": FACTORS[:500], "factors_validation": FACTORS[500:700], "factors_test": FACTORS[700:]}
    check(vaex.Dataset.from_arrays(unnamed), ("factor0", "factor1"))


@pytest.mark.slow
def test_training_does_not_see_them_and_scores_do(tmp_path):
    options = {"hidden": 8, "latent_dim": 2, "batch_size": 20, "steps": 5, "progress": False, "layout": "hwc"}
    known = vaex.train("vae", {"x": IMAGES, "factors": FACTORS}, out=tmp_path / "run", **options)
    plain = vaex.train("vae", {"x": IMAGES}, **options)
    assert jax.tree.all(jax.tree.map(np.array_equal, known[0].variables, plain[0].variables))
    dataset = vaex.Dataset.from_arrays({"x": IMAGES, "factors": FACTORS})
    scores = known.score(["disentanglement"], dataset, examples=90, parts=2)
    given = known.score(["disentanglement"], dataset, factors=dataset.splits["test"]["factors"], examples=90, parts=2)
    assert scores.values[0]["mig"].mean == given.values[0]["mig"].mean
    assert vaex.load(tmp_path / "run").spec.factor_names == ("factor0", "factor1")
    (sampler,) = known.fit_sampler("gaussian")
    assert sampler.arrays["means"].shape == (1, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"factors": FACTORS[:5]}, r"factors has shape \(5, 2\), expected \(900, f\)"),
        ({"factors": FACTORS[:, 0]}, r"expected \(900, f\)"),
        ({"factors": FACTORS + 0.5}, "not whole; put continuous factors in bins"),
        ({"factors": FACTORS, "factor_names": np.array(["a"])}, "factor_names are a, expected 2 different ones"),
        ({"factor_names": np.array(["a"])}, "has factor_names but no factors"),
        ({"x_test": IMAGES[:9], "factors": FACTORS}, "expected as many for every split"),
        ({"factors_test": FACTORS}, "has factors_test but no x_test"),
        ({"factor": FACTORS}, "did you mean factors"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "arrays"])
def test_other_factors_are_refused(arrays, message, kind, tmp_path):
    with pytest.raises(UserError, match=message):
        if kind == "arrays":
            vaex.Dataset.from_arrays({"x": IMAGES, **arrays})
        else:
            np.savez(tmp_path / "mine.npz", x=IMAGES, **arrays)
            registry.load(str(tmp_path / "mine.npz"))
