"""The lines before training: how data is read, what becomes of it, which likelihood, and warnings of what will not fit."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.command import parse

import vaex
from vaex.data import announcement
from vaex.data.spec import Dataset
from vaex.data.storage import host_memory
from vaex.errors import UserError
from vaex.runs import lifecycle, memory, stored, warm_start
from vaex.runs.setup import assemble, resolve_spec, with_earlier_default
from vaex.training import population

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8)
INK = np.where(RNG.random((40, 6, 5)) < 0.1, BYTES, 255 * (BYTES > 127)).astype(np.uint8)
UNIT = RNG.random((40, 6, 5)).astype(np.float32)
MODELS = ("vae", "linear_vae", "ladder_vae")


def announced(experiment):
    return announcement.lines(experiment.dataset, experiment.spec, lifecycle.choices(experiment))


def reported(x, *flags, model="vae", **arguments):
    """The lines of a run of these flags on an array."""
    settings = parse([f"--model={model}", "--dataset=digits", "--hidden=8", "--latent_dim=2", *flags])
    return announced(assemble(settings, Dataset.from_arrays(x, **arguments)))


@pytest.mark.parametrize(
    ("x", "flags", "data", "likelihood"),
    [
        (BYTES, (), "levels .* of 0 to 255, divided by 255; not binarised .--binarize=dynamic.$",
         "discretized logistic, one learned scale, the default for levels .--likelihood.$"),
        (INK, (), r"each drawn as 0 or 1 at every step, 0.0\d of whose variance is noise .nearly binary: at most 0.3. "
         "(.*--binarize=none keeps them.)$", "bernoulli, the default for 0 and 1 .--likelihood.$"),
        (INK, ("--binarize=none",), "not binarised", "discretized logistic"),
        (INK, ("--dequantize=uniform",), "with uniform noise within a level .--dequantize=none leaves it out.$",
         "gaussian, one learned scale, the default for dequantised levels"),
        (BYTES, ("--binarize=threshold",), "0 up to one half, else 1", "bernoulli"),
        (BYTES, ("--likelihood=bernoulli",), "each drawn as 0 or 1", "bernoulli .--likelihood=bernoulli.$"),
        (BYTES > 127, (), "; 0 or 1; as they are$", "bernoulli"),
        (UNIT, (), "continuous from .* to .* in .0, 1.; not binarised", "gaussian, one learned scale, the default for continuous"),
        (UNIT.reshape(40, 30), (), "vectors of 30 values; continuous", "gaussian"),
        (INK.reshape(40, 30), (), "vectors of 30 values; levels 0 to 255 of 0 to 255, divided by 255; as they are",
         "discretized logistic"),
        (RNG.poisson(3.0, (40, 7)), (), r"counts 0 to \d+ of 0 to \d+, divided by \d+; as they are$",
         "negative binomial, one learned dispersion, the default for counts .--likelihood.$"),
        (RNG.integers(1, 6, (40, 7)), (), "vectors of 7 values; levels 1 to 5 of 0 to 5", "discretized logistic"),
        (RNG.normal(size=(40, 7)), (), "vectors of 7 values; real numbers from -", "gaussian, one learned scale"),
    ],
)  # fmt: skip
def test_the_default_and_what_is_said_of_it(x, flags, data, likelihood):
    first, second, *warnings = reported(x, *flags)
    assert np.char.startswith([first, second], ["data: 32 training examples; ", "likelihood: "]).all() and not warnings
    assert re.search(data, first), first
    assert re.search(likelihood, second), second


@pytest.mark.parametrize(
    ("x", "layout", "text"),
    [
        (BYTES, "auto", "images 6x5 (height x width), 1 channel (--kind=series or table reads them otherwise)"),
        (
            np.zeros((40, 24, 24, 24), np.uint8),
            "auto",
            "images 24x24 (height x width), 24 channels (--layout=chw, --kind=volume or table reads",
        ),
        (np.zeros((40, 4, 8, 9), np.uint8), "chw", "images 8x9 (height x width), 4 channels (--layout=chw)"),
        (np.zeros((40, 4, 8, 9), np.uint8), "vector", "vectors of 288 values (--layout=vector)"),
    ],
)
def test_the_reading_of_axes_and_the_other_ones(x, layout, text):
    settings = parse(["--model=vae", "--dataset=a.npz", f"--layout={layout}"])
    experiment = assemble(settings, Dataset.from_arrays(x, layout=layout))
    assert text in announced(experiment)[0]


def test_data_sets_by_name_have_one_layout():
    settings = parse(["--model=vae", "--dataset=digits"])
    assert "--layout" not in announced(assemble(settings))[0]


@pytest.mark.slow
def test_python_reads_a_layout_of_arrays_alone():
    x = np.zeros((20, 4, 8, 9), np.uint8)
    run = vaex.train("vae", x, layout="chw", steps=1, hidden=(4,), evaluate=False, progress=False)
    assert run.spec.shape == (8, 9, 4)
    with pytest.raises(UserError, match=r"give it to Dataset.from_arrays"):
        vaex.train("vae", Dataset.from_arrays(x, layout="chw"), layout="chw", steps=1)
    with pytest.raises(UserError, match="--layout=chw reads 4 channels of 8x9"):
        Dataset.from_batches(lambda step: x, validation=x, test=x)
    stream = Dataset.from_batches(lambda step: x, validation=x, test=x, layout="chw")
    assert stream.spec.shape == (8, 9, 4) and stream.source.stored(stream.source.raw(0), 0)["x"].shape == (20, 8, 9, 4)


def test_constant_pixels_are_named_where_each_has_a_scale():
    x = BYTES.copy()
    x[:, 0], x[:, 3, 4] = 7, 9
    flags = ("--likelihood=gaussian", "--likelihood_scale=per_pixel")
    *_, warning = reported(x, *flags)
    assert warning.startswith(
        "warning: 6 of 30 values are the same in all 32 examples measured: pixels (0, 0), (0, 1), "
    )
    assert "(0, 4), (3, 4)." in warning and "--likelihood_scale=global" in warning
    assert len(reported(x, "--likelihood=gaussian")) == 2 and len(reported(BYTES, *flags)) == 2


def test_columns_that_do_not_fit_are_named():
    x = RNG.normal(size=(400, 6))
    x[:, 1] = 3.0
    x[:, 2] *= 1e4
    x[:, 4] += 1e3
    _, _, constant, far, shifted = reported(x, "--standardize=none")
    assert (
        "1 of 6 values are the same in all 320 examples measured: column 1." in constant
        and "leave them out" in constant
    )
    assert "column 2 lies far from the unit 10" in far and "standardise" in far
    assert "the mean of column 4 is more than 30 times the spread from 0; standardise the columns" in shifted
    _, _, *warnings = reported(x)
    assert warnings == [constant]
    assert len(reported(RNG.normal(size=(400, 6)) * [1, 2, 0.5, 1, 3, 1], "--standardize=none")) == 2
    *_, unit = reported(RNG.normal(size=(400, 6)) * 1e4, "--standardize=none")
    assert unit.startswith("warning: columns spread about 10000, in units of which") and "tandardise" in unit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "factor"),
    [
        ("vae", 1e4),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in itertools.product(MODELS, (1e4, 1.0, 1e-4))),
    ],
)
def test_a_table_of_any_scale_reaches_the_entropy_of_its_columns(model, factor):
    """Independent normal columns: no bound exceeds -entropy = -d log(factor sqrt(2 pi e)), and training comes within 3%."""
    d, flags = 4, {"hidden": (8,), "latents": (2,)} if model == "ladder_vae" else {"latent_dim": 2}
    flags |= {"hidden": (16,)} if model == "vae" else {}
    x = (np.random.default_rng(1).normal(size=(2000, d)) * factor).astype(np.float32)
    run = vaex.train(
        model, x, steps=400, batch_size=200, learning_rate=0.01, progress=False, seeds=0, evaluate=False, **flags
    )
    member, entropy = run[0], d * (np.log(factor) + 0.5 * np.log(2 * np.pi * np.e))
    bound = member.log_likelihood(jax.random.key(0), jnp.asarray(x[:500]), 20).mean()
    assert bound == pytest.approx(-entropy, abs=0.35)


@pytest.mark.slow
def test_scaling_a_table_by_a_power_of_ten_changes_its_densities_alone():
    """The unit takes the factor up, so networks see the same numbers, up to the rounding of the division."""
    x = np.random.default_rng(2).normal(size=(300, 5)).astype(np.float32)
    runs = [
        vaex.train("vae", x * factor, steps=5, hidden=(8,), latent_dim=2, progress=False, evaluate=False)[0]
        for factor in (1.0, 1000.0)
    ]
    codes = [run.encode(x * factor).mean for run, factor in zip(runs, (1.0, 1000.0), strict=True)]
    np.testing.assert_allclose(*codes, rtol=1e-4, atol=1e-5)


def test_runs_of_before_keep_the_likelihood_that_auto_was():
    settings = parse(["--model=vae", "--dataset=digits"])
    spec = resolve_spec(settings, Dataset.from_arrays(BYTES).spec)._replace(binarization_noise=None)
    assert with_earlier_default(settings, spec).config.likelihood == "bernoulli"
    given = parse(["--model=vae", "--dataset=digits", "--likelihood=laplace"])
    assert with_earlier_default(given, spec) is given


@pytest.mark.slow
def test_a_border_does_not_take_over_a_scale_per_pixel():
    """Digits within a black border: codes still tell them apart, and the ELBO stays near that of one scale."""
    arrays = {}
    for split, values in Dataset.load("digits").splits.items():
        arrays[f"x_{split}"] = np.pad(values["x"][..., 0] * np.uint8(15), ((0, 0), (4, 4), (4, 4)))
        arrays[f"y_{split}"] = values["y"]
    dataset = Dataset.from_arrays(arrays)
    elbo, agreement = {}, {}
    for scale in ("per_pixel", "global"):
        run = vaex.train(
            "vae", dataset, likelihood="gaussian", likelihood_scale=scale, steps=1000, hidden=(64,), latent_dim=8, seeds=0,
            progress=False, figures=False, evaluate=True, eval_samples=5, eval_images=50,
        )  # fmt: skip
        member = run.summary["members"][0]
        elbo[scale], agreement[scale] = member["elbo"], member["knn_label_agreement"]
    assert agreement["global"] > 0.8 and agreement["per_pixel"] > 0.65  # 0.1 without a least scale, at an ELBO of 728
    assert abs(elbo["per_pixel"] - elbo["global"]) < 100


PHOTOGRAPHS = RNG.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def of_photographs(*flags):
    settings = parse(["--dataset=digits", "--batch_size=20", "--steps=1", *flags])
    return warm_start.begin(assemble(settings, Dataset.from_arrays(PHOTOGRAPHS)), None)


def test_memory_is_said_where_a_batch_is_large_and_what_does_not_fit_is_told_the_remedy(monkeypatch):
    experiment, estimate = of_photographs("--model=vae", "--hidden=16"), memory.Estimate(3e8, 4e9, 20)

    def said(free, estimate=estimate):
        monkeypatch.setattr(host_memory, "free_memory", lambda: free)
        monkeypatch.setattr(memory, "estimated", lambda experiment: estimate)
        return memory.line(experiment)

    assert said(1e12) == ("", False)  # and nothing is traced
    monkeypatch.setattr(memory, "WORTH_A_LOOK", 0.0)
    text = "memory: a step takes about 4.3 GB, 4 GB of them activations of 20 examples; "
    assert said(5e9) == (f"{text}5 GB are free", False)
    assert said(3e9) == (f"{text}3 GB are free; --accumulate=2, or --batch_size=10, takes about 2.3 GB", True)
    assert said(2e9)[0].endswith("; --accumulate=4, or --batch_size=5, takes about 1.3 GB")
    assert said(2e9, estimate._replace(divisible=False))[0].endswith("; --batch_size=5 takes about 1.3 GB")
    assert said(2e8)[0].endswith("; smaller networks, vocabularies or examples (--image_size) take less")


def test_activations_are_those_of_the_examples_that_are_computed_at_a_time():
    whole, half = (
        memory.estimated(of_photographs("--model=vae", "--hidden=16", f"--accumulate={parts}")) for parts in (1, 2)
    )
    assert (whole.rows, half.rows, whole.divisible) == (20, 10, True) and whole.state == half.state
    assert whole.activations == pytest.approx(2 * half.activations, rel=0.01)
    assert whole.activations > 20 * 32 * 32 * 3 * 4  # what the decoder gives, at least


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--model=vae", "--channels=4x8", "--hidden=16", "--network=conv"),
        ("--model=vq_vae", "--codes=4", "--channels=4", "--blocks=1", "--prior_width=8", "--prior_layers=1"),
        ("--model=info_vae", "--channels=4x8", "--hidden=16", "--network=conv"),
    ],
    ids=lambda flags: flags[0].partition("=")[2],
)
def test_the_memory_said_is_about_that_of_the_compiled_step(flags):
    experiment = of_photographs(*flags)
    states = stored.state_shapes(experiment.settings, experiment.recipe, experiment.spec)
    batch = stored.example_batch(experiment.settings, experiment.spec)
    for stage, state in zip(experiment.recipe.stages, states, strict=True):
        compiled = jax.jit(stage.algorithm.step).lower(population.member_shapes(state), batch).compile()
        buffers = compiled.memory_analysis().temp_size_in_bytes
        assert 0.5 < memory.activations_of(stage, state, batch)[0] / buffers < 2.5
    assert memory.estimated(experiment).divisible == (flags[0] == "--model=vae")
