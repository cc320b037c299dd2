"""experiments/samples.py and experiments/trees.py: tables and figures of tiny runs, and the geometry of the disk."""

import numpy as np
import pytest
from helpers.scripts import script

from vaex.data.synthetic.trees import branching_tree

pytestmark = pytest.mark.nightly

TINY = ["--steps=2", "--hidden=8", "--latent_dim=2", "--eval_samples=2", "--no-figures"]


@pytest.mark.slow
def test_samples_of_models_stand_beside_each_other(tmp_path, capsys):
    samples = script("samples")
    assert samples.main(["--models=vae,autoencoder", "--examples=30", f"--out={tmp_path}", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(samples.SCORES)
    assert [line.strip().split("  ")[0] for line in lines[1:4]] == ["training images", "vae", "autoencoder"]
    assert (tmp_path / "samples.png").exists() and (tmp_path / "vae").is_dir()


def test_more_examples_than_there_are_are_refused(capsys):
    assert script("samples").main(["--examples=2000"]) == 2
    assert "digits has 1397 training examples; give 1 to 1397" in capsys.readouterr().err


@pytest.mark.slow
def test_codes_of_the_tree_are_tabled_and_drawn(tmp_path, capsys):
    flags = [flag for flag in TINY if "latent_dim" not in flag]
    assert script("trees").main([f"--out={tmp_path}", "--seeds=0:2", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["poincare_vae", "vae"]
    assert (tmp_path / "tree.png").exists()


@pytest.mark.parametrize("c", [0.0, 0.5, 2.0])
def test_edges_are_shortest_ways_between_codes(c):
    trees, tree = script("trees"), branching_tree()
    z = np.random.default_rng(0).uniform(-0.4, 0.4, (len(tree.parents), 2))
    curves, distances = trees.edges(z, tree, c), trees.distances(z, c)
    np.testing.assert_allclose(curves[:, 0], z[tree.parents[1:]], atol=1e-9)
    np.testing.assert_allclose(curves[:, -1], z[1:], atol=1e-9)
    lengths = [np.sum(np.diagonal(trees.distances(curve, c), 1)) for curve in curves]
    np.testing.assert_allclose(lengths, distances[np.arange(1, len(z)), tree.parents[1:]], rtol=1e-9)
