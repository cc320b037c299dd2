"""What a run says of its numbers in words, and that it says nothing where there is nothing to say."""

import json

import pytest
from helpers.trained_runs import vaex

from vaex.core import Latents
from vaex.evaluation.notes import Note, combined, member_notes
from vaex.models import MODELS

SOUND = {
    "elbo": -90.0, "elbo_standard_error": 1.0, "training_elbo": -88.0, "training_elbo_standard_error": 1.0, "kl": 20.0,
    "kl_per_latent": [10.0, 10.0], "log_likelihood": -88.0,
    "log_likelihood_above_elbo": 2.0, "log_likelihood_above_elbo_standard_error": 0.1,
}  # fmt: skip


def texts(model="vae", hparams=None, latents=(), **changes):
    """Kind -> sentence, of sound numbers with these changes."""
    bound = MODELS[model].bound if model in MODELS else ""
    return {note.kind: note.text for note in member_notes(SOUND | changes, bound, hparams or {}, latents)}


def test_sound_numbers_need_no_words():
    assert (
        texts() == {} and texts("beta_vae", {"beta": 4.0}) == {} and texts("my_package.my_model", {"beta": 0.1}) == {}
    )


def test_a_collapsed_posterior_is_told():
    text = texts(kl=7e-5, kl_per_latent=[3e-5, 4e-5])["collapse"]
    assert "the posterior has collapsed to the prior (KL 7e-05 nats)" in text
    assert "collapsed to the prior" in texts(kl=0.004, kl_per_latent=None)["collapse"]  # a learned prior
    assert "collapse" not in texts(kl=3.0, kl_per_latent=None)


def test_collapsed_latents_are_named():
    assert texts(kl_per_latent=[3.0, 0.001])["collapse"] == "1 of 2 latents is collapsed (KL below 0.01 nats): z1"
    many = texts(kl_per_latent=[0.0] * 8 + [5.0])["collapse"]
    assert many == "8 of 9 latents are collapsed (KL below 0.01 nats): z0, z1, z2, z3, z4 and 3 others"
    mixed = (Latents("normal", 1), Latents("categorical", 10))
    assert texts(latents=mixed, kl_per_latent=[3.0, 0.0])["collapse"].endswith("c0")


def test_overfitting_is_a_gap_beyond_its_error():
    assert "overfitting" not in texts(training_elbo=-86.0)  # 4 nats, of which the error is 1.4
    text = texts(training_elbo=-80.0)["overfitting"]
    assert "elbo of training examples is -80, better than of unseen ones by 10 ± 1 nats" in text
    assert "overfitting" not in texts(training_elbo=-100.0)
    reconstruction = {"training_elbo": None, "elbo": None, "training_reconstruction": 60.0, "reconstruction": 70.0}
    errors = {"training_reconstruction_standard_error": 1.0, "reconstruction_standard_error": 1.0}
    numbers = {name: value for name, value in (SOUND | reconstruction | errors).items() if "elbo" not in name}
    assert [note.kind for note in member_notes(numbers, "elbo", {}, ())] == ["overfitting"]  # lower is better
    assert member_notes(numbers | {"training_reconstruction": 80.0}, "elbo", {}, ()) == []


def test_an_importance_bound_below_the_elbo_is_told():
    assert "weights" not in texts(log_likelihood_above_elbo=-0.2)
    text = texts(log_likelihood_above_elbo=-2.7)["weights"]
    assert "below the ELBO of the same examples by 2.7 ± 0.1 nats" in text
    equal = {"log_likelihood_above_elbo": -1e-6, "log_likelihood_above_elbo_standard_error": 1e-8}
    assert "weights" not in texts(**equal)  # integer codes: both are the same number but for rounding


@pytest.mark.parametrize(
    ("model", "hparams", "text"),
    [
        (
            "annealed_vae",
            {},
            "the objective is no bound on log p(x); elbo and log_likelihood are bounds",
        ),
        ("gumbel_vae", {}, "the objective is no bound on log p(x); elbo and log_likelihood are bounds"),
        ("beta_vae", {"beta": 0.5}, "the objective with beta = 0.5, below 1, is no bound on log p(x); elbo and log_"),
        ("renyi_vae", {"alpha": -1.0}, "the objective with alpha = -1, below 0, is no bound"),
        ("ladder_vae", {"beta": 0.2}, "the objective with beta = 0.2, below 1,"),
    ],
)
def test_an_objective_that_is_no_bound_is_told(model, hparams, text):
    assert texts(model, hparams)["objective"].startswith(text)


def test_a_model_without_any_bound_says_so():
    numbers = {"reconstruction": 60.0, "log_likelihood": None}
    (note,) = member_notes(numbers, MODELS["autoencoder"].bound, {}, ())
    assert note.text == "the objective is no bound on log p(x)"


def test_notes_of_many_members_are_few():
    titles = [f"seed {seed}" for seed in range(5)]
    notes = [[Note("collapse", f"KL {seed}")] if seed else [] for seed in range(5)]
    assert combined(notes, titles) == ["4 of 5 members, such as seed 1: KL 1"]
    assert combined(notes[:3], titles[:3]) == ["seed 1: KL 1", "seed 2: KL 2"]
    assert combined([[Note("a", "same")]] * 5, titles) == ["same"] and combined([[]] * 5, titles) == []


@pytest.mark.slow
def test_a_collapsed_run_prints_its_notes(tmp_path):
    flags = [
        "--model=beta_vae",
        "--beta=100",
        "--steps=200",
        "--eval_images=50",
        "--no-figures",
        "--learning_rate=0.01",
    ]
    ended = vaex(tmp_path / "run", *flags)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["members"][0]["active_units"] == 0
    assert any("collapsed to the prior" in note for note in summary["notes"])
    assert all(f"note: {note}" in ended.out for note in summary["notes"])
    numbers = summary["members"][0]
    assert (
        numbers["elbo_same_examples"] != numbers["elbo"]
        and "log_likelihood: importance-weighted, K = 4, on 50 ex" in ended.out
    )
    row = ended.out.splitlines()[-6:]
    assert any(
        f"{numbers['elbo']:.4g} ± {numbers['elbo_standard_error']:.2g}" in line for line in ended.out.splitlines()
    ), row
