"""VQ-VAE: the loss and the bound by hand, what each flag does, codebooks that follow, codes in and out."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers
from vaex.core import Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import code_maps, codebooks, vq_vae
from vaex.models.code_pictures import TEMPERATURES, colors
from vaex.schedules import resolve
from vaex.training import algorithm

pytestmark = pytest.mark.usefixtures("quick")

SPEC = Spec("random", (8, 8, 1), "binary", levels=2, num_classes=3)
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 8, 8, 1)), jnp.float32)
Y = jnp.array([0, 1, 2, -1, -1, 1])
KEY = jax.random.key(0)
KINDS: list[dict[str, Any]] = [
    {},
    {"codebook": "gradient", "codebook_init": "kmeans"},
    {"quantizer": "residual", "codebooks": 3, "gradient": "rotation"},
    {"quantizer": "grouped", "codebooks": 2, "codebook_init": "kmeans"},
    {"quantizer": "finite_scalar", "levels": (3, 2)},
    {"quantizer": "lookup_free", "codes": 8},
]


class Built:
    """A recipe, and variables of both stages as they begin, larger than drawn so that codes differ."""

    def __init__(self, spec=SPEC, hparams=None, **changes):
        self.config = vq_vae.Config(**{**vq_vae.TINY, **changes})
        self.recipe = vq_vae.build(self.config, spec)
        self.it = code_maps.code_maps(self.config, spec, (self.config.downsampling,))
        self.hparams = resolve(algorithm.as_schedules(hparams or vq_vae.HParams()), 0)
        first, second = self.recipe.stages
        batch = {"x": X, "y": Y}
        begun = jax.jit(first.model.init)(KEY, batch)
        params = jax.tree.map(lambda leaf: 2.0 * leaf, begun.params)
        self.first = Variables(params, begun.state)
        self.second = Variables(jax.jit(second.model.init)(KEY, batch).params, second.prepare({"model": self.first}))

    def objective(self, stage, batch, *, train, key=KEY):
        objective = jax.jit(self.recipe.stages[stage].model.objective, static_argnames="train")
        variables = (self.first, self.second)[stage]
        return objective(key, variables, self.hparams, batch, train=train)

    def chosen(self):
        return jax.jit(self.it.encode)(self.first.params["vae"], self.first.state, self.hparams, X)


@pytest.fixture(
    scope="module", params=KINDS, ids=lambda changes: changes.get("quantizer", changes.get("codebook", "ema"))
)
def built(request):
    return Built(**request.param)


def test_the_loss_is_its_formula(built):
    chosen, found = built.chosen(), built.objective(0, {"x": X}, train=True)
    z, config = np.asarray(chosen.z[0], np.float64), built.config
    codes = np.asarray(chosen.quantized[0].codes, np.float64)
    log_px = np.asarray(chosen.px.log_prob(X), np.float64)
    distance = np.square(z - codes).sum((1, 2, 3))
    added = 0.25 * distance + (distance if config.codebook == "gradient" else 0.0)
    if config.quantizer in ("residual", "finite_scalar"):  # a residual's losses are each codebook's; FSQ has none
        added = 0.25 * np.asarray(chosen.quantized[0].commitment_loss).sum((1, 2))
    if config.quantizer == "lookup_free":
        entropy = quantizers.lookup_free_entropy(chosen.z[0])
        added = added + 0.1 * np.sum(np.asarray(entropy.sample) - float(entropy.batch), axis=(1, 2))
    np.testing.assert_allclose(found.losses["vae"], np.mean(added - log_px), rtol=1e-5)
    np.testing.assert_allclose(
        found.metrics["commitment"], np.sum(chosen.quantized[0].commitment_loss, (1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.metrics["elbo"], log_px - built.it.n * math.log(built.it.quantizer.codes), rtol=1e-5
    )


def test_codes_decode_to_what_the_decoder_saw(built):
    """Encode gives integers; decoded, flat or not, as integers or floats, they give p(x|c) of the encoder's own pass."""
    codes = built.recipe.encode(KEY, built.second, built.hparams, {"x": X}).mean
    slots = {"residual": (3,), "grouped": (2,)}.get(built.config.quantizer, ())
    assert codes.shape == (6, 4, 4, *slots) and codes.dtype == jnp.int32
    seen = built.chosen().px.mean
    for z in (codes, codes.reshape(6, -1), codes.astype(jnp.float32)):
        np.testing.assert_allclose(
            built.recipe.decode(built.second, built.hparams, z, {}).mean, seen, rtol=1e-4, atol=1e-5
        )
    several = built.recipe.decode(built.second, built.hparams, jnp.stack([codes, codes]), {}).mean
    assert several.shape == (2, *X.shape)


