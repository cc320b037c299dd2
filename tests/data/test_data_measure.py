"""What is measured of the training examples, and which data is binarised by default."""

import gzip

import numpy as np
import pytest

from vaex import data
from vaex.data import measure as measures
from vaex.data.measure import NEARLY_BINARY, binarization_noise, described, least_scale, measure, nearly_binary, unit
from vaex.data.spec import Dataset, Spec
from vaex.data.storage.mapped_rows import MappedRows

RNG = np.random.default_rng(0)
GREY = Spec("grey", (6,), "grey")
BYTES = Spec("bytes", (6,), "grey", levels=256)


def test_mean_deviation_and_range_are_those_of_numpy():
    x = (RNG.normal(size=(400, 3)) * [1.0, 1e-3, 1e4] + [1e6, 5.0, -2.0]).astype(np.float32)
    result, exact = measure(Spec("t", (3,), "real"), x), x.astype(np.float64)
    np.testing.assert_allclose(result.mean, exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(result.deviation, exact.std(0), rtol=1e-6)
    assert (result.examples, result.low, result.high) == (400, x.min(), x.max())


def test_levels_are_measured_in_the_interval_of_model_inputs():
    x = RNG.integers(3, 200, (50, 6)).astype(np.uint8)
    result = measure(BYTES, x)
    np.testing.assert_allclose(result.mean, x.mean(0) / 255, rtol=1e-12)
    assert (result.low, result.high) == (x.min() / 255, x.max() / 255)


def test_a_value_that_never_changes_has_no_deviation():
    x = RNG.random((1000, 6)).astype(np.float32)
    x[:, 2] = 0.1  # which has no exact sum
    assert np.argwhere(measure(GREY, x).deviation == 0).tolist() == [[2]]


def test_a_sample_of_large_data_is_spread_over_all_of_it(monkeypatch):
    monkeypatch.setattr(measures, "MOST_VALUES", 6 * 120)
    x = np.linspace(0, 1, 6 * 1000, dtype=np.float32).reshape(1000, 6)
    result = measure(GREY, x)
    assert result.examples == 120 and (result.low, result.high) == (0.0, 1.0)
    np.testing.assert_allclose(result.mean, x.mean(0), atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_share_of_the_most_common_value(share):
    x = RNG.random((500, 6)).astype(np.float32)
    x.ravel()[: round(share * x.size)] = 0.25
    assert measure(GREY, x).repeated == pytest.approx(share, abs=1e-3)


def test_mapped_rows_are_measured_alike():
    x = RNG.integers(0, 256, (70, 6)).astype(np.uint8)
    rows = MappedRows(x, np.arange(70), lambda raw: raw, (6,), np.uint8)
    for mapped, array in zip(measure(BYTES, rows), measure(BYTES, x), strict=True):
        np.testing.assert_array_equal(mapped, array)


@pytest.mark.parametrize("power", [0.02, 0.2, 1.0, 4.0])
def test_noise_is_the_share_of_variance_that_drawing_adds(power):
    """Simulate the binarisation: the variance of draws of one value, over that of all draws, as NumPy has them."""
    p = (RNG.beta(power, power, (300, 6))).astype(np.float32)
    draws = RNG.random((4000, *p.shape), dtype=np.float32) < p
    simulated = draws.var(axis=0).mean() / draws.var()
    assert binarization_noise(measure(GREY, p)) == pytest.approx(simulated, abs=3e-3)


def test_a_constant_border_changes_neither_noise_nor_least_scale():
    x = np.where(RNG.random((200, 6)) < 0.4, 0.0, RNG.random((200, 6))).astype(np.float32)
    inner, bordered = measure(GREY, x), measure(Spec("g", (20,), "grey"), np.pad(x, ((0, 0), (7, 7))))
    assert binarization_noise(bordered) == pytest.approx(binarization_noise(inner), rel=1e-12)
    assert least_scale(bordered) == pytest.approx(least_scale(inner), rel=1e-12) == pytest.approx(x.std() / 2, rel=1e-6)


@pytest.mark.parametrize(("values", "noise"), [([0, 1, 1, 1], 0.0), ([0.3] * 4, 1.0), ([0] * 4, 0.0), ([1.0] * 4, 0.0)])
def test_noise_at_its_ends(values, noise):
    x = np.array(values, np.float32)[:, None]
    assert binarization_noise(measure(Spec("g", (1,), "grey"), x)) == pytest.approx(noise, abs=1e-12)


@pytest.mark.parametrize(
    ("spec", "x", "nearly"),
    [
        (Spec("g", (4, 4, 1), "grey", levels=256), lambda: 255 * RNG.integers(0, 2, (50, 4, 4, 1)) // 1, True),
        (Spec("g", (4, 4, 1), "grey", levels=256), lambda: RNG.integers(0, 256, (50, 4, 4, 1)), False),
        (Spec("g", (4, 4, 1), "grey"), lambda: RNG.beta(0.05, 0.05, (50, 4, 4, 1)), True),
        (Spec("dark", (4, 4, 1), "grey"), lambda: RNG.random((50, 4, 4, 1)) * 0.1, False),  # all near an extreme
        (Spec("g", (3, 4, 4, 1), "grey"), lambda: RNG.beta(0.05, 0.05, (50, 3, 4, 4, 1)), True),  # frames
        (Spec("table", (16,), "grey"), lambda: RNG.beta(0.05, 0.05, (50, 16)), False),
        (Spec("counts", (16,), "grey", levels=256), lambda: 255 * RNG.integers(0, 2, (50, 16)), False),
        (Spec("c", (4, 4, 3), "color", levels=256), lambda: 255 * RNG.integers(0, 2, (50, 4, 4, 3)), False),
    ],
)
def test_nearly_binary_images_alone_are_binarised_by_default(spec, x, nearly):
    stored = x().astype(np.uint8 if spec.levels else np.float32)
    result = described(Dataset({"train": {"x": stored}}, spec))
    assert nearly_binary(result) is nearly
    assert not nearly_binary(spec)  # not measured


@pytest.mark.parametrize(
    ("x", "shape", "counts"),
    [
        (lambda: RNG.poisson(0.4, (200, 8)), (8,), True),
        (lambda: RNG.poisson(6.0, (200, 8)), (8,), True),
        (lambda: RNG.negative_binomial(2, 0.1, (200, 8)).clip(0, 254), (8,), True),
        (lambda: RNG.integers(0, 12, (200, 8)), (8,), False),  # up to a largest, as grades
        (lambda: 1 + RNG.poisson(3.0, (200, 8)), (8,), False),
        (lambda: RNG.binomial(40, 0.5, (200, 8)), (8,), False),  # less dispersed
        (lambda: 16 * RNG.integers(0, 2, (200, 8)), (8,), False),  # pixels
        (lambda: RNG.poisson(3.0, (200, 2, 4, 1)), (2, 4, 1), False),
    ],
)
def test_tables_of_counts_are_told_from_other_levels(x, shape, counts):
    stored = x().astype(np.uint8)
    spec = Spec("t", shape, "grey", levels=int(stored.max()) + 1)
    assert described(Dataset({"train": {"x": stored}}, spec)).counts is counts


def test_what_is_measured_of_each_kind():
    x = RNG.random((50, 6)).astype(np.float32)
    assert described(Dataset({"train": {"x": x}}, GREY)).least_scale == 0.0
    black = np.where(RNG.random(x.shape) < 0.5, 0.0, x).astype(np.float32)  # a value that half of all have
    assert described(Dataset({"train": {"x": black}}, GREY)).least_scale == pytest.approx(black.std() / 2, abs=6e-4)
    real = described(Dataset({"train": {"x": x * 3e4}}, Spec("r", (6,), "real")))
    assert (real.binarization_noise, real.unit) == (None, 1e4)
    grey = described(Dataset({"train": {"x": x}}, GREY))
    assert grey.unit == 1.0 and grey.binarization_noise == round(binarization_noise(measure(GREY, x)), 3)
    binary = Spec("b", (6,), "binary", levels=2)
    assert described(Dataset({"train": {"x": (x > 0.5).astype(np.uint8)}}, binary)) == binary


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [([1.0, 1.0], 1.0), ([3.1, 3.1], 1.0), ([0.33, 0.33], 1.0), ([3.2, 3.2], 10.0), ([1e-4, 1e-4], 1e-4), ([0, 0], 1.0),
     ([0, 1e4], 1e4), ([1e-4, 1e4], 1.0)],
)  # fmt: skip
def test_the_unit_is_the_nearest_power_of_ten(deviations, expected):
    scaled = measures.Measures(9, 0.0, 1.0, np.zeros(2), np.array(deviations))
    assert unit(scaled) == pytest.approx(expected, rel=1e-12)


def idx(path):
    content = gzip.decompress(path.read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28, 1)


@pytest.mark.slow
def test_real_data_sets_are_told_apart(shared_data, tmp_path):
    """Handwriting is nearly binary; faces and clothes are not. The bound lies well between them."""
    grey = Spec("g", (28, 28, 1), "grey", levels=256)
    noise = {
        name: binarization_noise(measure(grey, idx(shared_data / name / "t10k-images-idx3-ubyte.gz")))
        for name in ("mnist", "fashion_mnist")
    }
    for name in ("omniglot", "freyfaces"):
        dataset = data.load(name, data_dir=tmp_path, manual_dir=shared_data / name)
        noise[name] = dataset.spec.binarization_noise
    noise["digits"] = data.load("digits").spec.binarization_noise
    assert max(noise["mnist"], noise["omniglot"]) < NEARLY_BINARY < min(noise["fashion_mnist"], noise["freyfaces"]), (
        noise
    )
    assert noise["digits"] > NEARLY_BINARY, noise
