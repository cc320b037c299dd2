"""Encoders and decoders of a user's own: Flax modules or pairs of functions, adapted to what models ask of a network."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex.core import PyTree
from vaex.errors import UserError

UserNetwork: TypeAlias = Any  # a Linen module, an NNX module or a function of ``rngs`` that makes one, or (init, apply)
EXPECTED = "a Flax Linen module, an NNX module, a function of rngs that returns an NNX module, or a pair (init, apply) of functions"


class Functions(NamedTuple):
    """A network as two pure functions.

    Attributes:
      init: (key, *inputs) -> parameters.
      apply: (parameters, *inputs) -> output.
    """

    init: Callable[..., PyTree]
    apply: Callable[..., jax.Array]


def functions(name: str, network: UserNetwork) -> Functions:
    """Return a user's network as pure functions of its parameters.

    Args:
      name: "encoder" or "decoder", for errors.
      network: a Linen module or its class; an NNX module, whose parameters every member then starts from; an NNX class or another
        function of ``rngs`` that returns an NNX module; or (init, apply) with init(key, *inputs) and apply(params, *inputs).
    Raises: UserError for anything else, and for networks with state or randomness of their own.
    """
    if isinstance(network, type) and issubclass(network, nn.Module):
        try:
            network = network()
        except TypeError as error:
            raise UserError(
                f"{name}: {network.__name__}() fails ({error}); give a module, with its arguments"
            ) from None
    if isinstance(network, nn.Module):
        return _linen(name, network)
    if isinstance(network, tuple) and len(network) == 2 and all(callable(function) for function in network):
        return Functions(*network)
    from flax import nnx

    is_class = isinstance(network, type) and issubclass(network, nnx.Module)
    if is_class or isinstance(network, nnx.Module) or _takes_rngs(network):
        return _nnx(name, network)
    raise UserError(f"{name}: got {_kind(network)}, expected {EXPECTED}")


def _kind(network: object) -> str:
    return f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"


def _takes_rngs(network: object) -> bool:
    if not callable(network):
        return False
    try:
        return "rngs" in inspect.signature(network).parameters
    except (TypeError, ValueError):
        return False


def _linen(name: str, module: nn.Module) -> Functions:
    def init(key: jax.Array, *inputs: jax.Array) -> PyTree:
        variables = module.init({"params": key, "dropout": key}, *inputs)
        if state := set(variables) - {"params"}:
            raise UserError(_stateful(name, type(module).__name__, state))
        return variables.get("params", {})

    def apply(params: PyTree, *inputs: jax.Array) -> jax.Array:
        try:
            return module.apply({"params": params}, *inputs)  # pyright: ignore[reportReturnType]
        except Exception as error:
            if type(error).__name__ == "InvalidRngError":
                raise UserError(_random(name, type(module).__name__)) from None
            raise

    return Functions(init, apply)


def _nnx(name: str, network: UserNetwork) -> Functions:
    from flax import nnx

    def split(module: object) -> tuple[Any, Any]:
        """Return the graph of a module and its parameters; it may hold nothing else."""
        graph, params, others = nnx.split(module, nnx.Param, ...)
        kinds = {type(leaf).__name__ for leaf in jax.tree.leaves(others, is_leaf=lambda v: isinstance(v, nnx.Variable))}
        if kinds & {"RngKey", "RngCount"}:
            raise UserError(_random(name, type(module).__name__))
        if kinds:
            raise UserError(_stateful(name, type(module).__name__, kinds))
        return graph, params

    is_module = isinstance(network, nnx.Module)
    graph, template = split(network if is_module else nnx.eval_shape(lambda: network(rngs=nnx.Rngs(0))))

    def init(key: jax.Array, *inputs: jax.Array) -> PyTree:
        return nnx.to_pure_dict(split(network if is_module else network(rngs=nnx.Rngs(key)))[1])

    def apply(params: PyTree, *inputs: jax.Array) -> jax.Array:
        state = jax.tree.map(lambda leaf: leaf, template)  # a copy, which is filled
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(*inputs)

    return Functions(init, apply)


def _stateful(name: str, kind: str, state: Iterable[str]) -> str:
    return (
        f"{name}: {kind} has state of its own ({', '.join(sorted(state))}), which training would not keep; use layers without "
        "state, such as LayerNorm or GroupNorm for BatchNorm"
    )


def _random(name: str, kind: str) -> str:
    return (
        f"{name}: {kind} draws random numbers of its own, such as Dropout; leave these layers out: the randomness of a VAE is that "
        "of its latents"
    )


class AdaptedEncoder:
    """A user's encoder with a dense layer from its flattened outputs to the features that a posterior is made from.

    Args:
      network: maps x [b, *shape], and a condition [b, n] where the model reads labels, to [b, ...].
      shape: of one example.
      features: width of the output.
      condition: n, 0 without labels.
    Raises: UserError where the network does not fit.
    """

    def __init__(self, network: UserNetwork, shape: tuple[int, ...], features: int, condition: int = 0) -> None:
        self._functions, self._shape = functions("encoder", network), shape
        self._head = nn.Dense(features)
        output = _checked("encoder", self._functions, ("x", shape), condition)
        if output.ndim < 2 or output.shape[0] != 2:
            raise UserError(
                f"encoder: maps x of shape {(2, *shape)} to {output.shape}, expected one row for each example, [b, ...]"
            )

    def init(self, rngs: jax.Array, /, *inputs: jax.Array | None) -> Mapping[str, PyTree]:
        network_key, head_key = jax.random.split(rngs)
        x, condition = _joint_inputs(self._shape, *inputs)
        params = self._functions.init(network_key, x, *condition)
        output = self._functions.apply(params, x, *condition)
        head = self._head.init(head_key, output.reshape(output.shape[0], -1))["params"]
        return {"params": {"network": params, "head": head}}

    def apply(self, variables: Mapping[str, PyTree], /, *inputs: jax.Array | None) -> jax.Array:
        params, leading = variables["params"], _leading(self._shape, *inputs)
        x, condition = _joint_inputs(self._shape, *inputs)
        output = _applied(self._functions, params["network"], x, *condition)
        raw = self._head.apply({"params": params["head"]}, output.reshape(output.shape[0], -1))
        return raw.reshape(*leading, -1)  # pyright: ignore[reportAttributeAccessIssue]


class AdaptedDecoder:
    """A user's decoder.

    Args:
      network: maps z [b, d], and a condition [b, n] where the model reads labels, to [b, ...] with ``size`` numbers a row.
      latent_dim: d.
      size: numbers that the likelihood takes for one example.
      condition: n, 0 without labels.
    Raises: UserError where the network does not fit.
    """

    def __init__(self, network: UserNetwork, latent_dim: int, size: int, condition: int = 0) -> None:
        self._functions, self._shape = functions("decoder", network), (latent_dim,)
        output = _checked("decoder", self._functions, ("z", (latent_dim,)), condition)
        if output.shape[:1] != (2,) or math.prod(output.shape[1:]) != size:
            raise UserError(
                f"decoder: maps z of shape {(2, latent_dim)} to {output.shape}, expected {size} numbers for each example: one for "
                "each value of x, times those that the likelihood takes for each"
            )

    def init(self, rngs: jax.Array, /, *inputs: jax.Array | None) -> Mapping[str, PyTree]:
        z, condition = _joint_inputs(self._shape, *inputs)
        return {"params": self._functions.init(rngs, z, *condition)}

    def apply(self, variables: Mapping[str, PyTree], /, *inputs: jax.Array | None) -> jax.Array:
        z, condition = _joint_inputs(self._shape, *inputs)
        output = _applied(self._functions, variables["params"], z, *condition)
        return output.reshape(*_leading(self._shape, *inputs), -1)


def _applied(network: Functions, params: PyTree, *inputs: jax.Array) -> jax.Array:
    """Apply a network; where the batch has no size yet (``jax.export``), by example, since ``len(x)`` fails there."""
    if isinstance(inputs[0].shape[0], int):
        return network.apply(params, *inputs)
    return jax.vmap(lambda *rows: network.apply(params, *(row[None] for row in rows))[0])(*inputs)


def _leading(shape: tuple[int, ...], x: jax.Array | None = None, condition: jax.Array | None = None) -> tuple[int, ...]:
    """Return the leading axes that the inputs have together."""
    axes = jnp.asarray(x).shape
    leading = axes[: len(axes) - len(shape)]
    return leading if condition is None else jnp.broadcast_shapes(leading, condition.shape[:-1])


def _joint_inputs(
    shape: tuple[int, ...], x: jax.Array | None = None, condition: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Return the inputs with their leading axes broadcast and made one, as users' networks take them."""
    leading = _leading(shape, x, condition)
    flat = jnp.broadcast_to(jnp.asarray(x), (*leading, *shape)).reshape(-1, *shape)
    if condition is None:
        return flat, ()
    width = condition.shape[-1]
    return flat, (jnp.broadcast_to(condition, (*leading, width)).reshape(-1, width),)


