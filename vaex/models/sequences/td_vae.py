r"""TD-VAE: beliefs about the present, learned by looking back from a later time, and jumps of many steps into the future.

A recurrent network makes :math:`b_t` of the frames up to t. For two times :math:`t_1 < t_2` of a sequence, drawn anew each
step with :math:`t_2 - t_1` uniform from 1 to 4, the loss is, in nats per frame,

.. math:: \mathbb E\left[-\log p(x_{t_2}|z_2) + \log p_B(z_2|b_{t_2}) - \log p_T(z_2|z_1, t_2 - t_1)
          + \beta\,\mathrm{KL}(q_S(z_1|z_2, b_{t_1}, b_{t_2})\,\|\,p_B(z_1|b_{t_1}))\right]

with :math:`z_2 \sim p_B(\cdot|b_{t_2})` and :math:`z_1 \sim q_S`: for :math:`\beta = 1`, the paper's, an upper bound on
:math:`-\log p(x_{t_2}|x_{\le t_1})`, which ``prediction_bound`` tells. Beliefs, q_S and p_T have two layers of latents, the lower
given the upper; the KL of each is in closed form at a sample of the one above. Two things are not the paper's: p_T and q_S know
the length of the jump, and the means of p_T are added to :math:`z_1`.

Samples and the log-likelihood are of the chain :math:`p_B(z_0|b_0)\prod_t p_T(z_t|z_{t-1}, 1)\,p(x_t|z_t)`, where :math:`b_0` is
the belief before any frame; its posterior goes back in time from :math:`p_B(z_T|b_T)` by q_S. Predictions begin with the belief
after the last frame that is given and go on in as few jumps as there may be. At the sizes and lengths of training that were tried
it is not what its paper is about: it predicts better frame by frame than in jumps, and ``sequence_vae``, whose decoder also reads a
recurrent state, predicts better at every horizon (benchmarks/RESULTS.md has where the gap arises).

Source: Gregor et al. 2019, Temporal difference variational auto-encoder, eqs. 6 to 8, section 4 (jumps) and appendix (layers).
Command: ``python experiments/sequences.py --models=td_vae``
Result: 16x16, 600 steps of 32 sequences, test: log p of the frame 1, 5 and 10 ahead of bouncing sprites -13.9, -22.6, -32.3; of the
last frame with flips -28.4, -73.4, -83.0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.sequences import _beliefs as beliefs
from vaex.models.sequences import _sequences as sequences
from vaex.models.sequences import _temporal_difference as td
from vaex.models.sequences._layered import LayeredNormal
from vaex.models.sequences._sequences import DEFAULTS, FRAMES
from vaex.schedules import Scalar

__all__ = ["DEFAULTS", "FRAMES", "TINY", "Config", "HParams", "build"]

TINY: dict[str, Any] = sequences.TINY | {"max_jump": 2, "pairs": 2}


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of the TD-VAE."""

    beta: Scalar = hparam(1.0, low=0.0, doc="Weight of KL(q_S || p_B); 1 makes the loss a bound.")


@options
class Config(sequences.Config):
    """Options of the TD-VAE."""

    layers: int = option(2, low=1, doc="Number of layers of a frame's latents, of latent_dim / layers each.")
    max_jump: int = option(4, low=1, doc="Longest jump in training, in frames; jumps are 1 to max_jump frames long.")
    pairs: int = option(8, low=1, doc="Number of pairs of times that are drawn from each sequence.")

    def check(self) -> None:
        super().check()
        if self.latent_dim % self.layers:
            raise UserError(f"--latent_dim={self.latent_dim}: expected a multiple of --layers={self.layers}")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the TD-VAE for data of this spec.

    Raises: UserError for sequences that are shorter than a jump.
    """
    d, r, length, layers = config.latent_dim, config.recurrent, spec.shape[0], config.layers
    frames = sequences.frames(config, spec, d)
    if config.max_jump > length:
        raise UserError(
            f"--max_jump={config.max_jump}: the sequences of {spec.name} have {length} frames; give at most so many"
        )
    gru, size = nets.GRU(r), d // layers
    dense = nets.MLP(config.hidden, 2 * size, config.activation)
    inputs = {"belief": r, "smoothing": d + 2 * r + config.max_jump, "transition": d + config.max_jump}

    def init_params(key: jax.Array, batch: Batch) -> PyTree:
        frames_key, gru_key, *keys = jax.random.split(key, 5)
        maps = {
            name: tuple(
                dense.init(jax.random.fold_in(array, layer), jnp.zeros((1, width + layer * size)))["params"]
                for layer in range(layers)
            )
            for array, (name, width) in zip(keys, inputs.items(), strict=True)
        }
        state, evidence = jnp.zeros((1, r)), jnp.zeros((1, config.hidden[0]))
        return frames.init(frames_key, batch) | maps | {"gru": gru.init(gru_key, state, evidence)["params"]}

    def states(params: PyTree, x: jax.Array) -> jax.Array:
        return nets.hidden_states(gru, params["gru"], frames.encode(params, x))

    def conditionals(params: PyTree, hparams: PyTree) -> td.Conditionals:
        def layered(name: str, *arrays: jax.Array, offset: jax.Array | float = 0.0) -> LayeredNormal:
            shape = jnp.broadcast_shapes(*(array.shape[:-1] for array in arrays))
            joined = [jnp.broadcast_to(array, (*shape, array.shape[-1])) for array in arrays]
            return LayeredNormal(params[name], jnp.concatenate(joined, axis=-1), jnp.asarray(offset), dense, size)

        def one_hot(jump: jax.Array) -> jax.Array:
            return jax.nn.one_hot(jump - 1, config.max_jump)

        return td.Conditionals(
            lambda b: layered("belief", b),
            lambda z2, before, after, jump: layered("smoothing", z2, before, after, one_hot(jump)),
            lambda z1, jump: layered("transition", z1, one_hot(jump), offset=z1),
            lambda z: frames.decode(params, z, hparams),
        )

    training = config.max_jump, config.pairs
    components = beliefs.BeliefComponents(init_params, states, conditionals, frames, (length, d), r, *training)
    return beliefs.recipe(components, config, spec)
