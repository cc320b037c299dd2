"""hierarchical_vae: its terms against each other and in closed form, what its flags change, and what it refuses."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import KEY, REAL, SPEC, Fresh

from vaex import nets
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.hierarchies import _hierarchy as hierarchy
from vaex.models.hierarchies import hierarchical_vae
from vaex.nets import top_down

TWO: dict[str, Any] = {"blocks": "2x2,1x1:6"}
COLOR = Spec("color", (9, 5, 3), "color", levels=256)


@pytest.fixture(scope="module")
def fresh() -> Fresh:
    return Fresh(hierarchical_vae, **TWO).jitter()


@jax.jit
def noisy(q, noise):
    """The top-down pass from noise of the posterior; compiled, since op by op it takes far longer."""
    return q._down(noise, "posterior")


log_prob = jax.jit(lambda distribution, z: distribution.log_prob(z))


@pytest.mark.slow
def test_elbo_is_the_mean_log_weight(fresh):
    """In closed form and from samples, in the mean over many draws; and so is the KL of each layer."""
    outcomes = jax.jit(
        jax.vmap(
            lambda key: fresh.model.objective(key, fresh.variables, fresh.hparams, fresh.batch, train=False).metrics
        )
    )(jax.random.split(jax.random.key(1), 2000))
    weights = np.asarray(fresh.log_weights(2000))
    error = np.sqrt(np.var(weights, axis=0) / 2000 + np.var(outcomes["elbo"], axis=0) / 2000)
    assert np.all(np.abs(weights.mean(0) - outcomes["elbo"].mean(0)) < 5 * error)
    layers = [outcomes[name] for name in hierarchy.layer_names(fresh.encode().network)]
    assert len(layers) == 3 and all(np.min(layer) >= 0 for layer in layers)
    np.testing.assert_allclose(sum(layers), outcomes["kl"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outcomes["elbo"], -outcomes["reconstruction"] - outcomes["kl"], rtol=1e-5)


@pytest.mark.slow
def test_kl_of_a_layer_against_monte_carlo(fresh):
    """log q - log p of each layer's own entries, in the mean over draws."""
    q = fresh.encode()
    top_down = noisy(q, jax.random.normal(KEY, (4000, 8, 9)))
    conditionals = hierarchy.posterior_at(top_down), hierarchy.prior_at(top_down)
    each = [dataclasses.replace(d, event_ndims=0).log_prob(top_down.z) for d in conditionals]
    start = 0
    for size, exact in zip(
        fresh.encode().network.sizes, hierarchy.kl_by_layer(fresh.encode().network, top_down), strict=True
    ):
        drawn = np.asarray(jnp.sum((each[0] - each[1])[..., start : start + size], axis=-1))
        difference = drawn - np.asarray(exact)
        assert np.all(np.abs(difference.mean(0)) < 5 * difference.std(0) / np.sqrt(4000))
        start += size


@pytest.mark.slow
def test_log_weights_are_those_of_posterior_prior_and_decoder(fresh):
    """The same samples through the three public functions: decode of what encode drew, each its own top-down pass."""
    q = fresh.encode()
    z = noisy(q, jax.random.normal(KEY, (3, 8, 9))).z
    prior = hierarchy.TopDownPrior(q.params, 1.0, q.network)
    apart = fresh.log_px(z) + log_prob(prior, z) - log_prob(q, z)
    np.testing.assert_allclose(fresh.log_weights(3), apart, rtol=1e-4, atol=1e-4)
    drawn, log_q = jax.jit(lambda q: q.sample_and_log_prob(KEY, (3,)))(q)
    np.testing.assert_allclose(drawn, z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_q, log_prob(q, drawn), rtol=1e-4, atol=1e-4)


def test_mean_and_variance_are_conditional(fresh):
    """Those of each layer where the layers above are at their means."""
    q = fresh.encode()
    top_down = noisy(q, jnp.zeros((8, 9)))
    mean, variance = jax.jit(lambda q: (q.mean, q.variance))(q)
    np.testing.assert_allclose(mean, top_down.posterior_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, np.exp(2 * np.asarray(top_down.posterior_log_scale)), rtol=1e-4)
    assert mean.shape == (8, 9) and q.batch_shape == (8,) and q.event_shape == (9,)


