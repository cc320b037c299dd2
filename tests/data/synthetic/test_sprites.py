"""Sprites: every factor moves what its name says, the grid is a bijection, symmetries are exact, and the feed's images are
those of the host."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.data.synthetic.factors import FactorSource, factor_feed
from vaex.data.synthetic.sprites import NAMES, SIZES, factor_values, render, render_values, sprites
from vaex.data.transforms import intensities
from vaex.errors import UserError

SQUARE, ELLIPSE, HEART = range(3)
AREAS = {  # pixels of 64 x 64 at scale 1, from the shapes' sizes
    SQUARE: (2 * 0.165 * 64) ** 2,
    ELLIPSE: math.pi * 0.234 * 0.117 * 64**2,
    HEART: (4 + math.pi) * (0.1288 * 64) ** 2,
}
draw = jax.jit(render, static_argnames=("resolution", "antialiased"))
draw_values = jax.jit(render_values, static_argnames=("resolution", "antialiased"))


def every(shape=range(3), scale=range(6), orientation=range(40), x=(16,), y=(16,)):
    """All combinations, [n, 5]."""
    return np.array(list(itertools.product(shape, scale, orientation, x, y)), np.int32)


def moments(images):
    """Areas [n], centroids [n, 2] as (x, y) in pixels from the top left corner, and covariances [n, 2, 2] with y up."""
    weights = np.asarray(images, np.float64)[..., 0]
    middles = np.arange(weights.shape[-1]) + 0.5
    area = weights.sum((1, 2))
    x, y = (weights.sum(1) @ middles) / area, (weights.sum(2) @ middles) / area
    right = middles[None, None, :] - x[:, None, None]
    up = y[:, None, None] - middles[None, :, None]
    second = [[(weights * a * b).sum((1, 2)) / area for b in (right, up)] for a in (right, up)]
    return area, np.stack([x, y], -1), np.moveaxis(np.array(second), -1, 0)


@pytest.fixture(scope="module")
def forms():
    """All 720 images at one position, binary and antialiased."""
    factors = every()
    return factors, np.asarray(draw(factors)), np.asarray(draw(factors, antialiased=True))


def test_images_are_binary_or_grey(forms):
    _, binary, grey = forms
    assert binary.shape == grey.shape == (720, 64, 64, 1)
    assert binary.dtype == np.uint8
    assert grey.dtype == np.float32
    assert set(np.unique(binary)) == {0, 1}
    assert grey.min() == 0
    assert grey.max() == 1
    assert np.mean((grey > 0) & (grey < 1)) > 0.01


def test_areas_are_those_of_the_shapes_and_grow_with_scale_squared(forms):
    factors, binary, grey = forms
    expected = np.array([AREAS[shape] for shape in factors[:, 0]]) * (0.5 + 0.1 * factors[:, 1]) ** 2
    np.testing.assert_allclose(moments(grey)[0], expected, rtol=0.015)
    np.testing.assert_allclose(moments(binary)[0], expected, rtol=0.12)  # 88 pixels in the smallest
    for shape in range(3):
        for scale in range(6):  # the discretisation's error averages out over the orientations
            chosen = (factors[:, 0] == shape) & (factors[:, 1] == scale)
            np.testing.assert_allclose(moments(binary[chosen])[0].mean(), expected[chosen][0], rtol=0.015)


def test_shapes_differ_in_area_and_elongation(forms):
    factors, _, grey = forms
    largest = factors[:, 1] == 5
    area, _, second = moments(grey[largest])
    spread = np.linalg.eigvalsh(second)
    elongation = spread[:, 1] / spread[:, 0]
    by_shape = [factors[largest, 0] == shape for shape in range(3)]
    assert area[by_shape[1]].max() * 1.2 < area[by_shape[0]].min()
    assert area[by_shape[0]].max() * 1.05 < area[by_shape[2]].min()
    np.testing.assert_allclose(elongation[by_shape[0]], 1, atol=0.01)
    np.testing.assert_allclose(elongation[by_shape[1]], 4, rtol=0.03)
    assert np.all((elongation[by_shape[2]] > 1.05) & (elongation[by_shape[2]] < 1.5))


def test_orientation_turns_the_ellipse_counter_clockwise(forms):
    factors, _, grey = forms
    chosen = (factors[:, 0] == ELLIPSE) & (factors[:, 1] == 5)
    second = moments(grey[chosen])[2]
    angle = 0.5 * np.arctan2(2 * second[:, 0, 1], second[:, 0, 0] - second[:, 1, 1])
    expected = factors[chosen, 2] * 2 * np.pi / 40
    np.testing.assert_allclose(np.exp(2j * angle), np.exp(2j * expected), atol=0.02)


def test_orientation_turns_the_heart_counter_clockwise(forms):
    """Its third moments, sum of r^2 (x, y), lie along its axis and point to one end of it."""
    factors, _, grey = forms
    chosen = (factors[:, 0] == HEART) & (factors[:, 1] == 5)
    rows, columns = np.mgrid[:64, :64]
    right, up = columns - 32, 32 - rows  # position 16 is the centre of pixel 32
    weighted = grey[chosen][..., 0] * (right**2 + up**2)
    angle = np.arctan2((weighted * up).sum((1, 2)), (weighted * right).sum((1, 2)))
    turned = factors[chosen, 2] * 2 * np.pi / 40
    np.testing.assert_allclose(np.abs(angle[0]), np.pi / 2, atol=1e-4)
    np.testing.assert_allclose(np.exp(1j * (angle - angle[0])), np.exp(1j * turned), atol=0.15)


def test_centroid_moves_by_one_pixel_per_step_and_with_nothing_else(forms):
    factors, _, grey = forms
    centroid = moments(grey)[1]
    np.testing.assert_allclose(centroid, 32.5, atol=0.05)
    moved = every(scale=[3], orientation=[7], x=range(32), y=[0, 9, 31])
    np.testing.assert_allclose(moments(draw(moved, antialiased=True))[1], moved[:, 3:] + 16.5, atol=0.05)
    still = np.asarray(draw(every(x=[0], y=[0])))
    far = np.asarray(draw(every(x=[31], y=[31])))
    assert np.array_equal(np.roll(still, (31, 31), (1, 2)), far)
    assert np.array_equal(np.roll(still, (16, 16), (1, 2)), np.asarray(draw(factors)))


@pytest.mark.parametrize("antialiased", [False, True])
def test_nothing_is_cut_off_at_the_border(antialiased):
    """The outermost pixels stay black at the corners of the grid, for all scales and orientations."""
    images = np.asarray(draw(every(x=[0, 31], y=[0, 31]), antialiased=antialiased))
    frame = np.ones((64, 64, 1), bool)
    frame[1:-1, 1:-1] = False
    assert images[:, frame[..., 0]].max() == 0


def test_neighbours_on_the_grid_differ(forms):
    """All of them: positions are whole pixels apart, so one position stands for all, and neighbours there are shifts."""
    _, binary, _ = forms
    grid = binary.reshape(3, 6, 40, -1)
    for axis in range(3):
        assert np.all(
            np.any(
                np.take(grid, range(1, grid.shape[axis]), axis) != np.take(grid, range(grid.shape[axis] - 1), axis), -1
            )
        )
    assert np.all(np.any(grid[:, :, 0] != grid[:, :, -1], -1))  # the last angle is not the first again
    distinct = [len({image.tobytes() for image in grid[shape].reshape(240, -1)}) for shape in range(3)]
    assert distinct == [6 * 10, 6 * 20, 6 * 40]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "period"), [(SQUARE, 10), (ELLIPSE, 20)])
@pytest.mark.parametrize("resolution", [64, 50])
def test_symmetric_orientations_are_equal_images(shape, period, resolution):
    factors = every(shape=[shape], orientation=range(40 - period), x=[16, 3], y=[16, 30])
    turned = factors + np.array([0, 0, period, 0, 0])
    assert np.array_equal(draw(factors, resolution=resolution), draw(turned, resolution=resolution))
    grey = [draw(which, resolution=resolution, antialiased=True) for which in (factors, turned)]
    np.testing.assert_allclose(*grey, atol=2e-5)


def test_upright_heart_has_one_axis_of_symmetry_and_stands_on_its_tip(forms):
    factors, binary, _ = forms
    for scale in range(6):
        heart = binary[(factors == [HEART, scale, 0, 16, 16]).all(1)][
            0, 1:, 1:, 0
        ]  # position 16 is the centre of pixel 32
        assert np.array_equal(heart, heart[:, ::-1])
        for mirrored in (heart[::-1], heart.T, heart[::-1, ::-1].T):
            assert np.mean(heart != mirrored) > 0.2 * np.mean(heart)
    widths = heart.sum(1)[heart.any(1)]
    assert widths[-1] <= 3  # the tip
    assert widths.argmax() < len(widths) / 2
    assert heart[:, 31].argmax() > heart.any(1).argmax()  # the cleft


def test_antialiased_images_cover_the_same_as_binary_ones_on_average(forms):
    _, binary, grey = forms
    difference = grey.mean((1, 2, 3)) - binary.mean((1, 2, 3))
    assert abs(difference.mean()) < 0.003 * binary.mean()
    assert np.array_equal((grey >= 0.5).astype(np.uint8), binary)


@pytest.mark.parametrize("resolution", [28, 64, 128, 257])
def test_the_image_is_the_same_at_any_resolution(resolution):
    factors = every(scale=[1, 5], orientation=[0, 7, 23], x=[0, 16], y=[5])
    area, centroid, _ = moments(draw(factors, resolution=resolution, antialiased=True))
    expected = np.array([AREAS[shape] for shape in factors[:, 0]]) * (0.5 + 0.1 * factors[:, 1]) ** 2
    np.testing.assert_allclose(area / resolution**2, expected / 64**2, rtol=0.02)
    np.testing.assert_allclose(centroid / resolution, (factors[:, 3:] + 16.5) / 64, atol=0.002)


def test_antialiased_images_are_the_mean_of_finer_binary_ones():
    factors = every(scale=[0, 5], orientation=[0, 1, 13])
    fine = np.asarray(draw(factors, resolution=64 * 8)).reshape(-1, 64, 8, 64, 8, 1).mean((2, 4))
    grey = np.asarray(draw(factors, antialiased=True))
    error = np.abs(fine - grey)
    assert error.max() < 0.35  # at corners and at the heart's cleft, where no distance tells the covered part
    assert np.sqrt(np.mean(error[(fine > 0) & (fine < 1)] ** 2)) < 0.08


def test_continuous_values_of_the_grid_give_the_grids_images(forms):
    factors, binary, grey = forms
    assert np.array_equal(draw_values(*factor_values(factors)), binary)
    np.testing.assert_allclose(draw_values(*factor_values(factors), antialiased=True), grey, atol=2e-4)
    moved = every(scale=[2], orientation=[3, 39], x=range(32), y=[0, 13, 31])
    assert np.array_equal(draw_values(*factor_values(moved)), draw(moved))


def test_factor_values_are_those_of_dsprites_but_for_the_angle():
    values = factor_values(np.stack([np.arange(40) % size for size in SIZES], -1))
    np.testing.assert_allclose(values.scale[:6], np.linspace(0.5, 1, 6), rtol=1e-6)
    np.testing.assert_allclose(values.orientation, np.linspace(0, 2 * np.pi, 40, endpoint=False), rtol=1e-6)
    np.testing.assert_allclose(values.x[:32], np.linspace(0, 1, 32), rtol=1e-6)
    np.testing.assert_allclose(values.y[:32], np.linspace(0, 1, 32), rtol=1e-6)
    assert values.shape[:3].tolist() == [0, 1, 2]


@pytest.mark.slow
def test_eager_compiled_and_mapped_images_are_equal(forms):
    factors, binary, grey = forms
    assert np.array_equal(render(factors), binary)
    assert np.array_equal(jax.jit(jax.vmap(render))(factors), binary)
    assert np.array_equal(render(factors[123]), binary[123])
    assert np.array_equal(draw(factors.reshape(3, 6, 40, 5)).reshape(binary.shape), binary)
    assert np.array_equal(draw(factors.astype(np.uint8)), binary)
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda f: render(f, antialiased=True)))(factors), grey, atol=2e-5)


def test_float64_draws_the_same_images(forms):
    factors, binary, _ = forms
    with jax.enable_x64(True):
        shape, *values = (np.asarray(value) for value in factor_values(factors))
        exact = [0.5 + 0.1 * factors[:, 1], factors[:, 2] * 2 * np.pi / 40, factors[:, 3] / 31, factors[:, 4] / 31]
        assert np.array_equal(draw_values(shape, *exact), binary)
        assert jax.eval_shape(lambda: render_values(shape, *exact, antialiased=True)).dtype == jnp.float64
        assert jax.eval_shape(lambda: render(factors, antialiased=True)).dtype == jnp.float32
        np.testing.assert_allclose(np.stack(values), np.stack(exact), rtol=1e-6)


def grey_image(shape, values):
    return render_values(shape, *values, antialiased=True)[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite_at_extreme_values(dtype):
    extreme = [0, 1e-30, 1, 64, np.inf, -1], [0, np.pi / 4, 1e6], [0, 16 / 31, 1, -np.inf, 1e30], [16 / 31]
    with jax.enable_x64(dtype == "float64"):
        shapes = jnp.arange(3)[:, None]
        values = jnp.array(list(itertools.product(*extreme)), dtype)[None]
        weights = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), dtype)

        def objective(values):
            images = grey_image(shapes, jnp.moveaxis(values, -1, 0))
            return jnp.sum(weights * images), images

        gradient, images = jax.jit(jax.grad(objective, has_aux=True))(jnp.broadcast_to(values, (3, *values.shape[1:])))
    assert gradient.dtype == images.dtype == dtype
    assert np.isfinite(gradient).all()
    assert np.isfinite(images).all()
    assert np.abs(gradient).max() > 100


def test_gradients_move_the_pixels_as_the_values_say():
    """Derivatives of areas and centroids, averaged over positions within a pixel, which pixels can't tell apart."""
    draws = np.random.default_rng(0).uniform(size=(3, 100))
    values = np.stack([np.full(100, 0.8), 2 * np.pi * draws[0], 0.3 + draws[1] / 31, 0.6 + draws[2] / 31], -1)
    jacobian = jax.jit(jax.vmap(jax.vmap(jax.jacfwd(grey_image, argnums=1), (None, 0)), (0, None)))
    change = np.asarray(jacobian(np.arange(3), values.astype(np.float32)), np.float64)  # [shape, draw, h, w, value]
    right = np.arange(64) + 0.5 - 16.5 - 31 * values[:, 2:3]
    down = np.arange(64) + 0.5 - 16.5 - 31 * values[:, 3:]
    for shape, area in AREAS.items():
        growth = change[shape].sum((1, 2)).mean(0)
        np.testing.assert_allclose(growth[0], 2 * 0.8 * area, rtol=0.02)
        np.testing.assert_allclose(growth[1:] / [1, 31, 31], 0, atol=0.01 * area)
        moved = [np.einsum("nhwv,nw->v", change[shape], right), np.einsum("nhwv,nh->v", change[shape], down)]
        np.testing.assert_allclose(np.stack(moved)[:, 2:] / (100 * area * 0.64), 31 * np.eye(2), atol=0.03 * 31)
        assert np.abs(change[shape, ..., 1]).max() > 1  # turning brightens some pixels and darkens others


