"""experiments/bounds.py: elbo, Renyi and importance bounds of a trained run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers.scripts import script

from vaex.cli import main as cli

pytestmark = pytest.mark.nightly

FLAGS = ["--hidden=4", "--latent_dim=2", "--no-figures", "--eval_images=5", "--eval_samples=2"]


@pytest.fixture(scope="module")
def bounds():
    return script("bounds")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["--model=renyi_vae", "--alpha=0.3,2", "--steps=3", *FLAGS, f"--out={folder}"]) == 0
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("values", [1, 2**22, 2**30])
def test_bounds_by_hand_from_any_chunks(bounds, values):
    """Five samples at once, or in pieces of two or one, of log weights that do not depend on the pieces."""
    alphas = (1.0, 0.4, 0.0, -1.0)

    def log_weights(key, variables, hparams, batch, k):
        return jnp.broadcast_to(variables * batch["x"], (k, len(batch["x"]))) + jax.random.normal(key, (k, 1))

    batch, key = {"x": jnp.array([1.0, 2.0, 5.0])}, jax.random.key(0)
    keys = jax.random.split(key, 3)
    rows = bounds.bounds_of(log_weights, alphas, 5, values)(keys, 3.0, (), batch)
    assert rows.shape == (3, 4)
    chunk = min(5, max(1, 2**23 // values))
    for row, x, row_key in zip(rows, batch["x"], keys, strict=True):
        parts = [jax.random.normal(part, (chunk,)) for part in jax.random.split(row_key, -(-5 // chunk))]
        w = np.concatenate(parts)[:5] + 3.0 * float(x)
        powers = [scipy.special.logsumexp(s * w, b=1 / 5) / s for s in (0.6, 1.0, 2.0)]
        np.testing.assert_allclose(row, [w.mean(), *powers], rtol=1e-5)


@pytest.mark.slow
def test_a_run_at_its_own_alpha(bounds, run, capsys):
    assert bounds.main([run, "--member=0", "--samples=7", "--images=6"]) == 0
    heading, header, *rows = capsys.readouterr().out.splitlines()
    assert "renyi_vae on digits, step 3, validation split, 6 examples, K = 7" in heading
    names = [row.strip().split("  ")[0] for row in rows]
    assert names == ["elbo", "Renyi, alpha = 0.3", "importance bound"]
    assert header.split()[0] == "bound"
    assert bounds.main([run, "--member=1", "--samples=2", "--images=2", "--split=test"]) == 0
    assert "Renyi, alpha = 2 " in capsys.readouterr().out.splitlines()[2]  # above 1 it is below the elbo


@pytest.mark.slow
def test_bounds_are_ordered_paired_and_repeatable(bounds, run):
    flags = bounds.argparse.Namespace(
        run=run,
        member=0,
        alpha=[0.5, 2.0],
        samples=3,
        images=8,
        split="test",
        data_dir=None,
        manual_dir=None,
        trust=False,
    )
    first, second = bounds.evaluate(flags), bounds.evaluate(flags)
    assert first.alphas == (2.0, 1.0, 0.5, 0.0) and first.values.shape == (4, 8)
    assert np.all(np.diff(first.values, axis=0) > 0)  # of the same samples: for every example
    np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.slow
def test_what_cannot_be_evaluated_is_refused_in_one_line(bounds, run, tmp_path, capsys):
    assert bounds.main([str(tmp_path)]) == 2
    assert "holds no config.json" in capsys.readouterr().err
    assert bounds.main([run, "--member=9"]) == 2
    assert "member=9" in capsys.readouterr().err
    for flags in (["--samples=0"], ["--images=0"], ["--alpha=inf"], ["--alpha=x"], ["--split=train"]):
        with pytest.raises(SystemExit) as stop:
            bounds.main([run, *flags])
        assert stop.value.code == 2
    capsys.readouterr()


@pytest.mark.slow
def test_data_that_changed_and_models_without_a_density_are_refused(bounds, run, monkeypatch, capsys):
    read, load = bounds.setup.load_dataset, bounds.vaex.load

    def other_data(options):
        dataset = read(options)
        return dataset._replace(spec=dataset.spec._replace(data_hash="another"))

    def without_density(*args, **named):
        loaded = load(*args, **named)
        (stage,) = loaded.recipe.stages
        stage = stage._replace(model=stage.model._replace(log_weights=None))
        loaded.recipe = loaded.recipe._replace(stages=(stage,))
        return loaded

    monkeypatch.setattr(bounds.setup, "load_dataset", other_data)
    assert bounds.main([run]) == 2
    assert "is not the data that the run was trained on" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(bounds.vaex, "load", without_density)
    assert bounds.main([run]) == 2
    assert "defines no density" in capsys.readouterr().err
