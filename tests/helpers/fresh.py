"""Models before training, on small random data, for tests of several models."""

import jax
import jax.numpy as jnp
import numpy as np

from vaex.data.spec import Spec
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (4, 4, 1), "binary", levels=2)
REAL = Spec("random", (5,), "real")
BATCH = 8
X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (BATCH, *SPEC.shape)), jnp.float32)}
REALS = {"x": jnp.asarray(3.0 * np.random.default_rng(1).normal(size=(BATCH, 5)), jnp.float32)}
KEY = jax.random.key(0)


class Fresh:
    """Recipe of a model on its TINY config (with ``changes``), its first variables, and hyperparameters at step 0."""

    def __init__(self, module, hparams=None, batch=X, spec=SPEC, **changes):
        self.config = module.Config(**{**module.TINY, **changes})
        self.recipe = module.build(self.config, spec)
        self.model = self.recipe.stages[0].model
        self.hparams = resolve(as_schedules(hparams or module.HParams()), 0)
        self.batch = batch
        self.variables = jax.jit(self.model.init)(KEY, batch)
        self._log_px = jax.jit(lambda v, h, z, b: self.recipe.model.decode(v, h, z, b).log_prob(b["x"]))

    @property
    def params(self):
        return self.variables.params["vae"]

    def replace(self, **params):
        """Replace parameters, such as ``prior=...``."""
        self.variables = self.variables._replace(params={"vae": {**self.params, **params}})
        return self

    def jitter(self, scale=0.3):
        """Move all parameters at random, so that none has a special value."""
        leaves, tree = jax.tree.flatten(self.params)
        keys = jax.random.split(jax.random.key(5), len(leaves))
        moved = [leaf + scale * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
        return self.replace(**jax.tree.unflatten(tree, moved))

    def outcome(self, key=KEY, train=True):
        objective = jax.jit(self.model.objective, static_argnames="train")
        return objective(key, self.variables, self.hparams, self.batch, train=train)

    def encode(self, x=None):
        batch = self.batch if x is None else {"x": x}
        return jax.jit(self.recipe.model.encode)(KEY, self.variables, self.hparams, batch)

    def log_px(self, z):
        """Return log p(x|z) [k, b] at z [k, b, d]."""
        return self._log_px(self.variables, self.hparams, z, self.batch)

    def log_weights(self, k, key=KEY):
        log_weights = jax.jit(self.recipe.model.log_weights, static_argnums=4)
        return log_weights(key, self.variables, self.hparams, self.batch, k)

    def figure(self, name, **batch):
        return self.recipe.figures[name](jax.random.key(3), self.variables, self.hparams, {**self.batch, **batch})

    def gradients(self):
        """Return the gradients of the training loss with respect to the parameters."""

        def loss(params):
            variables = self.variables._replace(params={"vae": params})
            return self.model.objective(KEY, variables, self.hparams, self.batch, train=True).losses["vae"]

        return jax.jit(jax.grad(loss))(self.params)