@pytest.mark.slow
def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        weights = np.random.default_rng(1).normal(size=(64, 64))
        at, step = jnp.array([0.73, 0.61, 0.37, 0.52]), 1e-7
        near = at + step * jnp.concatenate([jnp.eye(4), -jnp.eye(4)])
        objective = jax.jit(lambda values: jnp.sum(weights * grey_image(jnp.arange(3)[:, None], values.T), (-2, -1)))
        ahead, behind = np.split(np.asarray(objective(near)), 2, axis=1)
        exact = jax.jit(jax.jacfwd(lambda values: objective(values[None])[:, 0]))(at)
        np.testing.assert_allclose(exact, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-3)


def test_low_precision_values_are_drawn_in_float32():
    values = [jnp.bfloat16(value) for value in (1.0, 0.5, 0.25, 0.75)]
    image = draw_values(HEART, *values, antialiased=True)
    assert image.dtype == jnp.float32
    assert np.array_equal(image, draw_values(HEART, 1.0, 0.5, 0.25, 0.75, antialiased=True))
    many = draw_values(jnp.arange(3), 1.0, jnp.zeros((4, 1)), 0.5, 0.5)
    assert many.shape == (4, 3, 64, 64, 1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"render: factors has shape \(4,\), expected \[..., 5\]"):
        render(jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match="render: factors has dtype float32, expected integers"):
        render(jnp.zeros(5))
    with pytest.raises(ValueError, match="render: resolution is 0"):
        render(jnp.zeros(5, jnp.int32), resolution=0)
    with pytest.raises(ValueError, match="render_values: shape has dtype float32"):
        render_values(1.0, 1.0, 0.0, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"\(\), \(2,\), \(3,\), \(\), \(\), expected shapes that broadcast"):
        render_values(1, jnp.ones(2), jnp.ones(3), 0.5, 0.5)
    with pytest.raises(ValueError, match="sprites: resolution is -1"):
        sprites(-1)


