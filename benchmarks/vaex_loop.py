"""vaex's side of the comparisons, in its worker process: its compiled loop, and the peaks of this machine."""

from __future__ import annotations

import functools
import os
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from measure import program_bytes
from workloads import Workload

from vaex import data, distributions, models
from vaex.core import Algorithm, Feed, Model, Outcome, TrainState, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.training import loop, population, sharding
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm, with_inputs

PARITY_BATCH = 16


def machine(device: str | None) -> dict[str, Any]:
    """Describe this machine and the device that jax uses, for the results.

    Raises: UserError where jax uses another kind of device than ``device``.
    """
    backend = jax.default_backend()
    if device is not None and backend != device:
        raise UserError(
            f"--device={device}: jax uses {backend} here; install jax for it, such as vaex-jax[gpu], or choose --device={backend}"
        )
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "platform": backend,
        "device": names[0] if backend == "cpu" and names else jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def in_bfloat16(model: Model) -> Model:
    """Return ``model`` with networks that compute in bfloat16; parameters, likelihoods and losses stay float32."""

    def narrow(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, tree)

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Any, *, train: bool) -> Outcome:
        half = variables._replace(params=narrow(variables.params))
        outcome = model.objective(key, half, hparams, narrow(batch), train=train)
        losses = {group: loss.astype(jnp.float32) for group, loss in outcome.losses.items()}
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), outcome.state, variables.state)
        return Outcome(losses, state, outcome.metrics)

    return model._replace(objective=objective)


def setup(
    workload: Workload, batch_size: int, precision: str, data_batch: int | None = None
) -> tuple[Algorithm, Feed, Any, Any]:
    """Set up the workload's stage of its recipe on synthetic data.

    Args:
      workload: the network and its data.
      batch_size: examples per step.
      precision: "float32" or "bfloat16".
      data_batch: the batch size that sets the amount of data; by default ``batch_size``.
    Returns: the algorithm on stored batches, the feed, one member's hyperparameters, an example batch.
    """
    arrays = workloads.arrays(workload, data_batch or batch_size)
    module, config, spec = described(workload, len(arrays["x"]))
    stage = module.build(config, spec).stages[workload.stage]
    stepper = stage.algorithm
    if precision == "bfloat16":
        stepper = gradient_algorithm(in_bfloat16(stage.model), optimizer=getattr(config, "optimizer", "adam"))
    stepper = with_inputs(stepper, lambda key, x: data.prepare(spec, key, x))
    example = {name: jnp.asarray(values[:batch_size]) for name, values in arrays.items()}
    return stepper, data.resident_feed(arrays, batch_size), as_schedules(module.HParams()), example


def described(workload: Workload, num_examples: int) -> tuple[Any, Any, Spec]:
    """Return the workload's model file, its options, and the spec of its data."""
    module = models.module(workload.model)
    config = module.Config(**workload.config)
    spec = Spec("made_up", workload.shape, workload.kind, workload.levels, workload.num_classes)
    spec = data.resolve(spec, binarize=likelihoods.binarization(getattr(config, "likelihood", "auto"), spec))
    return module, config, spec._replace(num_training_examples=num_examples)


def first_states(workload: Workload, stepper: Algorithm, hparams: Any, example: Any, members: int = 1) -> TrainState:
    """Return the stacked states in which the workload's stage begins, after stages as they are drawn.

    Args:
      workload, stepper, hparams, example: as ``setup`` takes and returns them.
      members: seeds 0, 1, ...
    """
    stacked = population.stack([hparams] * members)
    if not workload.stage:
        return population.init(stepper, range(members), stacked, example)
    module, config, spec = described(workload, len(example["x"]))
    stages, finished = module.build(config, spec).stages, {}
    for index, stage in enumerate(stages[: workload.stage]):
        before, *_ = setup(workload._replace(stage=index), len(example["x"]), "float32")
        state = population.init(before, range(members), stacked, example, stage=index)
        finished[stage.name] = state.variables
    carry_over = stages[workload.stage].carry_over
    return population.init(
        stepper, range(members), stacked, example, stage=workload.stage, carry_over=carry_over, finished=finished
    )


