"""VQ-VAE-2: levels and their codes, what comes down from the level above, the bound by level, figures of levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.core import Latents, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import vq_vae2
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 11, 3), "color", levels=256, binarize="dynamic")
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, *SPEC.shape)), jnp.float32)
KEY = jax.random.key(0)
HPARAMS = resolve(as_schedules(vq_vae2.HParams()), 0)
CONFIG = vq_vae2.Config(**vq_vae2.TINY, likelihood="bernoulli")
RECIPE = vq_vae2.build(CONFIG, SPEC)
ENCODE, DECODE = jax.jit(RECIPE.model.encode), jax.jit(RECIPE.model.decode)
VQ = code_maps.code_maps(CONFIG, SPEC, (2, 2))
CHOOSE = jax.jit(VQ.encode)


@pytest.fixture(scope="module")
def variables():
    """Of both stages, as they begin, but larger, so that codes differ."""
    first, second = RECIPE.stages
    begun = jax.jit(first.model.init)(KEY, {"x": X})
    begun = begun._replace(params=jax.tree.map(lambda leaf: 3.0 * leaf, begun.params))
    assert second.carry_over is not None
    return begun, Variables(jax.jit(second.model.init)(KEY, {"x": X}).params, second.carry_over({"model": begun}))


@pytest.mark.slow
def test_codes_are_the_levels_in_a_row_the_top_one_first(variables):
    assert [level.size for level in VQ.levels] == [(4, 5), (2, 2)]
    assert [(level.start, level.stop) for level in VQ.levels] == [(4, 24), (0, 4)]
    assert RECIPE.latents == (Latents("code", 4, 4), Latents("code", 20, 4)) and VQ.kinds == (0,) * 4 + (1,) * 20
    chosen = CHOOSE(variables[0].params["vae"], variables[0].state, HPARAMS, X)
    codes = ENCODE(KEY, variables[1], HPARAMS, {"x": X}).mean
    assert codes.shape == (6, 24)
    np.testing.assert_array_equal(codes[:, :4].reshape(6, 2, 2), chosen.quantized[1].indices[..., 0])
    np.testing.assert_array_equal(codes[:, 4:].reshape(6, 4, 5), chosen.quantized[0].indices[..., 0])
    decoded = DECODE(variables[1], HPARAMS, codes, {}).mean
    np.testing.assert_allclose(decoded, chosen.px.mean, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_level_counts(variables):
    """In the image, and the top one in the vectors below it."""
    codes = ENCODE(KEY, variables[1], HPARAMS, {"x": X}).mean
    images = DECODE(variables[1], HPARAMS, codes, {}).mean
    for place in (0, 23):
        other = DECODE(variables[1], HPARAMS, codes.at[:, place].set((codes[:, place] + 1) % 4), {}).mean
        assert np.abs(other - images).max() > 1e-3
    params, state = variables[0].params["vae"], variables[0].state
    moved = {**state, "level_1": jax.tree.map(lambda leaf: leaf + 1.0, state["level_1"])}
    below = [CHOOSE(params, level_state, HPARAMS, X).z[0] for level_state in (state, moved)]
    assert np.abs(below[0] - below[1]).max() > 1e-3


@pytest.mark.slow
def test_both_levels_learn_and_are_reported(variables):
    model = RECIPE.stages[0].model

    @jax.jit
    def both(params):
        def loss(params):
            outcome = model.objective(KEY, variables[0]._replace(params=params), HPARAMS, {"x": X}, train=True)
            return outcome.losses["vae"], outcome

        return jax.grad(loss, has_aux=True)(params)

    gradient, outcome = both(variables[0].params)
    for level in ("level_0", "level_1"):
        for part in gradient["vae"][level].values():
            assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part)) > 0
        books = (variables[0].state[level]["codebooks"].codebook, outcome.state[level]["codebooks"].codebook)
        assert np.abs(books[0] - books[1]).max() > 0
    assert {"perplexity_0", "perplexity_1", "usage_0", "usage_1", "commitment"} < set(outcome.metrics)


@pytest.mark.slow
def test_the_kl_is_that_of_its_levels(variables):
    batch = {"x": X}
    objective = jax.jit(RECIPE.stages[1].model.objective, static_argnames="train")
    metrics = objective(KEY, variables[1], HPARAMS, batch, train=False).metrics
    np.testing.assert_allclose(metrics["kl_0"] + metrics["kl_1"], metrics["kl"], rtol=1e-5)
    np.testing.assert_allclose(metrics["kl_1"] / 4, metrics["kl_0"] / 20, rtol=0.3)  # all about equal as it begins
    np.testing.assert_allclose(metrics["elbo"], -metrics["reconstruction"] - metrics["kl"], rtol=1e-5)


@pytest.mark.slow
def test_figures_of_levels(variables):
    figures = {name: figure(KEY, variables[1], HPARAMS, {"x": X}) for name, figure in RECIPE.figures.items()}
    names = {"code_usage_0", "code_usage_1", "code_maps", "temperatures", "completions", "lower_levels", "top_edits"}
    assert set(figures) == names
    assert figures["code_maps"].images.shape == (3, 6, 8, 11, 3)
    assert figures["code_maps"].row_labels == ("original", "codes, 2x2", "codes, 4x5")
    edits = figures["top_edits"].images
    assert edits.shape == (5, 6, *SPEC.shape)
    codes = ENCODE(KEY, variables[1], HPARAMS, {"x": X}).mean
    mixed = jnp.concatenate([jnp.roll(codes, -1, axis=0)[:, :4], codes[:, 4:]], axis=1)
    np.testing.assert_allclose(edits[3], DECODE(variables[1], HPARAMS, mixed, {}).mean, rtol=1e-4, atol=1e-5)
    lower = figures["lower_levels"].images
    np.testing.assert_allclose(lower[1], DECODE(variables[1], HPARAMS, codes, {}).mean, rtol=1e-4, atol=1e-5)


def test_one_level_or_too_many_are_refused():
    with pytest.raises(UserError, match="--downsampling=4: expected a factor for each of two levels or more"):
        vq_vae2.Config(**{**vq_vae2.TINY, "downsampling": (4,)})
    config = vq_vae2.Config(**{**vq_vae2.TINY, "downsampling": (2, 4)})
    with pytest.raises(UserError, match="--downsampling=2x4: images of 8x11 can be made smaller 4 times at most"):
        vq_vae2.build(config, SPEC)
