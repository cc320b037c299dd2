"""VQ-VAE: the loss and the bound by hand, what each flag does, codebooks that follow, codes in and out."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers
from vaex.core import Labels, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _code_prior as code_prior
from vaex.models.codebooks import _quantizers as codebooks
from vaex.models.codebooks import vq_vae
from vaex.models.codebooks._code_figures import TEMPERATURES, colors
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "binary", levels=2, num_classes=3)
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 8, 8, 1)), jnp.float32)
Y = jnp.array([0, 1, 2, -1, -1, 1])
KEY = jax.random.key(0)
KINDS: list[dict[str, Any]] = [
    {"codebook": "gradient"},
    {"quantizer": "residual", "codebooks": 3, "gradient": "rotation"},
    {"quantizer": "grouped", "codebooks": 2},
    {"quantizer": "finite_scalar", "levels": (3, 2)},
    {"quantizer": "lookup_free", "codes": 8},
]


def filled(shapes, seed=0):
    """Parameters of these shapes, drawn in NumPy, which compiles nothing, and large enough for codes to differ."""
    rng = np.random.default_rng(seed)

    def leaf(struct):
        scale = 2.0 * np.prod(struct.shape[:-1]) ** -0.5 if len(struct.shape) > 1 else 0.1
        return jnp.asarray(scale * rng.standard_normal(struct.shape), struct.dtype)

    return jax.tree.map(leaf, shapes)


class Built:
    """A recipe, its functions compiled once, and variables of both stages that are not as they begin."""

    def __init__(self, spec=SPEC, hparams=None, **changes):
        self.config = vq_vae.Config(**{**vq_vae.TINY, **changes})
        self.recipe = vq_vae.build(self.config, spec)
        self.vq = code_maps.code_maps(self.config, spec, (self.config.downsampling,))
        self.hparams = hparams_of(hparams or vq_vae.HParams())
        first, second = self.recipe.stages
        example = {"x": jnp.zeros((6, *spec.shape)), "y": Y}
        shapes = [jax.eval_shape(stage.model.init, KEY, example) for stage in (first, second)]
        self.first = Variables(filled(shapes[0].params), self.begun(shapes[0].state))
        self.second = Variables(filled(shapes[1].params, 1), second.carry_over({"model": self.first}))
        self.programs: dict[Any, Any] = {}

    @staticmethod
    def begun(shapes):
        """A state: even use, and codebooks of normal numbers whose averages say the same."""
        codes, books = shapes["level_0"]["use"].shape[1], shapes["level_0"].get("codebooks")
        state = {"use": jnp.full(shapes["level_0"]["use"].shape, 1.0 / codes)}
        if books is not None:
            book = jnp.asarray(np.random.default_rng(3).standard_normal(books.codebook.shape), jnp.float32)
            state["codebooks"] = quantizers.CodebookState(book, jnp.full(book.shape[:2], 9.0), 9.0 * book)
        return {"level_0": state}

    def compiled(self, name, function, **static):
        """The function as jitted the first time it was asked for by this name."""
        if name not in self.programs:
            self.programs[name] = jax.jit(function, **static)
        return self.programs[name]

    def objective(self, stage, batch, *, train, key=KEY):
        objective = self.compiled(stage, self.recipe.stages[stage].model.objective, static_argnames="train")
        return objective(key, (self.first, self.second)[stage], self.hparams, batch, train=train)

    def chosen(self):
        encode = self.compiled("chosen", self.vq.encode)
        return encode(self.first.params["vae"], self.first.state, self.hparams, X)

    def codes(self):
        return self.compiled("codes", self.recipe.model.encode)(KEY, self.second, self.hparams, {"x": X}).mean

    def decode(self, z):
        return self.compiled("decode", self.recipe.model.decode)(self.second, self.hparams, z, {}).mean


def hparams_of(hparams):
    return resolve(as_schedules(hparams), 0)


@pytest.fixture(
    scope="module", params=KINDS, ids=lambda changes: changes.get("quantizer", changes.get("codebook", "ema"))
)
def built(request):
    return Built(**request.param)


@pytest.mark.slow
def test_the_loss_is_its_formula(built):
    chosen, outcome = built.chosen(), built.objective(0, {"x": X}, train=True)
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
    np.testing.assert_allclose(outcome.losses["vae"], np.mean(added - log_px), rtol=1e-5)
    np.testing.assert_allclose(
        outcome.metrics["commitment"], np.sum(chosen.quantized[0].commitment_loss, (1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(
        outcome.metrics["elbo"], log_px - built.vq.n * math.log(built.vq.quantizer.codes), rtol=1e-5
    )


@pytest.mark.slow
def test_codes_decode_to_what_the_decoder_saw(built):
    """Encode gives integers; decoded, flat or not, as integers or floats, they give p(x|c) of the encoder's own pass."""
    codes = built.codes()
    slots = {"residual": (3,), "grouped": (2,)}.get(built.config.quantizer, ())
    assert codes.shape == (6, 4, 4, *slots) and codes.dtype == jnp.int32
    np.testing.assert_allclose(built.decode(codes), built.chosen().px.mean, rtol=1e-4, atol=1e-5)
    for z in (codes.reshape(6, -1), codes.astype(jnp.float32), codes + 0.2):
        np.testing.assert_array_equal(built.vq.flat(z), codes.reshape(6, -1))
    assert built.vq.flat(jnp.stack([codes, codes])).shape == (2, 6, built.vq.n)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_bound_is_that_of_the_point_and_the_uniform_prior_is_a_model_too(built):
    """log p(x|c) + log p(c); the first stage's weights count with equal codes."""
    metrics = built.objective(1, {"x": X}, train=False).metrics
    weights = jax.jit(built.recipe.model.log_weights, static_argnums=4)(KEY, built.second, built.hparams, {"x": X}, 3)
    assert weights.shape == (3, 6)
    np.testing.assert_array_equal(weights, np.tile(weights[:1], (3, 1)))
    np.testing.assert_allclose(weights[0], metrics["elbo"], rtol=1e-5)
    np.testing.assert_allclose(metrics["bits_per_code"], metrics["kl"] / built.vq.n / math.log(2), rtol=1e-5)
    prior = code_maps.uniform(built.vq)
    nats = built.vq.n * math.log(built.vq.quantizer.codes)
    np.testing.assert_allclose(prior.log_prob(built.first, built.codes().reshape(6, -1), {}), [-nats] * 6, rtol=1e-6)
    drawn = np.asarray(prior.sample(KEY, built.first, built.hparams, 50, None))
    assert drawn.shape == (50, built.vq.n) and set(drawn.ravel()) == set(range(built.vq.quantizer.codes))


