"""Signal-to-noise, variance and bias of gradient estimators, measured where the exact gradient is known.

Two models. A linear-Gaussian VAE near its optimum shows how the signal-to-noise ratio of the encoder's gradient changes with the
number of samples k (Rainforth et al. 2018, Tucker et al. 2019). A small discrete VAE, whose exact gradient is a sum over all
outcomes, shows bias and variance of the estimators for discrete latents.

``python experiments/estimators.py`` prints both tables; with --out they are written as JSON, and the first is drawn.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex import estimators, plots
from vaex.bounds import importance_bound
from vaex.cli.scripts import whole_numbers
from vaex.distributions import Categorical, Normal
from vaex.files import atomic_path
from vaex.plots.records import Curves

PATHWISE = ("doubly_reparameterized", "reparameterized", "sticking_the_landing")
Row = dict[str, Any]


def near_the_optimum(latents: int, distance: float, seed: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return parameters near the optimum of p(z) = N(prior, I), p(x|z) = N(z, I), q(z|x) = N(slope x + shift, 2/3 I), and an x."""
    generator = np.random.default_rng(seed)
    prior = generator.normal(size=latents)
    x = prior + generator.normal(size=latents) * np.sqrt(2.0)
    best = {"prior": prior, "slope": np.full(latents, 0.5), "shift": 0.5 * prior}
    moved = {name: value + distance * generator.normal(size=latents) for name, value in best.items()}
    return {name: jnp.asarray(value, jnp.float32) for name, value in moved.items()}, jnp.asarray(x, jnp.float32)


def linear_gaussian_loss(estimator: Callable[..., jax.Array], x: jax.Array, k: int) -> Callable[..., jax.Array]:
    """Return (generative, encoder, key) -> the importance bound of k samples, with this estimator's gradient."""

    def loss(generative: dict[str, jax.Array], encoder: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        zeros = jnp.zeros_like(x)
        posterior = Normal(encoder["slope"] * x + encoder["shift"], log_scale=zeros + 0.5 * jnp.log(2.0 / 3.0))

        def log_joint(z: jax.Array) -> jax.Array:
            return Normal(generative["prior"], log_scale=zeros).log_prob(z) + Normal(
                z, log_scale=jnp.zeros_like(z)
            ).log_prob(x)

        return estimator(key, posterior, log_joint, k, bound=importance_bound)

    return loss


def signal_to_noise(k: int, *, latents: int, distance: float, draws: int, seed: int) -> list[Row]:
    """Return the rows of the first table for one k.

    The encoder's mean gradient is compared with that of DReG, the unbiased estimator of least noise.
    """
    params, x = near_the_optimum(latents, distance, seed)
    generative, encoder = {"prior": params.pop("prior")}, params
    rows: list[Row] = []
    reference: Any = None
    for number, name in enumerate(PATHWISE):
        loss = linear_gaussian_loss(getattr(estimators, name), x, k)

        def measured(argument: int, loss=loss, number=number) -> estimators.GradientStatistics:
            statistics = jax.jit(
                lambda key, values: estimators.gradient_statistics(
                    key,
                    lambda draw_key: jax.grad(loss, argument)(*values, draw_key),
                    draws,
                    draws_per_chunk=max(1, min(draws, 20_000 // k)),
                )
            )
            return statistics(jax.random.key(seed + number), (generative, encoder))

        inside, outside = measured(1), measured(0)
        reference = inside if reference is None else reference
        off, error = (
            jnp.concatenate([combine(inside, reference, leaf) for leaf in encoder])
            for combine in (
                lambda a, b, leaf: a.mean[leaf] - b.mean[leaf],
                lambda a, b, leaf: jnp.hypot(a.standard_error[leaf], b.standard_error[leaf]),
            )
        )
        size = jnp.concatenate([reference.mean[leaf] for leaf in encoder])
        rows.append(
            {
                "estimator": name,
                "k": k,
                "encoder_signal_to_noise": float(inside.signal_to_noise),
                "generative_signal_to_noise": float(outside.signal_to_noise),
                "encoder_variance": float(inside.total_variance),
                "encoder_mean_off_dreg": float(jnp.linalg.norm(off) / jnp.linalg.norm(size)),
                "off_in_standard_errors": float(jnp.sqrt(jnp.mean(jnp.square(off / error)))),
            }
        )
    return rows


LOG_PX = np.random.default_rng(1).normal(-2.0, 1.5, (3, 4))  # of three latent variables with four classes each


def discrete_log_joint(one_hot: jax.Array) -> jax.Array:
    """log p(x, z) of the discrete model, whose three variables interact; one_hot [..., 3, 4]."""
    score = jnp.sum(one_hot * LOG_PX, axis=(-2, -1))
    return score - 0.05 * jnp.square(score) - 3 * jnp.log(4.0)


def exact_gradient(logits: jax.Array, k: int) -> jax.Array:
    """Return the gradient of the expected importance bound of k samples, summed over every outcome."""
    states = jnp.asarray(list(itertools.product(range(4), repeat=3)))
    tuples = jnp.asarray(list(itertools.product(range(len(states)), repeat=k))).T

    def expected(logits: jax.Array) -> jax.Array:
        log_q = Categorical(logits).log_prob(states)
        log_weights = discrete_log_joint(jax.nn.one_hot(states, 4)) - log_q
        return jnp.sum(jnp.exp(jnp.sum(log_q[tuples], axis=0)) * importance_bound(log_weights[tuples]))

    return jax.grad(expected)(logits)


def discrete(name: str, k: int, *, draws: int, seed: int, temperature: float | None = None) -> Row:
    """Return a row of the second table."""
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4)), jnp.float32)
    options: dict[str, Any] = {"bound": importance_bound} | (
        {} if temperature is None else {"temperature": temperature}
    )
    estimator = functools.partial(getattr(estimators, name), **options)

    def log_joint(z: jax.Array) -> jax.Array:
        return discrete_log_joint(z if temperature is not None else jax.nn.one_hot(z, 4))

    def gradient(key: jax.Array) -> jax.Array:
        return jax.grad(lambda values: estimator(key, Categorical(values), log_joint, k))(logits)

    exact = exact_gradient(logits, k)
    statistics = jax.jit(
        lambda key: estimators.gradient_statistics(key, gradient, draws, exact=exact, draws_per_chunk=5000)
    )
    measured = statistics(jax.random.key(seed))
    return {
        "estimator": name if temperature is None else f"{name}, temperature {temperature:g}",
        "k": k,
        "relative_bias": float(jnp.linalg.norm(measured.bias) / jnp.linalg.norm(exact)),
        "largest_bias_in_standard_errors": float(jnp.max(jnp.abs(measured.bias) / measured.standard_error)),
        "variance": float(measured.total_variance),
        "signal_to_noise": float(measured.signal_to_noise),
    }


