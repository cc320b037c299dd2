"""experiments/codebooks.py: use of the codebook, and samples of the prior beside images."""

import types

import numpy as np
import pytest
from helpers.scripts import SMALL_CODEBOOK, script

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def codebooks():
    return script("codebooks")


@pytest.mark.slow
def test_a_tiny_run_is_judged_and_drawn(codebooks, tmp_path, capsys):
    options = ["--skip-variants", "--samples=12", "--train=60", "--temperature", "1", "0.5", f"--out={tmp_path}"]
    flags = [*SMALL_CODEBOOK, "--steps=2", "--prior_steps=2", "--no-figures", "--eval_images=5"]
    assert codebooks.main([*options, *flags]) == 0
    header, *rows, note, _, figure = capsys.readouterr().out.splitlines()
    assert "distance to the nearest training image" in header
    assert [row.strip().split("  ")[0] for row in rows] == [
        "validation, 12",
        "samples, temperature 1",
        "samples, temperature 0.5",
    ]
    assert "bits per dimension of 17 levels" in note and "log p(x) >= -" in note
    assert figure == f"figure: {tmp_path / 'nearest.png'}" and (tmp_path / "nearest.png").exists()


def test_variants_are_trained_with_their_options_and_tabled(codebooks, tmp_path, monkeypatch):
    calls = []

    def trained(flags, folder, **options):
        calls.append(options)
        member = {"perplexity": 3.0, "perplexity_standard_error": 0.0, "reconstruction": 8.0}
        return types.SimpleNamespace(summary={"members": [member]})

    monkeypatch.setattr(codebooks, "trained", trained)
    complete = {"members": [{"perplexity": 4.0, "perplexity_standard_error": 0.0, "usage": 1.0, "reconstruction": 7.0}]}
    table = codebooks.codebooks(types.SimpleNamespace(), tmp_path, complete).splitlines()
    shared = {"prior_steps": 1, "figures": False}
    assert calls == [shared | {"dead_share": 0.0}, shared | {"codebook": "gradient"}]
    assert table[0].split() == ["codebook", "perplexity", "usage", "reconstruction"] and len(table) == 4
    assert "4" in table[1] and "3" in table[2]


def test_options_of_a_variant_replace_those_of_the_command_line(codebooks, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(codebooks.vaex, "train", lambda model, **options: calls.append((model, options)))
    given = codebooks.read_options("vq_vae", ["--steps=9", "--prior_steps=7", "--figures"])
    flags = types.SimpleNamespace(model="vq_vae", split="test", options=given)
    codebooks.trained(flags, tmp_path, prior_steps=1, figures=False)
    codebooks.trained(flags, tmp_path)
    shared = {"out": tmp_path, "evaluate": True, "eval_split": "test", "steps": 9}
    assert calls[0] == ("vq_vae", shared | {"prior_steps": 1, "figures": False})
    assert calls[1] == ("vq_vae", shared | {"prior_steps": 7, "figures": True})


def test_looks_tell_classes_and_copies(codebooks):
    rng = np.random.default_rng(0)
    centres = np.eye(3)[rng.integers(0, 3, 300)] * 4.0
    train = centres + 0.3 * rng.normal(size=(300, 3))
    judge = codebooks.Judge(train, centres.argmax(1))
    copies = judge.looks(train[:20])
    assert copies.sure > 0.8 and copies.classes == 3
    np.testing.assert_allclose(copies.distances, 0.0, atol=1e-5)
    np.testing.assert_array_equal(copies.nearest, np.arange(20))
    mixed = judge.looks(np.array([[4.0, 0.0, 0.0]] * 5 + [[4.0, 4.0, 4.0]]))
    assert mixed.classes <= 2 and mixed.distances[-1] > 1.0


def test_bounds_in_words(codebooks):
    summary = {"members": [{"log_likelihood": -64 * np.log(2.0)}], "protocol": "files dynamic_binarisation"}
    spec = types.SimpleNamespace(binarize="dynamic", kind="grey", levels=256, dequantize="none", shape=(8, 8, 1))
    run = types.SimpleNamespace(
        spec=spec, recipe=types.SimpleNamespace(likelihood=types.SimpleNamespace(discrete=True))
    )
    assert "1.0000 bits per dimension of 2 levels (files dynamic_binarisation)" in codebooks.bound(run, summary)
    run.recipe.likelihood.discrete = False
    assert "bits" not in codebooks.bound(run, summary)
    assert "no density" in codebooks.bound(run, {"members": [{"log_likelihood": None}]})


def test_what_cannot_be_judged_is_refused_in_one_line(codebooks, capsys):
    assert codebooks.main(["--no_such_flag=1"]) == 2
    assert "codebooks: --no_such_flag" in capsys.readouterr().err
    assert codebooks.main(["--eval_split=test"]) == 2
    assert "codebooks: --eval_split is called --split here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        codebooks.main(["--samples=3"])
    assert "expected at least 12" in capsys.readouterr().err