def test_gradients_reach_encoder_decoder_and_codebooks_that_learn_by_them(built):
    def loss(params):
        model = built.recipe.stages[0].model
        return model.objective(KEY, built.first._replace(params=params), built.hparams, {"x": X}, train=True).losses[
            "vae"
        ]

    level = jax.jit(jax.grad(loss))(built.first.params)["vae"]["level_0"]
    size = {name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part)) for name, part in level.items()}
    assert min(size.values()) > 0
    by_gradient = built.config.codebook == "gradient" and built.config.quantizer == "vector"
    assert ("codebooks" in level) == by_gradient


def test_the_bound_is_that_of_the_point_and_the_uniform_prior_is_a_model_too(built):
    """log p(x|c) + log p(c), the second by the chain rule; the first stage's weights count with equal codes."""
    metrics = built.objective(1, {"x": X}, train=False).metrics
    weights = jax.jit(built.recipe.log_weights, static_argnums=4)(KEY, built.second, built.hparams, {"x": X}, 3)
    assert weights.shape == (3, 6)
    np.testing.assert_array_equal(weights, np.tile(weights[:1], (3, 1)))
    np.testing.assert_allclose(weights[0], metrics["elbo"], rtol=1e-5)
    np.testing.assert_allclose(metrics["bits_per_code"], metrics["kl"] / built.it.n / math.log(2), rtol=1e-5)
    assert "reconstruction" not in built.objective(1, {"x": X}, train=True).metrics
    first = built.recipe.stages[0].model
    uniform = jax.jit(first.log_weights, static_argnums=4)(KEY, built.first, built.hparams, {"x": X}, 1)
    np.testing.assert_allclose(uniform[0], built.objective(0, {"x": X}, train=False).metrics["elbo"], rtol=1e-5)
    assert jax.eval_shape(lambda v: first.sample(KEY, v, built.hparams, 2, None).mean, built.first).shape == (
        2,
        8,
        8,
        1,
    )


def test_the_prior_sums_to_one_over_all_maps():
    """Two by two codes of three: all 81 maps, by the second stage's own density."""
    spec = SPEC._replace(shape=(4, 4, 1))
    config = vq_vae.Config(**{**vq_vae.TINY, "codes": 3, "class_conditional": True})
    recipe = vq_vae.build(config, spec)
    maps = jnp.asarray(np.stack(np.meshgrid(*[range(3)] * 4), -1).reshape(81, 2, 2), jnp.int32)
    hparams = resolve(algorithm.as_schedules(vq_vae.HParams()), 0)
    x = {"x": X[:, :4, :4], "y": Y}
    first = jax.jit(recipe.stages[0].model.init)(KEY, x)
    second = jax.jit(recipe.stages[1].model.init)(KEY, x)
    second = Variables(jax.tree.map(lambda leaf: 3.0 * leaf, second.params), recipe.stages[1].prepare({"model": first}))
    found = code_maps.code_maps(config, spec, (2,))
    net = vq_vae.code_prior.transformer(config, found)
    for label in (0, 2):
        condition = jnp.tile(jax.nn.one_hot(label, 3), (81, 1))
        logits = jax.nn.log_softmax(net.apply({"params": second.params["prior"]}, maps.reshape(81, 4), condition))
        log_p = np.asarray(jnp.take_along_axis(logits, maps.reshape(81, 4, 1), axis=-1), np.float64).sum((1, 2))
        np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
        batch = {"x": x["x"], "y": jnp.full(6, label)}
        codes = recipe.encode(KEY, second, hparams, batch).mean
        row = np.ravel_multi_index(tuple(np.moveaxis(np.asarray(codes).reshape(6, 4), -1, 0)[[1, 0, 2, 3]]), (3,) * 4)
        kl = recipe.stages[1].model.objective(KEY, second, hparams, batch, train=False).metrics["kl"]
        np.testing.assert_allclose(kl, -log_p[row], rtol=1e-4)


def test_masked_rows_count_for_nothing():
    it = Built()
    mask = jnp.array([1.0, 1, 1, 0, 0, 0])
    other = X.at[3:].set(1.0 - X[3:])
    found = [it.objective(0, {"x": x, "mask": mask}, train=True) for x in (X, other)]
    jax.tree.map(np.testing.assert_array_equal, found[0].state, found[1].state)
    assert float(found[0].losses["vae"]) == float(found[1].losses["vae"])
    for name in ("perplexity", "usage"):
        assert float(found[0].metrics[name]) == float(found[1].metrics[name])
    whole = it.objective(0, {"x": X}, train=True)
    assert np.any(np.asarray(whole.state["level_0"]["use"]) != np.asarray(found[0].state["level_0"]["use"]))


