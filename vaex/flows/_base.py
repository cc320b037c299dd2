"""What the flows share: checks of shapes, dtypes, amortised parameters, bounded log-scales."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.flows.protocol import Flow, Params
from vaex.ops.arrays import broadcastable, lift, narrow

_LARGEST_LOG_SCALE = 7.0


class BaseFlow:
    """A flow that checks shapes and lifts dtypes; a frozen dataclass of static numbers.

    A subclass gives ``init``, ``_forward`` and ``_inverse``; the latter two see checked arrays in one dtype of at least 32
    bits.
    """

    dimension: int
    context_dim: int = 0

    def init(self, key: jax.Array) -> Params:
        """Parameters near the identity."""
        raise NotImplementedError

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        raise NotImplementedError

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        raise NotImplementedError

    def forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map z [..., dimension] to a value; see ``Flow.forward``."""
        return self._apply("forward", self._forward, params, z)

    def inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map a value [..., dimension] back to z; see ``Flow.inverse``."""
        return self._apply("inverse", self._inverse, params, value)

    def with_context(self, params: Params, context: jax.Array) -> Params:
        """Add ``context`` [..., context_dim] to the parameters; see ``Flow.with_context``."""
        if self.context_dim == 0:
            raise ValueError(
                f"{type(self).__name__}.with_context: context_dim is 0; construct the flow with context_dim"
            )
        if np.ndim(context) < 1 or np.shape(context)[-1] != self.context_dim:
            raise ValueError(
                f"{type(self).__name__}.with_context: context has shape {np.shape(context)}, expected [..., {self.context_dim}]; "
                "its last axis is context_dim"
            )
        return {**params, "context": context}

    def _apply(
        self,
        direction: str,
        move: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]],
        params: Params,
        z: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        name, shape = f"{type(self).__name__}.{direction}", np.shape(z)
        if not shape or shape[-1] != self.dimension:
            argument = "z" if direction == "forward" else "value"
            raise ValueError(
                f"{name}: {argument} has shape {shape}, expected [..., {self.dimension}]; its last axis is the flow's dimension"
            )
        self._check(name, params, shape[:-1])
        leaves, structure = jax.tree.flatten(params)
        lifted, *lifted_leaves = lift(z, *leaves)
        value, log_det = move(jax.tree.unflatten(structure, lifted_leaves), lifted)
        return narrow(value, z, *leaves), jnp.broadcast_to(log_det, shape[:-1])

    def _check(self, name: str, params: Params, batch: tuple[int, ...]) -> None:
        expected = param_shapes(self)
        if self.context_dim:
            if not isinstance(params, dict) or "context" not in params:
                raise ValueError(
                    f"{name}: params have no context [..., {self.context_dim}]; call with_context(params, context)"
                )
            expected = {**expected, "context": jax.ShapeDtypeStruct((self.context_dim,), jnp.float32)}
        if jax.tree.structure(params) != jax.tree.structure(expected):
            raise ValueError(
                f"{name}: params have structure {jax.tree.structure(params)}, expected {jax.tree.structure(expected)}; "
                "make them with init or params_from_vector"
            )
        structs = jax.tree_util.tree_leaves_with_path(expected)
        for (path, struct), leaf in zip(structs, jax.tree.leaves(params), strict=True):
            shape = np.shape(leaf)
            split = len(shape) - len(struct.shape)
            lead = shape[: max(split, 0)]
            fits = split >= 0 and shape[split:] == struct.shape and broadcastable(lead, batch)
            if not fits or jnp.broadcast_shapes(lead, batch) != batch:
                raise ValueError(
                    f"{name}: params{jax.tree_util.keystr(path)} has shape {shape}, expected {struct.shape} behind leading "
                    f"axes that broadcast to the batch axes {batch}; give one set of parameters, or one for each example"
                )


@functools.cache
def param_shapes(flow: Flow) -> Params:
    """Shapes of a flow's parameters, as ShapeDtypeStructs."""
    return jax.eval_shape(flow.init, jax.random.key(0))


def params_size(flow: Flow) -> int:
    """Return how many numbers make one set of parameters: the width of an encoder's output that parameterises the flow.

    Args:
      flow: any flow.
    Returns: an int.
    Example:
      >>> from vaex.flows import Planar
      >>> params_size(Planar(3))
      7
    """
    return sum(math.prod(struct.shape) for struct in jax.tree.leaves(param_shapes(flow)))


def params_from_vector(flow: Flow, vector: jax.Array) -> Params:
    """Split one flat axis, such as an encoder's output, into parameters: one map per example.

    Around zero the output is not a good start (a planar flow's gradients vanish there), so add learned parameters:
    ``jax.tree.map(jnp.add, params, params_from_vector(flow, vector))``.

    Args:
      flow: any flow.
      vector: [..., params_size(flow)].
    Returns: parameters with leaves [..., *shape].
    Raises: ValueError if the last axis is not ``params_size(flow)`` long.
    Example:
      >>> from vaex.flows import Planar
      >>> flow = Planar(2)
      >>> params = params_from_vector(flow, jnp.ones((5, params_size(flow))))
      >>> flow.forward(params, jnp.zeros((3, 5, 2)))[1].shape  # three samples for each of five examples
      (3, 5)

    References: Rezende & Mohamed 2015, section 4.1.
    """
    size = params_size(flow)
    if np.ndim(vector) < 1 or np.shape(vector)[-1] != size:
        raise ValueError(
            f"params_from_vector: vector has shape {np.shape(vector)}, expected [..., {size}] for {flow}; "
            "size the encoder's output with params_size"
        )
    structs, structure = jax.tree.flatten(param_shapes(flow))
    ends = np.cumsum([math.prod(struct.shape) for struct in structs])[:-1]
    parts = jnp.split(jnp.asarray(vector), ends, axis=-1) if structs else []
    leaves = [part.reshape(*part.shape[:-1], *struct.shape) for part, struct in zip(parts, structs, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def bounded(log_scale: jax.Array) -> jax.Array:
    """Squeeze a log-scale smoothly into (-7, 7): scales between 1e-3 and 1e3, the identity around 0."""
    return _LARGEST_LOG_SCALE * jnp.tanh(log_scale / _LARGEST_LOG_SCALE)


def check_int(name: str, field: str, value: object, least: int) -> None:
    """Raise ValueError unless a static size is an int of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: {field} is {value!r}, expected an int of at least {least}; it fixes a shape")


def check_hidden(name: str, hidden: object, least: int = 1) -> None:
    """Raise ValueError unless hidden widths are a tuple of ints of at least ``least``."""
    if not isinstance(hidden, tuple):
        raise ValueError(f"{name}: hidden is {hidden!r}, expected a tuple of widths; write (64,) for one layer of 64")
    for width in hidden:
        check_int(name, "a width in hidden", width, least)
