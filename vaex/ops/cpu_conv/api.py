"""``convolve`` and ``convolve_transpose`` on raw arrays: matrix products on CPU, ``lax.conv_general_dilated`` elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vaex.errors import nearest
from vaex.ops.cpu_conv import vjp as lowerings
from vaex.ops.cpu_conv.shapes import Geometry

Sizes = int | Sequence[int] | None
Padding = str | int | Sequence[int | tuple[int, int]]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    *,
    input_dilation: Sizes = 1,
    kernel_dilation: Sizes = 1,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    lowering: str = "auto",
) -> jax.Array:
    """Convolution (cross-correlation, as usual in deep learning) with the channels last.

    Args:
      x: [..., *image, c], with as many spatial axes (1 to 3) as the kernel has.
      kernel: [*size, c / feature_group_count, features].
      strides: per axis, or one for all.
      padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL" (one axis only), an int, or per axis an int or (low, high).
      input_dilation: d puts d - 1 zeros between pixels; needs explicit padding or "VALID".
      kernel_dilation: d puts d - 1 zeros between the kernel's taps.
      feature_group_count: groups of channels that are convolved apart.
      precision: of the products, see ``jax.lax.Precision``. "highest" also keeps large 3x3 convolutions on CPU from minimal
        filtering, which is quicker and rounds by up to 6e-6 of the largest result instead of 5e-7.
      lowering: "auto": "matmul" on CPU and "conv" elsewhere, with reverse-mode gradients of any order; "matmul": matrix
        products with hand-written gradients; "conv": ``lax.conv_general_dilated``; "matmul_jvp": the products with JAX's
        own derivative rules, also for forward mode (``jvp``, ``jacfwd``), at about 1.4 times the cost of a gradient.
    Where XLA divides the batch over CPU devices by itself (arrays sharded under ``jax.jit``), trace under ``jax.set_mesh``: the
    products then keep the batch apart from the pixels. Without it results are the same, but devices exchange whole arrays.

    Returns: [..., *out, features], with the dtype of x.
    Raises: ValueError where shapes, dtypes, padding or lowering do not fit.
    Example:
      >>> convolve(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 1)), 2, "SAME")[0, :, :, 0]
      Array([[4., 6., 4.],
             [6., 9., 6.],
             [4., 6., 4.]], dtype=float32)
    """
    rank = _spatial_rank("convolve", x, kernel, lowering)
    if x.shape[-1] != kernel.shape[-2] * feature_group_count or kernel.shape[-1] % feature_group_count:
        raise ValueError(
            f"convolve: kernel has shape {kernel.shape}, expected [*size, c / groups, features] for x of shape {x.shape} and "
            f"feature_group_count={feature_group_count}; groups must divide both c and features"
        )
    stride, into = (
        _per_axis("convolve", "strides", strides, rank),
        _per_axis("convolve", "input_dilation", input_dilation, rank),
    )
    dilation = _per_axis("convolve", "kernel_dilation", kernel_dilation, rank)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    batch = x.shape[: -rank - 1]
    x, pairs = _pairs(x.reshape(-1, *x.shape[-rank - 1 :]), extent, stride, padding, into)
    settings = (dilation, feature_group_count, precision, lowering)
    y = _lowered("convolve", x, kernel, stride, pairs, into, *settings)
    return y.reshape(*batch, *y.shape[1:])


def convolve_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    *,
    kernel_dilation: Sizes = 1,
    transpose_kernel: bool = False,
    precision: lax.PrecisionLike = None,
    lowering: str = "auto",
) -> jax.Array:
    """Transposed convolution, by the conventions of ``jax.lax.conv_transpose``: a convolution of x spread by its strides.

    Args:
      x: [..., *image, c].
      kernel: [*size, c, features]; with ``transpose_kernel`` [*size, features, c].
      strides: per axis, or one for all; "SAME" gives outputs of image * strides.
      padding: "SAME", "VALID", an int, or per axis an int or (low, high), in pixels of the spread image.
      kernel_dilation: d puts d - 1 zeros between the kernel's taps.
      transpose_kernel: flips the kernel and swaps its last two axes; then this is the transpose of ``conv``.
      precision, lowering: see ``conv``.
    Returns: [..., *out, features], with the dtype of x.
    Raises: ValueError where shapes, dtypes, padding or lowering do not fit.
    Example:
      >>> convolve_transpose(jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1)), 2)[0, :, :, 0]
      Array([[1., 1., 1., 1.],
             [1., 1., 1., 1.],
             [1., 1., 1., 1.],
             [1., 1., 1., 1.]], dtype=float32)
    """
    rank = _spatial_rank("convolve_transpose", x, kernel, lowering)
    if transpose_kernel:
        kernel = lax.rev(kernel, range(rank)).swapaxes(-1, -2)
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"convolve_transpose: kernel has {kernel.shape[-2]} input channels, expected {x.shape[-1]} for x of shape {x.shape}; "
            "the kernel is [*size, c, features], or [*size, features, c] with transpose_kernel=True"
        )
    stride = _per_axis("convolve_transpose", "strides", strides, rank)
    dilation = _per_axis("convolve_transpose", "kernel_dilation", kernel_dilation, rank)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    pairs = _transposed_pairs(extent, stride, padding)
    batch = x.shape[: -rank - 1]
    settings = (dilation, 1, precision, lowering)
    x = x.reshape(-1, *x.shape[-rank - 1 :])
    y = _lowered("convolve_transpose", x, kernel, (1,) * rank, pairs, stride, *settings)
    return y.reshape(*batch, *y.shape[1:])


def _lowered(function, x, kernel, strides, pairs, into, dilation, groups, precision, lowering) -> jax.Array:
    """Convolution of [b, *image, c] spread by ``into``, as the one or the other derivative."""
    rank = len(strides)
    spread = any(d > 1 for d in into)
    if spread and any(s > 1 for s in strides):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((0, 0, d - 1) for d in into), (0, 0, 0)])
        spread = False
    image, size, features = x.shape[1:-1], kernel.shape[:rank], kernel.shape[-1]
    if not spread:
        sizes = Geometry(image, size, strides, pairs, dilation, x.shape[-1], features, groups, precision)
        _check_out(function, sizes.out, x, kernel)
        return lowerings.output(sizes, lowering, x, kernel)
    # The transpose of a convolution by the flipped kernel, from images as large as this result.
    axes = list(zip(image, size, dilation, into, pairs, strict=True))
    reach = [(k - 1) * d for _, k, d, _, _ in axes]
    out = tuple((n - 1) * s + 1 + low + high - r for (n, _, _, s, (low, high)), r in zip(axes, reach, strict=True))
    _check_out(function, out, x, kernel)
    padding = tuple((r - low, r - high) for (*_, (low, high)), r in zip(axes, reach, strict=True))
    kernel = lax.rev(kernel, range(rank)).reshape(*size, -1, groups, features // groups)
    kernel = jnp.swapaxes(kernel, -1, -3).reshape(*size, features // groups, x.shape[-1])
    sizes = Geometry(out, size, into, padding, dilation, features, x.shape[-1], groups, precision)
    return lowerings.transposed(sizes, lowering, x, kernel)


def _check_out(function: str, out: tuple[int, ...], x: jax.Array, kernel: jax.Array) -> None:
    if min(out) < 1:
        raise ValueError(
            f"{function}: x of shape {x.shape} and kernel of shape {kernel.shape} leave an image of {out} pixels, expected "
            "at least 1 an axis; pad more or take a smaller kernel or dilation"
        )


def _spatial_rank(function: str, x: jax.Array, kernel: jax.Array, lowering: str) -> int:
    rank = kernel.ndim - 2
    if not 1 <= rank <= 3 or x.ndim < rank + 1:
        raise ValueError(
            f"{function}: x has shape {x.shape} and kernel {kernel.shape}, expected [..., *image, c] and "
            "[*size, c, features] with the same 1 to 3 spatial axes; add the missing axes"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"{function}: x is {x.dtype} and kernel {kernel.dtype}, expected one dtype; cast one of them")
    if lowering not in lowerings.LOWERINGS:
        raise ValueError(
            f"{function}: lowering={lowering!r} is not known; {nearest(str(lowering), lowerings.LOWERINGS)}"
        )
    return rank


def _per_axis(function: str, name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    values = (1,) * rank if value is None else (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < 1:
        raise ValueError(
            f"{function}: {name}={value!r}, expected {rank} positive int(s) or one; give one per spatial axis"
        )
    return values


def _explicit(function: str, padding: Padding, rank: int, known: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs from an int, ints or pairs."""
    if isinstance(padding, str):
        raise ValueError(
            f"{function}: padding={padding!r} is not known here; {nearest(padding, known)}, or (low, high) pairs"
        )
    each = (padding,) * rank if isinstance(padding, int) else tuple(padding)
    pairs = tuple((p, p) if isinstance(p, int) else (p[0], p[-1]) for p in each)
    if len(pairs) != rank or any(not isinstance(p, int) and len(p) not in (1, 2) for p in each):
        raise ValueError(
            f"{function}: padding={padding!r}, expected {rank} int(s) or (low, high) pair(s), one per axis"
        )
    return pairs


