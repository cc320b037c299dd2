"""Arguments of ``vaex.training``, of the shared parts of ``vaex.models``, and of ``vaex.results``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from helpers import synthetic
from helpers.argument_cases import Case, Given, Pair, Refused, ShownBy
from vaex.core import Algorithm, Labels, Latents, TrainState
from vaex.data.conditions import Condition
from vaex.data.spec import Spec
from vaex.distributions import Normal
from vaex.models import gaussian, latent, likelihoods
from vaex.models.networks import NetworkConfig
from vaex.schedules import ramp
from vaex.training import step
from vaex.training.hyperparameters import TrainingHParams

KEYS = jax.random.key(0), jax.random.key(1)
RNG = np.random.default_rng(0)
RATE, OTHER_RATE = jnp.float32(0.1), jnp.float32(0.2)
PARAMS, OTHER_PARAMS = {"w": jnp.ones((2, 2))}, {"w": jnp.full((2, 2), 3.0)}
GRADIENT, OTHER_GRADIENT = {"w": jnp.full((2, 2), 0.5)}, {"w": jnp.full((2, 2), -2.0)}
STATE = step.gradient_algorithm(synthetic.MODEL).init(KEYS[0], synthetic.HParams(), synthetic.BATCH)
AVERAGED = STATE._replace(average=jax.tree.map(lambda leaf: leaf + 1.0, STATE.variables.params))
STACKED = {"a": np.arange(6.0).reshape(2, 3)}
LOOP, LOGGERS, CHECKPOINTS = (
    "tests/training/test_loop.py",
    "tests/runs/test_loggers.py",
    "tests/training/test_checkpoint.py",
)
POPULATION, METRICS = "tests/training/test_population.py", "tests/training/test_metrics.py"


def advanced(algorithm: Algorithm) -> tuple[TrainState, object]:
    """A step from the first state, eager: these programs are tiny."""
    hparams = synthetic.HParams()
    return algorithm.step(algorithm.init(KEYS[0], hparams, synthetic.BATCH), synthetic.BATCH)


def other_objective(key, variables, hparams, batch, *, train):
    outcome = synthetic.MODEL.objective(key, variables, hparams, batch, train=train)
    return outcome._replace(
        losses={name: 2.0 * loss for name, loss in outcome.losses.items()}, metrics={"two": jnp.ones(())}
    )


def frozen(algorithm):
    return algorithm.step(algorithm.init(KEYS[0], synthetic.HParams(), synthetic.BATCH), synthetic.BATCH)[1]


OTHER_MODEL = synthetic.MODEL._replace(objective=other_objective)
MASK = jnp.array([1.0, 1.0, 0.0])
optimizers = {
    "check_optimizer": Case({"optimizer": ("adam", Refused("adm", "no optimizer is called"))}),
    "init": Case(
        {"optimizer": ("adam", "momentum"), "params": (PARAMS, {"w": jnp.ones((3, 2))}), "learning_rate": Given(RATE)}
    ),
    "update": ShownBy("tests/training/test_step.py", "weight_decay=0.5"),
}
hyperparameters = {
    "as_schedules": Case({"hparams": (TrainingHParams(), TrainingHParams(learning_rate=0.5))}),
    "alike_schedules": Case(
        {
            "members": (
                [TrainingHParams(), TrainingHParams(learning_rate=ramp(0.0, 1.0, 5))],
                [TrainingHParams(), TrainingHParams(learning_rate=ramp(0.0, 2.0, 5))],
            )
        }
    ),
    "common_structure": Case(
        {
            "hparams": (
                [TrainingHParams(), TrainingHParams(clip_norm=1.0)],
                [TrainingHParams(), TrainingHParams(clip_norm=2.0)],
            )
        }
    ),
}
steps = {
    "with_inputs": Case(
        {
            "algorithm": (step.gradient_algorithm(synthetic.MODEL), step.gradient_algorithm(OTHER_MODEL)),
            "prepare": (lambda key, x: x, lambda key, x: 2.0 * x),
        },
        advanced,
    ),
    "masked_mean": Case({"values": (jnp.arange(3.0), 2 * jnp.arange(3.0)), "mask": (None, MASK)}),
    "gradient_algorithm": Case(
        {
            "model": (synthetic.MODEL, OTHER_MODEL),
            "optimizer": ("adam", "sgd"),
            "groups": (None, {"critic": step.ParameterGroup(period=2, optimizer="momentum")}),
            "variant": (step.PLAIN, step.StepVariant(frozen=("encoder",))),
        },
        advanced,
    ),
    "fixed_algorithm": Case({"model": (synthetic.MODEL, OTHER_MODEL)}, frozen),
    "strong": Case({"tree": (PARAMS, OTHER_PARAMS)}),
    "averaged_variables": Case({"state": (STATE, AVERAGED)}),
}
population = {
    "choose_strategy": Case(
        {
            "num_members": (1, 8),
            "parameter_bytes": Pair(50, 10**9, {"num_members": 8}),
            "platform": Pair("cpu", "gpu", {"num_members": 8, "parameter_bytes": 10**9}),
        }
    ),
    "cpu_devices": Case({"num_members": (8, 9), "cores": (2, 4)}),
    "use_all_cores": ShownBy(POPULATION, "cpu_devices"),
    "default_devices": ShownBy(POPULATION, "a_run_after_a_population"),
    "stack": Case({"members": ([PARAMS, OTHER_PARAMS], [PARAMS, PARAMS])}),
    "member": Case({"tree": (STACKED, {"a": STACKED["a"] + 1}), "index": (0, 1)}),
    "size": Case({"state": (STACKED, {"a": np.zeros(3)})}),
    "init": ShownBy(POPULATION, "population.init("),
    "with_stand_ins": ShownBy(POPULATION, "population.with_stand_ins("),
    "chosen": ShownBy(POPULATION, "population.chosen("),
    "stage_key": Case({"seed": (0, 1), "stage": (0, 1)}),
    "member_shapes": Case({"state": (STACKED, {"a": np.zeros((2, 4))})}),
}
GREY = Spec("grey", (4, 4, 1), "grey", levels=256, num_classes=3, binarization_noise=0.1)
REAL = Spec("real", (5,), "real")
COLUMNS = REAL._replace(location=(1.0,) * 5, scale=(2.0,) * 5)
SCALAR = likelihoods.build("gaussian", REAL._replace(shape=()))
OF_COUNTS = Spec("counts", (5,), "grey", levels=9)
LEVELS = Spec("levels", (4, 4, 1), "grey", levels=17)
CONFIG, WIDER = (gaussian.Config(latent_dim=2, hidden=(width,)) for width in (8, 9))
BATCH = {"x": jnp.asarray(RNG.random((3, 4, 4, 1)), jnp.float32)}
OTHER_BATCH = {"x": 1 - BATCH["x"]}
PARTS, OTHER_PARTS = gaussian.build_components(CONFIG, LEVELS), gaussian.build_components(WIDER, LEVELS)
HPARAMS = gaussian.HParams()


def shapes(components):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(components.init, KEYS[0], BATCH))


def losses(objective):
    """Loss and metrics, by a model of the components."""
    from vaex.core import Variables

    return objective(KEYS[1], Variables({"vae": PARTS.init(KEYS[0], BATCH)}), HPARAMS, BATCH, train=True)


def objective_of(model):
    return losses(model.objective)


def stage_of(recipe):
    """Loss, figures and latents of a recipe, and the state of its optimizer."""
    first = jax.eval_shape(recipe.stages[0].algorithm.init, KEYS[0], HPARAMS, BATCH).opt_state
    return objective_of(recipe.model), recipe.likelihood, list(recipe.figures), recipe.latents, str(first)


def params_of(variables):
    return variables.params["vae"]


def doubled_params(variables):
    return jax.tree.map(lambda leaf: 2 * leaf, variables.params["vae"])


def double_kl(hparams, terms):
    return 2.0 * terms.kl


def plain_kl(hparams, terms):
    return terms.kl


def titles(likelihood):
    return likelihood.title, likelihood.channels, jax.eval_shape(likelihood.init)


MODEL, OTHER = (latent.model(PARTS, latent.negative_elbo(PARTS, penalty)) for penalty in (plain_kl, double_kl))
of_likelihoods = {
    "is_named": Case({"likelihood": ("laplace", "my_likelihoods:student")}),
    "choose": Case({"name": ("auto", "laplace"), "spec": (GREY, REAL)}),
    "binarization": Case({"name": ("auto", "gaussian"), "spec": (GREY, REAL), "dequantize": ("none", "uniform")}),
    "chosen_before": Case({"name": ("auto", "laplace"), "spec": (GREY, LEVELS)}),
    "build": Case(
        {
            "name": ("auto", "categorical"),
            "spec": (LEVELS, REAL),
            "scale": ("global", "per_pixel"),
            "totals": Pair(True, Refused(False, "reads the total"), {"name": "library_poisson", "spec": OF_COUNTS}),
            "mean": ("free", "bounded"),
        },
        titles,
    ),
    "user_likelihood": ShownBy("tests/models/test_likelihoods.py", "likelihood="),
    "least_scale": Case({"name": ("gaussian", "laplace"), "spec": (LEVELS, GREY)}),
    "in_columns": Case({"spec": (COLUMNS, COLUMNS._replace(scale=(3.0,) * 5))}),
    "of_observed": Case(
        {"likelihood": (SCALAR, likelihoods.build("laplace", REAL._replace(shape=()))), "ndims": (1, 2)},
        lambda likelihood: likelihood.distribution({"log_scale": 0.0}, 1.0, jnp.ones((2, 3, 1))).log_prob(
            jnp.zeros((2, 3))
        ),
    ),
}
CONV = NetworkConfig(hidden=(8,), network="conv", channels=(4,))
NET = NetworkConfig(latent_dim=2, hidden=(8,))


def network_shapes(networks):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(networks.init, KEYS[0], BATCH))


CONDITIONAL = GREY._replace(num_classes=0, conditions=(Condition("a", False, 1.0, 2.0, values=(3.0, 4.0)),))
of_conditions = {
    "require_labels": Case({"spec": (GREY, Refused(LEVELS, "has no labels"))}),
    "require_condition": Case({"spec": (GREY, CONDITIONAL)}),
    "example_labels": Case({"spec": (GREY, CONDITIONAL), "n": (2, 3)}),
    "condition_vectors": Case(
        {
            "spec": (CONDITIONAL, CONDITIONAL._replace(conditions=(Condition("a", False, 0.0, 2.0),))),
            "y": (jnp.ones((1, 1)), jnp.zeros((1, 1))),
        }
    ),
    "condition_batch": Case(
        {
            "key": KEYS,
            "classes": (9, 0),
            "n": (6, 7),
            "condition": (None, np.arange(6)),
            "conditions": ((), CONDITIONAL.conditions),
        }
    ),
    "labels_shape": Case({"reads": (Labels(3), Labels(0, conditions=2))}),
    "drawn_labels": Case(
        {
            "reads": (Labels(30), Labels(0, conditions=1)),
            "spec": Pair(
                CONDITIONAL,
                CONDITIONAL._replace(conditions=(Condition("a", values=(7.0,)),)),
                {"reads": Labels(0, conditions=1)},
            ),
            "key": KEYS,
            "n": (6, 7),
        }
    ),
}
of_networks = {
    "network_inputs": Case({"spec": (REAL, COLUMNS), "x": (jnp.ones(5), jnp.zeros(5))}),
    "network_shape": Case({"spec": (REAL, REAL._replace(missing=True))}),
    "encoder_module": Case(
        {
            "config": (NET, WIDER),
            "spec": Pair(LEVELS._replace(shape=(8, 8, 1)), Refused(REAL, "needs images"), {"config": CONV}),
            "features": (3, 4),
        },
        str,
    ),
    "networks": Case(
        {
            "config": (NET, WIDER),
            "spec": (LEVELS, LEVELS._replace(shape=(4, 4, 2))),
            "features": (3, 4),
            "likelihood": (likelihoods.build("auto", LEVELS), likelihoods.build("categorical", LEVELS)),
            "width": (0, 3),
        },
        network_shapes,
    ),
}
PRIOR = latent.standard_prior(2)


def wide_prior():
    return latent.Prior(lambda params, hparams, posterior: Normal(jnp.zeros(2), 2.0), lambda key, batch: jnp.zeros(7))


def metrics_of(terms):
    return {"mine": terms.kl}


def other_metrics(terms):
    return {"other": terms.kl}


DISTRIBUTION = Normal(jnp.zeros((3, 2)), 1.0), Normal(jnp.ones((3, 2)), 2.0)
FIGURES = {"mine": lambda *args: None}
of_latent = {
    "build_components": Case(
        {
            "config": (CONFIG, WIDER),
            "spec": (LEVELS, LEVELS._replace(shape=(4, 4, 2))),
            "posterior": (gaussian.gaussian_posterior("diagonal", 2), gaussian.gaussian_posterior("full", 2)),
            "prior": (PRIOR, wide_prior()),
            "reads": (None, Labels(3)),
        },
        shapes,
    ),
    "sample_and_log_prob": Case({"key": KEYS, "q": DISTRIBUTION, "num_samples": (2, 3)}),
    "log_joint": ShownBy("tests/models/test_importance.py", "log_joint"),
    "draw_terms": ShownBy("tests/models/test_importance.py", "_importance"),
    "metrics": Case(
        {
            "likelihood": (PARTS.likelihood, likelihoods.build("bernoulli", LEVELS)),
            "log_px": (jnp.ones(3), jnp.zeros(3)),
            "kl": (jnp.ones(3), jnp.zeros(3)),
        }
    ),
    "negative_elbo": Case(
        {
            "components": (PARTS, gaussian.build_components(CONFIG, LEVELS, wide_prior())),
            "penalty": (plain_kl, double_kl),
            "num_samples": (1, 2),
            "closed_form": (True, False),
            "params_of": (params_of, doubled_params),
        },
        losses,
    ),
    "model": ShownBy("vaex/models/adversarial/vae_gan.py", "params_of="),
    "refuse_single_examples": Case({"model": (MODEL, OTHER)}, objective_of),
    "stage": ShownBy("tests/models/test_vq_vae2.py", "carry_over("),
    "single_stage": Case(
        {
            "model": (MODEL, OTHER),
            "config": (CONFIG, gaussian.Config(latent_dim=2, hidden=(8,), optimizer="sgd")),
            "likelihood": (PARTS.likelihood, likelihoods.build("categorical", LEVELS)),
            "figures": (None, FIGURES),
            "latents": ((), (Latents("free", 2),)),
            "groups": (None, {"vae": step.ParameterGroup(optimizer="sgd")}),
        },
        stage_of,
    ),
}
of_posteriors = {
    "standard_prior": Case({"latent_dim": (2, 3)}, lambda prior: prior.distribution((), (), ()).sample(KEYS[0])),
}
of_gaussian = {
    "gaussian_posterior": Case(
        {"kind": ("diagonal", "full"), "latent_dim": (2, 3)}, lambda posterior: posterior.features
    ),
    "build_components": Case(
        {
            "config": (CONFIG, WIDER),
            "spec": (LEVELS, LEVELS._replace(shape=(4, 4, 2))),
            "prior": (None, wide_prior()),
            "reads": (None, Labels(3)),
        },
        shapes,
    ),
    "gaussian_vae": Case(
        {
            "config": (CONFIG, gaussian.Config(latent_dim=2, hidden=(8,), num_samples=3)),
            "spec": (LEVELS, LEVELS._replace(levels=33)),
            "penalty": (plain_kl, double_kl),
        },
        lambda pair: objective_of(pair[0]),
    ),
    "recipe": Case(
        {
            "config": (CONFIG, gaussian.Config(latent_dim=2, hidden=(8,), num_samples=3)),
            "spec": (LEVELS, LEVELS._replace(levels=33)),
            "penalty": (plain_kl, double_kl),
            "compares_examples": (False, True),
        },
        lambda recipe: (objective_of(recipe.model), recipe.model.compares_examples),
    ),
    "monte_carlo_recipe": Case(
        {
            "config": (CONFIG, gaussian.Config(latent_dim=2, hidden=(8,), num_samples=3)),
            "components": (PARTS, gaussian.build_components(CONFIG, LEVELS, wide_prior())),
            "diagnostics": (metrics_of, other_metrics),
            "figures": ({}, FIGURES),
        },
        lambda recipe: (objective_of(recipe.model), list(recipe.figures)),
    ),
    "mixture_components_used": ShownBy("tests/models/test_learned_priors.py", "components_used"),
}
COMPARE = "tests/runs/test_compare.py"
compare = {
    "read_runs": ShownBy(COMPARE, "read_runs("),
    "read_log_likelihoods": ShownBy(COMPARE, "read_log_likelihoods("),
    "compare": ShownBy(COMPARE, "compare("),
    "paired_difference": Case(
        {"values": (np.arange(3.0), np.ones(3)), "reference": (np.zeros(3), np.array([0.0, 1.0, 0.0]))}
    ),
    "summary_records": ShownBy("vaex/results/side_by_side.py", "summary_records(summaries)"),
    "differing_settings": ShownBy(COMPARE, "differ"),
    "settings_of_record": ShownBy("vaex/results/side_by_side.py", "settings_of_record(summary, record)"),
    "aligned": Case({"lines": ([["a", "b"]], [["a", "c"]])}),
    "cell": Case({"mean": (1.23456, 2.0), "error": (None, 0.5), "digits": (4, 3)}),
}
SWEEPS = "tests/api/test_sweep.py"
CASES = {
    "vaex.training.optimizers": optimizers,
    "vaex.training.hyperparameters": hyperparameters,
    "vaex.training.step": steps,
    "vaex.training.population": population,
    "vaex.training.loop": {
        "draft": ShownBy("tests/benchmarks/test_compile_for.py", "loop.draft("),
        **{
            name: ShownBy(LOOP, f"loop.{name}(") for name in ("compile_program", "run_chunk", "fit", "first_divergence")
        },
    },
    "vaex.training.loggers": {name: ShownBy(LOGGERS, "log_to=") for name in ("tensorboard", "wandb", "callbacks_for")},
    "vaex.training.metrics": {
        "read_rows": ShownBy(METRICS, "read_rows("),
        "metric_rows": ShownBy(METRICS, "metric_rows("),
    },
    "vaex.models.likelihoods": of_likelihoods,
    "vaex.models.conditions": of_conditions,
    "vaex.models.networks": of_networks,
    "vaex.models.latent": of_latent,
    "vaex.models.gaussian": of_gaussian,
    "vaex.models.posteriors": of_posteriors,
    "vaex.results.compare": compare,
    "vaex.results.side_by_side": {
        name: ShownBy(SWEEPS, text)
        for name, text in {
            "rows": "side_by_side",
            "as_csv": "as_csv",
            "write_csv": "save_csv(",
            "bars": "bars(",
        }.items()
    },
}
