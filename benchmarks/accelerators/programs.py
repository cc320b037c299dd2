"""The chunks of steps that training runs, compiled for devices of a target, and what the compiled programs hold."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from workloads import Workload

from accelerators import hlo, targets
from accelerators.targets import Target
from vaex import data, models
from vaex.configuration.declare import fields
from vaex.configuration.grammar import read_option
from vaex.core import Algorithm, Feed, PyTree, TrainState
from vaex.data.spec import Spec
from vaex.errors import UserError, nearest
from vaex.models import likelihoods
from vaex.ops.platforms import compiling_for, plain_lowering
from vaex.training import loop, population, sharding
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import averaged_variables, with_inputs

LOG_EVERY = 100  # the command's default


class Part(NamedTuple):
    """One stage of a recipe: its name, the algorithm on stored batches, the feed, and the members' first states."""

    stage: str
    algorithm: Algorithm
    feed: Feed
    state: TrainState


def parts(
    workload: Workload, batch_size: int, precision: str, members: int, *, compute: bool = False
) -> Iterator[Part]:
    """Yield the stages of a model that take steps, on synthetic data.

    Args:
      workload, batch_size, precision, members: what is trained.
      compute: whether states are arrays, rather than shapes.
    Raises: UserError for bfloat16 where the model has no such option.
    """
    module = models.module(workload.model)
    config = module.Config(**workload.config)
    if precision != "float32":
        if not hasattr(config, "precision"):
            raise UserError(f"--precision={precision}: {workload.name} has no such option")
        config = dataclasses.replace(config, precision=precision)
    spec = Spec("made_up", workload.shape, workload.kind, workload.levels, workload.num_classes)
    spec = data.resolve(spec, binarize=likelihoods.binarization(getattr(config, "likelihood", "auto"), spec))
    arrays = workloads.arrays(workload, batch_size)
    example = {name: jnp.asarray(values[:batch_size]) for name, values in arrays.items()}
    hparams = population.stack([as_schedules(module.HParams())] * members)
    spec = spec._replace(num_training_examples=len(arrays["x"]))
    feed, finished = data.resident_feed(arrays, batch_size), {}
    for index, stage in enumerate(module.build(config, spec).stages):
        algorithm = with_inputs(stage.algorithm, lambda key, x: data.prepare(spec, key, x))
        start = functools.partial(population.init, algorithm, range(members), stage=index, carry_over=stage.carry_over)

        def begin(hparams: PyTree, example: PyTree, finished: PyTree, start=start) -> TrainState:
            return start(hparams, example, finished=finished)

        arguments = hparams, example, finished
        state = begin(*arguments) if compute else jax.eval_shape(begin, *arguments)
        finished = {**finished, stage.name: averaged_variables(state)}
        if stage.steps != 0:
            yield Part(stage.name, algorithm, feed, state)


class Products(NamedTuple):
    """Operations of one step as they are defined: of matrix products, of convolutions, and of those of the latter in groups."""

    products: float = 0.0
    convolutions: float = 0.0
    grouped: float = 0.0

    def times(self, count: float) -> Products:
        """Return the operations of ``count`` repetitions."""
        return Products(*(count * value for value in self))

    def plus(self, other: Products) -> Products:
        """Return the sum."""
        return Products(*(a + b for a, b in zip(self, other, strict=True)))


def count_products(jaxpr: Any) -> Products:
    """Count the floating point operations of the products and convolutions of a jaxpr; a loop of unknown length counts once, of
    branches the most costly.

    Example:
      >>> count_products(jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 4))).jaxpr).products
      48.0
    """
    total = Products()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            size = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total = total.plus(Products(2.0 * size * equation.outvars[0].aval.size))
        elif name == "conv_general_dilated":
            total = total.plus(_convolution(equation))
        elif name == "cond":
            branches = [count_products(branch.jaxpr) for branch in params["branches"]]
            total = total.plus(max(branches, key=sum))
        else:
            repeats = params["length"] if name == "scan" else 1
            for inner in _inner(params):
                total = total.plus(count_products(inner).times(repeats))
    return total


