"""Colour sprites: the images of the real layers equal a plain composition, and invalid files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.data.synthetic.color_sprites import LAYERS, NAMES, color_sprites
from vaex.data.synthetic.factors import factor_feed
from vaex.errors import UserError


@pytest.fixture(scope="module")
def path(shared_data):
    return shared_data / "lpc_sprites" / "lpc_walk_layers.npz"


@pytest.fixture(scope="module")
def source(path):
    return color_sprites(path)


def composed(layers, factors):
    """One image by the layers' own definition, in float64 and without any stacking."""
    *options, direction, frame = factors
    image = np.zeros((*layers["body"].shape[3:5], 3))
    for name, option in zip(LAYERS, [*options, 0], strict=True):
        layer = layers[name][option, direction, frame].astype(np.float64)
        alpha = layer[..., 3:] / 255
        image = image * (1 - alpha) + layer[..., :3] * alpha
    return (image + 0.5).astype(np.uint8)


def test_the_grid_of_the_real_file(source):
    assert source.names == NAMES
    assert source.sizes == (6, 6, 6, 6, 3, 8)
    assert source.num_observations == 31_104
    assert source.spec.shape == (64, 64, 3)
    assert (source.spec.kind, source.spec.levels) == ("color", 256)
    assert source.spec.protocol == "color_sprites_31104 256_levels"
    assert len(source.spec.data_hash) == 16


@pytest.mark.slow
@pytest.mark.optimised
def test_images_are_those_of_a_plain_composition_bit_for_bit(source, path):
    layers = dict(np.load(path))
    factors = np.asarray(source.sample_factors(jax.random.key(0), 400))
    assert all(len(np.unique(factors[:, i])) == size for i, size in enumerate(source.sizes))
    images = jax.jit(source.render)(source.resident, factors)
    assert images.dtype == jnp.uint8
    expected = np.stack([composed(layers, each) for each in factors])
    assert np.array_equal(images, expected)
    assert np.array_equal(source.observe(factors[:20]), expected[:20])
    assert np.array_equal(jax.vmap(source.observe)(factors[:20]), expected[:20])


@pytest.mark.optimised  # 31,104 images
def test_all_images_differ(source):
    get = jax.jit(lambda resident, index: source.render(resident, source.index_to_factors(index)))
    seen = set()
    for start in range(0, 31_104, 1_296):
        images = np.asarray(get(source.resident, np.arange(start, start + 1_296, dtype=np.int32)))
        seen |= {hash(image.tobytes()) for image in images}
    assert len(seen) == 31_104


def test_the_feeds_images_are_those_of_the_source(source):
    feed = factor_feed(source, batch_size=32, data_seed=7)
    row = feed.plan(3, 1)[0]
    batch = jax.jit(feed.batch)(feed.resident, row)
    assert np.array_equal(batch["factors"], source.grid()[row])
    assert np.array_equal(batch["x"], source.observe(source.grid()[row]))
    constants = jax.make_jaxpr(feed.batch)(feed.resident, row).consts
    assert sum(np.size(value) for value in constants) < 1_000  # the layers are arguments


def small():
    rng = np.random.default_rng(0)
    layers = {
        name: rng.integers(0, 256, (count, 2, 3, 5, 4, 4), np.uint8)
        for name, count in zip(LAYERS, (2, 3, 1, 4, 1), strict=True)
    }
    return layers


def saved(folder, layers):
    np.savez(folder / "layers.npz", **layers)
    return folder / "layers.npz"


def test_other_layers_of_any_transparency_compose_too(tmp_path):
    layers = small()
    source = color_sprites(str(saved(tmp_path, layers)))
    assert source.sizes == (2, 3, 1, 4, 2, 3)
    images = np.asarray(jax.jit(source.render)(source.resident, source.grid()), np.int32)
    expected = np.stack([composed(layers, each) for each in source.grid()])
    assert images.shape == (144, 5, 4, 3)
    assert np.abs(images - expected).max() <= 1
    assert np.mean(images != expected) < 0.001
    changed = {**layers, "hair": layers["hair"] ^ 1}
    assert color_sprites(saved(tmp_path, changed)).spec.data_hash != source.spec.data_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.pop("shoes"), "has no array shoes"),
        (
            lambda layers: layers.update(hair=layers["hair"].astype(np.float32)),
            "hair has dtype float32, expected uint8",
        ),
        (lambda layers: layers.update(body=layers["body"][0]), r"body has shape \(2, 3, 5, 4, 4\), expected \[options"),
        (lambda layers: layers.update(topwear=layers["topwear"][..., :3]), r"topwear has shape .*, expected \[options"),
        (lambda layers: layers.update(hair=layers["hair"][:0]), r"hair has shape \(0, .*, expected \[options"),
        (
            lambda layers: layers.update(hair=layers["hair"][:, :1]),
            r"hair has shape \(4, 1, .* all need the same last five",
        ),
        (lambda layers: layers.update(shoes=layers["body"]), r"shoes has shape .*, expected one pair"),
        (lambda layers: layers.update(hair=np.array([{}])), "holds pickled Python objects"),
    ],
)
def test_unfit_layers_are_refused(tmp_path, change, message):
    layers = small()
    change(layers)
    with pytest.raises(UserError, match=message):
        color_sprites(saved(tmp_path, layers))


def test_unfit_files_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"missing.npz: no such file; check the path, .* or give an .npz file of uint8 RGBA layers"
    ):
        color_sprites(tmp_path / "missing.npz")
    with pytest.raises(UserError, match="is not a file"):
        color_sprites(tmp_path)
    whole = saved(tmp_path, small())
    torn = tmp_path / "torn.npz"
    torn.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"is not an .npz file, or was cut short"):
        color_sprites(torn)
    spoiled = bytearray(whole.read_bytes())
    spoiled[200:260] = bytes(60)
    torn.write_bytes(spoiled)
    with pytest.raises(UserError, match="is damaged"):
        color_sprites(torn)
