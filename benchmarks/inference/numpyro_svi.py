"""``vaex.inference.fit`` beside NumPyro's SVI: ``python benchmarks/inference/numpyro_svi.py`` (needs numpyro).

One model, one family (independent Gaussians), one optimizer, as many steps and samples. Adam's rate decays to zero: at a constant
one the last step's noise, 0.01 nats of eight schools, would hide the optimum. Both optima are measured by the same ELBO.
Times are of a compiled fit after its first call, the two libraries in turn; then a population of fits: one vectorised program of
ours, NumPyro's fits one after the other, and NumPyro's vectorised.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro import infer
from numpyro.infer.autoguide import AutoNormal

from vaex import inference
from vaex.distributions import Normal
from vaex.results.compare import aligned

RATE, SCALE = 0.01, 0.1  # of Adam at first, and of both families at the start
EFFECTS = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin 1981
ERRORS = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


class Problem(NamedTuple):
    """One model, written twice: the log-density with its supports, and NumPyro's function."""

    log_density: Callable[[Any], jax.Array]
    supports: dict[str, inference.Support]
    model: Callable[[], None]


def eight_schools() -> Problem:
    """Rubin's hierarchical model, non-centred."""

    def log_density(p: dict[str, jax.Array]) -> jax.Array:
        prior = Normal(0.0, 5.0, event_ndims=0).log_prob(p["mean"])
        prior += jnp.log(2 / (5 * jnp.pi)) - jnp.log1p(jnp.square(p["spread"] / 5.0))
        prior += Normal(jnp.zeros(8), 1.0).log_prob(p["deviation"])
        return prior + Normal(p["mean"] + p["spread"] * p["deviation"], ERRORS).log_prob(EFFECTS)

    def model() -> None:
        mean = numpyro.sample("mean", dist.Normal(0.0, 5.0))
        spread = numpyro.sample("spread", dist.HalfCauchy(5.0))
        deviation = numpyro.sample("deviation", dist.Normal(jnp.zeros(8), 1.0).to_event(1))
        numpyro.sample("effects", dist.Normal(mean + spread * deviation, ERRORS).to_event(1), obs=EFFECTS)

    supports = {"mean": inference.real(), "spread": inference.positive(), "deviation": inference.real(8)}
    return Problem(log_density, supports, model)


def logistic_regression(count: int = 500, size: int = 20) -> Problem:
    """Synthetic labels, a standard normal prior."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, size)).astype(np.float32)
    y = jnp.asarray(rng.uniform(size=count) < 1 / (1 + np.exp(-x @ rng.normal(size=size))), jnp.float32)
    features = jnp.asarray(x)

    def log_density(p: dict[str, jax.Array]) -> jax.Array:
        logits = features @ p["weights"]
        return Normal(jnp.zeros(size), 1.0).log_prob(p["weights"]) + jnp.sum(y * logits - jax.nn.softplus(logits))

    def model() -> None:
        weights = numpyro.sample("weights", dist.Normal(jnp.zeros(size), 1.0).to_event(1))
        numpyro.sample("labels", dist.Bernoulli(logits=features @ weights).to_event(1), obs=y)

    return Problem(log_density, {"weights": inference.real(size)}, model)


PROBLEMS = {"eight schools": eight_schools, "logistic regression": logistic_regression}
Fit = Callable[[jax.Array], dict[str, jax.Array]]


def fits(problem: Problem, steps: int, num_samples: int) -> tuple[inference.MeanField, Fit, Fit]:
    """Our family, and functions of a key that fit it: ours and NumPyro's, with parameters as ours."""
    family = inference.MeanField(problem.supports, scale=SCALE)
    rate = optax.cosine_decay_schedule(RATE, steps)

    def ours(key: jax.Array) -> dict[str, jax.Array]:
        params, _ = inference.fit(
            key,
            problem.log_density,
            family,
            objective=inference.reverse_kl("reparameterized"),
            steps=steps,
            optimizer=optax.adam(rate),
            num_samples=num_samples,
        )
        return params

    def theirs(key: jax.Array) -> dict[str, jax.Array]:
        guide = AutoNormal(problem.model, init_scale=SCALE, init_loc_fn=infer.init_to_value(values=_zeros(problem)))
        loss: Any = infer.Trace_ELBO(num_particles=num_samples)
        svi = infer.SVI(problem.model, guide, optax.adam(rate), loss)
        params = svi.run(key, steps, progress_bar=False).params
        sites = sorted(problem.supports)  # the order of a dictionary's leaves
        parts = {
            kind: jnp.concatenate([jnp.ravel(params[f"{site}_auto_{kind}"]) for site in sites])
            for kind in ("loc", "scale")
        }
        return {"loc": parts["loc"], "log_scale": jnp.log(parts["scale"])}

    return family, ours, theirs


def _zeros(problem: Problem) -> dict[str, jax.Array]:
    """Where both begin: the unconstrained vector zero."""
    space = inference.space(problem.supports)
    return space.constrain(jnp.zeros(space.size))[0]


def seconds(*functions: Callable[[], Any], repeats: int) -> list[float]:
    """Medians of the functions' times, called in turn after one call of each."""
    times: list[list[float]] = [[] for _ in functions]
    for round_number in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(function())
            if round_number:
                taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in times]


def compare(name: str, flags: argparse.Namespace) -> list[list[str]]:
    """Rows of one problem."""
    problem = PROBLEMS[name]()
    family, ours, theirs = fits(problem, flags.steps, flags.num_samples)
    key = jax.random.key(0)
    compiled = [jax.jit(ours), jax.jit(theirs)]
    elbos = []
    for fit in compiled:
        diagnosis = inference.diagnose(jax.random.key(1), problem.log_density, family, fit(key), num_samples=100_000)
        elbos.append(f"{diagnosis.elbo:.3f} +- {diagnosis.elbo_error:.3f}")
    single = seconds(*(lambda fit=fit: fit(key) for fit in compiled), repeats=flags.repeats)
    keys = jax.random.split(jax.random.key(2), flags.population)
    many, vectorised = jax.jit(jax.vmap(ours)), jax.jit(jax.vmap(theirs))
    population = seconds(
        lambda: many(keys),
        lambda: [compiled[1](one) for one in keys],
        lambda: vectorised(keys),
        repeats=max(1, flags.repeats // 3),
    )
    per_step = [f"{1e6 * value / flags.steps:.1f}" for value in single]
    return [
        [name, "vaex", elbos[0], per_step[0], f"{population[0]:.2f}"],
        ["", "NumPyro", elbos[1], per_step[1], f"{population[1]:.2f} in turn, {population[2]:.2f} vectorised"],
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"steps": 4000, "num_samples": 16, "population": 64, "repeats": 9}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    flags = parser.parse_args(arguments)
    header = ["model", "library", "ELBO", "us a step", f"s for {flags.population} fits"]
    print(aligned([header, *(row for name in PROBLEMS for row in compare(name, flags))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
