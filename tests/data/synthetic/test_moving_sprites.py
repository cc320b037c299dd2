"""Moving sprites: what moves, what stays, and that the images are those of the values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.data.synthetic.moving_sprites import (
    bouncing_sprites,
    bouncing_values,
    rotating_sprites,
    rotating_values,
    sequence_feed,
)
from vaex.data.synthetic.sprites import render_values


def once(values):
    """Compiled as a whole: op by op costs seconds."""
    return jax.jit(values, static_argnums=(1, 2))


MOTIONS = [(rotating_values, rotating_sprites), (bouncing_values, bouncing_sprites)]


@pytest.mark.slow
@pytest.mark.parametrize(("values", "images"), MOTIONS)
def test_images_are_those_of_the_values_and_pure_in_the_key(values, images):
    key = jax.random.key(0)
    compiled = jax.jit(images, static_argnums=(1, 2), static_argnames=("resolution", "antialiased"))
    drawn = compiled(key, 5, 7)
    assert drawn.shape == (5, 7, 64, 64, 1)
    assert drawn.dtype == jnp.uint8
    assert np.array_equal(drawn, compiled(key, 5, 7))
    assert not np.array_equal(drawn, compiled(jax.random.key(1), 5, 7))
    grey = compiled(key, 5, 7, resolution=32, antialiased=True)
    assert grey.dtype == jnp.float32
    draw = jax.jit(lambda values: render_values(*values, resolution=32, antialiased=True))
    np.testing.assert_allclose(grey, draw(once(values)(key, 5, 7)), atol=1e-3)
    assert not np.array_equal(grey[:, 0], grey[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize(("values", "images"), MOTIONS)
def test_longer_sequences_begin_like_shorter_ones(values, images):
    short, long = once(values)(jax.random.key(2), 4, 3), once(values)(jax.random.key(2), 4, 30)
    for one, other in zip(short, long, strict=True):
        np.testing.assert_allclose(one, other[:, :3], rtol=1e-6)


@pytest.mark.parametrize(("values", "moving"), [(rotating_values, {"orientation"}), (bouncing_values, {"x", "y"})])
def test_only_what_should_move_moves(values, moving):
    drawn = once(values)(jax.random.key(3), 500, 6)
    for name, value in drawn._asdict().items():
        assert value.shape == (500, 6)
        assert bool(jnp.all(value == value[:, :1])) == (name not in moving)
        assert len(np.unique(value[:, 0])) == (3 if name == "shape" else 500)
    assert drawn.shape.dtype == jnp.int32
    for name, low, high in [("scale", 0.5, 1), ("x", 0, 1), ("y", 0, 1)]:
        value = np.asarray(getattr(drawn, name))
        assert low <= value.min() < low + 0.02
        assert high - 0.02 < value.max() <= high
        error = value[:, 0].std() / np.sqrt(500)
        assert abs(value[:, 0].mean() - (low + high) / 2) < 4 * error


def test_rotation_is_steady_and_goes_both_ways():
    angle = np.asarray(once(rotating_values)(jax.random.key(4), 400, 10).orientation, np.float64)
    speed = np.diff(angle, axis=1)
    np.testing.assert_allclose(speed, speed[:, :1] * np.ones(9), atol=1e-4)
    assert np.all((np.abs(speed) > 2 * np.pi / 40 - 1e-4) & (np.abs(speed) < 2 * np.pi / 10 + 1e-4))
    assert abs(np.mean(speed[:, 0] > 0) - 0.5) < 4 * 0.5 / np.sqrt(400)


def test_bouncing_sprites_fly_straight_and_reflect():
    drawn = once(bouncing_values)(jax.random.key(5), 400, 60)
    path = np.stack([drawn.x, drawn.y], -1).astype(np.float64)
    assert path.min() >= 0
    assert path.max() <= 1
    step = np.diff(path, axis=1)
    usual = np.median(np.abs(step), axis=1, keepdims=True)  # per coordinate: its speed, whichever way it flies
    bounced = np.abs(np.abs(step) - usual) > 1e-4
    assert np.all(np.abs(step) <= usual + 1e-4)
    assert 0 < bounced.mean() < 0.2
    speed = np.hypot(*np.moveaxis(usual[:, 0], -1, 0)) * 31
    assert np.all((speed > 1 - 0.01) & (speed < 4 + 0.01))
    near = np.minimum(path, 1 - path)
    assert np.all(np.minimum(near[:, 1:], near[:, :-1])[bounced] <= 4 / 31)  # only at a border
    turned = np.any(np.diff(np.sign(step), axis=1) != 0, axis=1)
    assert turned.mean() > 0.5  # in 60 frames most sprites meet a border


@pytest.mark.parametrize(("values", "images"), MOTIONS)
def test_empty_sequences_are_refused(values, images):
    with pytest.raises(ValueError, match=f"{values.__name__}: n is 0 and length 3"):
        images(jax.random.key(0), 0, 3)
    with pytest.raises(ValueError, match=f"{values.__name__}: n is 2 and length 0"):
        values(jax.random.key(0), 2, 0)


def test_a_feed_draws_new_sequences_at_every_step_and_the_same_ones_again():
    def render(key, n, length):
        return bouncing_sprites(key, n, length, resolution=16)

    feed, other = (sequence_feed(render, 3, 4, data_seed) for data_seed in (5, 6))
    at = jax.jit(feed.batch)
    batches = [at(feed.resident, row)["x"] for row in feed.plan(7, 2)]
    assert batches[0].shape == (4, 3, 16, 16, 1) and not np.array_equal(*batches)
    np.testing.assert_array_equal(batches[1], at(feed.resident, feed.plan(8, 1)[0])["x"])
    assert not np.array_equal(batches[0], jax.jit(other.batch)(other.resident, other.plan(7, 1)[0])["x"])
    with pytest.raises(ValueError, match="sequence_feed: length=0"):
        sequence_feed(render, 0, 4)