def test_moving_averages_are_those_of_the_quantizers_and_stand_still_in_evaluation(built):
    if built.config.codebook != "ema" or built.config.quantizer in codebooks.SCALAR:
        return
    chosen, before = built.chosen(), built.first.state["level_0"]["codebooks"]
    hparams = vq_vae.HParams(ema_decay=0.5, dead_share=0.0)
    it = Built(
        hparams=hparams, **{name: getattr(built.config, name) for name in ("quantizer", "codebooks", "gradient")}
    )
    it.first, it.second = built.first, built.second
    after = it.objective(0, {"x": X}, train=True).state["level_0"]["codebooks"]
    z, indices = chosen.z[0], chosen.quantized[0].indices
    for slot in range(built.it.quantizer.slots):
        old = jax.tree.map(lambda leaf, slot=slot: leaf[slot], before)
        width = z.shape[-1] // built.config.codebooks
        seen = z if built.config.quantizer != "grouped" else z[..., slot * width : (slot + 1) * width]
        if built.config.quantizer == "residual":
            for earlier in range(slot):
                seen = seen - before.codebook[earlier][indices[..., earlier]]
        expected = quantizers.update_codebook(old, seen, indices[..., slot], decay=0.5)
        for mine, theirs in zip(after, expected, strict=True):
            np.testing.assert_allclose(mine[slot], theirs, rtol=1e-5, atol=1e-6)
    still = it.objective(0, {"x": X}, train=False).state
    jax.tree.map(np.testing.assert_array_equal, still, built.first.state)


def test_dead_codes_are_put_on_vectors_of_the_batch():
    it = Built(codes=16)
    codes = it.chosen().quantized[0].indices
    unused = np.setdiff1d(np.arange(16), np.asarray(codes))
    assert len(unused)
    state = it.first.state["level_0"]["codebooks"]
    it.first.state["level_0"]["codebooks"] = state._replace(counts=state.counts.at[0, unused].set(0.0))
    vectors = np.asarray(it.chosen().z[0]).reshape(-1, 2)
    for dead_share, moved in ((0.1, True), (0.0, False)):
        it.hparams = resolve(algorithm.as_schedules(vq_vae.HParams(dead_share=dead_share)), 0)
        after = np.asarray(it.objective(0, {"x": X}, train=True).state["level_0"]["codebooks"].codebook[0])[unused]
        nearest = np.abs(after[:, None] - vectors).sum(-1).min(1)
        assert np.all(nearest < 1e-5) == moved


def test_kmeans_begins_with_codebooks_that_leave_less(built):
    if built.config.quantizer in codebooks.SCALAR:
        return
    changes = {name: getattr(built.config, name) for name in ("quantizer", "codebooks", "codebook")}
    left = {kind: Built(codebook_init=kind, **changes).first for kind in ("kmeans", "normal")}
    errors = []
    for kind in ("kmeans", "normal"):
        params = jax.tree.map(lambda leaf: leaf / 2.0, left[kind].params["vae"])  # as drawn
        chosen = jax.jit(built.it.encode)(params, left[kind].state, built.hparams, X)
        errors.append(float(jnp.sum(jnp.square(chosen.z[0] - chosen.quantized[0].codes))))
    assert errors[0] < 0.7 * errors[1]


def test_diagnostics_count_codes():
    assert float(codebooks.effective(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))) == 1.5
    it = Built()
    codes = np.asarray(it.chosen().quantized[0].indices)
    shares = np.bincount(codes.ravel(), minlength=4) / codes.size
    metrics = it.objective(0, {"x": X}, train=False).metrics
    np.testing.assert_allclose(metrics["usage"], np.mean(shares > 0))
    used = shares[shares > 0]
    np.testing.assert_allclose(metrics["perplexity"], np.exp(-np.sum(used * np.log(used))), rtol=1e-5)