def test_the_autoencoder_has_no_part_in_the_priors_gradient():
    shapes = jax.eval_shape(lambda: Built().objective(1, {"x": X}, train=True))
    assert set(shapes.metrics) == {"kl", "bits_per_code"} and set(shapes.losses) == {"prior"}


@pytest.mark.slow
def test_the_prior_sums_to_one_over_all_maps():
    """Two by two codes of three: all 81 maps, by the second stage's own density."""
    spec = SPEC._replace(shape=(4, 4, 1))
    built = Built(spec, codes=3, class_conditional=True)
    maps = jnp.asarray(list(itertools.product(range(3), repeat=4)), jnp.int32)
    net = code_prior.transformer(built.config, built.vq)
    logits_of = jax.jit(lambda condition: net.apply({"params": built.second.params["prior"]}, maps, condition))
    encode = jax.jit(built.recipe.model.encode)
    for label in (0, 2):
        logits = jax.nn.log_softmax(logits_of(jnp.tile(jax.nn.one_hot(label, 3), (81, 1))))
        log_p = np.asarray(jnp.take_along_axis(logits, maps[..., None], axis=-1), np.float64).sum((1, 2))
        np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
        batch = {"x": X[:, :4, :4], "y": jnp.full(6, label)}
        codes = np.asarray(encode(KEY, built.second, built.hparams, batch).mean).reshape(6, 4)
        kl = built.objective(1, batch, train=False).metrics["kl"]
        np.testing.assert_allclose(kl, -log_p[codes @ [27, 9, 3, 1]], rtol=1e-4)


@pytest.mark.slow
def test_masked_rows_count_for_nothing():
    built = Built()
    mask = jnp.array([1.0, 1, 1, 0, 0, 0])
    changed = X.at[3:].set(1.0 - X[3:])
    outcomes = [built.objective(0, {"x": x, "mask": mask}, train=True) for x in (X, changed)]
    jax.tree.map(np.testing.assert_array_equal, outcomes[0].state, outcomes[1].state)
    assert float(outcomes[0].losses["vae"]) == float(outcomes[1].losses["vae"])
    for name in ("perplexity", "usage"):
        assert float(outcomes[0].metrics[name]) == float(outcomes[1].metrics[name])
    unmasked = built.objective(0, {"x": X}, train=True)
    assert np.any(np.asarray(unmasked.state["level_0"]["use"]) != np.asarray(outcomes[0].state["level_0"]["use"]))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, *KINDS[1:3]], ids=["vector", "residual", "grouped"])
