"""Arguments of ``vaex.evaluation``, ``vaex.results`` and ``vaex.plots``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from helpers.argument_cases import Case, Given, Pair, Refused, ShownBy
from vaex import plots
from vaex.core import Latents
from vaex.data.conditions import Condition
from vaex.distributions import Bernoulli, Normal, Observed
from vaex.evaluation import latents
from vaex.evaluation.prediction import Baselines

RNG = np.random.default_rng(0)
NEARLY_OFF = [RNG.normal(size=(30, 3)) * [1.0, 1.0, 1e-4] for _ in range(3)]
KEYS = jax.random.key(0), jax.random.key(1)
A, B, C = (RNG.normal(size=(30, 3)).astype(np.float32) for _ in range(3))
FACTORS = RNG.integers(0, 4, (300, 3))
CODES = FACTORS + 1.5 * RNG.normal(size=(300, 3))
OTHER_CODES, OTHER_FACTORS = CODES[::-1], FACTORS[::-1]
IMAGES, OTHER_IMAGES = RNG.random((12, 24, 24, 1)), RNG.random((12, 24, 24, 1))
FEW = {"codes": (CODES, OTHER_CODES), "factors": (FACTORS, OTHER_FACTORS)}
GROUPED = {"codes": (CODES, CODES[:, :2]), "factors": (FACTORS, FACTORS[:, :2])}
VARIABLES = latents.latent_variables((), 3)
FREE = latents.latent_variables((Latents("free", 3),), 3)
MIXED = latents.latent_variables((Latents("categorical", 2), Latents("normal", 1)), 3)
PROBLEM = {"mean": (A, B), "variance": (np.exp(B), np.exp(C))}


def decode(z):
    return Normal(jnp.tanh(z), 0.5)


def other_decode(z):
    return Normal(0.5 * z, 0.7)


def observed_decode(z):
    return Observed(Normal(jnp.tanh(z), 0.5, event_ndims=0), 1)


def other_observed_decode(z):
    return Observed(Normal(0.5 * z, 0.7, event_ndims=0), 1)


def images_of(z):
    return np.asarray(z)[..., :1] + 1


def doubled(z):
    return 2 * np.asarray(z)[..., :1]


def weights(key, k):
    return jax.random.normal(key, (k, 2))


def other_weights(key, k):
    return 2 * jax.random.normal(key, (k, 2))


def model_weights(key, variables, hparams, batch, k):
    return jax.random.normal(key, (k, len(batch["x"]))) + jnp.asarray(batch.get("y", 0.0))


def other_model_weights(key, variables, hparams, batch, k):
    return 2 * model_weights(key, variables, hparams, batch, k)


def predict(key, variables, hparams, batch, steps, num_samples):
    return Bernoulli(steps * jax.random.normal(key, (num_samples, 1, 2)), 1)


def other_predict(key, variables, hparams, batch, steps, num_samples):
    return Bernoulli(jnp.zeros((num_samples, 1, 2)), 1)


def first_objective(key, variables, hparams, batch, *, train):
    from vaex.core import Outcome

    return Outcome({}, (), {"elbo": batch["x"], "total": jnp.sum(batch["x"])})


def other_objective(key, variables, hparams, batch, *, train):
    return first_objective(key, variables, hparams, batch, train=train)._replace(metrics={"elbo": 2 * batch["x"]})


def of_rows(function):
    return function(KEYS[0], (), (), {"x": jnp.arange(3.0)})


def of_frames(function):
    return function(jax.random.split(KEYS[0], 2), (), (), jnp.zeros((2, 3, 2)), jnp.ones((2, 2)))


ANNEALED = {
    "key": KEYS,
    "decode": (decode, other_decode),
    "temperatures": (3, 4),
    "chains": (2, 3),
    "leapfrog_steps": (1, 2),
}
LABELLED = {
    "train_x": (A, B),
    "train_y": (np.arange(30) % 3, np.full(30, 7)),
    "reconstructions": (B, C),
    "y": (np.arange(30) % 3, np.zeros(30, int)),
    "k": (1, 5),
    "originals": (None, C),
}
SEQUENCES = RNG.integers(0, 2, (4, 6, 2, 2, 1))

likelihood = {
    "estimate": Case({"values": (A[:, 0], B[:, 0])}),
    "estimate_over_batches": Case({"values": (A[:4, 0], B[:4, 0]), "sizes": (np.arange(4) + 1, np.ones(4))}),
    "streaming_importance_bound": Case(
        {
            "log_weights": (weights, other_weights),
            "key": KEYS,
            "num_samples": (5, 6),
            "samples_per_chunk": (2, 3),
        }
    ),
    "log_likelihood": Case(
        {"log_weights": (model_weights, other_model_weights), "num_samples": (5, 6), "samples_per_chunk": (2, 3)},
        of_rows,
    ),
    "weighted_log_likelihood": Case(
        {"log_weights": (model_weights, other_model_weights), "num_samples": (5, 6), "samples_per_chunk": (2, 3)},
        of_rows,
    ),
    "bits_per_dimension": Case(
        {
            "nats": (-5.0, -6.0),
            "dimensions": (2, 3),
            "levels": Pair(4, 5, {"density": True}),
            "density": (False, True),
        }
    ),
}
TELL = ShownBy("tests/evaluation/test_annealing.py", "tell=told.append")
annealing = {
    "annealed_log_likelihood": Case(ANNEALED | {"x": (A[:2], B[:2]), "latent_dim": (3, Refused(2, "shape|broadcast"))}),
    "annealed_bounds": Case(
        ANNEALED | {"x": (A[:2], B[:2]), "latent_dim": (3, Refused(2, "shape|broadcast")), "tell": TELL}
    ),
    "simulated_sandwich": Case(ANNEALED | {"n": (2, 3), "latent_dim": (3, 2), "tell": TELL}),
    "density_fit_log_likelihood": Case(
        ANNEALED
        | {
            "x": (A[:2], B[:2]),
            "latent_dim": (3, Refused(2, "shape|broadcast")),
            "chains": (8, 9),
            "transitions": (2, 4),
            "tell": TELL,
        }
    ),
}
objectives = {"objective_values": Case({"objective": (first_objective, other_objective)}, of_rows)}
of_latents = {
    "active_units": Case({"means": (A, 0.01 * B), "threshold": (0.01, 2.0)}),
    "marginal_kl": Case(PROBLEM),
    "register_kind": ShownBy("tests/evaluation/test_latents.py", "register_kind("),
    "registered_kind": Case({"name": ("normal", Refused("nromal", "kind is 'nromal'"))}),
    "order_by_kl": Case({"kl": ([0.1, 0.2], [0.2, 0.1])}),
    "latent_variables": Case({"blocks": ((), (Latents("categorical", 2),)), "d": (2, 3)}),
    "kl_per_latent": Case(PROBLEM | {"variables": (VARIABLES, VARIABLES[1:])}),
    "count_active": Case(
        {
            "variables": (VARIABLES, MIXED),
            "mean": (A, 1e-3 * A),
            "variance": Pair(
                np.ones((30, 3)), np.zeros((30, 3)), {"variables": FREE, "mean": A / A.std(0) * [1.0, 0.08, 0.08]}
            ),
        }
    ),
    "LatentVariable.select": Case({"self": (VARIABLES[0], VARIABLES[1]), "codes": (A, B)}),
    "location_and_scale": Case(
        {
            "variable": (VARIABLES[0], FREE[1]),
            "mean": Pair(A, B, {"variable": FREE[1]}),
            "variance": Pair(np.exp(B), np.exp(C), {"variable": FREE[1]}),
        }
    ),
}
aggregate = {
    "aggregate_kl": Case({"key": KEYS, "mean": (A, B), "log_scale": (-np.abs(B), C), "num_samples": (5, 6)}),
    "aggregate_log_density": Case({"z": (A, B), "mean": (B, C), "log_scale": (-np.abs(B), C)}),
}
traversals = {
    "decode_points": Case({"caller": Given("f"), "decode": (images_of, doubled), "z": (A, B)}),
    "traversal_values": Case({"num": (3, 4), "span": (3.0, 2.0)}),
    "latent_traversals": Case(
        {
            "decode": (images_of, doubled),
            "base_z": (A[0], B[0]),
            "order": ([0, 1], [1, 0]),
            "values": ([0.0, 1.0], [0.0, 2.0]),
        }
    ),
    "interpolate": Case(
        {
            "decode": (images_of, doubled),
            "z0": (A[0], B[0]),
            "z1": (C[0], C[1]),
            "num": (3, 4),
            "spherical": (False, True),
        }
    ),
    "condition_paths": Case(
        {
            "conditions": ((Condition("a"),), (Condition("a", high=2.0),)),
            "base": Pair([0.5, 0.5], [0.7, 0.5], {"conditions": (Condition("a"), Condition("b"))}, [0.5]),
            "points": (3, 4),
            "limit": Pair(2, 1, {"conditions": (Condition("a"), Condition("b")), "base": [0.0, 0.5]}),
        }
    ),
    "traversal_paths": Case(
        {
            "variables": (VARIABLES, MIXED),
            "mean": (A, B),
            "variance": Pair(np.exp(B), np.exp(C), {"variables": FREE}),
            "kl": (None, [0.2, 0.5, 0.3]),
            "limit": (3, 2),
        }
    ),
    "decode_paths": Case({"decode": (images_of, doubled), "codes": (A[None], B[None])}),
    "great_circles": Case({"codes": (A, B)}),
}
generation = {
    "manifold_latents": Case({"num": (2, 3)}),
    "manifold": Case({"decode": (images_of, doubled), "num": (2, 3)}),
    "knn_label_agreement": Case(LABELLED),
}
similarity = {
    "similarity": Case({"x": (IMAGES, OTHER_IMAGES), "y": (OTHER_IMAGES, 1 - IMAGES), "window": (11, 7)}),
    "scales": Case({"height": (200, 30), "width": (200, 30), "window": (11, 100)}),
    "multiscale_ssim": Case({"x": (IMAGES, OTHER_IMAGES), "y": (OTHER_IMAGES, 1 - IMAGES), "window": (11, 7)}),
}
two_sets = Case({"a": (A, B), "b": (C, B + 1)})
quality = {
    "frechet_distance": two_sets,
    "kernel_distance": two_sets,
    "nearest_neighbour_accuracy": Case({"a": (A, B + 2), "b": (C, A + 3)}),
    "manifold_scores": Case({"samples": (A, B + 1), "examples": (C, A + 2), "k": (3, 1)}),
}
features = {
    "fit_features": Case(
        {
            "kind": ("pca:2", "pixels"),
            "x": (A, B),
            "y": Pair(np.arange(30) % 3, np.arange(30) % 2, {"kind": "classifier"}),
        },
        lambda fitted: fitted.function(C),
    )
}
SPACE = "tests/evaluation/test_latent_space.py"
latent_space = {
    name: ShownBy(SPACE, f"{name}(")
    for name in (
        *("attribute_arithmetic", "attribute_vector", "embed", "fit_classifier"),
        *("geodesic", "path_length", "perturbations", "prior_fit"),
    )
}
latent_space |= {
    "attribute_vector": Case({"codes": (A, B), "present": (np.arange(30) % 2 == 0, np.arange(30) % 3 == 0)}),
    "prior_fit": Case({"draws": (A, B)}),
}
quality |= {
    name: ShownBy("tests/evaluation/test_sample_quality.py", f"{name}(")
    for name in ("bootstrap_error", "classifier_test")
}
disentanglement = {
    "all_scores": Case(
        FEW | {"scores": (("modularity", "explicitness"), ("modularity",)), "seed": (0, 1)},
    ),
    "beta_vae_score": Case(GROUPED | {"points": (60, 90), "pairs": (2, 9), "seed": (0, 1)}),
    "dci": Case(FEW | {"predictor": ("forest", "lasso"), "seed": (0, 1)}),
    "discretize": Case({"codes": (CODES, OTHER_CODES), "bins": (20, 5)}),
    "entropies": Case({"factors": (FACTORS, FACTORS // 2)}),
    "explicitness": Case(FEW | {"seed": (0, 1)}),
    "factor_vae_score": Case(
        GROUPED | {"points": (301, 201), "group": (3, 8), "inactive": (0.05, 3.5), "seed": (0, 7)}
    ),
    "importance_scores": Case({"importance": (np.exp(CODES[:3]), np.exp(CODES[3:6]))}),
    "interventional_robustness": Case(FEW | {"quantile": (1.0, 0.5)}),
    "modularity": Case(FEW | {"bins": (20, 5)}),
    "mutual_information": Case(FEW | {"bins": (20, 5)}),
    "mutual_information_gap": Case(FEW | {"bins": (20, 5)}),
    "separated_attribute_predictability": Case(FEW | {"regularisation": (0.01, 3.0), "seed": (0, 1)}),
    "unsupervised_disentanglement_ranking": Case(
        {"means": (NEARLY_OFF, [A, A, C]), "variances": (None, [np.ones((30, 3))] * 3)}
    ),
}
prediction = {
    "horizons": Case({"length": (16, 8)}),
    "context_frames": Case({"length": (16, 8)}),
    "predictive_log_likelihood": Case(
        {"predict": (predict, other_predict), "steps": (1, 2), "num_samples": (3, 4)}, of_frames
    ),
    "fit_baselines": Case({"x": (SEQUENCES, SEQUENCES[:2]), "steps": ((1, 2), (1,))}),
    "Baselines.copy_last": Case(
        {
            "self": (
                Baselines({1: 0.1, 2: 0.4}, np.full((2, 2, 1), 0.3)),
                Baselines({1: 0.2}, np.full((2, 2, 1), 0.3)),
            ),
            "last": (SEQUENCES[:, 0], SEQUENCES[:, 1]),
            "frame": (SEQUENCES[:, 2], SEQUENCES[:, 3]),
            "steps": (1, 2),
        }
    ),
    "Baselines.independent": Case(
        {
            "self": (Baselines({}, np.full((2, 2, 1), 0.3)), Baselines({}, np.full((2, 2, 1), 0.4))),
            "frame": (SEQUENCES[:, 2], SEQUENCES[:, 3]),
        }
    ),
}
classification = {
    "log_weights_by_class": Case(
        {"log_weights": (model_weights, other_model_weights), "classes": (2, 3)},
        lambda function: function(KEYS[0], (), (), {"x": jnp.arange(3.0)}, 2),
    ),
    "log_posterior": Case({"log_px": (A, B), "log_prior": (np.zeros(3), np.arange(3.0))}),
    "accuracy": Case({"scores": (A, B), "y": (np.arange(30) % 3, np.zeros(30, int))}),
}
BATCH = IMAGES[:, :8, :8]
MOVIES = RNG.random((2, 3, 8, 8, 1))
figures = {
    "reconstruction_grid": Case(
        {
            "originals": (BATCH, 1 - BATCH),
            "reconstructions": (OTHER_IMAGES[:, :8, :8], BATCH),
            "columns": (4, 5),
            "title": ("a", "b"),
        }
    ),
    "sequence_grid": Case(
        {"originals": (MOVIES, 1 - MOVIES), "reconstructions": (MOVIES, 1 - MOVIES), "title": ("a", "b")}
    ),
    "sample_grid": Case({"images": (BATCH, 1 - BATCH), "columns": (4, 5), "title": ("a", "b")}),
    "traversal_grid": Case(
        {
            "images": (MOVIES, 1 - MOVIES),
            "names": (("u", "v"), ("u", "w")),
            "kl": (None, [1.0, 0.5]),
            "columns": ((), ("1", "2", "3")),
            "title": ("a", "b"),
        }
    ),
    "manifold_grid": Case({"images": (MOVIES[:, :2], 1 - MOVIES[:, :2]), "title": ("a", "b")}),
    "slices": Case({"volumes": (MOVIES, 1 - MOVIES), "most": (8, 1)}),
    "marginals": Case(
        {
            "names": (("u", "v", "w"), ("u", "v", "x")),
            "data": (np.eye(4, 3), 1 - np.eye(4, 3)),
            "samples": (np.eye(5, 3), np.zeros((5, 3))),
        }
    ),
    "kl_bars": Case(
        {"kl_per_latent": ([1.0, 2.0], [2.0, 1.0]), "names": (("u", "v"), ("u", "w")), "title": ("a", "b")}
    ),
}
ROWS = [{"step": 1, "elbo": [1.0, 2.0], "kl": [0.0, 1.0]}, {"step": 2, "elbo": [2.0, 3.0], "kl": [0.0, 1.0]}]
curves = {
    "training_curves": Case(
        {
            "rows": (ROWS, ROWS[:1]),
            "members": (("a", "b"), ("a", "c")),
            "metrics": ((), ("kl",)),
            "x": Pair(
                "step", "epoch", {"rows": [row | {"epoch": row["step"] / 4} for row in ROWS], "metrics": ("kl",)}
            ),
        }
    )
}
GRID, OTHER_GRID = plots.Grid(BATCH[None, :3]), plots.Grid(BATCH[None, 3:6])
drawing = {
    "draw": Case(
        {"figure": (GRID, OTHER_GRID)}, lambda figure: (figure.canvas.draw(), np.asarray(figure.canvas.buffer_rgba()))
    ),
    "save": Case(
        {
            "figure": ShownBy("tests/plots/test_plots.py", "save("),
            "path": ShownBy("tests/plots/test_plots.py", "save("),
        }
    ),
}
GAPS = jnp.where(jnp.arange(90).reshape(30, 3) % 4 == 0, jnp.nan, A)
imputation = {
    "impute": Case(
        {
            "key": KEYS,
            "x": (GAPS, GAPS[::-1]),
            "posterior": (Normal(A, 0.5), Normal(B, 0.5)),
            "decode": (observed_decode, other_observed_decode),
            "num_samples": (5, 6),
            "num_draws": (1, 2),
        }
    )
}
CASES = {
    "vaex.evaluation.likelihood": likelihood,
    "vaex.evaluation.annealing": annealing,
    "vaex.evaluation.objective": objectives,
    "vaex.evaluation.imputation": imputation,
    "vaex.evaluation.latents": of_latents,
    "vaex.evaluation.aggregate_posterior": aggregate,
    "vaex.evaluation.traversals": traversals,
    "vaex.evaluation.generation": generation,
    "vaex.evaluation.structural_similarity": similarity,
    "vaex.evaluation.sample_quality": quality,
    "vaex.evaluation.features": features,
    "vaex.evaluation.disentanglement": disentanglement,
    "vaex.evaluation.latent_space": latent_space,
    "vaex.evaluation.prediction": prediction,
    "vaex.evaluation.classification": classification,
    "vaex.evaluation.figures": figures,
    "vaex.evaluation.training_curves": curves,
    "vaex.plots": drawing,
}
