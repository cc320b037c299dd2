"""Likelihoods: what auto chooses, what each computes from the decoder's outputs, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import vaex
from vaex.data.spec import Spec, resolve
from vaex.distributions import DiscretizedLogisticMixture, Normal
from vaex.errors import UserError
from vaex.models import likelihoods

GREY = Spec("grey", (2, 3, 1), "grey", levels=256, binarization_noise=0.5)
INK = GREY._replace(binarization_noise=0.16)  # nearly binary
BINARY = Spec("binary", (2, 3, 1), "binary", levels=2)
DIGITS = Spec("digits", (2, 3, 1), "grey", levels=17)
COLOR = Spec("color", (2, 3, 3), "color", levels=256)
FLOATS = Spec("floats", (2, 3, 3), "color")
REAL = Spec("real", (4,), "real")


@pytest.mark.parametrize(
    ("spec", "name", "binarize"),
    [
        (INK, "bernoulli", "dynamic"),
        (INK._replace(levels=None), "bernoulli", "dynamic"),
        (INK._replace(shape=(4, 2, 3, 1)), "bernoulli", "dynamic"),  # frames
        (INK._replace(shape=(6,)), "discretized_logistic", "none"),  # a table
        (INK._replace(shape=(6,), levels=None), "gaussian", "none"),
        (GREY, "discretized_logistic", "none"),
        (GREY._replace(levels=None), "gaussian", "none"),
        (GREY._replace(binarization_noise=None), "discretized_logistic", "none"),  # never measured
        (GREY._replace(shape=(6,), levels=17, counts=True), "negative_binomial", "none"),
        (BINARY, "bernoulli", "none"),
        (BINARY._replace(shape=(6,)), "bernoulli", "none"),
        (DIGITS, "discretized_logistic", "none"),
        (COLOR, "discretized_logistic", "none"),
        (COLOR._replace(binarization_noise=0.0), "discretized_logistic", "none"),
        (FLOATS, "gaussian", "none"),
        (REAL, "gaussian", "none"),
    ],
)
def test_auto_chooses_by_the_data(spec, name, binarize):
    assert likelihoods.binarization("auto", spec) == binarize
    assert likelihoods.choose("auto", resolve(spec, binarize=binarize)) == name
    assert likelihoods.choose("laplace", spec) == "laplace"


def test_treatments_that_were_asked_for_decide():
    for spec in (INK, DIGITS, COLOR):
        assert likelihoods.binarization("bernoulli", spec) == "dynamic"
        assert likelihoods.binarization("gaussian", spec) == "none"
        assert likelihoods.binarization("auto", spec, dequantize="uniform") == "none"
        assert likelihoods.choose("auto", resolve(spec, dequantize="uniform")) == "gaussian"
        assert likelihoods.choose("auto", resolve(spec, binarize="threshold")) == "bernoulli"
    assert likelihoods.choose("auto", resolve(INK)) == "discretized_logistic"  # --binarize=none
    assert likelihoods.choose("auto", resolve(BINARY, dequantize="uniform")) == "gaussian"


def test_runs_whose_data_was_not_measured_keep_their_default():
    expected = {
        GREY: "bernoulli",
        DIGITS: "discretized_logistic",
        FLOATS: "gaussian",
        REAL: "gaussian",
        BINARY: "bernoulli",
    }
    assert {spec: likelihoods.chosen_before("auto", spec) for spec in expected} == expected
    assert likelihoods.chosen_before("laplace", GREY) == "laplace"


def raw(spec: Spec, channels: int) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).normal(size=(5, *spec.shape, channels)), jnp.float32)


def test_gaussian_of_fixed_sigma_is_squared_error():
    likelihood = likelihoods.build("gaussian", GREY, scale="fixed")
    values, x = raw(GREY, 1), np.random.default_rng(1).random((5, 2, 3, 1)).astype(np.float32)
    log_px = likelihood.distribution({}, jnp.float32(1.0), values).log_prob(x)
    squared = np.sum((np.asarray(values)[..., 0] + 0.5 - x) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(log_px, -0.5 * squared - 6 * 0.5 * np.log(2 * np.pi), rtol=1e-5)


@pytest.mark.parametrize(("name", "family"), [("gaussian", scipy.stats.norm), ("laplace", scipy.stats.laplace)])
def test_scales_global_and_per_pixel(name, family):
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    shared = likelihoods.build(name, REAL, scale="global")
    params = {"log_scale": jnp.float32(0.3)}
    values = raw(REAL, 1)
    scale = np.exp(likelihoods.soft_clip(jnp.float32(0.3)))
    expected = family.logpdf(x, np.asarray(values)[..., 0], scale).sum(-1)
    np.testing.assert_allclose(shared.distribution(params, jnp.float32(9.0), values).log_prob(x), expected, rtol=1e-5)
    pixel = likelihoods.build(name, REAL, scale="per_pixel")
    assert pixel.channels == 2 and pixel.init() == {}
    values = raw(REAL, 2)
    scale = np.exp(np.asarray(likelihoods.soft_clip(values[..., 1])))
    expected = family.logpdf(x, np.asarray(values)[..., 0], scale).sum(-1)
    np.testing.assert_allclose(pixel.distribution({}, jnp.float32(9.0), values).log_prob(x), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_scale_per_pixel_never_gives_a_level_more_than_all_probability(name, levels):
    """However far the decoder shrinks a scale, the peak of the density times the distance of levels is at most 1."""
    spec = Spec("one", (1,), "grey", levels=levels)
    shrunk = jnp.array([[[0.0, -1e6]]])
    likelihood = likelihoods.build(name, spec, scale="per_pixel")
    peak = float(likelihood.distribution({}, jnp.float32(1.0), shrunk).log_prob(jnp.array([[0.5]]))[0])
    assert -0.7 < peak - np.log(levels - 1) <= 1e-5  # the network's least scale, exp(-7), comes on top
    assert "at least" in likelihood.title
    dequantised = likelihoods.build(name, spec._replace(dequantize="uniform"), scale="per_pixel")
    peak = float(dequantised.distribution({}, jnp.float32(1.0), shrunk).log_prob(jnp.array([[0.5]]))[0])
    assert peak - np.log(levels) <= 1e-5


@pytest.mark.parametrize("spec", [GREY, GREY._replace(levels=None)])
def test_a_scale_per_pixel_stays_above_what_was_measured(spec):
    likelihood = likelihoods.build("gaussian", spec._replace(least_scale=0.15), scale="per_pixel")
    shrunk = jnp.full((1, *spec.shape, 2), -1e6)
    scale = likelihood.distribution({}, jnp.float32(1.0), shrunk).scale
    np.testing.assert_allclose(scale, 0.15 + np.exp(-7.0), rtol=1e-4)
    assert "a learned scale per pixel of at least 0.15" in likelihood.title
    shared = likelihoods.build("gaussian", spec._replace(least_scale=0.15), scale="global")
    params = {"log_scale": jnp.float32(-1e6)}
    np.testing.assert_allclose(shared.distribution(params, jnp.float32(1.0), shrunk).scale, np.exp(-7.0), rtol=1e-4)


@pytest.mark.parametrize("name", likelihoods.WITH_MEAN)
def test_bounded_means_are_sigmoids(name):
    likelihood = likelihoods.build(name, DIGITS, mean="bounded")
    raw = jnp.linspace(-30.0, 30.0, 12).reshape(2, *DIGITS.shape, 1)
    mean = likelihood.distribution(likelihood.init(), 1.0, raw).mean
    free = likelihoods.build(name, DIGITS).distribution(likelihood.init(), 1.0, jax.nn.sigmoid(raw) - 0.5).mean
    np.testing.assert_allclose(mean, free, atol=1e-6)
    with pytest.raises(UserError, match="--mean=bounded needs values in"):
        likelihoods.build("gaussian", REAL, mean="bounded")


@pytest.mark.parametrize("name", likelihoods.DENSITIES)
@pytest.mark.parametrize(("spec", "expected"), [(DIGITS, "bounded"), (REAL, "free")])
def test_auto_bounds_means_unless_the_data_are_real_numbers(name, spec, expected):
    raw = jnp.linspace(-3.0, 3.0, 2 * math.prod(spec.shape)).reshape(2, *spec.shape, 1)
    auto, same = (likelihoods.build(name, spec, mean=mean) for mean in ("auto", expected))
    means = [choice.distribution(choice.init(), 1.0, raw).mean for choice in (auto, same)]
    np.testing.assert_array_equal(*means)


def test_real_numbers_are_in_their_unit():
    """Decoders of other units give the density of x / unit, less log(unit) for each value."""
    values, x = raw(REAL, 2), np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    for scale, params in (("per_pixel", {}), ("global", {"log_scale": jnp.float32(0.3)})):
        alike, other = (likelihoods.build("laplace", REAL._replace(unit=unit), scale=scale) for unit in (1.0, 100.0))
        expected = alike.distribution(params, jnp.float32(1.0), values).log_prob(x) - 4 * np.log(100.0)
        np.testing.assert_allclose(
            other.distribution(params, jnp.float32(1.0), values).log_prob(100 * x), expected, rtol=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["categorical", "discretized_logistic"])
def test_discrete_likelihoods_sum_to_one_over_the_levels(name):
    spec = Spec("one", (1,), "grey", levels=17)
    likelihood = likelihoods.build(name, spec, scale="global")
    values = raw(spec, likelihood.channels)[:1]
    grid = np.arange(17, dtype=np.float32)[:, None] / 16
    logs = likelihood.distribution(likelihood.init(), jnp.float32(1.0), jnp.repeat(values, 17, axis=0)).log_prob(grid)
    assert likelihood.discrete and likelihood.density
    np.testing.assert_allclose(np.exp(logs).sum(), 1.0, rtol=1e-5)


def test_bernoulli_on_grey_is_a_cross_entropy_and_no_density():
    assert not likelihoods.build("bernoulli", GREY).density
    assert "not a density" in likelihoods.build("bernoulli", GREY).title
    assert likelihoods.build("bernoulli", GREY._replace(binarize="dynamic")).density
    assert likelihoods.build("bernoulli", BINARY).discrete


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("bernoulli", REAL, "real numbers"),
        ("bernoulli", GREY._replace(dequantize="uniform"), "makes them continuous; use --dequantize=none"),
        ("bernoulli", BINARY._replace(dequantize="uniform"), "use --dequantize=none, or --likelihood=gaussian"),
        ("categorical", FLOATS, "use --likelihood=gaussian"),
        ("discretized_logistic", COLOR._replace(dequantize="uniform"), "use --dequantize=none"),
        ("discretized_logistic_mixture", FLOATS, "use --likelihood=gaussian"),
        ("discretized_logistic_mixture", Spec("flat", (4,), "grey", levels=17), "needs images"),
    ],
)
def test_likelihoods_that_do_not_fit_are_refused(name, spec, message):
    with pytest.raises(UserError, match=message):
        likelihoods.build(name, spec)


def test_soft_clip_is_odd_smooth_and_bounded():
    x = jnp.linspace(-50, 50, 101)
    y = likelihoods.soft_clip(x)
    assert jnp.all(jnp.diff(y) >= 0) and jnp.all(jnp.abs(y) <= 7.0)
    np.testing.assert_allclose(y, -y[::-1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [DIGITS, COLOR])
def test_mixture_reads_its_numbers_by_pixel(spec):
    """Read ten components; outputs beyond their parameters change nothing."""
    likelihood = likelihoods.build("discretized_logistic_mixture", spec)
    channels = spec.shape[-1]
    parameters = 10 * {1: 3, 3: 10}[channels]
    assert 0 <= likelihood.channels * channels - parameters < channels and likelihood.discrete and likelihood.density
    values = raw(spec, likelihood.channels)
    flat = values.reshape(5, 2, 3, -1)
    expected = DiscretizedLogisticMixture.from_parameters(flat[..., :parameters], channels=channels, levels=spec.levels)
    x = jnp.asarray(
        np.random.default_rng(1).integers(0, spec.levels, (5, *spec.shape)) / (spec.levels - 1), jnp.float32
    )
    px = likelihood.distribution(likelihood.init(), jnp.float32(1.0), values)
    np.testing.assert_allclose(px.log_prob(x), expected.log_prob(x), rtol=1e-6)
    assert px.mean.shape == px.sample(jax.random.key(0)).shape == (5, *spec.shape)


# --- counts -----------------------------------------------------------------------------------------------------------

COUNTS = Spec("counts", (3,), "grey", levels=61, num_training_examples=9)


@pytest.mark.parametrize("scale", ["global", "fixed", "per_pixel"])
@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_counts_have_scipys_probabilities(name, scale):
    likelihood = likelihoods.build(name, COUNTS, scale=scale)
    raw = np.random.default_rng(0).normal(size=(5, 3, likelihood.channels)).astype(np.float32)
    counts = np.random.default_rng(1).integers(0, 61, (5, 3))
    px = likelihood.distribution(likelihood.init(), 0.5, jnp.asarray(raw))
    rates = np.exp(0.5 * np.log(60) + 12 * np.tanh(raw[..., 0].astype(float) / 12))
    if name == "poisson":
        expected = scipy.stats.poisson.logpmf(counts, rates)
    else:
        scales = {"global": 1.0, "fixed": 0.5, "per_pixel": np.exp(7 * np.tanh(raw[..., -1].astype(float) / 7))}[scale]
        expected = scipy.stats.nbinom.logpmf(counts, scales**-2, 1 / (1 + scales**2 * rates))
    np.testing.assert_allclose(px.log_prob((counts / 60).astype(np.float32)), expected.sum(-1), rtol=2e-5)
    np.testing.assert_allclose(px.mean, rates / 60, rtol=1e-5)
    assert likelihood.discrete and likelihood.density
    assert likelihoods.binarization(name, COUNTS._replace(binarization_noise=0.0)) == "none"


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        (REAL, "real numbers; give integers"),
        (FLOATS, "continuous values; give integers"),
        (BINARY, "0 and 1; use --likelihood=bernoulli"),
        (resolve(DIGITS, dequantize="uniform"), "continuous values; give integers"),
    ],
)
def test_what_is_no_count_is_refused(spec, got):
    with pytest.raises(UserError, match=f"--likelihood=poisson needs counts 0, 1, 2, ..., but .* holds {got}"):
        likelihoods.build("poisson", spec)


# --- likelihoods of a user's own --------------------------------------------------------------------------------------


def unit_normal(spec):
    """Gaussian of scale 1, as ``gaussian`` with a fixed scale of 1 is."""

    def distribution(params, sigma, raw):
        return Normal(raw[..., 0] + 0.5, 1.0, event_ndims=len(spec.shape))

    return likelihoods.Likelihood("unit normal", 1, dict, distribution)


def for_tables(spec):
    if len(spec.shape) != 1:
        raise ValueError(f"for tables, not for {spec.shape}")
    return unit_normal(spec)


def flat(spec):
    return unit_normal(spec._replace(shape=spec.shape[:1]))


def broken(spec):
    return unit_normal(spec)._replace(distribution=lambda params, sigma, raw: raw.no_such_attribute)


def test_a_likelihood_of_ones_own_is_that_of_its_name():
    raw, x = np.random.default_rng(0).normal(size=(2, 5, 2, 3, 3)).astype(np.float32)
    own = likelihoods.build(unit_normal, FLOATS)
    named = likelihoods.build("gaussian", FLOATS, scale="fixed")
    for given in (own, likelihoods.build(f"{__name__}:unit_normal", FLOATS)):
        left = given.distribution({}, 1.0, raw[..., None]).log_prob(x)
        np.testing.assert_allclose(left, named.distribution({}, 1.0, raw[..., None]).log_prob(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (for_tables, r"likelihood: for_tables fails on the spec of floats: for tables, not for \(2, 3, 3\)"),
        (flat, r"likelihood: flat has a log_prob of shape \(2, 2, 3\) .* expected \(2,\)"),
        (broken, "likelihood: broken fails on decoder outputs of shape .*AttributeError"),
        (lambda spec: 3, "returns a int, expected a Likelihood"),
        ("no_such_module:Poisson", "No module named 'no_such_module'"),
        (lambda spec: unit_normal(spec)._replace(channels=0), "takes 0 decoder outputs"),
    ],
)
def test_own_likelihoods_that_do_not_fit_are_refused(value, message):
    with pytest.raises(UserError, match=message) as caught:
        likelihoods.build(value, FLOATS)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_likelihood_by_name_is_recorded(tmp_path):
    (tmp_path / "my_likelihoods.py").write_text(
        "from vaex.distributions import Normal\nfrom vaex.models.likelihoods import Likelihood\ndef unit(spec):\n"
        "    make = lambda params, sigma, raw: Normal(raw[..., 0] + 0.5, 1.0, event_ndims=len(spec.shape))\n"
        "    return Likelihood('unit normal', 1, dict, make)\n"
    )
    x = np.random.default_rng(0).random((40, 6), np.float32)
    options = {"hidden": (8,), "steps": 3, "progress": False}
    run = vaex.train("vae", x, likelihood=f"{tmp_path}/my_likelihoods.py:unit", out=tmp_path / "run", **options)
    fixed = vaex.train("vae", x, likelihood="gaussian", likelihood_scale="fixed", **options)
    assert "unit normal" in repr(run)
    loaded = vaex.load(tmp_path / "run", trust=True)
    np.testing.assert_allclose(loaded.encode(x[:5]).mean, fixed.encode(x[:5]).mean, rtol=1e-5)
    with pytest.raises(UserError, match="importing it runs code"):
        vaex.load(tmp_path / "run")
    with pytest.raises(UserError, match="--likelihood=poison: did you mean poisson"):
        vaex.train("vae", x, likelihood="poison")
    passed = vaex.train("vae", x, likelihood=unit_normal, **options)
    np.testing.assert_array_equal(passed.encode(x[:5]).mean, run.encode(x[:5]).mean)