def test_moving_averages_are_those_of_the_quantizers(changes):
    """What ``CodebookState`` becomes is what ``update_codebook`` makes of the vectors that each codebook sees."""
    quantizer = codebooks.quantizer(vq_vae.Config(**{**vq_vae.TINY, **changes}))
    z = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 2)), jnp.float32)
    params, state = quantizer.init(KEY, z)
    before, indices = state["codebooks"], quantizer.quantize(params, state, z).indices
    hparams = hparams_of(vq_vae.HParams(ema_decay=0.5, dead_share=0.0))
    after = jax.jit(quantizer.update)(KEY, hparams, state, z, indices, None)["codebooks"]
    for slot in range(quantizer.slots):
        old = jax.tree.map(lambda leaf, slot=slot: leaf[slot], before)
        vectors = z if changes.get("quantizer") != "grouped" else z[..., slot : slot + 1]
        for earlier in range(slot if changes.get("quantizer") == "residual" else 0):
            vectors = vectors - before.codebook[earlier][indices[..., earlier]]
        expected = quantizers.update_codebook(old, vectors, indices[..., slot], decay=0.5)
        for stacked, alone in zip(after, expected, strict=True):
            np.testing.assert_allclose(stacked[slot], alone, rtol=1e-4, atol=1e-5)


def test_codebooks_stand_still_in_evaluation():
    built = Built()
    for train in (True, False):
        after = built.objective(0, {"x": X}, train=train).state["level_0"]["codebooks"].codebook
        assert np.any(np.asarray(after) != np.asarray(built.first.state["level_0"]["codebooks"].codebook)) == train


@pytest.mark.slow
def test_dead_codes_are_put_on_vectors_of_the_batch():
    quantizer = codebooks.quantizer(vq_vae.Config(**{**vq_vae.TINY, "codes": 16}))
    z = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 2)), jnp.float32)
    params, state = quantizer.init(KEY, z)
    far = state["codebooks"].codebook.at[0, 5:].add(100.0)
    state["codebooks"] = state["codebooks"]._replace(codebook=far, counts=state["codebooks"].counts.at[0, 5:].set(0.0))
    indices = quantizer.quantize(params, state, z).indices
    assert indices.max() < 5
    for dead_share, moved in ((0.1, True), (0.0, False)):
        hparams = hparams_of(vq_vae.HParams(dead_share=dead_share))
        after = np.asarray(
            jax.jit(quantizer.update)(KEY, hparams, state, z, indices, None)["codebooks"].codebook[0, 5:]
        )
        assert np.all(np.abs(after[:, None] - np.asarray(z).reshape(-1, 2)).sum(-1).min(1) < 1e-5) == moved


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"codebook": "gradient"}, *KINDS[1:3]], ids=["vector", "residual", "grouped"])
def test_kmeans_begins_with_codebooks_that_leave_less(changes):
    z = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3, 5, 2)) * 3.0 + 5.0, jnp.float32)
    left = []
    for kind in ("kmeans", "normal"):
        quantizer = codebooks.quantizer(vq_vae.Config(**{**vq_vae.TINY, **changes, "codebook_init": kind}))
        params, state = jax.jit(quantizer.init)(KEY, z)
        left.append(float(jnp.sum(jnp.square(z - quantizer.quantize(params, state, z).codes))))
    assert left[0] < 0.5 * left[1]


def test_diagnostics_count_codes():
    built = Built()
    codes = np.asarray(built.chosen().quantized[0].indices)
    shares = np.bincount(codes.ravel(), minlength=4) / codes.size
    metrics = built.objective(0, {"x": X}, train=False).metrics
    np.testing.assert_allclose(metrics["usage"], np.mean(shares > 0))
    used = shares[shares > 0]
    np.testing.assert_allclose(metrics["perplexity"], np.exp(-np.sum(used * np.log(used))), rtol=1e-5)