def test_labels_reach_the_prior_and_nothing_else():
    it = Built(class_conditional=True)
    assert it.recipe.labels == (3, None, None, True)
    kl = [it.objective(1, {"x": X, "y": jnp.full(6, y)}, train=False).metrics for y in (0, 1)]
    assert np.all(np.abs(kl[0]["kl"] - kl[1]["kl"]) > 1e-4)
    np.testing.assert_array_equal(kl[0]["reconstruction"], kl[1]["reconstruction"])
    with pytest.raises(ValueError, match="the prior reads labels, but the batch has none"):
        it.objective(1, {"x": X}, train=False)
    with pytest.raises(UserError, match="random has no labels"):
        Built(SPEC._replace(num_classes=0), class_conditional=True)


def test_colder_samples_are_likelier():
    it = Built()
    params = {**it.second.params["prior"], "output": 200.0 * it.second.params["prior"]["output"]}
    variables = it.second._replace(params={"prior": params})
    net = vq_vae.code_prior.transformer(it.config, it.it)
    draw = vq_vae.code_prior.drawing(net, 0)
    means = []
    for temperature in (0.1, 1.0, 3.0):
        codes = draw(KEY, variables, 50, temperature, None, None)
        logits = jax.nn.log_softmax(net.apply({"params": params}, codes))
        means.append(float(jnp.mean(jnp.take_along_axis(logits, codes[..., None], -1))))
    assert means[0] > means[1] + 0.1 > means[2] + 0.2


def test_pictures(built):
    batch = {"x": X, "y": Y}
    named = {name: figure(KEY, built.second, built.hparams, batch) for name, figure in built.recipe.figures.items()}
    assert set(named) == {"code_usage", "code_maps", "temperatures", "completions"}
    heights = np.asarray(named["code_usage"].heights)
    np.testing.assert_allclose(heights.sum(), 1.0, rtol=1e-5)
    assert np.all(np.diff(heights) <= 0) and f"of {built.it.quantizer.codes}" in named["code_usage"].title
    assert named["code_maps"].images.shape == (2, 6, 8, 8, 3)
    assert named["temperatures"].images.shape == (len(TEMPERATURES), 8, 8, 8, 1)
    completions = named["completions"].images
    assert completions.shape == (6, 6, 8, 8, 1)
    np.testing.assert_array_equal(completions[0], X)
    for grid in ("code_maps", "temperatures", "completions"):
        assert np.all((named[grid].images >= 0) & (named[grid].images <= 1))


def test_colors_are_principal_components_over_their_range():
    vectors = np.random.default_rng(0).normal(size=(50, 5)) * [9.0, 4.0, 2.0, 0.1, 0.1]
    found = np.asarray(colors(jnp.asarray(vectors)))
    np.testing.assert_allclose([found.min(0), found.max(0)], [[0] * 3, [1] * 3], atol=1e-5)
    for axis in range(3):
        assert abs(np.corrcoef(found[:, axis], vectors[:, axis])[0, 1]) > 0.95


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": 1}, "--codes=1: expected at least 2"),
        ({"code_dim": 0}, "--code_dim=0"),
        ({"quantizer": "grouped", "code_dim": 3}, "--code_dim=3: expected a multiple of --codebooks=2"),
        ({"quantizer": "lookup_free", "codes": 6}, "--codes=6: expected a power of two"),
        ({"levels": (1, 4)}, "--levels=1x4: expected at least two for each"),
        ({"quantizer": "finite_scalar", "gradient": "rotation"}, "has no codebook to rotate to"),
        ({"channels": 0}, "--channels=0"),
        ({"blocks": -1}, "--blocks=-1: expected at least 0"),
        ({"prior_layers": 0}, "--prior_layers=0: expected at least 1"),
        ({"prior_width": 6, "prior_heads": 4}, "--prior_width=6: expected a multiple of --prior_heads=4"),
        ({"activation": "rely"}, "activation='rely'"),
        ({"optimizer": "adm"}, "no optimizer is called 'adm'"),
    ],
)
def test_configs_out_of_range_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        vq_vae.Config(**{**vq_vae.TINY, **changes})


@pytest.mark.parametrize(
    ("spec", "downsampling", "words"),
    [
        (SPEC, 3, "--downsampling=3: expected powers of two"),
        (SPEC, 1, "--downsampling=1: expected powers of two"),
        (SPEC, 8, "images of 8x8 can be made smaller 4 times at most"),
        (SPEC._replace(shape=(3, 9, 1)), 2, "images of 3x9 can be made smaller 1 times at most"),
        (Spec("vectors", (5,), "real"), 2, "vectors has examples of shape"),
    ],
)
def test_data_that_no_map_fits_is_refused(spec, downsampling, words):
    with pytest.raises(UserError, match=words):
        vq_vae.build(vq_vae.Config(**{**vq_vae.TINY, "downsampling": downsampling}), spec)
