"""vaex: variational autoencoders in JAX. Pure objectives, exact tests, one command to train, resume and draw.

Names are resolved on first use: ``import vaex`` itself imports neither jax nor Flax nor NumPy. Type checkers read ``__init__.pyi``.
"""

import importlib as _importlib
import os as _os

__version__ = "0.2.0"

# module -> the names that the top level offers too
_EXPORTS = {
    "vaex.bounds": ("effective_sample_size", "elbo", "estimate_elbo", "importance_bound"),
    "vaex.distributions": (
        "Bernoulli",
        "Categorical",
        "CategoricalCodes",
        "ContinuousBernoulli",
        "Delta",
        "DiscretizedLogistic",
        "DiscretizedLogisticMixture",
        "Distribution",
        "Independent",
        "Laplace",
        "LevelCategorical",
        "LogNormal",
        "LogRelaxedOneHot",
        "LogitRelaxedBernoulli",
        "LowRankNormal",
        "Mixture",
        "MultivariateNormal",
        "NegativeBinomial",
        "Normal",
        "Observed",
        "PoincareNormal",
        "Poisson",
        "RelaxedBernoulli",
        "RelaxedOneHot",
        "Rows",
        "StudentT",
        "Transformed",
        "UniformSphere",
        "VonMisesFisher",
        "ZeroInflated",
        "bernoulli_log_prob",
        "reparameterize",
    ),
    "vaex.divergences": ("gaussian_kl", "kl", "monte_carlo_kl"),
    "vaex.data.spec": ("Dataset",),
    "vaex.api.front_door": ("build", "train"),
    "vaex.api.loading": ("load",),
    "vaex.api.run": ("Run",),
    "vaex.training.callbacks": ("Callback",),
}
_MODULES = (
    "api",
    "bounds",
    "cli",
    "configuration",
    "core",
    "data",
    "distributions",
    "divergences",
    "errors",
    "estimators",
    "evaluation",
    "export",
    "files",
    "flows",
    "inference",
    "models",
    "nets",
    "ops",
    "page",
    "plots",
    "quantizers",
    "results",
    "runs",
    "samplers",
    "schedules",
    "testing",
    "training",
)

_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    try:
        if name in _HOMES:
            value = getattr(_importlib.import_module(_HOMES[name]), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return _importlib.import_module(f"vaex.{name}")
    except ModuleNotFoundError:
        from vaex.errors import require_train

        require_train(f"vaex.{name}")
        raise
    raise AttributeError(f"module 'vaex' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *_HOMES, *_MODULES])


if _os.path.exists(_os.path.join(_os.path.dirname(__file__), "dataframe.py")):
    import warnings as _warnings

    _warnings.warn(
        f"{_os.path.dirname(__file__)} also holds files of the dataframe library vaex, whose import has the same name: one "
        'overwrites the other. Run "pip uninstall vaex vaex-core", then "pip install --force-reinstall vaex-jax"',
        stacklevel=2,
    )
