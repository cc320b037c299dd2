"""FactorVAE, beta-TC-VAE, DIP-VAE, InfoVAE and WAE against values computed by hand; flags out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.command import parse
from scipy import stats
from scipy.special import logsumexp

from vaex import nets
from vaex.cli import main as cli
from vaex.core import Outcome
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.autoencoders import vae
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.disentangling import beta_tc_vae, dip_vae, factor_vae, info_vae, wae
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "binary", levels=2, num_training_examples=100)
B = 16
X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (B, 8, 8, 1)), jnp.float32)}
KEY = jax.random.key(0)


class Evaluated:
    """Objective of a model at its first parameters, with all that it was computed from."""

    def __init__(self, module, hparams=None, batch=X, spec=SPEC, train=True, **changes):
        self.recipe = module.build(module.Config(**{**module.TINY, "latent_dim": 3, **changes}), spec)
        self.model = self.recipe.stages[0].model
        self.hparams = resolve(as_schedules(hparams or module.HParams()), 0)
        self.variables = self.model.init(KEY, X)
        self.outcome: Outcome = self.model.objective(KEY, self.variables, self.hparams, batch, train=train)
        self.posterior = self.recipe.model.encode(KEY, self.variables, self.hparams, batch)
        self.metrics = {name: np.asarray(value, np.float64) for name, value in self.outcome.metrics.items()}

    def z(self, num_samples=1):
        """Return the samples that the objective drew, [k, b, d]."""
        return np.asarray(self.posterior.sample(KEY, (num_samples,)), np.float64)

    @property
    def loss(self):
        return float(self.outcome.losses["vae"])


def normal(key, shape):
    return np.asarray(jax.random.normal(key, shape), np.float64)


# --- beta-TC-VAE --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("sampling", "num_samples"), [("weighted", 1), ("stratified", 1), ("weighted", 3)])
def test_the_terms_of_the_kl_are_weighted_as_in_the_formula(sampling, num_samples):
    hparams = beta_tc_vae.HParams(alpha=0.5, beta=7.0, gamma=2.0)
    evaluated = Evaluated(beta_tc_vae, hparams, sampling=sampling, num_samples=num_samples)
    mean, scale = (
        np.asarray(evaluated.posterior.mean, np.float64),
        np.exp(np.asarray(evaluated.posterior.log_scale, np.float64)),
    )
    weights = np.full((B, B), 1 / (100 * B))
    if sampling == "stratified":
        weights = np.where(np.eye(B), 1 / 100, 99 / (100 * (B - 1)))
    expected = 0.0
    for z in evaluated.z(num_samples):
        pairs = stats.norm.logpdf(z[:, None], mean, scale)
        joint = logsumexp(pairs.sum(-1), axis=1, b=weights)
        marginals = logsumexp(pairs, axis=1, b=weights[..., None]).sum(-1)
        posterior, prior = np.diagonal(pairs.sum(-1)), stats.norm.logpdf(z).sum(-1)
        expected += 0.5 * (posterior - joint) + 7.0 * (joint - marginals) + 2.0 * (marginals - prior)
    expected = np.mean(evaluated.metrics["reconstruction"] + expected / num_samples)
    np.testing.assert_allclose(evaluated.loss, expected, rtol=1e-4)
    parts = [evaluated.metrics[name] for name in ("index_code_mi", "total_correlation", "dimension_wise_kl")]
    assert {part.shape for part in parts} == {()}  # each row sees all others: they are statistics of the batch
    by_sampling = Evaluated(vae, kl="monte_carlo", num_samples=num_samples).metrics[
        "kl"
    ]  # the same parameters and draws
    np.testing.assert_allclose(sum(parts), np.mean(by_sampling), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_number_of_examples_comes_from_the_data():
    losses = {
        n: Evaluated(beta_tc_vae, sampling="weighted", spec=SPEC._replace(num_training_examples=n)).loss
        for n in (100, 10_000)
    }
    # log q(z) falls by log 100 with it, and so does each of the 3 marginals; weights 1, 6, 1: (-1 + 6) - (6 - 1) * 3 = -10
    np.testing.assert_allclose(losses[10_000] - losses[100], 10 * np.log(100), rtol=1e-3)
    with pytest.raises(UserError, match="num_training_examples=0, expected the size of the training"):
        beta_tc_vae.build(beta_tc_vae.Config(), SPEC._replace(num_training_examples=0))


@pytest.mark.slow
def test_a_batch_that_is_larger_than_the_training_data_can_be_evaluated():
    assert np.isfinite(Evaluated(beta_tc_vae, spec=SPEC._replace(num_training_examples=5), train=False).loss)


# --- FactorVAE ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [1, 3])
def test_the_losses_of_both_parameter_groups(num_samples):
    evaluated = Evaluated(factor_vae, factor_vae.HParams(gamma=5.0), num_samples=num_samples, critic_hidden=(8, 4))
    critic = nets.MLP((8, 4), 1, "leaky_relu")

    def logits(z):
        return np.asarray(critic.apply({"params": evaluated.variables.params["critic"]}, z), np.float64)[:, 0]

    z = evaluated.z(num_samples).reshape(-1, 3).astype(np.float32)
    permuted = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, 1), z, axis=0, independent=True))
    joint, product = logits(z), logits(permuted)
    expected = np.mean(evaluated.metrics["reconstruction"]) + np.mean(evaluated.metrics["kl"]) + 5.0 * np.mean(joint)
    np.testing.assert_allclose(evaluated.loss, expected, rtol=1e-5)
    critic_loss = 0.5 * np.mean(np.log1p(np.exp(-joint))) + 0.5 * np.mean(np.log1p(np.exp(product)))
    np.testing.assert_allclose(evaluated.outcome.losses["critic"], critic_loss, rtol=1e-5)
    right = 0.5 * np.mean(joint > 0) + 0.5 * np.mean(product < 0)
    np.testing.assert_allclose(evaluated.metrics["critic_accuracy"], right, rtol=1e-6)
    assert evaluated.metrics["critic_accuracy"].shape == ()  # permuted latents come from all rows
    np.testing.assert_allclose(np.mean(evaluated.metrics["total_correlation"]), np.mean(joint), rtol=1e-5, atol=1e-7)
    assert evaluated.metrics["total_correlation"].shape == (B,)


@pytest.mark.slow
@pytest.mark.parametrize(("moving", "hparams"), [("critic", (0.0, 0.01)), ("vae", (0.01, 0.0))])
def test_each_parameter_group_has_a_learning_rate(moving, hparams):
    recipe = factor_vae.build(factor_vae.Config(**factor_vae.TINY), SPEC)
    algorithm = recipe.stages[0].algorithm
    rates = factor_vae.HParams(learning_rate=hparams[0], critic_learning_rate=hparams[1])
    before = algorithm.init(KEY, rates, X)
    after, _ = jax.jit(algorithm.step)(before, X)
    changed = {
        group: any(
            not np.array_equal(*pair)
            for pair in zip(
                jax.tree.leaves(before.variables.params[group]),
                jax.tree.leaves(after.variables.params[group]),
                strict=True,
            )
        )
        for group in ("vae", "critic")
    }
    assert changed == {"vae": moving == "vae", "critic": moving == "critic"}


@pytest.mark.slow
def test_the_critic_finds_the_total_correlation_of_latents_that_depend_on_each_other():
    """Train the critic alone behind a fixed encoder whose latents are correlated; compare with the value for a Gaussian."""
    correlation = 0.9
    exact = -0.5 * np.log(1 - correlation**2)
    recipe = factor_vae.build(factor_vae.Config(latent_dim=2, hidden=(), critic_hidden=(32, 32)), SPEC)
    stage = recipe.stages[0]
    state = stage.algorithm.init(KEY, factor_vae.HParams(learning_rate=0.0, critic_learning_rate=3e-3), X)
    # an affine encoder of pixels that are N(0, 1), scales almost 0: z = (x0, correlation x0 + sqrt(1 - correlation^2) x1)
    kernel = np.zeros((64, 4), np.float32)
    kernel[0, :2], kernel[1, 1] = (1.0, correlation), np.sqrt(1 - correlation**2)
    encoder = {"output": {"kernel": jnp.asarray(kernel), "bias": jnp.array([0.0, 0.0, -6.0, -6.0])}}
    params = {**state.variables.params, "vae": {**state.variables.params["vae"], "encoder": encoder}}
    state = state._replace(variables=state.variables._replace(params=params))

    def body(index, state):
        x = jax.random.normal(jax.random.fold_in(jax.random.key(1), index), (256, 8, 8, 1))
        return stage.algorithm.step(state, {"x": x})[0]

    state = jax.jit(lambda state: jax.lax.fori_loop(0, 1500, body, state))(state)
    x = jax.random.normal(jax.random.key(2), (4000, 8, 8, 1))
    hparams = resolve(state.hparams, 0)
    estimates = np.asarray(
        stage.model.objective(KEY, state.variables, hparams, {"x": x}, train=False).metrics["total_correlation"]
    )
    assert abs(estimates.mean() - exact) < 0.1 + 4 * estimates.std() / np.sqrt(4000)


# --- DIP-VAE ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dip", ["i", "ii"])
def test_dip_draws_its_covariance_to_the_identity(dip):
    evaluated = Evaluated(dip_vae, dip_vae.HParams(off_diagonal=3.0, diagonal=20.0), dip=dip)
    covariance = np.cov(np.asarray(evaluated.posterior.mean, np.float64).T, bias=True)
    if dip == "ii":
        covariance += np.diag(np.asarray(evaluated.posterior.variance, np.float64).mean(0))
    off = np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)
    on = np.sum((np.diag(covariance) - 1) ** 2)
    np.testing.assert_allclose(evaluated.metrics["squared_covariances"], off, rtol=1e-3)
    np.testing.assert_allclose(evaluated.metrics["squared_variance_errors"], on, rtol=1e-3)
    expected = np.mean(evaluated.metrics["reconstruction"] + evaluated.metrics["kl"]) + 3.0 * off + 20.0 * on
    np.testing.assert_allclose(evaluated.loss, expected, rtol=1e-4)


@pytest.mark.parametrize(("dip", "ratio"), [("i", 10.0), ("ii", 1.0)])
def test_dip_has_the_published_ratio_of_weights_unless_they_are_given(dip, ratio):
    """Kumar et al. 2018, section 4: lambda_d = 10 lambda_od for DIP-VAE-I, lambda_d = lambda_od for II."""
    default = Evaluated(dip_vae, dip_vae.HParams(off_diagonal=3.0), dip=dip)
    given = Evaluated(dip_vae, dip_vae.HParams(off_diagonal=3.0, diagonal=3.0 * ratio), dip=dip)
    np.testing.assert_allclose(default.loss, given.loss, rtol=1e-6)
    assert dip_vae.HParams().off_diagonal == 10.0


@pytest.mark.slow
def test_dip_ii_needs_variances_of_the_latents_alone():
    with pytest.raises(UserError, match="--dip=ii needs the latents' own variances"):
        dip_vae.Config(dip="ii", posterior="full")
    assert np.isfinite(Evaluated(dip_vae, dip="i", posterior="full").loss)


# --- MMD ----------------------------------------------------------------------------------------------------------


def mmd_by_hand(z, prior, kernel, kernel_scale):
    """Compute the U-statistic pair by pair."""

    def k(a, b):
        r = np.sum((a - b) ** 2)
        widths = [2 * len(a) * c * kernel_scale**2 for c in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return np.mean([np.exp(-r / w) if kernel == "rbf" else w / (w + r) for w in widths])

    n = len(z)
    same = [k(a[i], a[j]) for a in (z, prior) for i in range(n) for j in range(n) if i != j]
    across = [k(a, b) for a in z for b in prior]
    return np.sum(same) / (n * (n - 1)) - 2 * np.mean(across)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize(
    ("module", "changes"),
    [(info_vae, {}), (wae, {"posterior": "deterministic"}), (wae, {"posterior": "gaussian"})],
    ids=["info_vae", "wae", "wae_gaussian"],
)
def test_the_losses_with_mmd(module, changes, kernel):
    weights = {"mmd_weight": 30.0, "kernel_scale": 0.7}
    weights |= {"kl_weight": 0.25} if module is info_vae else {}
    evaluated = Evaluated(module, module.HParams(**weights), kernel=kernel, **changes)
    z = np.asarray(evaluated.posterior.sample(KEY), np.float64) if module is wae else evaluated.z()[0]
    mmd = mmd_by_hand(z, normal(jax.random.fold_in(KEY, 1), (B, 3)), kernel, 0.7)
    np.testing.assert_allclose(evaluated.metrics["mmd"], mmd, rtol=1e-3, atol=1e-5)
    kl = 0.25 * np.mean(evaluated.metrics["kl"]) if module is info_vae else 0.0
    np.testing.assert_allclose(
        evaluated.loss, np.mean(evaluated.metrics["reconstruction"]) + kl + 30.0 * mmd, rtol=1e-4
    )


def test_info_vae_without_its_penalty_is_the_vae():
    plain = Evaluated(info_vae, info_vae.HParams(kl_weight=1.0, mmd_weight=0.0))
    np.testing.assert_allclose(plain.loss, Evaluated(vae).loss, rtol=1e-6)


def test_a_point_has_no_density_and_a_gaussian_encoder_has():
    deterministic, gaussian = (Evaluated(wae, posterior=posterior) for posterior in ("deterministic", "gaussian"))
    assert deterministic.recipe.model.log_weights is None and not np.any(deterministic.posterior.variance)
    assert gaussian.recipe.model.log_weights is not None and np.all(np.asarray(gaussian.posterior.variance) > 0)


PRIOR = latent.standard_prior(2).distribution((), None, lambda x: None)


def discrepancies(num_samples, shift=0.0, repeats=1000, batch=30):
    """Draw estimates where q(z) is N(shift, I): posteriors N(m, s^2) of means m that are N(shift, 1 - s^2) over the examples."""
    scale = 0.3

    @jax.jit
    @jax.vmap
    def draw(key):
        mean_key, z_key, prior_key = jax.random.split(key, 3)
        mean = shift + np.sqrt(1 - scale**2) * jax.random.normal(mean_key, (batch, 2))
        z = mean + scale * jax.random.normal(z_key, (num_samples, batch, 2))
        return discrepancy.prior_discrepancy(prior_key, z, PRIOR, "imq", jnp.ones(()))

    return np.asarray(draw(jax.random.split(jax.random.key(0), repeats)), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [1, 5])
def test_the_discrepancy_is_unbiased_and_grows_with_a_shift(num_samples):
    """Samples of one example lie close together: pooled, five of each would give 0.008 where q(z) is the prior."""
    fair = discrepancies(num_samples)
    assert abs(fair.mean()) < 4 * fair.std() / np.sqrt(1000) < 0.002
    assert discrepancies(num_samples, shift=1.0, repeats=20).mean() > 5 * fair.std()


def test_the_discrepancy_of_several_samples_is_the_mean_of_single_ones():
    z = jax.random.normal(KEY, (3, B, 2))
    drawn = np.asarray(PRIOR.sample(KEY, (3, B)), np.float64)
    by_hand = np.mean([mmd_by_hand(np.asarray(z[i], np.float64), drawn[i], "rbf", 0.7) for i in range(3)])
    estimate = discrepancy.prior_discrepancy(KEY, z, PRIOR, "rbf", jnp.asarray(0.7))
    np.testing.assert_allclose(estimate, by_hand, rtol=1e-3, atol=1e-5)


# --- invalid input ----------------------------------------------------------------------------------------------

NAMES = ("factor_vae", "beta_tc_vae", "dip_vae", "info_vae", "wae")


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_one_are_refused_before_anything_is_written(name, tmp_path, capsys):
    flags = [f"--model={name}", "--batch_size=1", "--steps=2", "--hidden=4", f"--out={tmp_path / 'run'}"]
    assert cli.main(flags) == 2
    assert "--batch_size=1: this objective compares the examples of a batch; give at least 2" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("module", [factor_vae, beta_tc_vae, dip_vae, info_vae, wae])
def test_a_single_example_can_be_evaluated(module):
    evaluated = Evaluated(module, batch={"x": X["x"][:1]}, train=False)
    assert np.isfinite(evaluated.metrics["reconstruction"]).all()
    if module in (info_vae, wae):  # of one example there is no unbiased estimate
        assert np.isnan(evaluated.metrics["mmd"])
    else:
        assert np.isfinite(evaluated.loss)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model=beta_tc_vae --posterior=full", "--posterior=full: .*Known: diagonal, fixed"),
        ("--model=beta_tc_vae --sampling=stratifed", "did you mean stratified"),
        ("--model=beta_tc_vae --beta=-1", "--beta=-1: expected values of at least 0"),
        ("--model=factor_vae --critic_hidden=8x0", "--critic_hidden=8x0: expected numbers of at least 1"),
        ("--model=factor_vae --critic_learning_rate=-1", "--critic_learning_rate=-1: expected values"),
        ("--model=dip_vae --dip=iii", "--dip=iii: .*Known: i, ii"),
        ("--model=info_vae --kernel=rfb", "did you mean rbf"),
        ("--model=info_vae --kernel_scale=0", "--kernel_scale=0: expected values"),
        ("--model=wae --posterior=none", "Known: deterministic, gaussian"),
        ("--model=wae --kl=closed_form", "--kl is not a flag of wae"),
    ],
)
def test_flags_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse(flags.split())
