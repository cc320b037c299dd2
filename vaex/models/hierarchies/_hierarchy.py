"""The shared builder of models whose latents are layers, with priors given the layers above and posteriors given these and x.

A code is the vector of all latents, those of the top layer first. Networks are as ``vaex.nets.TopDownNetwork``: ``sizes``
and ``names`` of the layers, ``init``, ``bottom_up``, ``top_down`` and ``output``.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex import distributions, divergences
from vaex.configuration import hparam, hyperparameters, options
from vaex.core import Batch, FigureKey, Latents, Model, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.data.transforms import binarize
from vaex.distributions import Distribution
from vaex.distributions.family import BaseDistribution, family, static
from vaex.models import latent
from vaex.models.latent import Components
from vaex.models.likelihoods import Likelihood
from vaex.models.networks import BaseConfig
from vaex.nets import HierarchicalNetwork, Source, TopDownPass
from vaex.plots.records import Bars, Grid
from vaex.schedules import Scalar

COLUMNS, ROWS = 10, 8  # of a figure, at most
TEMPERATURES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.4)


@options
class Config(BaseConfig):
    """Static choices of every model with layers of latents."""


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of ``hierarchy``."""

    beta: Scalar = hparam(1.0, low=0.0, doc="Weight of the KL; a ramp warms it up.")
    sample_temperature: Scalar = hparam(
        1.0, low=0.0, doc="Temperature of samples, which multiplies the prior's scales."
    )
    skip_norm: Scalar | None = hparam(
        None,
        low=1e-12,
        off=math.inf,
        doc="Steps whose gradient has a larger norm, or one that is not finite, change nothing; inf is off.",
    )


