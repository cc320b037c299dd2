r"""VampPrior VAE: the prior is a mixture of the posterior at learned pseudo-inputs.

Objective, in nats per example: the negative elbo,
:math:`-\mathbb E_{q(z|x)}[\log p(x|z) + \log p(z) - \log q(z|x)]` with :math:`p(z) = \frac1K\sum_k q(z|u_k)`, the
pseudo-inputs :math:`u_k` learned with all else.

Source: Tomczak & Welling 2018, VAE with a VampPrior, eqs. 9 and 10.
Command: ``python experiments/run.py --model=vamp_vae``
Result: digits, test: elbo -96.2, log-likelihood -89.3 (K = 100; ``vae``: -99.7); 66.5 components in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import option, options
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import gaussian
from vaex.models.gaussian import HParams
from vaex.models.latent import Components, Prior
from vaex.plots.records import Grid

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "components": 4}
SHOWN, DRAWS = 12, 4  # pseudo-inputs in the figure, and samples of each


@options
class Config(gaussian.PosteriorConfig):
    """Options of the VampPrior VAE."""

    components: int = option(
        100, low=1, doc="Number of pseudo-inputs, whose posteriors are the components of the prior."
    )
    pseudo_inputs: Literal["examples", "noise"] = option(
        "examples", doc="Initial pseudo-inputs: training examples, or noise with the mean and the spread of these."
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the VampPrior VAE for data of this spec."""

    def inputs(params: PyTree) -> jax.Array:
        """Values of images are kept in [0, 1]."""
        return params["inputs"] if spec.kind == "real" else jnp.clip(params["inputs"], 0.0, 1.0)

    def init(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        return {"inputs": starts(key, batch["x"], config.components, config.pseudo_inputs)}

    def distribution(
        params: PyTree, hparams: PyTree, posterior: Callable[[jax.Array], Distribution]
    ) -> distributions.Mixture:
        return distributions.Mixture(jnp.zeros(config.components), posterior(inputs(params)))

    components = gaussian.build_components(config, spec, Prior(distribution, init))
    figures = {"pseudo_inputs": lambda *args: draw_inputs(components, inputs, *args)}
    return gaussian.monte_carlo_recipe(config, components, gaussian.mixture_components_used, figures)


def starts(key: jax.Array, x: jax.Array, count: int, kind: str) -> jax.Array:
    """``count`` first pseudo-inputs, [count, *shape].

    Where more are wanted than there are examples x [b, *shape], the further ones lie between two of them.
    """
    mean, scale = jnp.mean(x, axis=0), jnp.std(x, axis=0)
    if kind == "noise":
        return mean + scale * jax.random.normal(key, (count, *x.shape[1:]), x.dtype)
    first_key, second_key, share_key = jax.random.split(key, 3)
    first = jax.random.randint(first_key, (max(0, count - len(x)),), 0, len(x))
    second = (first + jax.random.randint(second_key, first.shape, 1, max(2, len(x)))) % len(x)  # another one
    share = jax.random.uniform(share_key, (len(first), *(1,) * (x.ndim - 1)), x.dtype, 0.5, 1.0)
    return jnp.concatenate([x[:count], share * x[first] + (1.0 - share) * x[second]])


def draw_inputs(
    components: Components,
    inputs: Callable[[PyTree], jax.Array],
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Some pseudo-inputs, and below each what the decoder makes of samples of its component of the prior."""
    params = variables.params["vae"]
    every = max(1, len(params["prior"]["inputs"]) // SHOWN)
    shown = inputs(params["prior"])[::every][:SHOWN]
    z = components.posterior(params, hparams, {"x": shown}).sample(key, (DRAWS,))
    images = jnp.concatenate([shown[None], components.decode(params, hparams, z, batch).mean])
    rows = ("pseudo-input", *("sample",) * DRAWS)
    return Grid(images, rows, title="Pseudo-inputs and samples of their components of the prior")
