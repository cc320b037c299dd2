"""The laws run over every flow of the table."""

import jax
import pytest
from flow_table import FLOWS


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Every program here runs once: without LLVM's optimiser it is ready in a third of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(params=FLOWS)
def flow(request):
    return FLOWS[request.param]