def test_the_grid_is_a_bijection():
    source = sprites()
    assert source.num_observations == 3 * 6 * 40 * 32 * 32 == 737_280
    index = np.arange(source.num_observations, dtype=np.int32)
    factors = np.asarray(source.index_to_factors(index))
    assert np.array_equal(factors, source.grid())
    assert factors.dtype == source.grid().dtype == np.int32
    assert np.array_equal(source.factors_to_index(factors), index)
    assert np.array_equal(np.ravel_multi_index(tuple(factors.T), SIZES), index)
    assert factors.min(0).tolist() == [0] * 5
    assert factors.max(0).tolist() == [size - 1 for size in SIZES]
    assert source.index_to_factors(index.reshape(2, -1)).shape == (2, 368_640, 5)
    assert source.factors_to_index(factors[5]) == 5


def test_sampled_factors_are_uniform_independent_and_pure_in_the_key():
    source = sprites()
    n = 40_000
    sample = jax.jit(source.sample_factors, static_argnums=1)
    factors = np.asarray(sample(jax.random.key(0), n))
    assert factors.shape == (n, 5)
    assert factors.dtype == np.int32
    assert np.array_equal(factors, source.sample_factors(jax.random.key(0), n))
    assert not np.array_equal(factors, sample(jax.random.key(1), n))
    for position, size in enumerate(SIZES):
        counts = np.bincount(factors[:, position], minlength=size)
        assert len(counts) == size
        error = np.sqrt(n * (1 / size) * (1 - 1 / size))
        assert np.all(np.abs(counts - n / size) < 4.5 * error)
    correlation = np.corrcoef(factors.T) - np.eye(5)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n)


