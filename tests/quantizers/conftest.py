"""Most programs here run once: without LLVM's optimiser they are ready in a third of the time."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
