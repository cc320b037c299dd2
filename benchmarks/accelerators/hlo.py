"""Optimised HLO as text: its computations and instructions, the step inside the training loop, and what a step executes."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

WIDTHS = {"pred": 8, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
CALLED = re.compile(r"(calls|body|to_apply|true_computation|false_computation|async_execution)=%?([\w.\-]+)")
BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
TRIPS = re.compile(r'"?known_trip_count"?:?=?\s*\{\s*"?n"?:\s*"?(\d+)')
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "ragged-all-to-all")
# instructions that execute nothing of their own
FREE = {
    "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "opt-barrier", "partition-id", "replica-id",
    "while", "call", "conditional", "async-start", "async-update", "async-done",
}  # fmt: skip
CHANNEL = re.compile(r"channel_id=(\d+)")
HOST = {"infeed", "outfeed", "send", "recv"}
HOST_CALLS = ("callback", "MoveToHost", "MoveToDevice", "host")
LIBRARY = re.compile(r"^(__cu|cu|triton|__triton)")
COPIES = ("copy", "transpose")
SCALAR = re.compile(r"[a-z]+\d*\[\](\{[^{}]*\})?")
HOST_SPACE = "S(5)"


class Instruction(NamedTuple):
    """One line of a computation. ``shape``: as printed, layouts included; ``operands``: their names, of a parameter its number;
    ``rest``: the attributes."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def called(self) -> list[str]:
        """Computations that it executes, beside a loop's condition."""
        names = [name for _, name in CALLED.findall(self.rest)]
        for group in BRANCHES.findall(self.rest):
            names += [name.strip().lstrip("%") for name in group.split(",") if name.strip()]
        return names

    @property
    def trips(self) -> int | None:
        """How often a loop runs, where that is known."""
        found = TRIPS.search(self.rest)
        return int(found.group(1)) if found else None


class Module(NamedTuple):
    """A program. ``aliases``: how many of its results take the place of an argument."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str
    aliases: int


def array_bytes(shape: str) -> int:
    """Return the bytes of all arrays in the text of a shape, without padding.

    Example:
      >>> array_bytes("(f32[64,10]{1,0:T(8,128)}, bf16[3], pred[])")
      2567
    """
    return sum(_bytes(kind, sizes) for kind, sizes, _ in ARRAY.findall(shape))


def memory_bytes(shape: str) -> int:
    """Return the bytes of all arrays in the text of a shape that lie in the device's memory, rather than on its chip.

    Example:
      >>> memory_bytes("(f32[64]{0:T(128)S(1)}, f32[64]{0:T(128)}, s32[]{:T(128)S(6)})")
      256
    """
    return sum(_bytes(kind, sizes) for kind, sizes, layout in ARRAY.findall(shape) if "S(" not in layout)


def padded_bytes(shape: str) -> int:
    """Return the bytes of all arrays in the text of a shape, each padded to whole tiles, as TPUs store them.

    Example:
      >>> padded_bytes("f32[64,10]{1,0:T(8,128)}"), padded_bytes("f32[64,10]{1,0}")
      (32768, 2560)
    """
    total = 0
    for kind, sizes, layout in ARRAY.findall(shape):
        order, _, tiling = layout.partition(":")
        tile = re.match(r"T\(([\d,]+)\)", tiling)
        if tile is None or not sizes:
            total += _bytes(kind, sizes)
            continue
        extents = [int(size) for size in sizes.split(",")]
        minor_first = [extents[int(axis)] for axis in order.split(",")]
        for position, step in enumerate(reversed([int(size) for size in tile.group(1).split(",")])):
            if position < len(minor_first):
                minor_first[position] = math.ceil(minor_first[position] / step) * step
        total += _bytes(kind, ",".join(map(str, minor_first)))
    return total


def _bytes(kind: str, sizes: str) -> int:
    digits = re.search(r"\d+", kind)
    bits = WIDTHS.get(kind, int(digits.group()) if digits else 0)
    return math.ceil(bits * math.prod(int(size) for size in sizes.split(",") if size) / 8)


def parse(text: str) -> Module:
    """Return the computations of optimised HLO, as ``Compiled.as_text`` gives it.

    Raises: ValueError for a text without an entry.
    """
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] | None = None
    entry, aliases = None, 0
    for line in text.splitlines():
        if line.startswith("HloModule"):
            aliases = _aliases(line)
        elif line.endswith("{") and not line.startswith((" ", "}")) and "->" in line:
            words = line.split()
            name = (words[1] if words[0] == "ENTRY" else words[0]).lstrip("%").partition("(")[0]
            entry = name if words[0] == "ENTRY" else entry
            current = computations.setdefault(name, [])
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            current.append(_instruction(line.strip()))
    if entry is None:
        raise ValueError("parse: the text has no ENTRY computation, expected optimised HLO")
    return Module(computations, entry, aliases)


def _aliases(header: str) -> int:
    start = header.find("input_output_alias={")
    if start < 0:
        return 0
    inside, _ = _balanced(header[start + len("input_output_alias=") :], "{", "}")
    return len(re.findall(r"\}: \(", inside))


def _balanced(text: str, opening: str, closing: str) -> tuple[str, str]:
    """Split a text that begins with ``opening`` behind its partner."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if depth == 0:
            return text[: index + 1], text[index + 1 :]
    return text, ""