@pytest.mark.slow
def test_prior(fresh):
    """log_prob of its samples is minus their conditional entropies in the mean; samples at temperature 0 are the means."""
    q = fresh.encode()
    prior = hierarchy.TopDownPrior(q.params, jnp.ones(()), q.network)
    z = jax.jit(lambda prior: prior.sample(KEY, (4000,)))(prior)
    top_down = jax.jit(lambda q, z: q.network.top_down(q.params, z, None, "given"))
    difference = np.asarray(log_prob(prior, z) + hierarchy.prior_at(top_down(q, z)).entropy())
    assert abs(difference.mean()) < 5 * difference.std() / np.sqrt(4000)
    cold = hierarchy.TopDownPrior(q.params, jnp.zeros(()), q.network)
    single, many = jax.jit(lambda prior: (prior.sample(KEY), prior.sample(KEY, (4000,))))(cold)
    assert single.shape == (9,)
    np.testing.assert_allclose(many, top_down(q, many).prior_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(many, np.broadcast_to(single, many.shape), rtol=1e-4, atol=1e-5)


def test_samples_follow_the_temperature(fresh):
    cold = jax.jit(lambda v, h: fresh.recipe.model.sample(KEY, v, h, 3, None).mean)
    drawn = cold(fresh.variables, dataclasses.replace(fresh.hparams, sample_temperature=0.0))
    np.testing.assert_allclose(drawn, drawn[:1].repeat(3, 0), rtol=1e-5)
    assert np.ptp(cold(fresh.variables, fresh.hparams), axis=0).max() > 1e-3


@pytest.fixture(scope="module")
def gradients(fresh):
    return jax.tree.leaves(fresh.gradients())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"remat": True}, {"remat": True, "scan": False}, {"scan": False}])
def test_remat_and_scan_change_no_numbers(gradients, options):
    other = Fresh(hierarchical_vae, **TWO, **options).jitter()
    for expected, gradient in zip(gradients, jax.tree.leaves(other.gradients()), strict=True):
        np.testing.assert_allclose(expected, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_loop_of_many_cells_keeps_nothing_inside_them(fresh, gradients, monkeypatch):
    """On a CPU, where recomputing a cell is faster than the copies of what its gradient needs."""

    def recomputes(model: Fresh) -> bool:
        return bool(re.search("remat|checkpoint", str(jax.make_jaxpr(lambda: model.gradients())())))

    assert not recomputes(fresh)
    monkeypatch.setattr(top_down, "UNROLLED", 1)
    looped = Fresh(hierarchical_vae, **TWO).jitter()
    assert recomputes(looped)
    for expected, gradient in zip(gradients, jax.tree.leaves(looped.gradients()), strict=True):
        np.testing.assert_allclose(expected, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_bfloat16_is_near(fresh):
    rounded = Fresh(hierarchical_vae, **TWO, compute="bfloat16").jitter()
    outcome, exact = rounded.outcome(), fresh.outcome()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((rounded.variables, outcome)))
    np.testing.assert_allclose(outcome.losses["vae"], exact.losses["vae"], rtol=0.03)
    assert float(outcome.losses["vae"]) != float(exact.losses["vae"])


@pytest.mark.slow
def test_scales_are_bounded():
    """However far the networks go, no scale overflows, and all terms and gradients stay finite."""
    fresh, size = Fresh(hierarchical_vae, blocks="2x1"), 1e4
    level = fresh.params["network"]["level_0"]["down"]
    for name in ("prior", "posterior"):
        bias = level[name]["output"]["bias"]
        level[name]["output"]["bias"] = bias.at[:, 1].set(size if name == "posterior" else -size)
    outcome = fresh.outcome()
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(outcome.metrics))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fresh.gradients()))
    assert np.isfinite(fresh.log_weights(3)).all()
    assert float(jnp.max(jnp.abs(noisy(fresh.encode(), jnp.zeros((8, 4))).posterior_log_scale))) <= 5.0


def test_beta_weighs_the_kl(fresh):
    objective = jax.jit(lambda hparams: fresh.model.objective(KEY, fresh.variables, hparams, fresh.batch, train=True))
    for beta in (1.0, 3.0):
        outcome = objective(dataclasses.replace(fresh.hparams, beta=jnp.float32(beta)))
        expected = np.mean(beta * outcome.metrics["kl"] + outcome.metrics["reconstruction"])
        np.testing.assert_allclose(outcome.losses["vae"], expected, rtol=1e-5)


