"""``convolve`` and ``convolve_transpose`` on raw arrays: matrix products on CPU, ``lax.conv_general_dilated`` elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vaex.errors import nearest
from vaex.ops.cpu_conv import vjp
from vaex.ops.cpu_conv.shapes import ConvShape

Sizes = int | Sequence[int] | None  # one per spatial axis, or one for all; None is 1
Padding = str | int | Sequence[int | tuple[int, int]]
Pads = tuple[tuple[int, int], ...]  # (low, high) per spatial axis


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
    """Convolution (cross-correlation, as usual in deep learning) with the channels last, fast on CPU.

    Where XLA divides the batch over CPU devices by itself (arrays sharded under ``jax.jit``), trace under ``jax.set_mesh``: the
    matrix products then keep the batch apart from the pixels. Without it results are the same, but devices exchange whole arrays.

    Args:
      x: [..., *image, c], with as many spatial axes (1 to 3) as the kernel has.
      kernel: [*size, c / feature_group_count, features].
      strides: per axis, or one for all.
      padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL" (one axis only), an int, or per axis an int or (low, high).
      input_dilation: d puts d - 1 zeros between pixels; needs explicit padding or "VALID".
      kernel_dilation: d puts d - 1 zeros between the taps of the kernel.
      feature_group_count: groups of channels that are convolved separately.
      precision: of the products, see ``jax.lax.Precision``. On CPU large 3x3 convolutions use Winograd's algorithm, which is
        quicker and rounds by up to 6e-6 of the largest result instead of 5e-7; "highest" turns it off.
      lowering: "auto": "matmul" on CPU and "conv" elsewhere, with reverse-mode gradients of any order; "matmul": matrix
        products with hand-written gradients; "conv": ``lax.conv_general_dilated``; "matmul_jvp": the products with the
        derivative rules of JAX, also for forward mode (``jvp``, ``jacfwd``), at about 1.4 times the cost of a gradient.
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
    stride = _per_axis("convolve", "strides", strides, rank)
    x_dilation = _per_axis("convolve", "input_dilation", input_dilation, rank)
    dilation = _per_axis("convolve", "kernel_dilation", kernel_dilation, rank)
    images = x.reshape(-1, *x.shape[-rank - 1 :])
    images, pads = _pad_images(images, _extents(kernel, dilation), stride, padding, x_dilation)
    conv = ConvShape(
        images.shape[1:-1],
        kernel.shape[:rank],
        stride,
        pads,
        dilation,
        x.shape[-1],
        kernel.shape[-1],
        feature_group_count,
        precision,
    )
    y = _convolve_images("convolve", conv, x_dilation, lowering, images, kernel)
    return y.reshape(*x.shape[: -rank - 1], *y.shape[1:])


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
    """Transposed convolution with the conventions of ``jax.lax.conv_transpose``: a convolution of x dilated by the strides.

    Args:
      x: [..., *image, c].
      kernel: [*size, c, features]; with ``transpose_kernel`` [*size, features, c].
      strides: per axis, or one for all; "SAME" gives outputs of image * strides.
      padding: "SAME", "VALID", an int, or per axis an int or (low, high), in pixels of the dilated image.
      kernel_dilation: d puts d - 1 zeros between the taps of the kernel.
      transpose_kernel: flips the kernel and swaps its last two axes; then this is the transpose of ``convolve``.
      precision, lowering: see ``convolve``.
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
    pads = _transposed_pads(_extents(kernel, dilation), stride, padding)
    images = x.reshape(-1, *x.shape[-rank - 1 :])
    conv = ConvShape(
        images.shape[1:-1],
        kernel.shape[:rank],
        (1,) * rank,
        pads,
        dilation,
        x.shape[-1],
        kernel.shape[-1],
        precision=precision,
    )
    y = _convolve_images("convolve_transpose", conv, stride, lowering, images, kernel)
    return y.reshape(*x.shape[: -rank - 1], *y.shape[1:])


def _convolve_images(
    function: str, conv: ConvShape, x_dilation: tuple[int, ...], lowering: str, x: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Convolve x [b, *image, c], dilated by ``x_dilation``, with the kernel.

    A plain x takes the forward convolution; a dilated one is the input gradient of a convolution of strides ``x_dilation``.
    """
    rank = len(conv.image)
    dilated = any(d > 1 for d in x_dilation)
    if dilated and any(s > 1 for s in conv.strides):  # both at once: write the zeros out
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((0, 0, d - 1) for d in x_dilation), (0, 0, 0)])
        conv, x_dilation, dilated = conv._replace(image=x.shape[1:-1]), (1,) * rank, False
    reach = [extent - 1 for extent in conv.extent]
    axes = zip(conv.image, x_dilation, conv.padding, reach, strict=True)
    out = tuple((n - 1) * d + 1 + low + high - r for n, d, (low, high), r in axes) if dilated else conv.out
    _check_output(function, out, x, kernel)
    if lowering == "conv":  # with x dilated as it stands: the transpose is slower in a loop on CPU
        return vjp.xla_convolution(conv, x, kernel, x_dilation)
    if not dilated:
        return vjp.forward(conv, lowering, x, kernel)
    # The convolution whose transpose this is: by the flipped kernel, from images as large as this result.
    size, groups, features = conv.kernel, conv.groups, conv.features
    padding = tuple((r - low, r - high) for (low, high), r in zip(conv.padding, reach, strict=True))
    kernel = lax.rev(kernel, range(rank)).reshape(*size, -1, groups, features // groups)
    kernel = jnp.swapaxes(kernel, -1, -3).reshape(*size, features // groups, conv.channels)
    transposed = ConvShape(
        out, size, x_dilation, padding, conv.dilation, features, conv.channels, groups, conv.precision
    )
    return vjp.input_gradient(transposed, lowering, x, kernel)


def _extents(kernel: jax.Array, dilation: tuple[int, ...]) -> list[int]:
    """Pixels from the first tap of the kernel to its last along each axis, both included."""
    return [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]


def _check_output(function: str, out: tuple[int, ...], x: jax.Array, kernel: jax.Array) -> None:
    if min(out) < 1:
        raise ValueError(
            f"{function}: x of shape {x.shape} and kernel of shape {kernel.shape} leave an image of {out} pixels, expected "
            "at least 1 an axis; pad more or take a smaller kernel or dilation"
        )


def _spatial_rank(function: str, x: jax.Array, kernel: jax.Array, lowering: str) -> int:
    """Spatial axes of the kernel, after a check of ranks, dtypes and lowering."""
    rank = kernel.ndim - 2
    if not 1 <= rank <= 3 or x.ndim < rank + 1:
        raise ValueError(
            f"{function}: x has shape {x.shape} and kernel {kernel.shape}, expected [..., *image, c] and "
            "[*size, c, features] with the same 1 to 3 spatial axes; add the missing axes"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"{function}: x is {x.dtype} and kernel {kernel.dtype}, expected one dtype; cast one of them")
    if lowering not in vjp.LOWERINGS:
        raise ValueError(f"{function}: lowering={lowering!r} is not known; {nearest(str(lowering), vjp.LOWERINGS)}")
    return rank


def _per_axis(function: str, name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    values = (1,) * rank if value is None else (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < 1:
        raise ValueError(
            f"{function}: {name}={value!r}, expected {rank} positive int(s) or one; give one per spatial axis"
        )
    return values


def _explicit_pads(function: str, padding: Padding, rank: int, known: Sequence[str]) -> Pads:
    """Pads from an int, ints or pairs."""
    if isinstance(padding, str):
        raise ValueError(
            f"{function}: padding={padding!r} is not known here; {nearest(padding, known)}, or (low, high) pairs"
        )
    per_axis = (padding,) * rank if isinstance(padding, int) else tuple(padding)
    pads = tuple((p, p) if isinstance(p, int) else (p[0], p[-1]) for p in per_axis)
    if len(pads) != rank or any(not isinstance(p, int) and len(p) not in (1, 2) for p in per_axis):
        raise ValueError(
            f"{function}: padding={padding!r}, expected {rank} int(s) or (low, high) pair(s), one per axis"
        )
    return pads


def _pad_images(
    x: jax.Array, extents: Sequence[int], strides: tuple[int, ...], padding: Padding, x_dilation: tuple[int, ...]
) -> tuple[jax.Array, Pads]:
    """x, padded by ``jnp.pad`` where the padding is not of zeros, and the pads of zeros that remain."""
    rank, plain = len(extents), all(d == 1 for d in x_dilation)
    modes = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
    if padding == "VALID":
        return x, ((0, 0),) * rank
    if padding == "SAME" and plain:
        return x, tuple(lax.padtype_to_pads(x.shape[1:-1], extents, strides, "SAME"))
    if padding == "CAUSAL" and rank == 1:
        return x, ((extents[0] - 1, 0),)
    if isinstance(padding, str) and padding in modes:
        widths = [((e - 1) // 2, e // 2) for e in extents]
        return jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=modes[padding]), ((0, 0),) * rank
    known = ["VALID", *modes, *(["SAME"] if plain else []), *(["CAUSAL"] if rank == 1 else [])]
    return x, _explicit_pads("convolve", padding, rank, known)


def _transposed_pads(extents: Sequence[int], strides: tuple[int, ...], padding: Padding) -> Pads:
    """Pads in pixels of the dilated image; "SAME" and "VALID" mean those of the convolution that is transposed."""
    if padding == "VALID":
        return tuple((e - 1, max(e, s) - 1) for e, s in zip(extents, strides, strict=True))
    if padding == "SAME":
        totals = [
            (e + s - 2, e - 1 if s > e - 1 else -(-(e + s - 2) // 2)) for e, s in zip(extents, strides, strict=True)
        ]
        return tuple((low, total - low) for total, low in totals)
    return _explicit_pads("convolve_transpose", padding, len(extents), ("SAME", "VALID"))
