"""What the processes of one run must have in common: flags, data and versions, compared before anything is compiled."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax

from vaex.configuration.declare import fields
from vaex.configuration.grammar import option_to_json
from vaex.configuration.settings import Settings
from vaex.runs.config_file import grid, identity
from vaex.runs.setup import Experiment
from vaex.runs.summary import versions
from vaex.training import multihost

# flags that processes may have of their own: who and where each is, and where each reads the same data
MAY_DIFFER = (
    "process_id", "distributed", "coordinator_address", "num_processes", "process_timeout", "compile_cache", "out", "dataset",
    "data_dir", "manual_dir", "init_from", "seeds", "model",
)  # fmt: skip
NUMERICS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")


def join(settings: Settings) -> None:
    """Join the other processes that the settings name; refuse those with other flags or versions.

    Raises: UserError.
    """
    run = settings.run
    multihost.initialize(
        run.coordinator_address,
        run.num_processes,
        run.process_id,
        detect=run.distributed,
        timeout=run.process_timeout,
        card={**flags(settings), **environment()},
    )


def require_alike(experiment: Experiment) -> None:
    """Refuse processes that read other data, begin from other parameters, write elsewhere or compute on other devices.

    Raises: UserError, the same in all.
    """
    spec, settings = experiment.spec, experiment.settings
    store = experiment.store.directory
    multihost.require_alike(
        {
            **flags(settings),
            **{f"the data's {name}": str(value) for name, value in spec._asdict().items()},
            "--out": "" if store is None else os.path.realpath(store),
            "the platform": jax.default_backend(),
        }
    )


def flags(settings: Settings) -> dict[str, str]:
    """Return flag -> value of all that processes must have in common."""
    identified = identity(settings)
    origin: Mapping[str, object] = identified.get("init_from") or {}
    options = {
        name: option_to_json(getattr(group, name))
        for group in (settings.run, settings.data, settings.evaluation)
        for name in fields(type(group))
        if name not in MAY_DIFFER
    }
    values = {
        "model": identified["model"],
        "dataset": identified["dataset"],
        **options,
        **identified["config"],
        **{f"{stage}_steps": steps for stage, steps in settings.stage_steps.items()},
        **grid(identified["members"]),
        "init_from": {name: value for name, value in origin.items() if name != "run"} or None,
    }
    return {f"--{name}": str(value) for name, value in values.items() if value is not None}


def environment() -> dict[str, str]:
    """Return name -> version of the packages, and the numerics of jax, that numbers depend on."""
    numerics = {name: str(getattr(jax.config, name, None)) for name in NUMERICS}
    return {name: version for name, version in versions().items() if name != "python"} | numerics