def _pairs(x, extent, strides, padding, into) -> tuple[jax.Array, tuple[tuple[int, int], ...]]:
    """x, padded where zeros will not do, and the pairs of zeros that remain."""
    rank = len(extent)
    modes = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
    if padding == "VALID":
        return x, ((0, 0),) * rank
    if padding == "SAME" and all(d == 1 for d in into):
        return x, tuple(lax.padtype_to_pads(x.shape[1:-1], extent, strides, "SAME"))
    if padding == "CAUSAL" and rank == 1:
        return x, ((extent[0] - 1, 0),)
    if isinstance(padding, str) and padding in modes:
        widths = [((e - 1) // 2, e // 2) for e in extent]
        return jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=modes[padding]), ((0, 0),) * rank
    known = ["VALID", *modes, *(["SAME"] if all(d == 1 for d in into) else []), *(["CAUSAL"] if rank == 1 else [])]
    return x, _explicit("convolve", padding, rank, known)


def _transposed_pairs(extent, strides, padding) -> tuple[tuple[int, int], ...]:
    """Pairs in pixels of the spread image; "SAME" and "VALID" mean those of the convolution that is transposed."""
    if padding == "VALID":
        return tuple((e - 1, max(e, s) - 1) for e, s in zip(extent, strides, strict=True))
    if padding == "SAME":
        totals = [
            (e + s - 2, e - 1 if s > e - 1 else -(-(e + s - 2) // 2)) for e, s in zip(extent, strides, strict=True)
        ]
        return tuple((low, total - low) for total, low in totals)
    return _explicit("convolve_transpose", padding, len(extent), ("SAME", "VALID"))
