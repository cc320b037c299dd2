"""A trained run in Python: shapes, determinism, one meaning for integers and floats, exact likelihoods, refusals."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.trained_runs import QUICK

import vaex
from vaex import data
from vaex.cli.parse import parse
from vaex.data.loader import examples
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.evaluation import latents
from vaex.runs import setup as experiment
from vaex.runs import trained as codec
from vaex.schedules import resolve
from vaex.training import population

KEY = jax.random.key(0)
RUN = ("--model=beta_vae", "--beta=1,4", "--average_decay=0.9", "--no-figures")


@pytest.fixture(scope="module")
def trained(trained_runs) -> pathlib.Path:
    """Two members on digits, with averaged parameters."""
    return trained_runs(*RUN)


@pytest.fixture(scope="module")
def run(trained) -> codec.Run:
    return vaex.load(trained, member=1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Test images as stored, uint8 in 0..16."""
    return data.load("digits").splits["test"]["x"]


@functools.cache
def untrained(spec: Spec, *words: str, model: str = "beta_vae") -> codec.Run:
    """A run as it starts, on data of this spec, without a run directory."""
    settings = parse([f"--model={model}", "--hidden=8", "--latent_dim=2", *words])
    spec = experiment.resolve_spec(settings, spec)
    recipe = experiment.build_recipe(settings, spec)
    variables = jax.jit(recipe.stages[0].model.init)(KEY, {"x": jnp.zeros((1, *spec.shape))})
    hparams = resolve(population.member(experiment.stack_hparams(settings), 0), np.int32(0))
    return codec.Run(recipe, spec, variables, hparams, 0)


GREY = Spec("grey", (8, 8, 1), "grey", levels=256)
DIGITS = Spec("digits", (8, 8, 1), "grey", levels=17)
BINARY = Spec("binary", (8, 8, 1), "binary", levels=2)
COLOR = Spec("color", (8, 9, 3), "color", levels=256)
CONTINUOUS = Spec("continuous", (8, 8, 1), "grey", levels=None)
REAL = Spec("real", (5,), "real", levels=None)


# --- what it gives ------------------------------------------------------------------------------------------------


def test_shapes(run, digits):
    x = digits[:7]
    posterior = run.encode(x)
    assert posterior.mean.shape == (7, 2) and posterior.sample(KEY, (3,)).shape == (3, 7, 2)
    assert posterior.log_prob(posterior.mean).shape == (7,)
    likelihood = run.decode(posterior.mean)
    assert likelihood.mean.shape == likelihood.sample(KEY).shape == (7, 8, 8, 1)
    assert likelihood.log_prob(examples.model_inputs(run.spec, "test", x)).shape == (7,)
    assert run.reconstruct(x).shape == (7, 8, 8, 1)
    assert run.sample(KEY, 5).shape == run.sample(KEY, 5, show="sample").shape == (5, 8, 8, 1)
    assert run.log_likelihood(KEY, x, 4).shape == (7,)
    assert run.latent_shape == (2,) and run.step == 20
    assert "digits" in repr(run) and "step=20" in repr(run)


def test_no_examples_are_no_error(run, digits):
    assert run.reconstruct(digits[:0]).shape == (0, 8, 8, 1)
    assert run.log_likelihood(KEY, digits[:0], 4).shape == (0,)


def test_the_same_call_gives_the_same_numbers(trained, run, digits):
    again = vaex.load(str(trained), member=1)
    for call in (
        lambda it: it.encode(digits[:7]).mean,
        lambda it: it.reconstruct(digits[:7]),
        lambda it: it.sample(KEY, 5),
        lambda it: it.sample(KEY, 5, show="sample"),
        lambda it: it.log_likelihood(KEY, digits[:7], 4),
    ):
        np.testing.assert_array_equal(call(run), call(run))
        np.testing.assert_array_equal(call(run), call(again))


def test_keys_matter_where_something_is_drawn(run, digits):
    other = jax.random.key(1)
    assert not np.array_equal(run.sample(KEY, 5), run.sample(other, 5))
    assert not np.array_equal(run.sample(KEY, 5), run.sample(KEY, 5, show="sample"))
    assert not np.array_equal(run.log_likelihood(KEY, digits[:7], 4), run.log_likelihood(other, digits[:7], 4))


def test_draws_lie_on_the_datas_levels(run):
    levels = np.asarray(run.sample(KEY, 50, show="sample")) * 16
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert len(np.unique(np.round(levels))) > 8


def test_a_reconstruction_is_the_decoded_posterior_mean(run, digits):
    np.testing.assert_array_equal(run.reconstruct(digits[:7]), run.decode(run.encode(digits[:7]).mean).mean)


