"""Parameters without compiled random number generators, which would take most of these tests' time."""

import jax
import numpy as np
import pytest


@pytest.fixture
def filled():
    """(module, *inputs, members=()) -> variables of the module's shapes: kernels of variance 1 / fan-in, random biases."""

    def fill(module, *inputs, members=()):
        generator = np.random.default_rng(0)

        def leaf(struct):
            fan_in = np.prod(struct.shape[:-1], initial=1.0)
            return (generator.standard_normal((*members, *struct.shape)) / fan_in**0.5).astype(struct.dtype)

        return jax.tree.map(leaf, jax.eval_shape(module.init, jax.random.key(0), *inputs))

    return fill