class Loop:
    """A population that trains through ``vaex.training.loop``, in chunks; ``properties`` describes the compiled program."""

    def __init__(
        self,
        workload: Workload,
        batch_size: int,
        precision: str,
        members: int = 1,
        strategy: str = "solo",
        devices: int = 1,
    ):
        stepper, feed, hparams, example = setup(workload, batch_size, precision)
        state = first_states(workload, stepper, hparams, example, members)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.variables.params)) // members
        if devices > jax.device_count():
            raise UserError(f"--devices={devices}: there are {jax.device_count()} here; give at most that many")
        if strategy == "auto":
            strategy = population.choose_strategy(members, size, jax.default_backend())
        placement = sharding.choose(members, batch_size, devices) if devices > 1 else None
        work = jax.jit(stepper.step, donate_argnums=0).lower(population.member(state, 0), example)
        self._program, self._carry = loop.compile_program(
            stepper, feed, state, log_every=100, strategy=strategy, placement=placement
        )
        self._done, self._window = 0, None
        used, held = 1 if placement is None else placement.mesh.size, program_bytes(self._program.call)
        self.properties = {
            "compile_seconds": self._program.compile_seconds,
            "memory_bytes": held and held * used,
            "flops": members * float(cost(work, "flops")),
            "bytes": members * float(cost(work.compile(), "bytes accessed")) if strategy == "solo" else None,
            "strategy": strategy,
            "devices_used": used,
            "longer": self._program.seconds / loop.CHUNK_SECONDS,  # members in turn need longer chunks
        }

    def run(self, steps: int) -> None:
        """Train ``steps`` more steps; windows of the plan are built as needed."""
        goal = self._done + steps
        while self._done < goal:
            if self._window is None or self._done >= self._window.stop:
                self._window = self._program.window(self._done, self._done + self._program.capacity)
            stop = min(goal, self._window.stop)
            self._carry, chunk = loop.run_chunk(self._program, self._carry, self._done, stop, self._window)
            if not chunk.finite.all():
                raise UserError(f"vaex: a loss was not finite at step {stop}; speeds of such a run mean nothing")
            self._done = stop
        jax.block_until_ready(self._carry)


def cost(stage: Any, name: str) -> float:
    """Return a number of XLA's cost analysis of one step outside any loop, whose body XLA would count once."""
    analysis = stage.cost_analysis()
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    return (analysis or {}).get(name, float("nan"))


def parity(workload: Workload) -> dict[str, Any]:
    """Train vaex for two steps on one batch, for peers to repeat.

    Returns: "weights", the initial parameters as nested dicts of arrays; "x" [b, h, w, c]; "noise" [2, b, d], of each
      step's latent sample; "losses" [2], each before its update.
    """
    # all steps in full float32: what is compared is the mathematics, not the rounding of faster products
    with jax.default_matmul_precision("highest"):
        stepper, _, hparams, example = setup(workload, PARITY_BATCH, "float32")
        state = population.member(first_states(workload, stepper, hparams, example), 0)
        weights = jax.tree.map(np.asarray, state.variables.params["vae"])
        losses, noise = [], []
        latents, advance = _latents(workload), jax.jit(stepper.step)
        for step in range(2):
            key = jax.random.fold_in(state.key, step)
            zeros = jnp.zeros((PARITY_BATCH, latents))
            noise.append(np.asarray(distributions.Normal(zeros, log_scale=zeros).sample(key, (1,))[0]))
            state, metrics = advance(state, example)
            losses.append(float(metrics["loss"]))
    x = np.asarray(example["x"], np.float32)
    return {"weights": weights, "x": x, "noise": np.stack(noise), "losses": losses}


def _latents(workload: Workload) -> int:
    if workload.model == "residual":
        return workload.shape[0] * workload.shape[1] * workload.config["latent_channels"]
    return workload.config["latent_dim"]


class Peak:
    """Peak rate of the device. ``properties["per_step"]`` is the work of ``run(1)``.

    "product": the product of two square matrices, operations; "copy": an array scaled in place, bytes read and written.
    """

    def __init__(self, kind: str, precision: str, size: int | None = None):
        cpu = jax.default_backend() == "cpu"
        self._call, self._operand, work = {"product": _product, "copy": _copy}[kind](cpu, precision, size)
        self.properties = {"per_step": work}

    def run(self, steps: int) -> None:
        """Do the work ``steps`` times."""
        for _ in range(steps):
            self._operand = self._call(self._operand)
        jax.block_until_ready(self._operand)


def _product(cpu: bool, precision: str, size: int | None) -> tuple[Callable, jax.Array, float]:
    n = size or (2048 if cpu else 8192)
    matrix = jnp.eye(n, dtype=precision)  # stays itself, so nothing overflows
    return functools.partial(jax.jit(jnp.matmul), matrix), jnp.array(matrix), 2.0 * n**3


def _copy(cpu: bool, precision: str, size: int | None) -> tuple[Callable, jax.Array, float]:
    n = size or (64 << 20 if cpu else 256 << 20)
    return jax.jit(lambda x: x * 0.5, donate_argnums=0), jnp.ones(n, jnp.float32), 8.0 * n