def test_numbers_agree_with_the_summary(trained, digits):
    members = json.loads((trained / "summary.json").read_text())["members"]
    for index, facts in enumerate(members):
        posterior = vaex.load(trained, member=index).encode(digits)
        found = latents.marginal_kl(np.asarray(posterior.mean), np.asarray(posterior.variance))
        np.testing.assert_allclose(found, facts["kl_per_latent"], rtol=1e-4, atol=2e-6)


def test_members_are_told_apart(trained, digits):
    one, other = (vaex.load(trained, member=index) for index in (0, 1))
    assert (float(one.hparams.beta), float(other.hparams.beta)) == (1.0, 4.0)
    assert not np.array_equal(one.encode(digits).mean, other.encode(digits).mean)
    np.testing.assert_array_equal(vaex.load(trained).encode(digits).mean, one.encode(digits).mean)


def test_averaged_parameters_are_used(trained, run):
    settings = parse([*RUN, *(f"--{name}={value}" for name, value in QUICK.items()), "--batch_size=128"])
    state = codec._member_state(trained, settings, run.recipe, run.spec, 1)
    used, averaged, last = (jax.tree.leaves(it) for it in (run.variables.params, state.average, state.variables.params))
    for ours, mean, final in zip(used, averaged, last, strict=True):
        np.testing.assert_array_equal(ours, mean)
        assert not np.array_equal(mean, final)


def test_a_model_without_a_density(digits):
    run = untrained(DIGITS, model="autoencoder")
    assert run.encode(digits).mean.shape == (200, 2) and run.reconstruct(digits).shape == digits.shape
    assert np.isfinite(run.sample(KEY, 6)).all()
    with pytest.raises(ValueError, match="defines no density"):
        run.log_likelihood(KEY, digits)


# --- likelihoods --------------------------------------------------------------------------------------------------


def exact_log_likelihood(run: codec.Run, x: np.ndarray) -> np.ndarray:
    """log p(x) [b] of a run with two latents, by quadrature on a grid that leaves out 1e-8 of the prior's mass."""
    axis = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_prior = -0.5 * np.sum(grid**2, axis=-1) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])
    values = examples.model_inputs(run.spec, "test", x)
    log_px = jax.lax.map(lambda z: run.decode(z[None]).log_prob(values), jnp.asarray(grid, jnp.float32))
    return np.asarray(jax.nn.logsumexp(np.asarray(log_px, np.float64) + log_prior[:, None], axis=0))


@pytest.mark.slow
def test_importance_weights_have_the_exact_mean(run, digits):
    """exp of the estimate is unbiased for p(x): its mean over keys is the quadrature's, within four standard errors."""
    x = digits[:6]
    exact = exact_log_likelihood(run, x)
    keys = jax.random.split(jax.random.key(5), 60)
    ratios = np.exp(np.stack([run.log_likelihood(key, x, 100) for key in keys]).astype(np.float64) - exact)
    error = np.std(ratios, axis=0, ddof=1) / np.sqrt(len(keys))
    assert np.all(error < 0.2), "too few samples to tell anything"
    assert np.all(np.abs(np.mean(ratios, axis=0) - 1) < 4 * error + 1e-4)


def test_many_samples_are_no_less_than_the_elbo(run, digits):
    """The elbo is the mean of log w of single samples; each example's bound with K = 2,000 lies above it."""
    x = digits[:20]
    single = np.stack([run.log_likelihood(key, x, 1) for key in jax.random.split(jax.random.key(6), 50)])
    elbo, error = np.mean(single, axis=0), np.std(single, axis=0, ddof=1) / np.sqrt(50)
    many = np.asarray(run.log_likelihood(KEY, x, 2000))
    assert np.all(many >= elbo - 4 * error) and np.mean(many) > np.mean(elbo)


