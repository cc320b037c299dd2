"""Samplers of trained runs: fitted to the aggregate posterior, kept with a digest, used by samples, figures and scores."""

import shutil

import jax
import numpy as np
import pytest
from helpers.scripts import script
from helpers.trained_runs import TWO_MEMBERS
from helpers.trained_runs import vaex as command

import vaex
from vaex import samplers
from vaex.errors import UserError

X = np.random.default_rng(0).integers(0, 256, size=(120, 6, 6), dtype=np.uint8)
CODES = {
    "channels": 2, "blocks": 0, "codes": 4, "code_dim": 2, "prior_width": 4, "prior_layers": 1, "prior_heads": 2,
    "batch_size": 20, "steps": 2, "progress": False,
}  # fmt: skip
QUICK = {"hidden": 4, "latent_dim": 2, "batch_size": 20, "steps": 3, "progress": False}
KEY = jax.random.key(0)


@pytest.mark.slow
def test_samples_are_decoded_from_the_sampler_and_outlive_the_process(tmp_path):
    run = vaex.train("vae", X, out=tmp_path / "run", **QUICK)
    (sampler,) = run.fit_sampler("gmm:2")
    posterior = run.encode(X[: len(X) * 8 // 10])  # about the training split: codes near the standard normal
    assert np.abs(sampler.arrays["means"]).max() < 3 + np.abs(np.asarray(posterior.mean)).max()
    x = run.sample(KEY, 4, sampler="gmm:2")
    z = samplers.draw(sampler, jax.random.split(jax.random.split(KEY)[0])[0], 4)
    np.testing.assert_allclose(x, run.decode(z).mean, rtol=1e-5)
    assert not np.allclose(x, run.sample(KEY, 4))
    loaded = vaex.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.sample(KEY, 4, sampler="gmm:2"), x)
    with pytest.raises(UserError, match=r"no sampler 'knn:3' is fitted to this run; call run.fit_sampler\('knn:3'\)"):
        loaded.sample(KEY, 4, sampler="knn:3")
    with pytest.raises(ValueError, match="temperature is of the prior"):
        loaded.sample(KEY, 4, sampler="gmm:2", temperature=0.5)
    path = tmp_path / "run" / "samplers" / "gmm-2.npz"
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    with pytest.raises(UserError, match="is damaged; remove it"):
        vaex.load(tmp_path / "run").sample(KEY, 4, sampler="gmm:2")


@pytest.mark.slow
def test_members_have_samplers_of_their_own_and_a_run_in_memory_saves_them(tmp_path):
    run = vaex.train("autoencoder", X, seeds=range(2), **QUICK)
    first, second = run.fit_sampler("full_gaussian")
    assert not np.allclose(first.arrays["means"], second.arrays["means"])
    codes = np.asarray(run[1].encode(vaex.Dataset.from_arrays(X).splits["train"]["x"]).mean)
    np.testing.assert_allclose(second.arrays["means"][0], codes.mean(axis=0), rtol=1e-4, atol=1e-5)
    run.save(tmp_path / "kept")
    loaded = vaex.load(tmp_path / "kept")
    for index in range(2):
        expected = run[index].sample(KEY, 3, sampler="full_gaussian")
        np.testing.assert_array_equal(loaded[index].sample(KEY, 3, sampler="full_gaussian"), expected)
    loaded.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "samplers" / "full_gaussian.npz").is_file()
    figure = run.figures(1, sampler="full_gaussian")["samples"]
    assert "z by full_gaussian" in figure.texts[0].get_text()


@pytest.mark.slow
def test_a_sampler_of_an_earlier_step_is_fitted_again(tmp_path):
    run = vaex.train("vae", X, out=tmp_path / "run", **QUICK)
    (before,) = run.fit_sampler("gaussian")
    longer = run.continue_to(30, progress=False)
    with pytest.raises(UserError, match="no sampler 'gaussian' is fitted"):
        longer.sample(KEY, 1, sampler="gaussian")
    (after,) = longer.fit_sampler("gaussian")
    assert not np.allclose(before.arrays["means"], after.arrays["means"])


@pytest.mark.slow
def test_the_command_fits_keeps_and_draws(tmp_path, trained_runs, capsys):
    directory = trained_runs.copied(tmp_path / "run", *TWO_MEMBERS)
    figured = [flag for flag in TWO_MEMBERS if flag != "--no-figures"]
    ended = command(directory, *figured, "--sampler=knn:3")
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in (directory / "samplers").iterdir()) == ["knn-3.json", "knn-3.npz"]
    assert (directory / "figures" / "beta=1_seed=0" / "samples.png").is_file()
    assert script("evaluate").main([str(directory), "--parts=2", "--features=pixels", "--samplers=prior,knn:3"]) == 0
    printed = capsys.readouterr().out
    assert "beta=4_seed=0, knn:3" in printed and "beta=1_seed=0, prior" in printed and "training examples" in printed
    refused = command(tmp_path / "new", *TWO_MEMBERS, "--sampler=gnm")
    assert refused.code == 2 and "did you mean gmm" in refused.err and not (tmp_path / "new").exists()
    command(directory, *TWO_MEMBERS, "--overwrite", "--steps=1")
    assert not (directory / "samplers").exists()
    shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "kind", "message"),
    [
        ("vq_vae", CODES, "gmm:2", "codes are code, expected real numbers"),
        ("hyperspherical_vae", QUICK | {"latent_dim": 3}, "gaussian", "leaves the sphere"),
        ("joint_vae", QUICK, "gaussian", "categorical and normal, expected real numbers"),
    ],
)
def test_codes_that_are_no_vectors_are_refused(model, options, kind, message):
    x = np.tile(X, (1, 2, 2))[:, :8, :8]
    with pytest.raises(UserError, match=message):
        vaex.train(model, x, **options).fit_sampler(kind)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hyperspherical_vae", "conditional_vae", "sequence_vae", "hierarchical_vae"])
def test_other_kinds_of_models_sample(model):
    kind = "hypersphere" if model == "hyperspherical_vae" else "gaussian"
    options = (
        QUICK | {"latent_dim": 3} if model != "hierarchical_vae" else {"steps": 2, "batch_size": 20, "progress": False}
    )
    x = np.tile(X, (1, 2, 2))[:, :8, :8]
    data = x
    if model == "sequence_vae":
        data = vaex.Dataset.load("bouncing_sprites", image_size=16, sequence_length=3)
    elif model == "conditional_vae":
        data = (x, np.arange(120) % 3)
    run = vaex.train(model, data, **options)
    (sampler,) = run.fit_sampler(kind)
    assert np.isfinite(run.sample(KEY, 3, sampler=sampler)).all()
    if model == "conditional_vae":
        same = [run.sample(KEY, 3, labels=label, sampler=kind) for label in (0, 1)]
        assert not np.allclose(*same)
    if model == "hyperspherical_vae":
        np.testing.assert_allclose(sampler.arrays["norms"], 1.0, rtol=1e-4)
