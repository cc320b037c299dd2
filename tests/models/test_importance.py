"""Models trained on a bound of importance weights: objectives by hand, gradients of each estimator, figures, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers.command import parse

from vaex import estimators
from vaex.bounds import combined_importance_bound, importance_bound, mean_importance_bound, renyi_bound
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import latent, module
from vaex.models.tighter_bounds import _importance as importance
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (4, 4, 1), "binary", levels=2)
X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 4, 4, 1)), jnp.float32)}
KEY = jax.random.key(0)
NAMES = ("iwae", "miwae", "ciwae", "piwae", "renyi_vae")


def built(name, hparams=None, **changes):
    """Return the recipe, its first variables, hyperparameters, and the losses of one key as a function of the parameters."""
    file = module(name)
    recipe = file.build(file.Config(**{**file.TINY, **changes}), SPEC)
    values = resolve(as_schedules(file.HParams(**(hparams or {}))), 0)
    variables = recipe.stages[0].model.init(KEY, X)
    objective = recipe.stages[0].model.objective

    @jax.jit
    def losses(params):
        outcome = objective(KEY, variables._replace(params=params), values, X, train=True)
        return outcome.losses, outcome.metrics

    return recipe, variables, values, losses


def weights(recipe, variables, hparams, k):
    """Compute log weights [k, b] of the samples that the objective draws, from the functions of the recipe."""
    posterior = recipe.model.encode(KEY, variables, hparams, X)
    z = posterior.sample(KEY, (k,))
    log_px = recipe.model.decode(variables, hparams, z, X).log_prob(X["x"])
    log_pz = -0.5 * jnp.sum(z**2, axis=-1) - jnp.log(2 * jnp.pi)
    return np.asarray(log_px + log_pz - posterior.log_prob(z), np.float64), np.asarray(log_px)


def log_mean(w, axis=0):
    return scipy.special.logsumexp(w, axis=axis) - np.log(w.shape[axis])


BY_HAND = [
    ("iwae", {}, {"num_samples": 3}, {"vae": lambda w: log_mean(w)}),
    ("miwae", {}, {"num_samples": 3, "num_groups": 2}, {"vae": lambda w: log_mean(w.reshape(2, 3, -1), 1).mean(0)}),
    ("ciwae", {"mix": 0.3}, {"num_samples": 3}, {"vae": lambda w: 0.3 * w.mean(0) + 0.7 * log_mean(w)}),
    ("renyi_vae", {"alpha": 0.4}, {"num_samples": 3}, {"vae": lambda w: log_mean(0.6 * w) / 0.6}),
    (
        "piwae",
        {},
        {"num_samples": 3, "num_groups": 2},
        {"encoder": lambda w: log_mean(w.reshape(2, 3, -1), 1).mean(0), "decoder": log_mean},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hparams", "changes", "bounds"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_losses_and_metrics_by_hand(name, hparams, changes, bounds):
    recipe, variables, values, losses = built(name, hparams, **changes)
    w, log_px = weights(recipe, variables, values, changes["num_samples"] * changes.get("num_groups", 1))
    values_of_losses, metrics = losses(variables.params)
    assert values_of_losses.keys() == bounds.keys()
    for group, bound in bounds.items():
        np.testing.assert_allclose(values_of_losses[group], -np.mean(bound(w)), rtol=1e-5)
        assert any(np.allclose(metric, bound(w), rtol=1e-5) for n, metric in metrics.items() if n.endswith("_bound"))
    np.testing.assert_allclose(metrics["elbo"], w.mean(0), rtol=1e-5)
    np.testing.assert_allclose(metrics["reconstruction"], -log_px.mean(0), rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -metrics["reconstruction"] - metrics["kl"], rtol=1e-5)
    share = scipy.special.softmax(w, axis=0)
    np.testing.assert_allclose(metrics["effective_sample_size"], 1 / (share**2).sum(0), rtol=1e-4)


# --- gradients -----------------------------------------------------------------------------------------------------------

GROUPED = lambda w: mean_importance_bound(w.reshape(2, 2, *w.shape[1:]))  # noqa: E731
ORACLES = [
    *(("iwae", flag, {"num_samples": 4}, {"vae": importance_bound}) for flag in importance.ESTIMATORS),
    ("miwae", "dreg", {"num_samples": 2, "num_groups": 2}, {"vae": GROUPED}),
    ("ciwae", "dreg", {"num_samples": 4}, {"vae": lambda w: combined_importance_bound(w, mix=0.5)}),
    ("renyi_vae", "dreg", {"num_samples": 4}, {"vae": lambda w: renyi_bound(w, alpha=0.5)}),
    ("piwae", "dreg", {"num_samples": 2, "num_groups": 2}, {"encoder": GROUPED, "decoder": importance_bound}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flag", "changes", "bounds"), ORACLES, ids=[f"{c[0]}-{c[1]}" for c in ORACLES])
def test_the_gradient_of_each_group_is_that_of_the_named_estimator(name, flag, changes, bounds):
    _, variables, hparams, losses = built(name, estimator=flag, **changes)
    config = module(name).Config(**{**module(name).TINY, **changes})
    components = importance.build_components(config, SPEC)
    estimator = getattr(estimators, importance.ESTIMATORS[flag])

    def oracle(params, bound):
        merged = params["vae"] if "vae" in params else params["encoder"] | params["decoder"]
        log_joint = latent.log_joint(components, merged, hparams, X)
        return -jnp.mean(estimator(KEY, components.posterior(merged, hparams, X), log_joint, 4, bound=bound))

    @jax.jit
    def both(params):
        gradients = {group: jax.grad(lambda p, of=group: losses(p)[0][of])(params)[group] for group in bounds}
        expected = {group: jax.grad(oracle)(params, bound)[group] for group, bound in bounds.items()}
        return gradients, expected

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), *both(variables.params))


@pytest.mark.slow
def test_dreg_costs_no_second_pass():
    """The estimator needs weights before the pass that carries gradients; compiled, the two passes are one."""
    flops = {}
    for flag in ("reparameterized", "dreg"):
        _, variables, _, losses = built("iwae", estimator=flag, hidden=(64,), num_samples=8)
        gradient = jax.jit(jax.grad(lambda p, of=losses: of(p)[0]["vae"]))
        cost = gradient.lower(variables.params).compile().cost_analysis()
        flops[flag] = (cost[0] if isinstance(cost, list) else cost)["flops"]
    assert flops["dreg"] < 1.1 * flops["reparameterized"]


# --- figures and errors --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iwae", "renyi_vae"])
def test_the_figure_shows_bounds_that_tighten(name):
    recipe, variables, hparams, _ = built(name)
    curves = recipe.figures["bounds_by_samples"](KEY, variables, hparams, X)
    line = np.asarray(curves.lines["importance bound"])
    assert line.shape == (10,) == np.shape(curves.x) and np.isfinite(line).all()
    assert np.all(np.diff(line) >= -1e-5)  # groups are nested, and the log is concave: it holds for every draw
    assert line[-1] > line[0] + 0.01
    if name == "renyi_vae":
        renyi = np.asarray(curves.lines["Renyi bound"])
        assert np.all(renyi[1:] <= line[1:]) and renyi[-1] > renyi[0]


@pytest.mark.slow
def test_grey_values_are_binarised_in_the_figure():
    """Grey values have no density under dynamic binarisation; black and white ones stay as they are."""
    recipe, variables, hparams, _ = built("iwae")
    file = module("iwae")
    grey = file.build(file.Config(**file.TINY), Spec("r", (4, 4, 1), "grey", levels=256, binarize="dynamic"))
    same, other = (
        np.asarray(grey.figures["bounds_by_samples"](KEY, variables, hparams, {"x": x}).lines["importance bound"])
        for x in (X["x"], 0.5 + 0 * X["x"])
    )
    expected = recipe.figures["bounds_by_samples"](KEY, variables, hparams, X).lines["importance bound"]
    np.testing.assert_allclose(same, expected, rtol=1e-5)
    assert not np.allclose(other, same)


@pytest.mark.parametrize("name", NAMES)
def test_likelihoods_without_a_density_are_refused(name):
    file = module(name)
    with pytest.raises(UserError, match="has no importance weights; use --binarize=dynamic"):
        file.build(file.Config(likelihood="bernoulli"), Spec("grey", (8, 8, 1), "grey", levels=256))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=iwae", "--num_samples=0"], "--num_samples=0: expected at least 1"),
        (["--model=miwae", "--num_groups=0"], "--num_groups=0: expected at least 1"),
        (["--model=piwae", "--num_groups=-1"], "--num_groups=-1: expected at least 1"),
        (["--model=iwae", "--estimator=dregg"], "did you mean dreg"),
        (["--model=iwae", "--kl=monte_carlo"], "--kl is not a flag of iwae"),
        (["--model=ciwae", "--mix=1.5"], "mix"),
        (["--model=renyi_vae", "--alpha=inf"], "alpha"),
        (["--model=iwae", "--alpha=0.5"], "--alpha is not a flag of iwae; models that have it: .*renyi_vae"),
    ],
)
def test_flags_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse(flags)


def test_alpha_and_mix_take_several_values_and_schedules():
    assert len(parse(["--model=renyi_vae", "--alpha=-1,0,0.5,1,ramp:1:0:100", "--seeds=0:2"]).members) == 10
    assert len(parse(["--model=ciwae", "--mix=0,0.5,1"]).members) == 3
