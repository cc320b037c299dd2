"""vaex: variational autoencoders in JAX. Pure objectives, exact tests, one command to train, resume and draw.

Every name is resolved on first use, so that ``import vaex`` imports neither jax nor Flax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "elbo": "vaex.bounds",
    "importance_bound": "vaex.bounds",
    "effective_sample_size": "vaex.bounds",
    "gaussian_kl": "vaex.divergences",
    "monte_carlo_kl": "vaex.divergences",
    "bernoulli_log_prob": "vaex.distributions",
    "reparameterize": "vaex.distributions",
    "load": "vaex.runs.trained",
}
_MODULES = (
    "bounds",
    "cli",
    "configuration",
    "core",
    "data",
    "distributions",
    "divergences",
    "estimators",
    "evaluation",
    "files",
    "flows",
    "models",
    "nets",
    "ops",
    "plots",
    "quantizers",
    "runs",
    "schedules",
    "testing",
    "training",
)

__all__ = [
    "bernoulli_log_prob",
    "effective_sample_size",
    "elbo",
    "gaussian_kl",
    "importance_bound",
    "load",
    "monte_carlo_kl",
    "reparameterize",
]

if TYPE_CHECKING:
    from vaex.bounds import effective_sample_size, elbo, importance_bound
    from vaex.distributions import bernoulli_log_prob, reparameterize
    from vaex.divergences import gaussian_kl, monte_carlo_kl
    from vaex.runs.trained import load


def __getattr__(name: str) -> Any:
    try:
        if name in _NAMES:
            value = getattr(importlib.import_module(_NAMES[name]), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return importlib.import_module(f"vaex.{name}")
    except ModuleNotFoundError:
        from vaex.errors import require_train

        require_train(f"vaex.{name}")
        raise
    raise AttributeError(f"module 'vaex' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
