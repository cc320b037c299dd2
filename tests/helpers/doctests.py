"""Examples in docstrings that compile for seconds: they run with the slow tests."""

from __future__ import annotations

import pytest

SLOW = frozenset(
    {
        "vaex.api.front_door.build",
        "vaex.data.synthetic.sprites.render",
        "vaex.data.synthetic.sprites.render_values",
        "vaex.distributions.discretized_logistic.DiscretizedLogistic",
        "vaex.distributions.discretized_mixture.DiscretizedLogisticMixture",
        "vaex.distributions.mixture.Mixture",
        "vaex.divergences.aggregate_posterior.aggregate_densities",
        "vaex.divergences.aggregate_posterior.decompose_kl",
        "vaex.divergences.monte_carlo.monte_carlo_kl",
        "vaex.estimators.pathwise.doubly_reparameterized",
        "vaex.flows._base.params_from_vector",
        "vaex.flows.autoregressive.InverseAutoregressive",
        "vaex.flows.coupling.AffineCoupling",
        "vaex.flows.coupling.SplineCoupling",
        "vaex.flows.sylvester.Sylvester",
        "vaex.nets.transformer.sample_codes",
        "vaex.plots.charts.draw_panels",
        "vaex.quantizers.kmeans.kmeans_codebook",
    }
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name in SLOW:
            item.add_marker("slow")