def _checked(
    name: str, network: Functions, example: tuple[str, tuple[int, ...]], condition: int
) -> jax.ShapeDtypeStruct:
    """Return the shape of a network's output for two examples, without computing anything."""
    letter, shape = example
    inputs = [jnp.zeros((2, *shape)), *([jnp.zeros((2, condition))] if condition else [])]

    def output(key: jax.Array) -> jax.Array:
        params = network.init(key, *inputs)
        untrained = [leaf.dtype for leaf in map(jnp.asarray, jax.tree.leaves(params)) if not _is_float(leaf)]
        if untrained:
            raise UserError(
                f"{name}: init returns an array of {untrained[0]} among the parameters, which are trained and so must be floats; "
                "keep it in the functions"
            )
        return network.apply(params, *inputs)

    given = f"{letter} of shape {(2, *shape)}" + (f" and a condition of shape {(2, condition)}" if condition else "")
    try:
        result = jax.eval_shape(output, jax.random.key(0))
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name}: fails on {given}: {type(error).__name__}: {reason}") from error
    if not isinstance(result, jax.ShapeDtypeStruct) or not jnp.issubdtype(result.dtype, jnp.floating):
        raise UserError(f"{name}: maps {given} to {jax.tree.structure(result)}, expected one array of floats")
    return result


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