def _instruction(line: str) -> Instruction:
    left, _, right = line.partition(" = ")
    if right.startswith("("):
        shape, right = _balanced(right, "(", ")")
    else:
        shape, _, right = right.partition(" ")
    opcode, _, _ = right.strip().partition("(")
    operands, rest = _balanced(right.strip()[len(opcode) :], "(", ")")
    names = [operands.strip("()")] if opcode == "parameter" else re.findall(r"%([\w.\-]+)", operands)
    is_root = left.startswith("ROOT ")
    return Instruction(left.removeprefix("ROOT ").lstrip("%"), shape, opcode, tuple(names), rest, is_root)


def step_body(module: Module) -> str:
    """Return the computation that is one training step: the body of the innermost of the chunk's two loops over steps, whose
    bounds are arguments.

    Raises: ValueError where there are no two such loops, one in the other.
    """
    for outer in _loops(module, module.entry):
        inner = list(_loops(module, outer))
        if inner:
            return max(inner, key=lambda body: sum(1 for _ in executed(module, body)))
    raise ValueError("step_body: expected a loop over rows around a loop over steps")


def _loops(module: Module, computation: str) -> Iterator[str]:
    """Bodies of loops of unknown length, the outermost ones within a computation."""
    for instruction in module.computations[computation]:
        if instruction.opcode == "fusion":
            continue
        if instruction.opcode == "while" and instruction.trips is None:
            yield from instruction.called
            continue
        for name in instruction.called if instruction.opcode in FREE else ():
            yield from _loops(module, name)


def executed(module: Module, computation: str, times: int = 1) -> Iterator[tuple[Instruction, str, int]]:
    """Instructions that a computation executes, those of its loops and branches included: (instruction, the computation that
    holds it, how often). A loop of unknown length counts once."""
    for instruction in module.computations[computation]:
        if instruction.opcode not in FREE:
            yield instruction, computation, times
            continue
        inner = times * (instruction.trips or 1) if instruction.opcode == "while" else times
        for name in instruction.called:
            yield from executed(module, name, inner)
        if instruction.opcode == "while":
            yield instruction, computation, times


class Work(NamedTuple):
    """What one execution of a computation does, on one device.

    Attributes:
      kernels: number of instructions that execute, loops unrolled, without those of scalars, which have a unit of their own.
      kinds: the same by kind: "fusion", "library" (calls of cuBLAS, cuDNN or Triton), "convolution", "product", "prefetch" (into
        memory on the chip) and other opcodes; and "scalar".
      convolutions, grouped: number of convolutions, in fusions or library calls too, and of those with feature or batch groups.
      products: of matrix products that are no convolutions.
      loops: number of loops.
      copies: bytes of copies and transposes that are kernels of their own.
      collectives: kind -> bytes, of what all-gathers and all-reduces return, and of what the others are given.
      collective_calls: kind -> number of calls.
      host: transfers to and from the host and callbacks, by name.
      moved: bytes of the device's memory that kernels read and write; slices count as what is sliced.
      padding: bytes of results as stored over bytes of results.
    """

    kernels: int
    kinds: dict[str, int]
    convolutions: int
    grouped: int
    products: int
    loops: int
    copies: int
    collectives: dict[str, int]
    collective_calls: dict[str, int]
    host: list[str]
    moved: int
    padding: float


def work(module: Module, computation: str) -> Work:
    """Return what one execution of a computation does."""
    kinds: collections.Counter[str] = collections.Counter()
    collectives: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    convolutions = grouped = products = loops = copies = moved = stored = plain = 0
    host: set[str] = set()
    channels: set[str] = set()
    for instruction, place, times in executed(module, computation):
        if instruction.opcode == "while":
            loops += 1
            continue
        kind = _kind(instruction)
        for part in _parts(module, instruction):
            is_convolution = part.opcode == "convolution" or "$conv" in part.rest
            convolutions += times * is_convolution
            grouped += times * (is_convolution and _is_grouped(part.rest))
            products += times * (part.opcode == "dot" or _is_library_product(part))
        for exchange in _exchanges(module, place, instruction):
            if exchange.channel not in channels:
                collectives[exchange.kind] += times * exchange.size
                calls[exchange.kind] += times
            channels |= {exchange.channel} - {""}
        host |= _host(instruction)
        if instruction.opcode.endswith(("-done", "-update")):
            continue
        kinds[kind] += times
        copies += times * array_bytes(instruction.shape) * (instruction.opcode in COPIES)
        moved += times * _moved(module, place, instruction)
        stored, plain = stored + padded_bytes(instruction.shape), plain + array_bytes(instruction.shape)
    kernels = sum(kinds.values()) - kinds["scalar"]
    return Work(
        kernels, dict(kinds), convolutions, grouped, products, loops, copies, dict(collectives), dict(calls),
        sorted(host), moved, stored / plain if plain else 1.0,
    )  # fmt: skip


