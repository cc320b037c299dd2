"""The networks of a ladder of latents: an upward pass without noise, whose statistics the way down merges with the priors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vaex.nets.activations import activation_function, soft_clip
from vaex.nets.residual_cells import LOG_SCALE_LIMIT, drawn
from vaex.nets.top_down import TopDownPass

STATISTICS_DECAY, EPSILON = 0.99, 1e-3  # of the batch statistics: decay per step, and what is added to variances


@dataclass(frozen=True)
class LadderNetwork:
    """Pure functions of a tree of parameters; two dense layers from each latent layer to the next, in both directions.

    Attributes:
      shape: of an example.
      hidden: widths, from the data up.
      latents: entries of each layer's z, from the data up.
      outputs: numbers per value of the output.
      activation: name, see ``activation_function``.
      normalized: whether the upward pass normalises by the moments of the batch; evaluation uses running ones.
    Example:
      >>> LadderNetwork((8, 8, 1), hidden=(32, 16), latents=(4, 2), outputs=1).sizes
      (2, 4)
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    latents: tuple[int, ...]
    outputs: int
    activation: str = "leaky_relu"
    normalized: bool = True

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each layer's z, from the top."""
        return self.latents[::-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers, by their entries."""
        return tuple(f"{size} latents" for size in self.sizes)

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Parameters, and the running statistics of batches."""
        before, values = (math.prod(self.shape), *self.hidden), math.prod(self.shape)
        params: dict[str, Any] = {"output": _dense(self.latents[0], self.hidden[0], values * self.outputs)}
        statistics = {}
        for index, (width, size) in enumerate(zip(self.hidden, self.latents, strict=True)):
            params[f"up_{index}"] = up = _dense(before[index], width, 2 * size)
            for layer in ("first", "second") if self.normalized else ():
                up[layer]["gain"] = jnp.zeros(width)  # beside one
                statistics[f"up_{index}_{layer}"] = {"mean": jnp.zeros(width), "variance": jnp.ones(width)}
            if index:
                down = _dense(size, self.hidden[index - 1], 2 * self.latents[index - 1])
                down["last"]["kernel"] *= 0.0  # all priors start as the standard normal
                params[f"down_{index - 1}"] = down
        return drawn(key, params), statistics

    def bottom_up(
        self, params: Any, statistics: Any, x: jax.Array, *, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], Any]:
        """Mean and log scale that x [b, *shape] alone suggests for each layer, [b, 2 d] from the data up; the next statistics."""
        h, found, after = x.reshape(len(x), -1), [], {}
        for index in range(len(self.hidden)):
            own = params[f"up_{index}"]
            for layer in ("first", "second"):
                name, h = f"up_{index}_{layer}", h @ own[layer]["kernel"]
                if self.normalized:
                    moments = (
                        {"mean": jnp.mean(h, axis=0), "variance": jnp.var(h, axis=0)} if train else statistics[name]
                    )
                    scale = (1.0 + own[layer]["gain"]) * jax.lax.rsqrt(moments["variance"] + EPSILON)
                    h = (h - moments["mean"]) * scale
                    after[name] = jax.tree.map(_tracked, statistics[name], moments) if train else moments
                h = activation_function(self.activation)(h + own[layer]["bias"])
            found.append(_affine(own["last"], h))
        return tuple(found), after

    def top_down(
        self, params: Any, code: jax.Array, activations: tuple[jax.Array, ...] | None, source: str
    ) -> TopDownPass:
        """The way down; see ``TopDownNetwork.top_down``. The posterior is the product of what x suggests and the prior, by their
        precisions."""
        z, stop, found = code[..., :0], 0, []
        for index in reversed(range(len(self.latents))):
            size = self.latents[index]
            start, stop = stop, stop + size
            if index == len(self.latents) - 1:
                p_mean = p_log_scale = jnp.zeros((*code.shape[:-1], size))
            else:
                p_mean, p_log_scale = _moments(self._through(params[f"down_{index}"], z))
            q_mean = q_log_scale = None
            if activations is not None:
                q_mean, q_log_scale = _moments(jnp.broadcast_to(activations[index], (*code.shape[:-1], 2 * size)))
                if index < len(self.latents) - 1:
                    q_mean, q_log_scale = gaussian_product(q_mean, q_log_scale, p_mean, p_log_scale)
            z = code[..., start:stop]
            if source != "given":
                mean, log_scale = (p_mean, p_log_scale) if source == "prior" else (q_mean, q_log_scale)
                assert mean is not None and log_scale is not None  # a posterior is asked for with activations
                z = mean + jnp.exp(log_scale) * z
            found.append((z, p_mean, p_log_scale, q_mean, q_log_scale))
        joined: Any = [None if parts[0] is None else jnp.concatenate(parts, -1) for parts in zip(*found, strict=True)]
        return TopDownPass(z, *joined)

    def output(self, params: Any, features: jax.Array) -> jax.Array:
        """The lowest layer's z [..., d] as [..., *shape, outputs], the last two axes joined."""
        raw = self._through(params["output"], features)
        return raw.reshape(*features.shape[:-1], *self.shape[:-1], self.shape[-1] * self.outputs)

    def _through(self, params: Any, z: jax.Array) -> jax.Array:
        for layer in ("first", "second"):
            z = activation_function(self.activation)(_affine(params[layer], z))
        return _affine(params["last"], z)


def gaussian_product(mean: jax.Array, log_scale: jax.Array, other_mean: jax.Array, other_log_scale: jax.Array) -> Any:
    """Mean and log scale of the product of two normal densities, elementwise: precisions add up.

    Example:
      >>> [float(one) for one in gaussian_product(jnp.array(1.0), jnp.array(0.0), jnp.array(3.0), jnp.array(0.0))]
      [2.0, -0.3465735912322998]

    References: Sonderby et al. 2016, eqs. 17 and 18.
    """
    share = jax.nn.sigmoid(2.0 * (other_log_scale - log_scale))  # of the first in the summed precision
    return other_mean + share * (mean - other_mean), -0.5 * jnp.logaddexp(-2.0 * log_scale, -2.0 * other_log_scale)


def _dense(inputs: int, width: int, outputs: int) -> dict[str, Any]:
    """Standard deviations of the parameters of two layers and an affine map."""
    sizes = {"first": (inputs, width), "second": (width, width), "last": (width, outputs)}
    return {
        name: {"kernel": jnp.full(shape, shape[0] ** -0.5), "bias": jnp.zeros(shape[1])}
        for name, shape in sizes.items()
    }


def _affine(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]


def _moments(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, log_scale = jnp.split(raw, 2, axis=-1)
    return mean, soft_clip(log_scale, LOG_SCALE_LIMIT)


def _tracked(running: jax.Array, batch: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(STATISTICS_DECAY * running + (1.0 - STATISTICS_DECAY) * batch)
