"""Quantizer dropout: vectors by the first few residual codebooks, in the quantizer, in its moving averages, and in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex import quantizers
from vaex.core import Variables
from vaex.data.spec import Spec
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _quantizers as codebooks
from vaex.models.codebooks import vq_vae
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

KEY = jax.random.key(0)
SPEC = Spec("random", (8, 8, 1), "binary", levels=2)
RESIDUAL = {"quantizer": "residual", "codebooks": 3}
RNG = np.random.default_rng(0)
BOOKS = jnp.asarray(RNG.standard_normal((3, 8, 2)) * [[[1.0]], [[0.5]], [[0.2]]], jnp.float32)
Z = jnp.asarray(RNG.standard_normal((12, 2)), jnp.float32)
FIRST = jnp.arange(12) % 4  # none of the codebooks, one, two or all three


def hparams_of(**values):
    return resolve(as_schedules(vq_vae.HParams(**values)), 0)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_a_vector_has_the_codes_and_losses_of_its_first_codebooks(gradient):
    some = quantizers.residual_quantize(BOOKS, Z, gradient=gradient, stages=FIRST)
    for first in range(4):
        rows = np.flatnonzero(np.asarray(FIRST) == first)
        np.testing.assert_array_equal(some.indices[rows, first:], -1)
        if first == 0:
            np.testing.assert_array_equal(some.codes[rows], 0)
            np.testing.assert_array_equal(some.commitment_loss[rows], 0)
            continue
        alone = quantizers.residual_quantize(BOOKS[:first], Z[rows], gradient=gradient)
        np.testing.assert_array_equal(some.indices[rows, :first], alone.indices)
        np.testing.assert_allclose(some.codes[rows], alone.codes, rtol=1e-5, atol=1e-6)
        for name in ("commitment_loss", "codebook_loss"):
            np.testing.assert_allclose(getattr(some, name)[rows], getattr(alone, name), rtol=1e-5)


def test_gradients_reach_no_codebook_that_is_left_out():
    def loss(books, z):
        quantized = quantizers.residual_quantize(books, z, stages=jnp.full(len(z), 2))
        return jnp.sum(quantized.codebook_loss) + jnp.sum(quantized.codes)

    of_books, of_vectors = jax.grad(loss, (0, 1))(BOOKS, Z)
    assert np.all(np.abs(of_books).sum((1, 2))[:2] > 0) and not np.any(of_books[2])
    np.testing.assert_array_equal(of_vectors, np.ones_like(Z))  # straight through


def test_remainders_stay_where_a_codebook_is_left_out():
    indices = quantizers.residual_quantize(BOOKS, Z, stages=FIRST).indices
    inputs = np.asarray(quantizers.residual_inputs(BOOKS, Z, indices))
    left = np.asarray(Z)
    for slot in range(3):
        np.testing.assert_allclose(inputs[slot], left, rtol=1e-6)
        chosen = np.asarray(indices[:, slot])
        left = left - np.where(chosen[:, None] >= 0, np.asarray(BOOKS[slot])[chosen], 0)


@pytest.mark.slow
def test_averages_and_use_are_those_of_the_vectors_that_have_a_code():
    quantizer = codebooks.quantizer(vq_vae.Config(**{**vq_vae.TINY, **RESIDUAL, "codes": 8}))
    _, state = quantizer.init(KEY, Z)
    first = jnp.minimum(FIRST, 2)  # nobody has the third
    indices = quantizer.quantize((), state, Z, first).indices
    hparams = hparams_of(quantizer_dropout=1.0, ema_decay=0.5, dead_share=0.0)
    after = quantizer.update(KEY, hparams, state, Z, indices, None)
    before, inputs = state["codebooks"], quantizers.residual_inputs(state["codebooks"].codebook, Z, indices)
    for slot in range(3):
        old = jax.tree.map(lambda leaf, slot=slot: leaf[slot], before)
        rows = np.flatnonzero(np.asarray(indices[:, slot]) >= 0)
        assert len(rows) == (9, 6, 0)[slot]
        new = quantizers.update_codebook(old, inputs[slot][rows], indices[rows, slot], decay=0.5) if len(rows) else old
        for stacked, alone in zip(after["codebooks"], new, strict=True):
            np.testing.assert_allclose(stacked[slot], alone, rtol=1e-5, atol=1e-6)
        share = np.bincount(np.asarray(indices)[rows, slot], minlength=8) / max(1, len(rows))
        expected = 0.99 * state["use"][slot] + 0.01 * share if len(rows) else state["use"][slot]
        np.testing.assert_allclose(after["use"][slot], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("probability", "shares"), [(1.0, [1 / 3] * 3), (0.3, [0.1, 0.1, 0.8])])
def test_numbers_of_codebooks_are_even_from_one_to_all(probability, shares):
    vq = code_maps.code_maps(vq_vae.Config(**{**vq_vae.TINY, **RESIDUAL}), SPEC, (2,))
    [drawn] = code_maps._first_codebooks(vq, KEY, hparams_of(quantizer_dropout=probability), 6000)
    np.testing.assert_allclose(np.bincount(np.asarray(drawn), minlength=4) / 6000, [0, *shares], atol=0.03)
    assert code_maps._first_codebooks(vq, KEY, hparams_of(), 6) is None


@pytest.mark.slow
def test_training_decodes_the_first_codes_and_evaluation_all():
    recipe = vq_vae.build(vq_vae.Config(**{**vq_vae.TINY, **RESIDUAL}), SPEC)
    vq = code_maps.code_maps(vq_vae.Config(**{**vq_vae.TINY, **RESIDUAL}), SPEC, (2,))
    model, batch = (
        recipe.stages[0].model,
        {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (40, 8, 8, 1)), jnp.float32)},
    )
    variables = jax.jit(model.init)(KEY, batch)
    scaled = jax.tree.map(lambda leaf: 3.0 * leaf, variables.params)  # so that codes differ in what they decode to
    variables = Variables(scaled, variables.state)
    objective = jax.jit(model.objective, static_argnames="train")
    dropped, off = hparams_of(quantizer_dropout=1.0), hparams_of()
    outcome = objective(KEY, variables, dropped, batch, train=True)
    [first] = code_maps._first_codebooks(vq, KEY, dropped, 40)
    codes = model.encode(KEY, variables, off, batch).mean
    some = jnp.where(jnp.arange(3) < first[:, None, None, None], codes, -1)
    expected = -model.decode(variables, off, some, {}).log_prob(batch["x"])
    np.testing.assert_allclose(outcome.metrics["reconstruction"], expected, rtol=1e-4)
    assert np.abs(expected + model.decode(variables, off, codes, {}).log_prob(batch["x"])).max() > 1e-3
    evaluated = [objective(KEY, variables, hparams, batch, train=False).metrics for hparams in (dropped, off)]
    for name in ("reconstruction", "commitment"):
        np.testing.assert_array_equal(evaluated[0][name], evaluated[1][name])


@pytest.mark.slow
def test_the_first_codebook_decodes_better_alone_where_training_left_the_others_out():
    rng = np.random.default_rng(0)
    x = np.sin(rng.uniform(0, 2 * np.pi, (400, 1)) + np.arange(12) / 2) + 0.05 * rng.standard_normal((400, 12))
    sizes = {"hidden": (32,), "downsampling": 6, "codes": 8, "code_dim": 4, "prior_width": 8, "prior_layers": 1}
    errors = []
    for given in ({}, {"quantizer_dropout": 1.0}):
        run = vaex.train("vq_vae", x, **sizes, **RESIDUAL, **given, steps=500, prior_steps=1, progress=False)
        codes = np.asarray(run.encode(x).mean)
        means = [np.asarray(run.decode(np.where(np.arange(3) < first, codes, -1)).mean) for first in (1, 2, 3)]
        errors.append([float(np.mean(np.square(mean - x))) for mean in means])
    assert errors[1][0] < 0.95 * errors[0][0] and errors[1][0] > errors[1][1] > errors[1][2], errors
