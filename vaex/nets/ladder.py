"""The network of a ladder VAE: a bottom-up pass without noise, whose Gaussians the top-down pass multiplies with the priors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vaex.core import PyTree
from vaex.nets.activations import activation_function
from vaex.nets.initializers import draw_parameters
from vaex.nets.latent_layer import Moments, latents_from_code, normal_moments
from vaex.nets.protocols import Source, TopDownPass
from vaex.nets.top_down import join_layers

STATISTICS_DECAY = 0.99  # per step, of the running statistics of batches
EPSILON = 1e-3  # added to the variances of batches


@dataclass(frozen=True)
class LadderNetwork:
    """Hierarchical network of dense layers, two between one layer of latents and the next; see ``HierarchicalNetwork``.

    Attributes:
      shape: of an example.
      hidden: widths, from the data up.
      latents: entries of z in each layer, from the data up.
      outputs: raw numbers per value of the output.
      activation: name, see ``activation_function``.
      batch_norm: the bottom-up pass normalises by the moments of the batch, and in evaluation by running ones.
      read: x [b, *shape] -> what the first layer reads; None for x itself.
    Example:
      >>> LadderNetwork((8, 8, 1), hidden=(32, 16), latents=(4, 2), outputs=1).sizes
      (2, 4)

    References: Sonderby et al. 2016, section 2.
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    latents: tuple[int, ...]
    outputs: int
    activation: str = "leaky_relu"
    batch_norm: bool = True
    read: Callable[[jax.Array], jax.Array] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of z in each layer, from the top."""
        return self.latents[::-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Entries of each layer, from the top, as "8 latents"."""
        return tuple(f"{size} latents" for size in self.sizes)

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Return the parameters, and the running statistics of batches."""
        values, example = math.prod(self.shape), jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        inputs = (values if self.read is None else jax.eval_shape(self.read, example).size, *self.hidden)
        deviations: dict[str, PyTree] = {
            "output": _dense_deviations(self.latents[0], self.hidden[0], values * self.outputs)
        }
        statistics = {}
        for index, (width, size) in enumerate(zip(self.hidden, self.latents, strict=True)):
            deviations[f"up_{index}"] = up = _dense_deviations(inputs[index], width, 2 * size)
            for layer in ("first", "second") if self.batch_norm else ():
                up[layer]["gain"] = jnp.zeros(width)  # on top of 1
                statistics[f"up_{index}_{layer}"] = {"mean": jnp.zeros(width), "variance": jnp.ones(width)}
            if index:
                down = _dense_deviations(size, self.hidden[index - 1], 2 * self.latents[index - 1])
                down["last"]["kernel"] *= 0.0  # all priors start as the standard normal
                deviations[f"down_{index - 1}"] = down
        return draw_parameters(key, deviations), statistics

    def bottom_up(
        self, params: PyTree, statistics: PyTree, x: jax.Array, *, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], PyTree]:
        """Return raw mean and log scale of each layer from x [b, *shape] alone, [b, 2 d] from the data up; the next statistics."""
        read = x if self.read is None else self.read(x)
        h, activations, next_statistics = read.reshape(read.shape[0], -1), [], {}
        for index in range(len(self.hidden)):
            dense = params[f"up_{index}"]
            for layer in ("first", "second"):
                h = h @ dense[layer]["kernel"]
                if self.batch_norm:
                    name = f"up_{index}_{layer}"
                    h, next_statistics[name] = _normalize(h, dense[layer]["gain"], statistics[name], train)
                h = activation_function(self.activation)(h + dense[layer]["bias"])
            activations.append(_affine(dense["last"], h))
        return tuple(activations), next_statistics

    def top_down(
        self, params: PyTree, code: jax.Array, activations: tuple[jax.Array, ...] | None, source: Source
    ) -> TopDownPass:
        """Return latents, priors and posteriors of every layer; see ``HierarchicalNetwork.top_down``.

        The posterior of a layer is the normalised product of the Gaussian from the bottom-up pass and the prior.
        """
        z, stop, layers = code[..., :0], 0, []
        for index in reversed(range(len(self.latents))):
            size, top = self.latents[index], index == len(self.latents) - 1
            start, stop = stop, stop + size
            if top:
                prior = (zeros := jnp.zeros((*code.shape[:-1], size)), zeros)
            else:
                prior = normal_moments(self._dense(params[f"down_{index}"], z))
            posterior: Moments | None = None
            if activations is not None:
                posterior = normal_moments(jnp.broadcast_to(activations[index], (*code.shape[:-1], 2 * size)))
                posterior = posterior if top else gaussian_product(*posterior, *prior)
            z = latents_from_code(code[..., start:stop], source, prior, posterior)
            posterior_mean, posterior_log_scale = posterior or (None, None)
            layers.append((z, *prior, posterior_mean, posterior_log_scale))
        return TopDownPass(z, *join_layers(layers, code.shape))

    def output(self, params: PyTree, features: jax.Array) -> jax.Array:
        """Return [..., *shape] with ``outputs`` times the channels, from the z of the lowest layer [..., d]."""
        raw = self._dense(params["output"], features)
        return raw.reshape(*features.shape[:-1], *self.shape[:-1], self.shape[-1] * self.outputs)

    def _dense(self, params: PyTree, z: jax.Array) -> jax.Array:
        """Two hidden layers and an affine map."""
        for layer in ("first", "second"):
            z = activation_function(self.activation)(_affine(params[layer], z))
        return _affine(params["last"], z)


def gaussian_product(
    mean: jax.Array, log_scale: jax.Array, other_mean: jax.Array, other_log_scale: jax.Array
) -> Moments:
    """Return mean and log scale of the normalised product of two normal densities, elementwise: precisions add up.

    Example:
      >>> mean, log_scale = gaussian_product(jnp.array(1.0), jnp.array(0.0), jnp.array(3.0), jnp.array(0.0))
      >>> float(mean), round(float(log_scale), 6)
      (2.0, -0.346574)

    References: Sonderby et al. 2016, eqs. 17 and 18.
    """
    share = jax.nn.sigmoid(2.0 * (other_log_scale - log_scale))  # of the first in the summed precision
    return other_mean + share * (mean - other_mean), -0.5 * jnp.logaddexp(-2.0 * log_scale, -2.0 * other_log_scale)


def _dense_deviations(inputs: int, width: int, outputs: int) -> dict[str, dict[str, jax.Array]]:
    """Standard deviations of the parameters of two hidden layers and an affine map."""
    sizes = {"first": (inputs, width), "second": (width, width), "last": (width, outputs)}
    return {
        name: {"kernel": jnp.full(shape, shape[0] ** -0.5), "bias": jnp.zeros(shape[1])}
        for name, shape in sizes.items()
    }


def _affine(params: PyTree, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]


def _normalize(h: jax.Array, gain: jax.Array, running: PyTree, train: bool) -> tuple[jax.Array, PyTree]:
    """Normalise h [b, n] by the moments of the batch, or by the running ones; and return the next running ones."""
    moments = {"mean": jnp.mean(h, axis=0), "variance": jnp.var(h, axis=0)} if train else running
    scale = (1.0 + gain) * jax.lax.rsqrt(moments["variance"] + EPSILON)
    return (h - moments["mean"]) * scale, jax.tree.map(_moving_average, running, moments) if train else moments


def _moving_average(running: jax.Array, batch: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(STATISTICS_DECAY * running + (1.0 - STATISTICS_DECAY) * batch)
