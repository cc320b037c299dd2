"""Attribute vectors, moved latents, geodesics and maps of codes: constructions whose answer is known, and what is refused."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.errors import MissingPackageError
from vaex.evaluation import latent_space

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(400, 3))


def identity(z):
    return z


def signs(x):
    return {name: (x[:, i] > 0).astype(int) for i, name in enumerate(("a", "b", "c"))}


def test_a_vector_of_an_attribute_is_the_difference_of_means_and_no_more():
    present = Z[:, 0] > 0
    vector = latent_space.attribute_vector(Z, present)
    expected = 2 * np.sqrt(2 / np.pi)  # the distance of the means of the two halves of a normal
    assert vector[0] == pytest.approx(expected, abs=0.2) and np.abs(vector[1:]).max() < 4 * 2 / np.sqrt(400)


def test_arithmetic_counts_what_was_added_removed_and_changed_beside():
    vector = np.array([1.0, 0.0, -0.5])
    lacks, has = Z[Z[:, 0] <= 0], Z[Z[:, 0] > 0]
    added = latent_space.attribute_arithmetic(identity, lacks, vector, signs, "a", 1)
    assert added.before.mean == 0 and added.success.mean == np.mean(lacks[:, 0] > -1)
    assert set(added.changed) == {"b", "c"} and added.changed["b"].mean == 0
    assert added.changed["c"].mean == np.mean((lacks[:, 2] > 0) & (lacks[:, 2] <= 0.5))
    assert added.values[1] == added.success.mean and sum(added.values.values()) == pytest.approx(1)
    np.testing.assert_allclose(added.images, lacks + vector, rtol=1e-6)
    removed = latent_space.attribute_arithmetic(identity, has, vector, signs, "a", 1, strength=-2.0)
    assert removed.success.mean == np.mean(has[:, 0] <= 2) and removed.before.mean == 0


def test_a_latent_changes_the_attributes_that_it_makes():
    def decode(z):  # the first two latents make one attribute each, the third makes none, the fourth a pixel alone
        return np.stack([z[:, 0], z[:, 1], np.full(len(z), -1.0), 3.0 * z[:, 3]], axis=-1)

    codes = RNG.normal(size=(500, 4))
    moved = latent_space.perturbations(decode, codes, signs, scale=np.ones(4))
    crossed = [np.mean(np.abs(codes[:, i]) < 1) / 2 for i in (0, 1)]
    np.testing.assert_allclose(moved.changed, [[crossed[0], 0, 0], [0, crossed[1], 0], [0, 0, 0], [0, 0, 0]], atol=0.01)
    np.testing.assert_allclose(moved.values, [0.5, 0.5, 0.0, 1.5], rtol=1e-5)


def test_a_classifier_is_fitted_seeded_and_measured_on_others():
    y = {"row": RNG.integers(0, 3, 600), "noise": RNG.integers(0, 2, 600)}
    x = np.eye(3)[y["row"]][:, :, None].repeat(4, axis=2) + 0.1 * RNG.normal(size=(600, 3, 4))
    first, second = (latent_space.fit_classifier(x, y) for _ in range(2))
    assert first.accuracy["row"] == 1.0 and 0.3 < first.accuracy["noise"] < 0.7 and first.accuracy == second.accuracy
    np.testing.assert_array_equal(first.classify(x)["row"], y["row"])


def sphere(z):
    """Longitude and latitude to the unit sphere."""
    return jnp.stack(
        [jnp.cos(z[:, 0]) * jnp.cos(z[:, 1]), jnp.sin(z[:, 0]) * jnp.cos(z[:, 1]), jnp.sin(z[:, 1])], axis=-1
    )


@pytest.mark.slow
def test_a_geodesic_of_the_sphere_is_a_great_circle():
    ends = np.array([[0.0, 0.9]]), np.array([[1.8, 0.9]])  # along the parallel is longer than over the north
    path = latent_space.geodesic(sphere, *ends, num=15)
    a, b = (np.asarray(sphere(jnp.asarray(end)))[0] for end in ends)
    angle = np.arccos(a @ b)
    chords = 14 * 2 * np.sin(angle / 28)  # fourteen chords of equal length
    straight = np.linspace(ends[0][0], ends[1][0], 15)[None]
    assert latent_space.path_length(sphere, path)[0] == pytest.approx(chords, rel=2e-3)
    assert latent_space.path_length(sphere, straight)[0] > 1.05 * chords
    steps = np.linalg.norm(np.diff(np.asarray(sphere(jnp.asarray(path[0]))), axis=0), axis=-1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.05)


def test_a_geodesic_of_a_linear_decoder_is_the_straight_line():
    matrix = jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32)
    path = latent_space.geodesic(lambda z: z @ matrix, Z[:2], Z[2:4], num=4)
    straight = np.stack([np.linspace(a, b, 4) for a, b in zip(Z[:2], Z[2:4], strict=True)])
    np.testing.assert_allclose(path, straight, atol=1e-3)


@pytest.mark.parametrize("method", ["pca", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tsne", "umap"))])
def test_groups_of_codes_stay_apart_in_the_plane(method):
    if method == "umap":
        pytest.importorskip("umap", reason="needs the extra umap")
    codes = np.concatenate([RNG.normal(size=(40, 6)), 20 + RNG.normal(size=(40, 6))])
    embedding = latent_space.embed(codes, method)
    first, second = embedding.points[:40], embedding.points[40:]
    assert np.linalg.norm(first.mean(0) - second.mean(0)) > 2 * max(first.std(), second.std())
    np.testing.assert_array_equal(embedding.points, latent_space.embed(codes, method).points)


def test_the_distance_to_the_prior_is_that_of_a_shift_and_of_a_point():
    fit = latent_space.prior_fit(np.stack([Z[:, 0] + 2.0, np.zeros(400), Z[:, 2]], axis=-1))
    assert fit.distance[0] == pytest.approx(2.0, abs=0.2) and fit.distance[1] == pytest.approx(
        np.sqrt(2 / np.pi), abs=0.01
    )
    assert fit.distance[2] < 0.15 and fit.deviation[1] == 0 and fit.correlation < 0.2


def test_umap_names_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'umap-learn.*pip install "vaex-jax\[umap\]"'):
        latent_space.embed(Z, "umap")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: latent_space.attribute_vector(Z, np.ones(400, bool)), "some examples that have the attribute and some"),
        (lambda: latent_space.attribute_vector(Z, np.ones(400)), "expected .* bool"),
        (lambda: latent_space.attribute_arithmetic(identity, Z, np.ones(2), signs, "a", 1), r"shapes \(400, 3\) and \(2,\)"),
        (lambda: latent_space.attribute_arithmetic(identity, Z, np.ones(3), signs, "d", 1), "does not know 'd'; it knows a, b, c"),
        (lambda: latent_space.perturbations(identity, Z, signs, steps=0.0), "steps above 0"),
        (lambda: latent_space.fit_classifier(Z, {"one": np.zeros(400)}), "at least 2"),
        (lambda: latent_space.geodesic(sphere, Z[:1], Z[:2]), "expected .* twice"),
        (lambda: latent_space.embed(Z, "mds"), "expected one of pca, tsne, umap"),  # type: ignore[arg-type]
        (lambda: latent_space.prior_fit(Z[0]), "expected finite"),
    ],
)  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_jax_and_numpy_decoders_both_serve():
    result = latent_space.perturbations(
        lambda z: jax.nn.sigmoid(jnp.asarray(z)), Z[:5], lambda x: {"a": np.zeros(len(x), int)}
    )
    assert result.changed.max() == 0 and result.values.min() > 0