@family
class TopDownPosterior(BaseDistribution):
    """q(z|x) as the product over layers of q(z_l|z above, x), of codes [*batch, d].

    Args:
      params: of the network.
      activations: of x at each level, from the network's bottom-up pass, [b, ...] each.
      network: static.
    """

    params: PyTree
    activations: tuple[jax.Array, ...]
    network: HierarchicalNetwork = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the examples."""
        return np.shape(self.activations[0])[:1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All latents."""
        return (sum(self.network.sizes),)

    @property
    def mean(self) -> jax.Array:
        """Each layer's conditional mean, the layers above being at theirs, [b, d]."""
        return self._down(jnp.zeros(self.batch_shape + self.event_shape), "posterior").z

    @property
    def variance(self) -> jax.Array:
        """Conditional variances where the layers above are at their means, [b, d]."""
        top_down = self._down(jnp.zeros(self.batch_shape + self.event_shape), "posterior")
        return posterior_at(top_down).variance

    def sample_and_log_prob(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """A sample and its log-density in one top-down pass."""
        noise = jax.random.normal(key, sample_shape + self.batch_shape + self.event_shape)
        top_down = self._down(noise, "posterior")
        return top_down.z, posterior_at(top_down).log_prob(top_down.z)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._down(jax.random.normal(key, shape), "posterior").z

    def _log_prob(self, value: jax.Array) -> jax.Array:
        return posterior_at(self._down(value, "given")).log_prob(value)

    def _down(self, code: jax.Array, source: Source) -> TopDownPass:
        return self.network.top_down(self.params, code, self.activations, source)


@family
class TopDownPrior(BaseDistribution):
    """p(z) as the product over layers of p(z_l|z above), of codes [d].

    Args:
      params: of the network.
      temperature: multiplies the scales in ``sample``, a number or one for each latent [d]; ``log_prob`` is of 1.
      network: static.
    """

    params: PyTree
    temperature: jax.Array | float
    network: HierarchicalNetwork = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Empty: codes are independent."""
        return ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All latents."""
        return (sum(self.network.sizes),)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        noise = self.temperature * jax.random.normal(key, (math.prod(shape[:-1]), shape[-1]))
        return self.network.top_down(self.params, noise, None, "prior").z.reshape(shape)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        code = value if value.ndim > 1 else value[None]
        return prior_at(self.network.top_down(self.params, code, None, "given")).log_prob(value)


def prior_at(top_down: TopDownPass) -> distributions.Normal:
    """The priors of all layers given the layers above, at the z of one top-down pass."""
    return distributions.Normal(top_down.prior_mean, log_scale=top_down.prior_log_scale)


def posterior_at(top_down: TopDownPass) -> distributions.Normal:
    """The posteriors of all layers given the layers above, at the z of one top-down pass."""
    assert top_down.posterior_mean is not None and top_down.posterior_log_scale is not None  # the pass saw activations
    return distributions.Normal(top_down.posterior_mean, log_scale=top_down.posterior_log_scale)


def kl_by_layer(network: HierarchicalNetwork, top_down: TopDownPass) -> list[jax.Array]:
    """KL of each layer's posterior to its prior in closed form, given the layers above as they were drawn; [...] each, nats."""
    posterior, prior = posterior_at(top_down), prior_at(top_down)
    moments = posterior.loc, posterior.log_scale, prior.loc, prior.log_scale
    stops = itertools.accumulate(network.sizes)
    spans = [slice(stop - size, stop) for stop, size in zip(stops, network.sizes, strict=True)]
    return [divergences.gaussian_kl(*(moment[..., span] for moment in moments)) for span in spans]


def all_params(variables: Variables) -> dict[str, PyTree]:
    """The tree that the components take: the group's parameters, and the statistics of batches that evaluation uses."""
    return {**variables.params["vae"], "statistics": variables.state}


def build_components(network: HierarchicalNetwork, likelihood: Likelihood) -> Components:
    """The components of a model with this network; their parameters are ``all_params``."""

    def init(key: jax.Array, batch: Batch) -> PyTree:
        params, statistics = network.init(key)
        return {"network": params, "likelihood": likelihood.init(), "statistics": statistics}

    def posterior(params: PyTree, hparams: PyTree, batch: Batch) -> TopDownPosterior:
        activations, _ = network.bottom_up(params["network"], params["statistics"], batch["x"])
        return TopDownPosterior(params["network"], activations, network)

    def prior(params: PyTree, hparams: PyTree) -> TopDownPrior:
        return TopDownPrior(params["network"], hparams.sample_temperature, network)

    def decode(params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        top_down = network.top_down(params["network"], z if z.ndim > 1 else z[None], None, "given")
        likely = decoded(network, likelihood, params, hparams, top_down)
        return likely if z.ndim > 1 else jax.tree.map(lambda leaf: leaf[0], likely)

    return Components(init, posterior, prior, decode, likelihood)


def decoded(
    network: HierarchicalNetwork,
    likelihood: Likelihood,
    params: PyTree,
    hparams: PyTree,
    top_down: TopDownPass,
) -> Distribution:
    """Return p(x|z) of a top-down pass."""
    raw = network.output(params["network"], top_down.features)
    raw = raw.reshape(*raw.shape[:-1], -1, likelihood.channels)
    return likelihood.distribution(params["likelihood"], hparams.sigma, raw)


def model(network: HierarchicalNetwork, components: Components) -> Model:
    """The model of these parts, trained on the negative elbo with the KL of each layer in closed form, weighted by beta."""

    def init(key: jax.Array, batch: Batch) -> Variables:
        params = components.init(key, batch)
        return Variables(
            {"vae": {name: value for name, value in params.items() if name != "statistics"}}, params["statistics"]
        )

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params, x = all_params(variables), batch["x"]
        activations, statistics = network.bottom_up(params["network"], params["statistics"], x, train=train)
        noise = jax.random.normal(key, (len(x), sum(network.sizes)))
        top_down = network.top_down(params["network"], noise, activations, "posterior")
        log_px = decoded(network, components.likelihood, params, hparams, top_down).log_prob(x)
        layers = kl_by_layer(network, top_down)
        kl = jnp.sum(jnp.stack(layers), axis=0)
        metrics = latent.metrics(components.likelihood, log_px, kl) | dict(
            zip(layer_names(network), layers, strict=True)
        )
        return Outcome({"vae": jnp.mean(hparams.beta * kl - log_px)}, statistics, metrics)

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        """Log weights in one top-down pass, where posterior, prior and decoder alone would take three."""
        params, x = all_params(variables), batch["x"]
        activations, _ = network.bottom_up(params["network"], params["statistics"], x)
        noise = jax.random.normal(key, (num_samples, len(x), sum(network.sizes)))
        top_down = network.top_down(params["network"], noise, activations, "posterior")
        log_px = decoded(network, components.likelihood, params, hparams, top_down).log_prob(x)
        return log_px + prior_at(top_down).log_prob(top_down.z) - posterior_at(top_down).log_prob(top_down.z)

    hierarchy = latent.model(components, objective, params_of=all_params)._replace(init=init)
    return hierarchy._replace(log_weights=log_weights) if components.likelihood.density else hierarchy


def layer_names(network: HierarchicalNetwork) -> list[str]:
    """Names of the metrics: layer_1_kl is that of the top layer."""
    digits = len(str(len(network.sizes)))
    return [f"layer_{index + 1:0{digits}d}_kl" for index in range(len(network.sizes))]


def recipe(
    network: HierarchicalNetwork, config: Config, spec: Spec, likelihood: Likelihood, *, compares_examples: bool = False
) -> Recipe:
    """The recipe of a model with this network, and its figures; ``compares_examples``: see ``Model``."""
    components = build_components(network, likelihood)
    figures = {
        "kl_by_layer": lambda *args: draw_kl(network, components, spec, *args),
        "temperatures": lambda *args: draw_temperatures(network, components, *args),
        "layers_at_mean": lambda *args: draw_layers_at_mean(network, components, *args),
    }
    blocks = (Latents("free", sum(network.sizes)),)
    hierarchy = model(network, components)._replace(compares_examples=compares_examples)
    return latent.single_stage(hierarchy, config, likelihood, figures, blocks)


def draw_kl(
    network: HierarchicalNetwork,
    components: Components,
    spec: Spec,
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Bars:
    """The KL of each layer, from the top."""
    x = batch["x"]
    if spec.binarize == "dynamic":
        x = binarize(key, x)

    @jax.jit
    def layers_of(params: PyTree, x: jax.Array) -> list[jax.Array]:
        posterior = components.posterior(params, hparams, {"x": x})
        noise = jax.random.normal(
            jax.random.fold_in(key, FigureKey.LATENTS), posterior.batch_shape + posterior.event_shape
        )
        return kl_by_layer(network, posterior._down(noise, "posterior"))

    layers = layers_of(all_params(variables), x)
    heights = [float(jnp.mean(layer)) for layer in layers]
    labels = tuple(f"{index + 1}: {name}" for index, name in enumerate(network.names))
    return Bars(heights, labels, "layer, from the top", "nats", f"KL by layer, mean of {len(x)} examples")


def draw_temperatures(
    network: HierarchicalNetwork,
    components: Components,
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Samples at falling temperatures, a column sharing its noise."""
    rows = tuple(f"temperature {temperature:g}" for temperature in TEMPERATURES)
    images = _samples(
        network, components, key, variables, hparams, [jnp.full((), temperature) for temperature in TEMPERATURES]
    )
    return Grid(images, rows, (), "Samples by temperature: the same noise in each column")


def draw_layers_at_mean(
    network: HierarchicalNetwork,
    components: Components,
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Samples whose upper layers are drawn and whose lower ones are at their mean; from row to row fewer are."""
    count = len(network.sizes)
    drawn = sorted({round(index * count / (ROWS - 1)) for index in range(ROWS)})
    scales = [jnp.repeat(jnp.arange(count) < top, jnp.array(network.sizes), total_repeat_length=sum(network.sizes))
              for top in drawn]  # fmt: skip
    images = _samples(network, components, key, variables, hparams, scales)
    rows = tuple(f"{top} of {count} layers drawn" for top in drawn)
    return Grid(images, rows, (), "Samples with the lower layers at their mean: the same noise in each column")


def _samples(
    network: HierarchicalNetwork,
    components: Components,
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    temperatures: list[jax.Array],
) -> jax.Array:
    """Images [temperatures, columns, h, w, c] of samples, each row at its temperature, all of the same noise."""

    @jax.jit
    def row(params: PyTree, temperature: jax.Array) -> jax.Array:
        prior = TopDownPrior(params["network"], temperature, network)
        return components.decode(params, hparams, prior.sample(key, (COLUMNS,)), {}).mean

    return jnp.stack([row(all_params(variables), temperature.astype(jnp.float32)) for temperature in temperatures])
