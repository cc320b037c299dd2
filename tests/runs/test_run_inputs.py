"""What a run takes: one meaning for integers, floats and bools, and a refusal of what cannot be used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.untrained_runs import BINARY, COLOR, CONTINUOUS, DIGITS, GREY, REAL, untrained

from vaex import data
from vaex.data.loader import user_examples
from vaex.data.spec import Spec

KEY = jax.random.key(0)


def levels_of(spec: Spec) -> np.ndarray:
    return np.random.default_rng(1).integers(0, spec.levels, (5, *spec.shape)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "flags"),
    [
        (DIGITS, ()),
        (GREY, ()),
        (GREY, ("--binarize=threshold",)),
        (GREY, ("--likelihood=gaussian", "--dequantize=uniform")),
        (GREY, ("--likelihood=categorical",)),
        (BINARY, ()),
        (COLOR, ()),
    ],
    ids=lambda value: value.name if isinstance(value, Spec) else " ".join(value),
)
def test_levels_and_their_floats_are_one(spec, flags):
    run, x = untrained(spec, *flags), levels_of(spec)
    floats = x / (spec.levels - 1)
    forms = [x.astype(np.int64), jnp.asarray(x), floats, floats.astype(np.float32), jnp.asarray(floats, jnp.float32)]
    for form in forms:
        np.testing.assert_allclose(run.encode(form).mean, run.encode(x).mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(run.log_likelihood(KEY, form, 4), run.log_likelihood(KEY, x, 4))


def test_the_encoder_reads_the_same_inputs_as_in_training():
    """Without randomness, ``encode`` gives the network what ``data.prepare`` gives it."""
    for flags in ((), ("--binarize=threshold",)):
        run, x = (
            untrained(GREY, *flags, "--likelihood=bernoulli" if flags else "--likelihood=gaussian"),
            levels_of(GREY),
        )
        np.testing.assert_array_equal(
            user_examples.model_inputs(run.spec, "test", x), data.prepare(run.spec, KEY, jnp.asarray(x))
        )


@pytest.mark.slow
def test_bools_and_a_missing_channel_axis():
    run = untrained(BINARY)
    x = levels_of(BINARY)
    np.testing.assert_array_equal(run.encode(x.astype(bool)).mean, run.encode(x).mean)
    np.testing.assert_array_equal(run.encode(x[..., 0]).mean, run.encode(x).mean)
    np.testing.assert_array_equal(run.log_likelihood(KEY, x.astype(bool), 4), run.log_likelihood(KEY, x, 4))


def test_real_vectors_take_any_number():
    run = untrained(REAL)
    x = np.array([[-3, 0, 1, 2, 300]])
    np.testing.assert_array_equal(run.encode(x).mean, run.encode(x.astype(np.float64)).mean)
    assert np.isfinite(run.log_likelihood(KEY, x, 4)).all()


@pytest.mark.slow
def test_rounding_at_the_ends_is_forgiven(run):
    x = np.full((1, 8, 8, 1), 1 + 5e-7, np.float32)
    np.testing.assert_array_equal(run.encode(x).mean, run.encode(np.ones_like(x)).mean)


ONE = np.zeros((1, 8, 8, 1), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "says"),
    [
        (ONE[0], r"x has shape \(8, 8, 1\), expected \[b, 8, 8, 1\].*x\[None\]"),
        (ONE[:, :7], "expected .b, 8, 8, 1"),
        (np.zeros((1, 64)), "expected .b, 8, 8, 1"),
        (np.float32(1), "expected .b, 8, 8, 1"),
        (ONE * np.nan, "64 NaN or infinite"),
        (ONE + np.inf, "64 NaN or infinite"),
        (ONE + 1.5, "divide 8-bit values by 255"),
        (ONE - 0.1, "expected .0, 1."),
        (np.full(ONE.shape, 17), "expected levels 0 to 16"),
        (np.full(ONE.shape, -1), "expected levels 0 to 16"),
        (ONE.astype(np.complex64), "dtype complex64"),
        (np.full(ONE.shape, "0"), "dtype <U1"),
        (np.full(ONE.shape, None), "dtype object"),
    ],
)
def test_examples_that_cannot_be_used(run, x, says):
    for name, call in {
        "encode": run.encode,
        "reconstruct": run.reconstruct,
        "log_likelihood": lambda x: run.log_likelihood(KEY, x),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: .*{says}"):
            call(x)


def test_a_likelihood_is_defined_at_the_levels(run):
    with pytest.raises(ValueError, match=r"log_likelihood: x holds floats between the data's 17 levels k/16"):
        run.log_likelihood(KEY, ONE + 0.03)
    assert np.isfinite(run.encode(ONE + 0.03).mean).all()


def test_a_model_of_single_examples_foretells_nothing(run):
    with pytest.raises(ValueError, match="predict: this model reads single examples; train one of sequences"):
        run.predict(KEY, ONE, 1)


def test_integers_for_continuous_data_are_refused():
    with pytest.raises(ValueError, match="x / 255"):
        untrained(CONTINUOUS).encode(np.zeros((1, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("z", [np.zeros(2), np.zeros((4, 3)), np.zeros(()), np.zeros((2, 4))])
def test_codes_of_another_shape_are_refused(run, z):
    if z.shape == (2,):
        with pytest.raises(ValueError, match=r"one code is z\[None\]"):
            run.decode(z)
    else:
        with pytest.raises(ValueError, match=r"decode: z has shape .*, expected \[b, 2\]"):
            run.decode(z)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda run: run.sample(KEY, 0), "sample: n=0"),
        (lambda run: run.sample(KEY, 3, show="mode"), "show='mode', expected 'mean' or 'sample'"),
        (lambda run: run.log_likelihood(KEY, ONE, 0), "num_samples=0"),
    ],
)
def test_numbers_that_cannot_be_used(run, call, says):
    with pytest.raises(ValueError, match=says):
        call(run)


def test_fractions_are_no_counts(run):
    for call in (lambda: run.sample(KEY, 2.5), lambda: run.log_likelihood(KEY, ONE, 2.5)):
        with pytest.raises(TypeError, match="float"):
            call()