class _Exchange(NamedTuple):
    """One collective. ``channel``: its number where several fusions begin, advance and end it, as on TPUs; else ""."""

    kind: str
    size: int
    channel: str


def _exchanges(module: Module, place: str, instruction: Instruction, *, fused: bool = False) -> Iterator[_Exchange]:
    """Collectives of an instruction, those of its fused computations included."""
    if instruction.opcode == "fusion":
        for name in instruction.called:
            for part in module.computations[name]:
                yield from _exchanges(module, name, part, fused=True)
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return
    beside = module.computations[place]
    shapes = {other.name: other.shape for other in beside}
    size = operands = sum(array_bytes(shapes.get(name, "")) for name in instruction.operands)
    if kind in ("all-gather", "all-reduce"):  # a TPU rounds the results of some
        holds_operands = instruction.shape.startswith("((") or instruction.opcode == "all-gather-start"
        size = array_bytes(instruction.shape) - (operands if holds_operands else 0)
    if fused and kind == "all-reduce" and any(other.opcode == "dynamic-slice" for other in beside):
        yield _Exchange("reduce-scatter", size, "")  # as TPUs fuse it; all of these have the same channel
        return
    channel = CHANNEL.search(instruction.rest) if fused else None
    yield _Exchange(kind, size, channel[1] if channel else "")


def _kind(instruction: Instruction) -> str:
    if instruction.opcode == "custom-call":
        target = _target(instruction)
        return "library" if LIBRARY.match(target) else "custom call"
    if instruction.opcode != "fusion" and SCALAR.fullmatch(instruction.shape):
        return "scalar"
    names = {"dot": "product", "copy-start": "prefetch"}
    return names.get(instruction.opcode, instruction.opcode.removesuffix("-start"))


def _target(instruction: Instruction) -> str:
    found = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    return found.group(1) if found else ""


def _parts(module: Module, instruction: Instruction) -> Iterator[Instruction]:
    """An instruction, and those of its fused computations."""
    yield instruction
    if instruction.opcode == "fusion":
        for name in instruction.called:
            for part in module.computations[name]:
                yield from _parts(module, part)


def _is_library_product(part: Instruction) -> bool:
    target = _target(part)
    return "gemm" in target or "matmul" in target


def _is_grouped(attributes: str) -> bool:
    return any(int(count) > 1 for count in re.findall(r"(?:feature|batch)_group_count=(\d+)", attributes))


def _host(instruction: Instruction) -> set[str]:
    name = instruction.opcode.removesuffix("-start").removesuffix("-done")
    if name in HOST or HOST_SPACE in instruction.shape:
        return {name}
    target = _target(instruction) if name == "custom-call" else ""
    return {target} if any(word in target for word in HOST_CALLS) else set()


def _moved(module: Module, place: str, instruction: Instruction) -> int:
    """Bytes that a kernel reads and writes."""
    shapes = {other.name: other.shape for other in module.computations[place]}
    sizes = [memory_bytes(shapes.get(name, "")) for name in instruction.operands]
    result = memory_bytes(instruction.shape)
    if instruction.opcode == "copy-start":  # its shape holds the operand too
        return sizes[0] + max(0, result - sizes[0])
    if instruction.opcode in ("dynamic-slice", "gather"):
        return 2 * result
    if instruction.opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    if instruction.opcode == "fusion" and instruction.called:
        inside = module.computations[instruction.called[0]]
        sizes = [_read(inside, index, size) for index, size in enumerate(sizes)]
        result = _written(inside, result)
    return sum(sizes) + result


def _read(inside: Sequence[Instruction], index: int, size: int) -> int:
    """Bytes that a fused computation reads of an operand: those of its slices, where nothing else reads it."""
    names = [part.name for part in inside if part.opcode == "parameter" and part.operands == (str(index),)]
    if not names:
        return size
    readers = [part for part in inside if names[0] in part.operands]
    if not readers or any(part.operands[0] != names[0] for part in readers):
        return size
    if all(part.opcode in ("dynamic-slice", "gather") for part in readers):
        return min(size, sum(array_bytes(part.shape) for part in readers))
    if all(part.opcode == "dynamic-update-slice" for part in readers):
        return 0
    return size


def _written(inside: Sequence[Instruction], size: int) -> int:
    roots = [part for part in inside if part.is_root]
    if roots and roots[0].opcode == "dynamic-update-slice":
        shapes = {part.name: part.shape for part in inside}
        return min(size, array_bytes(shapes.get(roots[0].operands[1], "")))
    return size