def test_bernoulli_on_grey_values_binarises_them_by_the_key():
    run = untrained(DIGITS, "--likelihood=bernoulli")
    assert run.spec.binarize == "dynamic"
    grey = np.full((4, 8, 8, 1), 8, np.uint8)
    sharp = np.where(np.arange(64).reshape(8, 8, 1) % 2, 16, 0).astype(np.uint8)[None]
    key, other = jax.random.split(KEY)
    found = np.asarray(run.log_likelihood(key, grey, 4))
    assert len(np.unique(found)) == 4 and np.all(found < 0)
    assert not np.array_equal(found, run.log_likelihood(other, grey, 4))
    sample = untrained(BINARY)  # the same network, on data that is binary already
    np.testing.assert_array_equal(run.log_likelihood(key, sharp, 4), sample.log_likelihood(key, sharp // 16, 4))


# --- integers, floats, bools --------------------------------------------------------------------------------------


def levels_of(spec: Spec) -> np.ndarray:
    return np.random.default_rng(1).integers(0, spec.levels, (5, *spec.shape)).astype(np.uint8)


@pytest.mark.parametrize(
    ("spec", "words"),
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
def test_levels_and_their_floats_are_one(spec, words):
    run, x = untrained(spec, *words), levels_of(spec)
    floats = x / (spec.levels - 1)
    forms = [x.astype(np.int64), jnp.asarray(x), floats, floats.astype(np.float32), jnp.asarray(floats, jnp.float32)]
    for form in forms:
        np.testing.assert_allclose(run.encode(form).mean, run.encode(x).mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(run.log_likelihood(KEY, form, 4), run.log_likelihood(KEY, x, 4))


def test_the_encoder_sees_what_it_saw_in_training():
    """Without randomness, ``encode`` gives the network what ``data.prepare`` gives it."""
    for words in ((), ("--binarize=threshold",)):
        run, x = (
            untrained(GREY, *words, "--likelihood=bernoulli" if words else "--likelihood=gaussian"),
            levels_of(GREY),
        )
        np.testing.assert_array_equal(
            examples.model_inputs(run.spec, "test", x), data.prepare(run.spec, KEY, jnp.asarray(x))
        )


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


def test_rounding_at_the_ends_is_forgiven(run):
    x = np.full((1, 8, 8, 1), 1 + 5e-7, np.float32)
    np.testing.assert_array_equal(run.encode(x).mean, run.encode(np.ones_like(x)).mean)


# --- refusals -----------------------------------------------------------------------------------------------------

ONE = np.zeros((1, 8, 8, 1), np.float32)


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


# --- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [-1, 2, 99])
def test_a_member_that_is_not_there(trained, member):
    with pytest.raises(UserError, match=rf"member={member}, but .* has 2 member\(s\), counted from 0"):
        vaex.load(trained, member=member)


def edited(trained: pathlib.Path, to: pathlib.Path, change) -> pathlib.Path:
    """A copy of the run whose config.json went through ``change``."""
    directory = pathlib.Path(shutil.copytree(trained, to))
    facts = json.loads((directory / "config.json").read_text())
    change(facts)
    (directory / "config.json").write_text(json.dumps(facts))
    return directory


def test_what_is_no_run(tmp_path, trained):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=r"load: .* holds no config.json"):
            vaex.load(path)
    for text, says in (
        ("{", "cannot be read"),
        ("[]", "not the config.json of a vaex run"),
        ("{}", "not the config.json"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=says):
            vaex.load(tmp_path)


def test_a_run_without_a_checkpoint(tmp_path, trained):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(UserError, match="no checkpoint yet; train the run first"):
        vaex.load(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="train the run first"):
        vaex.load(tmp_path)


def test_runs_of_another_version(tmp_path, trained):
    def newer(facts):
        facts["identity"]["config"]["warp_factor"] = 9
        facts["future"] = {"x": 1}

    with pytest.raises(UserError, match="lacks warp_factor"):
        vaex.load(edited(trained, tmp_path / "newer", newer))
    with pytest.raises(UserError, match=r"lacks data\.levels"):
        vaex.load(edited(trained, tmp_path / "older", lambda facts: facts["data"].pop("levels")))
    before = edited(trained, tmp_path / "before", lambda facts: facts["data"].pop("num_training_examples"))
    assert vaex.load(before).spec.num_training_examples == 0  # a fact that was added later
    same = edited(trained, tmp_path / "same", lambda facts: facts.update(future=1))  # what is only added is no matter
    assert vaex.load(same).step == 20


def test_a_checkpoint_that_does_not_fit_is_refused_by_the_name_of_the_parameter(tmp_path, trained):
    wider = edited(trained, tmp_path / "wider", lambda facts: facts["identity"]["config"].update(hidden=[9]))
    with pytest.raises(UserError, match=r"kernel|bias"):
        vaex.load(wider)


def test_a_model_that_is_gone(tmp_path, trained):
    gone = edited(trained, tmp_path / "gone", lambda facts: facts["identity"].update(model="my_package.gone"))
    with pytest.raises(UserError, match="there is no module 'my_package'"):
        vaex.load(gone)


def test_a_run_is_loaded_without_its_data(trained, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("this read the data"))
    assert vaex.load(trained).spec.shape == (8, 8, 1)