@pytest.mark.slow
def test_figures(fresh):
    bars = fresh.figure("kl_by_layer")
    assert bars.labels == ("1: 1x1", "2: 2x2", "3: 2x2") and len(bars.heights) == 3
    warm = fresh.figure("temperatures")
    assert warm.images.shape == (6, 10, *SPEC.shape)
    depths = fresh.figure("layers_at_mean")
    assert depths.row_labels == tuple(f"{n} of 3 layers drawn" for n in range(4))
    np.testing.assert_allclose(depths.images[0], depths.images[0, :1].repeat(10, 0), atol=1e-6)  # all at their means
    np.testing.assert_allclose(depths.images[-1], warm.images[0], atol=1e-6)  # none is
    assert np.ptp(np.asarray(depths.images[1]), axis=0).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "blocks", "levels"),
    [
        ((8, 8, 1), "auto", [((4, 4), 2, 4), ((2, 2), 2, 4), ((1, 1), 2, 4)]),
        ((9, 13, 3), "4x1:8, 1x2", [((4, 6), 1, 8), ((1, 1), 2, 4)]),
        ((3, 17, 1), "3x1", [((3, 17), 1, 4)]),
        ((1, 4, 1), "auto", [((1, 4), 2, 4)]),
    ],
)
def test_blocks_on_images_of_any_size(shape, blocks, levels):
    spec = Spec("any", shape, "color" if shape[-1] > 1 else "grey", levels=256)
    config = hierarchical_vae.Config(**{**hierarchical_vae.TINY, "blocks": blocks})
    recipe = hierarchical_vae.build(config, spec)
    batch = {"x": jnp.zeros((2, *shape))}
    variables = jax.eval_shape(recipe.stages[0].model.init, KEY, batch)
    posterior = jax.eval_shape(lambda v: recipe.model.encode(KEY, v, None, batch), variables)
    assert [tuple(level) for level in posterior.network.levels] == levels
    z = jax.ShapeDtypeStruct((2, sum(posterior.network.sizes)), jnp.float32)
    hparams = hierarchical_vae.HParams()
    assert jax.eval_shape(lambda v, z: recipe.model.decode(v, hparams, z, {}).mean, variables, z).shape == (2, *shape)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("", "'' is not SIDExCOUNT"),
        ("14", "'14' is not SIDExCOUNT"),
        ("4x2;1x1", "is not SIDExCOUNT"),
        ("4x0", "numbers from 1; write such as 14x2,7x3:64,1x1"),
        ("4x2:0", "numbers from 1"),
        ("1x1,4x2", "fall from fine to coarse"),
        ("4x2,4x1", "each once"),
        ("99x2,1x1", "shorter side is 4"),
    ],
)
def test_invalid_blocks_are_named(blocks, message):
    with pytest.raises(UserError, match=message):
        hierarchical_vae.build(hierarchical_vae.Config(blocks=blocks), SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "--width=0"),
        ({"latent_channels": 0}, "at least 1"),
        ({"activation": "rely"}, "did you mean relu"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        hierarchical_vae.Config(**changes)


def test_vectors_are_refused():
    with pytest.raises(UserError, match="ladder_vae"):
        hierarchical_vae.build(hierarchical_vae.Config(), REAL)


@pytest.mark.slow
def test_mixture_of_logistics_as_output():
    fresh = Fresh(
        hierarchical_vae,
        batch={"x": jnp.ones((2, 9, 5, 3)) / 2},
        spec=COLOR,
        likelihood="discretized_logistic_mixture",
        **TWO,
    )
    assert np.isfinite(fresh.outcome().losses["vae"])
    assert fresh.log_weights(2).shape == (2, 2)
    assert fresh.recipe.likelihood.discrete and "mixture of 10" in fresh.recipe.likelihood.title


@pytest.mark.slow
def test_levels_are_the_networks_static_part(fresh):
    assert isinstance(fresh.encode().network, nets.TopDownNetwork)
    assert fresh.encode().network == Fresh(hierarchical_vae, **TWO).encode().network  # so compiled programs are shared