@pytest.mark.parametrize(("antialiased", "dtype"), [(False, "uint8"), (True, "float32")])
def test_the_source_describes_its_images(antialiased, dtype):
    source = sprites(resolution=16, antialiased=antialiased)
    assert isinstance(source, FactorSource)
    assert source.names == NAMES == source.spec.factor_names
    images = jax.jit(source.observe)(source.grid()[::122_880])
    assert images.shape == (6, *source.spec.shape) == (6, 16, 16, 1)
    assert images.dtype == dtype
    inputs = intensities(source.spec, images)  # the spec's kind and levels are those of the stored values
    assert np.array_equal(inputs, np.asarray(images, np.float32))
    hashes = {sprites(resolution, grey).spec.data_hash for resolution in (16, 64) for grey in (False, True)}
    assert len(hashes) == 4
    with pytest.raises(ValueError, match="observe: factors has shape"):
        source.observe(np.zeros((6, 4), np.int32))


@pytest.mark.optimised
def test_the_feeds_images_are_those_of_the_host_bit_for_bit():
    source = sprites()
    feed = factor_feed(source, batch_size=64, data_seed=3)
    plan = feed.plan(5, 4)
    assert plan.shape == (4, 64)
    assert plan.dtype == np.int32
    assert np.array_equal(plan[2], feed.plan(7, 1)[0])
    get = jax.jit(lambda resident, plan: jax.lax.map(lambda row: feed.batch(resident, row), plan))
    batches = get(feed.resident, plan)
    factors = source.grid()[plan]
    assert batches["x"].shape == (4, 64, 64, 64, 1)
    assert batches["x"].dtype == jnp.uint8
    assert batches["factors"].dtype == jnp.int32
    assert np.array_equal(batches["factors"], factors)
    assert np.array_equal(batches["x"], np.stack([draw(each) for each in factors]))
    assert jax.tree.leaves(feed.resident) == []


def test_an_epoch_of_the_feed_shows_every_observation_once():
    source = sprites()
    rows = factor_feed(source, batch_size=64, data_seed=1).plan(0, source.num_observations // 64)
    assert np.array_equal(np.sort(rows.ravel()), np.arange(source.num_observations))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "--batch_size=0"), ((737_281,), "larger than the 737280 images of sprites"), ((1, -1), "--data_seed=-1")],
)
def test_the_feed_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(UserError, match=message):
        factor_feed(sprites(), *arguments)
