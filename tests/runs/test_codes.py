"""Integer codes through evaluation and the codec: encode gives them, decode takes them and refuses what is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.scripts import SMALL_CODEBOOK

import vaex
from vaex import files
from vaex.cli import main as cli
from vaex.core import Latents
from vaex.data.spec import Spec
from vaex.data.storage import host_memory
from vaex.errors import UserError
from vaex.evaluation.latents import count_active, kl_per_latent, latent_variables
from vaex.evaluation.traversals import traversal_paths
from vaex.models.codebooks import vq_vae
from vaex.runs import setup

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that is conditional on the class, and has been drawn."""
    out = tmp_path_factory.mktemp("codes") / "run"
    flags = [
        "--model=vq_vae",
        *SMALL_CODEBOOK,
        "--class_conditional",
        "--steps=2",
        "--prior_steps=2",
        "--batch_size=20",
    ]
    assert cli.main([*flags, "--eval_split=validation", "--eval_images=5", f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def run(folder):
    return vaex.load(folder)


@pytest.mark.slow
def test_the_summary_and_the_figures_know_codes(folder):
    member = files.read_json(folder / "summary.json")["members"][0]
    assert "kl_per_latent" not in member and 0 <= member["active_units"] <= 16
    assert {"perplexity", "usage", "bits_per_code", "bits_per_dimension", "generative_accuracy"} <= set(member)
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {
        "reconstructions",
        "samples",
        "traversals",
        "code_usage",
        "code_maps",
        "temperatures",
        "completions",
    } <= drawn
    assert "classes" not in drawn  # x given its codes does not depend on the class


@pytest.mark.slow
def test_codes_come_out_and_go_in_as_integers(run):
    codes = run.encode(IMAGES).mean
    assert codes.shape == (5, 4, 4) == (5, *run.latent_shape) and codes.dtype == jnp.int32
    np.testing.assert_array_equal(run.encode(IMAGES, labels=3).mean, codes)
    images = run.decode(np.asarray(codes)).mean
    assert images.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(images, run.reconstruct(IMAGES), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda z: run.decode(z).mean)(codes), images, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((1, 4, 4)), "z has dtype float32, expected integers"),
        (np.full((1, 4, 4), 4), "z holds integers from 4 to 4, expected codes 0 to 3"),
        (np.full((1, 4, 4), -1), "z holds integers from -1 to -1"),
        (np.zeros((1, 16), np.int32), r"z has shape \(1, 16\), expected \[b, 4, 4\]"),
    ],
)
def test_what_is_no_code_is_refused(run, z, message):
    with pytest.raises(ValueError, match=message):
        run.decode(z)


@pytest.mark.slow
def test_samples_have_a_temperature_and_a_class(run):
    plain = run.sample(KEY, 6, labels=2)
    np.testing.assert_array_equal(run.sample(KEY, 6, labels=2, temperature=1.0), plain)
    assert np.abs(run.sample(KEY, 6, labels=2, temperature=50.0) - plain).max() > 0
    assert run.sample(KEY, 2).shape == (2, 8, 8, 1)
    for temperature in (0.0, np.inf, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"at least 0[.]001, and finite"):
            run.sample(KEY, 2, temperature=temperature)


@pytest.mark.slow
def test_only_what_the_prior_says_needs_labels(run):
    with pytest.raises(ValueError, match="log_likelihood: this model needs labels"):
        run.log_likelihood(KEY, IMAGES)
    conditional = run.log_likelihood(KEY, IMAGES, labels=[0, 1, 2, 3, 4])
    every = run.class_log_likelihoods(KEY, IMAGES)
    assert every.shape == (5, 10)
    np.testing.assert_allclose(conditional, every[np.arange(5), np.arange(5)], rtol=1e-5)


def test_a_vocabulary_whose_logits_do_not_fit_is_refused_with_an_estimate(monkeypatch, capsys):
    """2^18 codes: 16 of them in each of 125 images have logits of 2.1 GB, and as much for their gradient."""
    monkeypatch.setattr(host_memory, "free_memory", lambda: 3e9)
    flags = ["--model=vq_vae", "--quantizer=lookup_free", "--codes=262144", "--batch_size=125", "--steps=1"]
    assert cli.main(flags) == 2
    [message] = capsys.readouterr().err.splitlines()
    assert (
        "logits [b, 16, 262144]: those of 125 examples and their gradient take at least 4.19 GB, and 3 GB are free"
        in message
    )
    recipe = vq_vae.build(
        vq_vae.Config(quantizer="lookup_free", codes=2**18), Spec("bits", (8, 8, 1), "binary", levels=2)
    )
    setup.check_vocabulary(recipe, 89, 178)
    for batch_size, evaluated, held in (
        (90, 0, "90 examples and their"),
        (1, 179, "the 179 examples that are evaluated"),
    ):
        with pytest.raises(UserError, match=held):
            setup.check_vocabulary(recipe, batch_size, evaluated)
    setup.check_vocabulary(recipe._replace(latents=()), 10**9, 10**9)


def test_latent_variables_of_integer_codes():
    codes = np.array([[0, 7, 1, 2, 5, 5], [1, 7, 1, 2, 5, 5], [1, 7, 2, 2, 5, 5], [1, 7, 3, 2, 5, 5]])
    variables = latent_variables((Latents("code", 2, 8), Latents("code", 4, 8)), 6)
    assert [(variable.name, variable.start, variable.stop) for variable in variables] == [
        ("codes 0", 0, 2),
        ("codes 2", 2, 6),
    ]
    assert kl_per_latent(variables, codes, np.zeros((4, 6))) is None
    assert count_active(variables, codes, np.zeros((4, 6))) == 2  # the first and the third place
    paths = traversal_paths(variables, codes, np.zeros((4, 6)))
    assert paths.kl is None and set(paths.names) <= {f"code {place}" for place in range(6)}
    path = paths.codes[paths.names.index("code 2")]
    path = path[np.isfinite(path).all(axis=1)]
    np.testing.assert_array_equal(path[:, 2], [1, 2, 3])  # the most frequent first
    np.testing.assert_array_equal(np.delete(path, 2, axis=1), np.tile(np.delete(codes[0], 2), (3, 1)))
