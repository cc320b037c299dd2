r"""Hamiltonian VAE: leapfrog steps through the decoder move the encoder's draw towards the posterior p(z|x).

Objective, in nats per example: the negative elbo of z and a momentum,
:math:`-\mathbb E[\log p(x, z_K) + \log N(\rho_K; 0, I) - \log q(z_0|x) - \log N(\gamma; 0, I)]`, where K leapfrog steps of
:math:`-\log p(x, z) + \tfrac12|\rho|^2` lead from :math:`z_0\sim q(z_0|x)` and :math:`\rho_0 = \gamma/\sqrt{\beta_0}` to
:math:`(z_K, \rho_K)`, each tempered by :math:`\sqrt{\beta_{k-1}/\beta_k}`. Step sizes and :math:`\beta_0` are learned. The paper
replaces :math:`\log N(\gamma)` by its mean, which changes neither the bound nor a gradient.

Source: Caterini, Doucet & Sejdinovic 2018, Hamiltonian variational auto-encoder, algorithm 1 and eq. 9.
Command: ``python experiments/run.py --model=hamiltonian_vae --steps=1000``
Result: digits, test: elbo -88.7, log-likelihood -84.8 (K = 100); ``vae`` after as many steps: -89.3 and -85.7. After 4,000 steps it
has overfitted the 1,397 digits: log-likelihood -103.9.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.latent import Terms
from vaex.models.priors import _hamiltonian as hamiltonian
from vaex.plots.records import Scatter
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "leapfrog_steps": 2}
DRAWS = 500  # in the figure


@options
class Config(gaussian.PosteriorConfig):
    """Options of the Hamiltonian VAE."""

    leapfrog_steps: int = option(3, low=1, doc="Leapfrog steps K; each takes a gradient of the decoder.")


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and of the leapfrog."""

    max_step_size: Scalar = hparam(0.5, low=1e-06, doc="Bound of the leapfrog's learned step sizes.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the Hamiltonian VAE for data of this spec."""
    d = config.latent_dim
    start = gaussian.gaussian_posterior(config.posterior, d)
    posterior = hamiltonian.hamiltonian_posterior(start, d, config.leapfrog_steps)
    components = latent.build_components(config, spec, posterior, latent.standard_prior(d))
    figures = {"leapfrog": lambda *args: draw_posterior(components, *args)} if d > 1 else {}
    return gaussian.monte_carlo_recipe(config, components, diagnostics, figures)


def diagnostics(terms: Terms) -> dict[str, jax.Array]:
    """The mean of the learned step sizes, and the learned first inverse temperature."""
    step_size, schedule = terms.posterior.step_size, terms.posterior.inverse_temperatures
    return {"step_size": jnp.mean(step_size), "first_inverse_temperature": schedule[0]}


def draw_posterior(
    components: latent.Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> list[Scatter]:
    """Draws of one example's encoder, and where the leapfrog steps lead from them, in the first two latents."""
    posterior = components.posterior(variables.params["vae"], hparams, {"x": batch["x"][:1]})
    start_key, momentum_key = jax.random.split(key)
    z = posterior.start.sample(start_key, (DRAWS,))
    moved, _ = posterior.move(z, jax.random.normal(momentum_key, z.shape))
    points = {"before": z, "after": moved}
    return [Scatter(p[:, 0, :2], None, "z0", "z1", f"One posterior {name} its flow") for name, p in points.items()]
