"""Volumes, images of any sides and channels, and integers of many levels: trained, drawn and sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import vaex
from vaex.data.spec import Dataset
from vaex.distributions import DiscretizedLogistic
from vaex.errors import UserError
from vaex.evaluation.figures import slices
from vaex.nets import GridEncoder
from vaex.runs.figures import MemberFigures

DIGITS = load_digits().images.astype(np.uint8)
QUICK = {
    "steps": 2,
    "batch_size": 8,
    "hidden": (8,),
    "latent_dim": 2,
    "channels": (4, 4),
    "progress": False,
    "evaluate": False,
}


def stacks(depth=8, count=60):
    """Volumes whose slices are digits of one class, one above the other."""
    rng, labels = np.random.default_rng(0), load_digits().target
    classes = rng.integers(0, 10, count)
    return np.stack([DIGITS[rng.choice(np.flatnonzero(labels == label), depth)] for label in classes]), classes


@pytest.mark.slow
def test_volumes_are_trained_by_3d_convolutions():
    volumes, classes = stacks()
    run = vaex.train("vae", (volumes, classes), kind="volume", network="conv3d", **QUICK)
    assert run.spec.shape == (8, 8, 8, 1) and run.spec.volume
    assert run.sample(jax.random.key(0), 3).shape == (3, 8, 8, 8, 1)
    assert np.isfinite(run.log_likelihood(jax.random.key(0), volumes[:3], 4)).all()


@pytest.mark.slow
def test_no_convolution_of_a_volume_is_left_in_the_cpu_program():
    encoder = GridEncoder(shape=(8, 8, 8, 1), axes=3, features=2, channels=(4,), hidden=8)
    x = jnp.zeros((2, 8, 8, 8, 1))
    params = encoder.init(jax.random.key(0), x)
    loss = jax.grad(lambda params: jnp.sum(encoder.apply(params, x) ** 2))
    text = jax.jit(loss).lower(params).compile().as_text()
    assert "convolution(" not in text and "dot(" in text


def test_what_is_no_volume_is_refused():
    volumes, _ = stacks()
    with pytest.raises(UserError, match=r"reads sequences, and arrays has examples of shape .8, 8, 8, 1.; use"):
        vaex.train("sequence_vae", volumes, kind="volume", steps=1)
    with pytest.raises(UserError, match="--kind=volume"):
        vaex.train("vae", volumes, kind="sequence", steps=1)


@pytest.mark.slow
def test_volumes_are_drawn_as_slices():
    volumes, _ = stacks()
    figures = vaex.train("vae", volumes, kind="volume", network="conv3d", **(QUICK | {"evaluate": True})).figures()
    assert {"reconstructions", "samples", "traversals"} <= {name.rpartition("/")[2] for name in figures}


def test_slices_lie_side_by_side():
    volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5, 1)
    shown = slices(volume)
    assert shown.shape == (2, 4, 15, 1)
    np.testing.assert_array_equal(shown[1, :, 5:10], volume[1, 1])
    assert slices(np.zeros((1, 100, 4, 5, 1)), most=3).shape == (1, 4, 15, 1)
    with pytest.raises(ValueError, match=r"expected .n, d, h, w, c."):
        slices(np.zeros((3, 4, 5, 1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "flags", "network"),
    [((12, 20), {}, "conv"), ((9, 16, 7), {"layout": "hwc"}, "resnet"), ((16, 10, 5), {"layout": "hwc"}, "conv")],
)
def test_images_of_any_sides_and_channels(shape, flags, network):
    x = np.random.default_rng(0).integers(0, 256, (40, *shape), np.uint8)
    run = vaex.train("vae", x, network=network, **QUICK, **flags)
    expected = (*shape, 1) if len(shape) == 2 else shape
    assert run.spec.shape == expected and run.sample(jax.random.key(0), 2).shape == (2, *expected)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [4096, 65536])
def test_a_logistic_over_many_levels_is_a_distribution(levels):
    grid = np.arange(levels) / (levels - 1)
    for loc, scale in ((0.3, 1e-3), (0.999, 0.05), (0.5, 1e-5)):
        log_prob = DiscretizedLogistic(
            jnp.full(levels, loc), log_scale=jnp.full(levels, np.log(scale)), levels=levels, event_ndims=0
        )
        total = np.exp(np.asarray(log_prob.log_prob(jnp.asarray(grid, jnp.float32)), np.float64)).sum()
        np.testing.assert_allclose(total, 1.0, rtol=2e-3)


@pytest.mark.slow
def test_scans_of_sixteen_bits_are_trained_in_their_own_numbers():
    scans = np.random.default_rng(0).integers(-1024, 3072, (40, 8, 8)).astype(np.int16)
    run = vaex.train("vae", scans, **{**QUICK, "channels": (32, 32, 64, 64)})
    low, high = int(scans.min()), int(scans.max())
    assert (run.spec.levels, run.spec.value_range) == (high - low + 1, (low, high))
    as_floats = (scans[:4].astype(np.float64) - low) / (high - low)
    np.testing.assert_allclose(run.encode(scans[:4]).mean, run.encode(as_floats).mean, rtol=1e-4, atol=1e-5)
    key = jax.random.key(1)
    np.testing.assert_allclose(run.log_likelihood(key, scans[:4], 3), run.log_likelihood(key, as_floats, 3), rtol=1e-4)


def test_opacity_is_drawn_over_white():
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 4), np.uint8)
    spec = Dataset.from_arrays(x, layout="hwc").spec._replace(alpha=True)

    class Drawn(MemberFigures):
        def __init__(self, spec):
            object.__setattr__(self, "evaluator", type("E", (), {"run": type("R", (), {"spec": spec})}))

    shown = Drawn(spec)._images(np.array([[[[0.2, 0.4, 0.6, 0.0], [0.2, 0.4, 0.6, 1.0], [0.0, 0.0, 0.0, 0.5]]]]))
    np.testing.assert_allclose(shown[0, 0], [[1, 1, 1], [0.2, 0.4, 0.6], [0.5, 0.5, 0.5]])