def _convolution(equation: Any) -> Products:
    params, kernel = equation.params, equation.invars[1].aval
    numbers, groups = params["dimension_numbers"], params["feature_group_count"] * params["batch_group_count"]
    window = math.prod(
        kernel.shape[axis] for axis in numbers.rhs_spec[1:]
    )  # features of one group, and the spatial extents
    flops = 2.0 * window * equation.outvars[0].aval.size / math.prod(params["lhs_dilation"])
    return Products(0.0, flops, flops if groups > 1 else 0.0)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """Jaxprs among the parameters of an equation, each once."""
    for value in params.values():
        for entry in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(entry, "jaxpr", entry)
            if hasattr(inner, "eqns"):
                yield inner


def count_step(part: Part, members: int) -> Products:
    """Count the operations of a step of all members, as accelerators compute it."""
    one = population.member_shapes(part.state)
    batch = jax.eval_shape(part.feed.batch, part.feed.resident, jnp.asarray(np.asarray(part.feed.plan(0, 1))[0]))
    with plain_lowering():
        step = jax.vmap(lambda state, rows: part.algorithm.step(state, rows), in_axes=(0, None))
        many = one if members == 1 else part.state
        function = part.algorithm.step if members == 1 else step
        return count_products(jax.make_jaxpr(lambda state, rows: function(state, rows))(many, batch).jaxpr)


class Lowered(NamedTuple):
    """A chunk that is ready to compile, and what is known of it before."""

    lowered: jax.stages.Lowered
    placement: sharding.Placement | None
    strategy: str
    traces: int
    carry: PyTree


def lower(
    part: Part,
    target: Target,
    devices: Sequence[Any],
    members: int,
    batch_size: int,
    *,
    strategy: str = "auto",
    fsdp: bool = False,
) -> Lowered:
    """Lower the chunk for a target as training places it: members over devices where they divide, the batch over those that are
    left, and parameters over the latter with ``fsdp``."""
    params = part.state.variables.params
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)) // members
    if strategy == "auto" or members == 1:
        strategy = population.choose_strategy(members, size, target.platform)
    placement = sharding.choose(members, batch_size, len(devices), devices=devices, fsdp=fsdp)
    with compiling_for(target.platform):
        chunk = loop.draft(
            part.algorithm, part.feed, part.state, log_every=LOG_EVERY, strategy=strategy, placement=placement
        )
    alone = NamedSharding(Mesh(np.array(devices[:1]), ("all",)), PartitionSpec())

    def placed(tree: PyTree, *, of_members: bool) -> PyTree:
        if placement is not None and of_members:
            shardings = placement.shardings(tree)
        else:
            everywhere = alone if placement is None else placement.sharding(members=False)
            shardings = jax.tree.map(lambda _: everywhere, tree)
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree, shardings
        )

    window: Any = jax.ShapeDtypeStruct((members, len(chunk.metric_names)), jnp.float32)
    carry = placed(loop.Carry(part.state, window), of_members=True)
    plan = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((chunk.capacity, *leaf.shape[1:]), leaf.dtype), chunk.row)
    bounds = [np.int32(0), np.int32(0), np.int32(1), np.int32(LOG_EVERY)]
    resident, plan = (placed(tree, of_members=False) for tree in (part.feed.resident, plan))
    traced = chunk.call.trace(carry, resident, plan, *bounds)
    return Lowered(traced.lower(lowering_platforms=(target.platform,)), placement, strategy, chunk.traces[0], carry)


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile; without timings of kernels XLA may know no tiles for a product in Triton, and then takes cuBLAS's."""
    try:
        return lowered.compile()
    except RuntimeError as error:
        if "tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options={"xla_gpu_enable_triton_gemm": False})


