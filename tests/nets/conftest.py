"""Parameters from NumPy: compiled random number generators would take most of the time of these tests."""

import jax
import numpy as np
import pytest


@pytest.fixture
def filled():
    """Return a function (module, *inputs, members=()) -> variables of a module: kernels of variance 1 / fan-in, random biases."""

    def fill(module, *inputs, members=()):
        generator = np.random.default_rng(0)

        def leaf(struct):
            fan_in = np.prod(struct.shape[:-1], initial=1.0)
            return (generator.standard_normal((*members, *struct.shape)) / fan_in**0.5).astype(struct.dtype)

        return jax.tree.map(leaf, jax.eval_shape(module.init, jax.random.key(0), *inputs))

    return fill
