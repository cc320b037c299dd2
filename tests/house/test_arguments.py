"""Every argument of every public function of the pure rooms changes something: none is ignored in silence."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import bounds, flows, quantizers
from vaex.distributions import Bernoulli, Categorical, Normal

ROOMS = ("bounds", "distributions", "divergences", "estimators", "flows", "quantizers")
KEY, OTHER_KEY = jax.random.key(0), jax.random.key(1)
RNG = np.random.default_rng(0)


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


A, B, C = numbers(6, 3), numbers(6, 3, seed=1), numbers(6, 3, seed=2)
W = numbers(4, 6, seed=3)
Q, P = Normal(A, jnp.exp(B)), Normal(C, 1.3)
TOWARDS = Normal(0.3 * A + 1.0, 0.5)
CODES = numbers(5, 3, seed=4)
INDICES, OTHER_INDICES = jnp.array([0, 1, 1, 4, 2, 0]), jnp.array([3, 1, 2, 2, 0, 0])
STACKED, OTHER_STACKED = jnp.stack([INDICES, OTHER_INDICES], -1), jnp.stack([OTHER_INDICES] * 2, -1)
MASK = jnp.array([1, 1, 0, 1, 0, 1])
BOOKS, OTHER_BOOKS = numbers(2, 5, 3, seed=5), numbers(2, 5, 3, seed=6)


def log_joint(z):
    return -jnp.sum(jnp.square(z - 0.5), axis=-1)


def kinetic(z, momentum):
    return jnp.sum(jnp.exp(0.1 * z) * jnp.square(momentum), axis=-1)


def other_kinetic(z, momentum):
    return jnp.sum(jnp.square(momentum), axis=-1)


def other_joint(z):
    return -jnp.sum(jnp.abs(z), axis=-1)


def encoder(x):
    return Normal(0.3 * x, 0.7)


def other_encoder(x):
    return Normal(0.1 * x, 0.9)


def decoder(z):
    return Normal(z, 1.0)


def other_decoder(z):
    return Normal(2.0 * z, 1.0)


def average(w):
    return jnp.mean(w, axis=0)


PRIOR = Normal(jnp.ones(3), 1.0)
SCORED = {
    "key": (KEY, OTHER_KEY),
    "posterior": (Bernoulli(A), Bernoulli(B)),
    "log_joint": (log_joint, other_joint),
    "num_samples": (3, 4),
    "bound": (bounds.importance_bound, average),
}
PATHWISE = SCORED | {"posterior": (Q, P)}
AGGREGATE = {"z": (A, B), "mean": (B, C), "log_scale": (-C, A), "dataset_size": (20, 30)}
SAMPLING = {"sampling": ("stratified", "weighted")}
DRAWN = {"key": (KEY, OTHER_KEY), "q": (Q, TOWARDS), "p": (P, TOWARDS), "num_samples": (5, 6)}
PAIR = {"q": (Q, TOWARDS), "p": (P, Normal(C, 2.0))}
QUANTIZE = {"distance": ("euclidean", "cosine"), "gradient": ("straight_through", "rotation")}
HALF_DEAD = jnp.array([3.0, 0.1, 3.0, 0.1, 3.0])
SCALED = CODES * jnp.array([[0.2], [1.0], [5.0], [1.0], [3.0]])
STATE, OTHER_STATE = quantizers.init_codebook(CODES), quantizers.init_codebook(2.0 * CODES)

ANNEALED = {
    "key": (KEY, OTHER_KEY),
    "z": (A, B),
    "log_initial": (log_joint, other_joint),
    "log_ratio": (log_joint, other_joint),
    "betas": (bounds.annealing_schedule(40), bounds.annealing_schedule(41)),
    "leapfrog_steps": (3, 30),
}

MOVING = {
    "log_density": (log_joint, other_joint),
    "start": (flows.PhasePoint(A, B), flows.PhasePoint(A, C)),
    "step_size": (0.1, 0.2),
    "inverse_temperatures": (flows.quadratic_tempering(3, initial=0.3), jnp.ones(4)),
}

# function -> argument -> two values with which its results differ (or its gradient does)
CASES = {
    "bounds.adapted_step_sizes": ANNEALED | {"initial": (1.2, 1.0), "target": (0.65, 0.9)},
    "bounds.annealed_log_weights": ANNEALED | {"step_sizes": (0.2, 0.3), "reverse": (False, True)},
    "bounds.annealing_schedule": {"num": (3, 4), "steepness": (4.0, 1.0)},
    "bounds.capacity_penalty": {"kl": (W, A[:4, :1]), "capacity": (1.0, 2.0), "gamma": (1.0, 2.0)},
    "bounds.chi_upper_bound": {"log_weights": (W, 2 * W), "power": (2.0, 3.0)},
    "bounds.combined_importance_bound": {"log_weights": (W, 2 * W), "mix": (0.3, 0.4)},
    "bounds.effective_sample_size": {"log_weights": (W, 2 * W)},
    "bounds.elbo": {"log_px": (W[0], W[1]), "kl": (W[2], W[3]), "beta": (1.0, 2.0)},
    "bounds.elbo_terms": {
        "key": (KEY, OTHER_KEY),
        "encoder": (encoder, other_encoder),
        "decoder": (decoder, other_decoder),
        "x": (A, B),
        "prior": (None, PRIOR),
        "num_samples": (1, 2),
        "kl": ("closed_form", "monte_carlo"),
    },
    "bounds.evidence_upper_bound": {"log_weights": (W, 2 * W), "samples": ("q", "posterior")},
    "bounds.free_bits": {"kl_per_latent": (jnp.exp(A), jnp.exp(B)), "minimum": (0.5, 9.0)},
    "bounds.importance_bound": {"log_weights": (W, 2 * W)},
    "bounds.mean_importance_bound": {"log_weights": (W.reshape(2, 2, 6), W.reshape(4, 1, 6))},
    "bounds.mixture_log_weights": {
        "log_joint": (W[:2], 2 * W[:2]),
        "log_q": (numbers(2, 2, 6), numbers(2, 2, 6, seed=1)),
    },
    "bounds.normalized_weights": {"log_weights": (W, 2 * W)},
    "bounds.partial_importance_bounds": {"log_weights": (W.reshape(2, 2, 6), W.reshape(4, 1, 6))},
    "bounds.renyi_bound": {"log_weights": (W, 2 * W), "alpha": (0.5, 2.0)},
    "bounds.thermodynamic_bound": {
        "log_weights": (W, 2 * W),
        "temperatures": (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.3, 1.0])),
        "side": ("lower", "upper"),
    },
    "distributions.bernoulli_log_prob": {"logits": (A, B), "x": (C > 0, A > 0), "event_ndims": (1, 2)},
    "distributions.reparameterize": {"key": (KEY, OTHER_KEY), "mean": (A, B), "log_scale": (C, A)},
    "distributions.ordinal_logits": {
        "location": (A[:, 0], B[:, 0]),
        "cutpoints": (jnp.sort(A), jnp.sort(B)),
    },
    "distributions.sphere_log_area": {"dimension": (3, 4)},
    "distributions.to_poincare_ball": {"x": (A, B), "curvature": (1.0, 0.5)},
    "divergences.aggregate_densities": AGGREGATE | SAMPLING,
    "divergences.bernoulli_kl": {"p": (jnp.full(3, 0.2), jnp.full(3, 0.3)), "q": (jnp.full(3, 0.5), jnp.full(3, 0.6))},
    "divergences.chi_square": PAIR,
    "divergences.decompose_kl": AGGREGATE | SAMPLING | {"prior": (None, Normal(jnp.ones(3), log_scale=jnp.zeros(3)))},
    "divergences.density_ratio_loss": {"joint_logits": (A[:, 0], B[:, 0]), "permuted_logits": (C[:, 0], A[:, 1])},
    "divergences.density_ratio_total_correlation": {"joint_logits": (A[:, 0], B[:, 0])},
    "divergences.dip_i_penalty": {"mean": (A, B), "off_diagonal": (1.0, 2.0), "diagonal": (1.0, 2.0)},
    "divergences.dip_ii_penalty": {
        "mean": (A, B),
        "log_scale": (C, A),
        "off_diagonal": (1.0, 2.0),
        "diagonal": (1.0, 2.0),
    },
    "divergences.gaussian_kl": {
        "mean": (A, B),
        "log_scale": (B, C),
        "other_mean": (C, A),
        "other_log_scale": (A, B),
    },
    "divergences.importance_forward_kl": {"log_weights": (W, 2 * W)},
    "divergences.imq_kernel": {"square_distance": (jnp.exp(A), jnp.exp(B)), "width": (1.0, 2.0)},
    "divergences.rbf_kernel": {"square_distance": (jnp.exp(A), jnp.exp(B)), "width": (1.0, 2.0)},
    "divergences.jeffreys": PAIR,
    "divergences.kl": PAIR,
    "divergences.mmd": {
        "x": (A, B),
        "y": (C, A + 1),
        "kernel": ("imq", "rbf"),
        "scales": ((1.0,), (2.0,)),
        "unbiased": (True, False),
    },
    "divergences.monte_carlo_chi_square": DRAWN,
    "divergences.monte_carlo_forward_kl": DRAWN,
    "divergences.monte_carlo_jeffreys": DRAWN,
    "divergences.monte_carlo_jensen_shannon": DRAWN,
    "divergences.monte_carlo_renyi": DRAWN | {"alpha": (2.0, 3.0)},
    "divergences.permute_latents": {"key": (KEY, OTHER_KEY), "z": (A, B)},
    "divergences.renyi": PAIR | {"alpha": (0.5, 0.7)},
    "divergences.sliced_wasserstein": {
        "key": (KEY, OTHER_KEY),
        "x": (A, B),
        "y": (C, A + 1),
        "num_projections": (5, 6),
        "power": (2, 1),
    },
    "divergences.squared_wasserstein": PAIR,
    "divergences.total_correlation": AGGREGATE | SAMPLING,
    "estimators.leave_one_out": SCORED,
    "estimators.vimco": SCORED,
    "estimators.score_function": SCORED,  # its baseline is of the gradient
    "estimators.reparameterized": PATHWISE,
    "estimators.sticking_the_landing": PATHWISE,
    "estimators.doubly_reparameterized": PATHWISE,
    "estimators.straight_through_gumbel": {
        "key": (KEY, OTHER_KEY),
        "posterior": (Categorical(A[:, None]), Categorical(B[:, None])),
        "log_joint": (lambda z: jnp.sum(z * C[:, None], (-2, -1)), lambda z: jnp.sum(z * A[:, None], (-2, -1))),
        "num_samples": (2, 3),
        "bound": (bounds.importance_bound, average),
    },
    "flows.generalized_leapfrog": MOVING | {"kinetic": (kinetic, other_kinetic), "iterations": (1, 3)},
    "flows.leapfrog": MOVING,
    "flows.quadratic_tempering": {"num": (3, 4), "initial": (0.3, 0.5)},
    "flows.rational_quadratic_spline": {
        "widths": (A[:, :2], B[:, :2]),
        "heights": (B[:, :2], C[:, :2]),
        "log_slopes": (A[:, :1], B[:, :1]),
        "x": (0.5 * C[:, 0], 0.4 * C[:, 0]),
        "bound": (3.0, 4.0),
        "inverse": (False, True),
    },
    "quantizers.code_perplexity": {
        "indices": (INDICES, INDICES * 0),
        "num_codes": (5, 4),
        "mask": (None, MASK),
    },
    "quantizers.code_usage": {"indices": (INDICES, INDICES * 0), "num_codes": (5, 6), "mask": (None, MASK)},
    "quantizers.codebook_loss": {"z": (A, B), "codes": (C, A)},
    "quantizers.commitment_loss": {"z": (A, B), "codes": (C, A)},
    "quantizers.entropy": {"probabilities": (jax.nn.softmax(A), jax.nn.softmax(B)), "axis": (-1, None)},
    "quantizers.finite_scalar_indices": {
        "codes": (jnp.zeros((2, 3)), jnp.ones((2, 3))),
        "levels": ((5, 5, 5), (3, 5, 5)),
    },
    "quantizers.finite_scalar_lookup": {
        "indices": (INDICES, OTHER_INDICES),
        "levels": ((5, 5), (3, 5)),
        "dtype": (jnp.float32, jnp.bfloat16),
    },
    "quantizers.finite_scalar_quantize": {"z": (A, B), "levels": ((5, 5, 5), (3, 5, 5))},
    "quantizers.grouped_lookup": {
        "codebooks": (BOOKS, OTHER_BOOKS),
        "indices": (STACKED, OTHER_STACKED),
    },
    "quantizers.grouped_quantize": {
        "codebooks": (BOOKS, OTHER_BOOKS),
        "z": (numbers(6, 6), numbers(6, 6, seed=9)),
        **QUANTIZE,
    },
    "quantizers.gumbel_quantize": {
        "key": (KEY, OTHER_KEY),
        "codebook": (CODES, 2 * CODES),
        "logits": (numbers(6, 5), numbers(6, 5, seed=8)),
        "temperature": (1.0, 0.5),
        "hard": (False, True),
    },
    "quantizers.init_codebook": {"codebook": (CODES, 2 * CODES)},
    "quantizers.kmeans_codebook": {
        "key": (KEY, OTHER_KEY),
        "z": (numbers(40, 3), numbers(40, 3, seed=7)),
        "num_codes": (5, 6),
        "num_iterations": (1, 9),
        "num_starts": (1, 5),
        "mask": (None, jnp.arange(40) < 20),
    },
    "quantizers.lookup": {"codebook": (CODES, 2 * CODES), "indices": (INDICES, OTHER_INDICES)},
    "quantizers.lookup_free_entropy": {"z": (A, B), "temperature": (1.0, 0.5), "mask": (None, MASK)},
    "quantizers.lookup_free_indices": {"codes": (jnp.sign(A), jnp.sign(B))},
    "quantizers.lookup_free_lookup": {
        "indices": (INDICES, OTHER_INDICES),
        "num_bits": (3, 4),
        "dtype": (jnp.float32, jnp.bfloat16),
    },
    "quantizers.lookup_free_quantize": {"z": (A, B)},
    "quantizers.nearest_code": {"codebook": (SCALED, -CODES), "z": (A, 4.0 * B), "distance": ("euclidean", "cosine")},
    "quantizers.perplexity": {"probabilities": (jax.nn.softmax(A), jax.nn.softmax(B))},
    "quantizers.replace_dead_codes": {
        "key": (KEY, OTHER_KEY),
        "state": (STATE._replace(counts=HALF_DEAD), OTHER_STATE._replace(counts=HALF_DEAD)),
        "z": (A, B),
        "threshold": (0.5, 9.0),
        "mask": (None, jnp.arange(6) == 1),
    },
    "quantizers.residual_inputs": {
        "codebooks": (BOOKS, OTHER_BOOKS),
        "z": (A, B),
        "indices": (STACKED, OTHER_STACKED),
    },
    "quantizers.residual_lookup": {
        "codebooks": (BOOKS, OTHER_BOOKS),
        "indices": (STACKED, OTHER_STACKED),
    },
    "quantizers.residual_quantize": {
        "codebooks": (BOOKS, OTHER_BOOKS),
        "z": (A, B),
        "stages": (None, OTHER_INDICES),
        **QUANTIZE,
    },
    "quantizers.squared_distances": {"codebook": (CODES, 2 * CODES), "z": (A, B)},
    "quantizers.unit_norm": {"z": (A, B)},
    "quantizers.update_codebook": {
        "state": (STATE, OTHER_STATE),
        "z": (A, B),
        "indices": (INDICES, OTHER_INDICES),
        "decay": (0.9, 0.5),
        "smoothing": (1e-5, 0.5),
        "mask": (None, MASK),
    },
    "quantizers.vector_quantize": {"codebook": (SCALED, -CODES), "z": (A, B), **QUANTIZE},
    "quantizers.rotation_trick": {"z": (A, B), "codes": (C, A)},
    "quantizers.straight_through": {"codes": (C, A)},
}
CASES["bounds.estimate_elbo"] = CASES["bounds.elbo_terms"] | {"beta": (1.0, 2.0)}
CASES["bounds.estimate_log_weights"] = {
    name: pair for name, pair in CASES["bounds.elbo_terms"].items() if name != "kl"
} | {"num_samples": (2, 3)}
CASES["divergences.monte_carlo_kl"] = DRAWN | {
    "form": ("naive", "k3"),
    "gradient": ("total", "path"),
}
CASES["estimators.path_log_weights"] = {
    "posterior": (Q, P),
    "log_joint": (log_joint, other_joint),
    "z": (W[:, :, None] + A, W[:, :, None] + B),
}
# arguments that only tests of their own can show, and where these are
ELSEWHERE = {
    "estimators.straight_through_gumbel.temperature": "tests/estimators/test_estimators.py",
    "quantizers.straight_through.z": "tests/quantizers/test_through_gradients.py",
    "axis_name": "tests/quantizers/test_quantizer_laws.py",
    "estimators.score_function.baseline": "tests/estimators/test_estimators.py",
    "estimators.path_log_weights.estimator": "tests/estimators/test_estimators.py",
    "estimators.path_log_weights.bound": "tests/estimators/test_estimators.py",
}
FUNCTIONS_ELSEWHERE = {  # declarations, structures and functions of functions, each with tests of its own
    *("distributions.family", "distributions.static", "divergences.register_kl", "estimators.gradient_statistics"),
    *("flows.chain", "flows.params_from_vector", "flows.params_size", "flows.reverse"),
}


# arguments that show in the gradient alone, as the value is that of the codes; "gradient" is another everywhere
IN_GRADIENT = {"quantizers.rotation_trick.z"}


def public_functions():
    for room in ROOMS:
        module = importlib.import_module(f"vaex.{room}")
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                yield f"{room}.{name}", getattr(module, name)


FUNCTIONS = dict(public_functions())


def test_the_table_has_every_function_and_every_argument():
    expected = {
        f"{name}.{argument}"
        for name, function in FUNCTIONS.items()
        if name not in FUNCTIONS_ELSEWHERE
        for argument in inspect.signature(function).parameters
        if argument not in ELSEWHERE and f"{name}.{argument}" not in ELSEWHERE
    }
    assert expected == {f"{name}.{argument}" for name, case in CASES.items() for argument in case}
    assert set(FUNCTIONS_ELSEWHERE) <= set(FUNCTIONS)


def leaves(value):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(value) if jnp.ndim(leaf) >= 0]


def result(name, arguments, in_gradient):
    function = FUNCTIONS[name]
    if not in_gradient:
        return function(**arguments)
    by = "z" if "z" in arguments else "q"

    def total(value):
        outcome = function(**arguments | {by: value})
        outcome = getattr(outcome, "codes", outcome)
        return jnp.sum(jnp.sin(outcome))

    return jax.tree.leaves(jax.grad(total)(arguments[by]))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_argument_changes_something(name):
    """Of two values of one argument, all others at their first, at least one array of the result differs, or its dtype."""
    case = CASES[name]
    first = {argument: values[0] for argument, values in case.items()}
    if name == "quantizers.straight_through":
        first["z"] = A
    if name == "estimators.straight_through_gumbel":
        first["temperature"] = 1.0
    for argument, (_, second) in case.items():
        by_gradient = argument == "gradient" or f"{name}.{argument}" in IN_GRADIENT
        before = result(name, first, by_gradient)
        after = result(name, first | {argument: second}, by_gradient)
        types = [[jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(value)] for value in (before, after)]
        pairs = zip(leaves(before), leaves(after), strict=True)
        assert types[0] != types[1] or any(a.shape != b.shape or np.any(a != b) for a, b in pairs), argument