def describe(part: Part, target: Target, devices: Sequence[Any], members: int, batch_size: int, **how: Any) -> dict:
    """Compile a chunk and return a row of what it holds, per device; ``failure`` instead where it does not compile.

    Args:
      part: the stage.
      target, devices: to compile for.
      members, batch_size: of the run.
      how: ``precision``, by which the roofline is drawn; ``keep``, the file in which the optimised HLO is kept; and arguments of
        ``lower``.
    """
    precision, keep = how.pop("precision", "float32"), how.pop("keep", None)
    row: dict[str, Any] = {"stage": part.stage, "failure": None}
    began = time.perf_counter()
    try:
        ready = lower(part, target, devices, members, batch_size, **how)
        traced = time.perf_counter()
        compiled = _compiled(ready.lowered)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return row | {"failure": reason, "compile_seconds": time.perf_counter() - began}
    row |= {"trace_seconds": traced - began, "compile_seconds": time.perf_counter() - traced}
    used = 1 if ready.placement is None else ready.placement.mesh.size
    row |= {
        "strategy": ready.strategy,
        "placement": None if ready.placement is None else ready.placement.axis,
        "devices": used,
        "traces": ready.traces,
    }
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and text is not None  # both compilers tell
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    held -= memory.alias_size_in_bytes
    row |= {
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "held_bytes": held,
        "memory_share": held / target.chip.memory,
    }
    if keep is not None:
        keep.write_text(text)
    module = hlo.parse(text)
    done = hlo.work(module, hlo.step_body(module))
    row |= done._asdict()
    row |= {"donated": module.aliases, "donated_of": len(jax.tree.leaves(ready.carry))}
    analysis = compiled.cost_analysis() or {}
    optimal = analysis.get("optimal_seconds")
    row["compiler_seconds"] = optimal if optimal and optimal > 0 else None
    flops = count_step(part, members)
    row |= {"flops": sum(flops[:2]) / used, "convolution_flops": flops.convolutions / used}
    compute, traffic = row["flops"] / target.chip.peak(precision), done.moved / target.chip.bandwidth
    row |= {"roofline_seconds": max(compute, traffic), "bound": "products" if compute > traffic else "bytes"}
    return row


def with_options(workload: Workload, options: Sequence[str]) -> Workload:
    """Return a workload with options of its model, each as "width=512".

    Raises: UserError for an option that the model lacks, or a value that it doesn't take.
    """
    known, config = fields(models.module(workload.model).Config), dict(workload.config)
    for option in options:
        name, _, text = option.partition("=")
        if name not in known:
            raise UserError(f"--option={option}: {workload.name} has no option {name!r}; {nearest(name, known)}")
        config[name] = read_option(known[name], text)
    return workload._replace(config=config)


def rows(
    target_name: str,
    model: str,
    members: int,
    batch_size: int | None,
    precision: str,
    strategy: str = "auto",
    folder: str | None = None,
    fsdp: bool = False,
    options: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Compile all stages of a model; what a worker process is asked for.

    Args:
      target_name: as ``targets.parse`` reads it.
      model, members, batch_size, precision, strategy: of the run; None for the model's batch size.
      folder: in which the optimised HLO is kept.
      fsdp: whether devices that share a batch divide parameters.
      options: of the model, as "width=512".
    Returns: one row for each stage.
    Raises: UserError for a model, target or option that there is not, a precision that the model lacks, or FSDP with nothing to
      divide.
    """
    target, workload = targets.parse(target_name), with_options(workloads.find(model), options)
    batch = batch_size or workload.batch_sizes[0]
    identity = {
        "target": target.name,
        "model": model,
        "population": members,
        "batch_size": batch,
        "precision": precision,
    }
    devices, results = targets.devices(target), []
    for part in parts(workload, batch, precision, members):
        name = "-".join([*map(str, identity.values()), part.stage, *(["fsdp"] if fsdp else [])]).replace(":", "_")
        keep = None if folder is None else pathlib.Path(folder) / f"{name}.hlo"
        row = describe(
            part, target, devices, members, batch, precision=precision, strategy=strategy, fsdp=fsdp, keep=keep
        )
        results.append(identity | row)
    jax.clear_caches()
    return results
