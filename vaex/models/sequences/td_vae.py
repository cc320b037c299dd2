r"""TD-VAE: beliefs about the present, learned by looking back from a later time, and jumps of many steps into the future.

A recurrent network makes :math:`b_t` of the frames up to t. For two times :math:`t_1 < t_2` of a sequence, drawn anew each
step, the loss is, in nats per frame,

.. math:: \mathbb E\left[-\log p(x_{t_2}|z_2) + \log p_B(z_2|b_{t_2}) - \log p_T(z_2|z_1, t_2 - t_1)
          + \beta\,\mathrm{KL}(q_S(z_1|z_2, b_{t_1}, b_{t_2})\,\|\,p_B(z_1|b_{t_1}))\right]

with :math:`z_2 \sim p_B(\cdot|b_{t_2})` and :math:`z_1 \sim q_S`: for :math:`\beta = 1` an upper bound on
:math:`-\log p(x_{t_2}|x_{\le t_1})`, which ``prediction_bound`` tells. With that weight :math:`z_1` soon holds where the sprite
will be, told by the future, and jumps of any length end in the same places; so :math:`\beta` is 5. The transition's mean is
:math:`z_1 + (t_2 - t_1) f(z_1, t_2 - t_1)`: what moves evenly is the easiest to learn. As :math:`b_0` is the belief before any
frame, jumps of one step from t = 0 on also make a density of whole sequences, which samples and the log-likelihood are of.

Source: Gregor et al. 2019, Temporal difference variational auto-encoder, eqs. 6 to 8 and section 4 (jumps), with one layer of
latents.
Command: ``python experiments/run.py --model=td_vae``
Result: 3,000 steps, test: log p of the frame 1, 5 and 10 ahead -40.1, -51.2, -57.2; of the last frame with flips -106.7, -278.6,
-325.9; log-likelihood of a sequence -691.1 (K = 100).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import distributions, nets
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.sequences import _beliefs as beliefs
from vaex.models.sequences import _sequences as sequences
from vaex.models.sequences import _temporal_difference as td
from vaex.models.sequences._sequences import DEFAULTS, FRAMES
from vaex.schedules import Scalar

__all__ = ["DEFAULTS", "FRAMES", "TINY", "Config", "HParams", "build"]

TINY: dict[str, Any] = sequences.TINY | {"max_jump": 2, "pairs": 2}


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of the TD-VAE."""

    beta: Scalar = hparam(5.0, low=0.0, doc="Weight of KL(q_S || p_B).")


@options
class Config(sequences.Config):
    """Options of the TD-VAE."""

    max_jump: int = option(10, low=1, doc="Longest jump in training, in frames; jumps are 1 to max_jump frames long.")
    pairs: int = option(4, low=1, doc="Number of pairs of times that are drawn from each sequence.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the TD-VAE for data of this spec.

    Raises: UserError for sequences that are shorter than a jump.
    """
    d, r, length = config.latent_dim, config.recurrent, spec.shape[0]
    frames = sequences.frames(config, spec, d)
    if config.max_jump > length:
        raise UserError(
            f"--max_jump={config.max_jump}: the sequences of {spec.name} have {length} frames; give at most so many"
        )
    gru, dense = nets.GRU(r), sequences.gaussian_map(config)
    inputs = {"belief": r, "smoothing": d + 2 * r + config.max_jump, "transition": d + config.max_jump}

    def init_params(key: jax.Array, batch: Batch) -> PyTree:
        frames_key, gru_key, *keys = jax.random.split(key, 5)
        maps = {
            name: dense.init(array, jnp.zeros((1, width)))["params"]
            for array, (name, width) in zip(keys, inputs.items(), strict=True)
        }
        state, evidence = jnp.zeros((1, r)), jnp.zeros((1, config.hidden[0]))
        return frames.init(frames_key, batch) | maps | {"gru": gru.init(gru_key, state, evidence)["params"]}

    def states(params: PyTree, x: jax.Array) -> jax.Array:
        return nets.hidden_states(gru, params["gru"], frames.encode(params, x))

    def conditionals(params: PyTree, hparams: PyTree) -> td.Conditionals:
        def normal(name: str, *arrays: jax.Array) -> distributions.Normal:
            shape = jnp.broadcast_shapes(*(array.shape[:-1] for array in arrays))
            joined = [jnp.broadcast_to(array, (*shape, array.shape[-1])) for array in arrays]
            return sequences.normal(dense.apply({"params": params[name]}, jnp.concatenate(joined, axis=-1)))

        def moved(z1: jax.Array, jump: jax.Array) -> distributions.Normal:
            by = normal("transition", z1, one_hot(jump))
            return distributions.Normal(z1 + jump[..., None] * by.mean, log_scale=by.log_scale)

        def smoothed(z2: jax.Array, before: jax.Array, after: jax.Array, jump: jax.Array) -> distributions.Normal:
            filtered, by = normal("belief", before), normal("smoothing", z2, before, after, one_hot(jump))
            return distributions.Normal(
                filtered.mean + jnp.exp(filtered.log_scale) * by.mean, log_scale=filtered.log_scale + by.log_scale
            )

        def one_hot(jump: jax.Array) -> jax.Array:
            return jax.nn.one_hot(jump - 1, config.max_jump)

        return td.Conditionals(
            lambda b: normal("belief", b),
            smoothed,
            moved,
            lambda z: frames.decode(params, z, hparams),
        )

    training = config.max_jump, config.pairs
    components = beliefs.BeliefComponents(init_params, states, conditionals, frames, (length, d), r, *training)
    return beliefs.recipe(components, config, spec)