def test_labels_reach_the_prior_and_nothing_else():
    built = Built(class_conditional=True)
    assert built.recipe.labels == Labels(3, prior_only=True)
    kl = [built.objective(1, {"x": X, "y": jnp.full(6, y)}, train=False).metrics for y in (0, 1)]
    assert np.all(np.abs(kl[0]["kl"] - kl[1]["kl"]) > 1e-4)
    np.testing.assert_array_equal(kl[0]["reconstruction"], kl[1]["reconstruction"])
    with pytest.raises(ValueError, match="the prior reads labels, but the batch has none"):
        built.objective(1, {"x": X}, train=False)
    with pytest.raises(UserError, match="random has no labels"):
        Built(SPEC._replace(num_classes=0), class_conditional=True)


@pytest.mark.slow
def test_colder_samples_are_likelier():
    built = Built()
    params, variables = built.second.params["prior"], built.second
    net = code_prior.transformer(built.config, built.vq)
    draw = code_prior.drawing(net, SPEC, None)
    means = []
    for temperature in (0.1, 1.0, 3.0):
        codes = draw(KEY, variables, 50, temperature, None, None)
        logits = jax.nn.log_softmax(net.apply({"params": params}, codes))
        means.append(float(jnp.mean(jnp.take_along_axis(logits, codes[..., None], -1))))
    assert means[0] > means[1] + 0.1 > means[2] + 0.2


@pytest.mark.slow
def test_figures():
    built = Built(**KINDS[2])
    batch = {"x": X, "y": Y}
    named = {name: figure(KEY, built.second, built.hparams, batch) for name, figure in built.recipe.figures.items()}
    assert set(named) == {"code_usage", "code_maps", "temperatures", "completions"}
    heights = np.asarray(named["code_usage"].heights)
    np.testing.assert_allclose(heights.sum(), 1.0, rtol=1e-5)
    assert np.all(np.diff(heights) <= 0) and f"of {built.vq.quantizer.codes}" in named["code_usage"].title
    assert named["code_maps"].images.shape == (2, 6, 8, 8, 3)
    assert named["temperatures"].images.shape == (len(TEMPERATURES), 8, 8, 8, 1)
    completions = named["completions"].images
    assert completions.shape == (6, 6, 8, 8, 1)
    np.testing.assert_array_equal(completions[0], X)
    for grid in ("code_maps", "temperatures", "completions"):
        assert np.all((named[grid].images >= 0) & (named[grid].images <= 1))


def test_colors_are_principal_components_over_their_range():
    vectors = np.random.default_rng(0).normal(size=(50, 5)) * [9.0, 4.0, 2.0, 0.1, 0.1]
    rgb = np.asarray(colors(jnp.asarray(vectors)))
    np.testing.assert_allclose([rgb.min(0), rgb.max(0)], [[0] * 3, [1] * 3], atol=1e-5)
    for axis in range(3):
        assert abs(np.corrcoef(rgb[:, axis], vectors[:, axis])[0, 1]) > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
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
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        vq_vae.Config(**{**vq_vae.TINY, **changes})


@pytest.mark.parametrize(
    ("spec", "downsampling", "message"),
    [
        (SPEC, 3, "--downsampling=3: expected powers of two"),
        (SPEC, 1, "--downsampling=1: expected powers of two"),
        (SPEC, 8, "images of 8x8 can be made smaller 4 times at most"),
        (SPEC._replace(shape=(3, 9, 1)), 2, "images of 3x9 can be made smaller 1 times at most"),
        (Spec("videos", (5, 8, 8, 1), "grey"), 2, "videos has examples of shape"),
    ],
)
def test_data_that_no_map_fits_is_refused(spec, downsampling, message):
    with pytest.raises(UserError, match=message):
        vq_vae.build(vq_vae.Config(**{**vq_vae.TINY, "downsampling": downsampling}), spec)


def test_use_of_many_codes_takes_no_array_of_indices_times_codes():
    """2^18 codes: [64 indices, 2^18] would be 64 MB."""
    indices = jnp.asarray(np.random.default_rng(0).integers(0, 2**18, (64, 1)), jnp.int32)
    counted = codebooks.shares(indices, 2**18, None)
    assert counted.shape == (1, 2**18)
    np.testing.assert_array_equal(np.flatnonzero(counted[0]), np.unique(indices))
    assert "64,262144" not in str(jax.make_jaxpr(lambda i: codebooks.shares(i, 2**18, None))(indices).jaxpr)
    masked = codebooks.shares(jnp.array([[0, 3], [1, -1], [1, 9]]), 4, jnp.array([True, True, False]))
    np.testing.assert_array_equal(masked, [[0.5, 0.5, 0, 0], [0, 0, 0, 0.5]])