def table(rows: list[Row]) -> str:
    """Format rows as a Markdown table."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    names = list(rows[0])
    lines = [" | ".join(name.replace("_", " ") for name in names), "|".join(["---"] * len(names))]
    lines += [" | ".join(cell(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def figure(rows: list[Row]) -> list[Curves]:
    """Return curves of the signal-to-noise ratio against k, both on logarithmic scales."""
    x = np.log10(sorted({row["k"] for row in rows}))
    panels = []
    for name, title in (("encoder_signal_to_noise", "encoder"), ("generative_signal_to_noise", "generative network")):
        lines = {
            estimator: np.log10([row[name] for row in rows if row["estimator"] == estimator])
            for estimator in dict.fromkeys(row["estimator"] for row in rows)
        }
        panels.append(Curves(x, lines, "log10 of samples k", "log10 of signal-to-noise", title))
    return panels


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; with --out, write them and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="independent gradients per row (default: %(default)s)")
    parser.add_argument("--latents", type=int, default=20, help="of the linear-Gaussian model (default: %(default)s)")
    parser.add_argument(
        "--distance", type=float, default=0.1, help="of its parameters from the optimum (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of model and draws (default: %(default)s)")
    parser.add_argument(
        "--samples",
        type=whole_numbers,
        default=[1, 10, 100, 1000],
        help="values of k (default: 1,10,100,1000)",
    )
    parser.add_argument("--out", type=pathlib.Path, help="folder for estimators.json and signal_to_noise.png")
    flags = parser.parse_args(arguments)
    if flags.draws < 2 or flags.latents < 1 or min(flags.samples) < 1:
        parser.error("--draws must be at least 2, --latents and --samples at least 1")
    settings = {"latents": flags.latents, "distance": flags.distance, "draws": flags.draws, "seed": flags.seed}
    first = []
    for k in flags.samples:
        print(f"k = {k} ...", file=sys.stderr, flush=True)
        first += signal_to_noise(k, **settings)
    floor = (2 / (jnp.pi * flags.draws)) ** 0.5
    first.sort(key=lambda row: PATHWISE.index(row["estimator"]))
    print(
        f"linear-Gaussian VAE, {flags.latents} latents, gradient of the importance bound of k samples, {flags.draws} draws"
    )
    print(f"(pure noise would show a signal-to-noise of {floor:.3g})\n")
    print(table(first), "\n")
    draws = 10 * flags.draws
    score_based = [("score_function", None), ("leave_one_out", None), ("vimco", None)]
    relaxed = [("straight_through_gumbel", temperature) for temperature in (0.25, 1.0, 4.0)]
    second = [discrete(name, 3, draws=draws, seed=flags.seed, temperature=t) for name, t in score_based + relaxed]
    print(f"discrete VAE, 64 outcomes, gradient of the importance bound of 3 samples, {draws} draws\n")
    print(table(second))
    if flags.out:
        with atomic_path(flags.out / "estimators.json") as temporary:
            temporary.write_text(
                json.dumps({"settings": settings, "linear_gaussian": first, "discrete": second}, indent=2)
            )
        plots.save(figure(first), flags.out / "signal_to_noise.png")
        print(f"\nwritten: {flags.out / 'estimators.json'}, {flags.out / 'signal_to_noise.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
