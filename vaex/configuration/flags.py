"""The flags of every model, what their words mean, and the fields of a model as flags. Imports neither jax nor a model."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from vaex.errors import UserError, nearest

HIDDEN = ("clip", "average", "skip")  # static switches of a model that follow from its hyperparameters


@dataclass(frozen=True)
class RunFlags:
    """The run.

    Attributes:
      model: a name from the list above, or a module of your own such as my_package.my_module.
      steps: how many steps to train in all; by default the model's own choice. A finished run continues with a larger number.
      epochs: the same in passes over the training data.
      batch_size: examples per step; by default the model's own choice.
      seeds: of initialisation and noise; several make a population, as 0:8 (0 to 7) or 1,5.
      out: the run directory; by default runs/MODEL-DATASET-HASH. The same command continues a stopped run.
      overwrite: start again where the run directory already holds a run.
      log_every: steps per row of metrics.jsonl.
      checkpoint_every: steps between checkpoints; by default about one a minute.
      devices: how many devices to use; by default all.
      coordinator_address: HOST:PORT of the first of several processes that train one run, or auto on a cluster that tells.
      num_processes: how many processes there are.
      process_id: which of them this is, from 0; each reads its share of a batch, the first one writes the run.
      population_strategy: members at once (vmap) or one after the other (members).
      compile_cache: where compiled programs are kept for the next start: auto (the user's cache folder, or $VAEX_CACHE), off,
        or a folder.
      profile: trace some steps into the run directory, for xprof or perfetto, and print the time of each op.
    """

    model: str = ""
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    seeds: str = "0"
    out: str | None = None
    overwrite: bool = False
    log_every: int = 100
    checkpoint_every: int | None = None
    devices: int | None = None
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    population_strategy: Literal["auto", "vmap", "members"] = "auto"
    compile_cache: str = "auto"
    profile: bool = False


@dataclass(frozen=True)
class DataFlags:
    """The data.

    Attributes:
      dataset: a name from the list above, or your own PATH.npz, PATH.npy or folder of images; by default the model's choice.
      data_seed: of the order of examples, which all members share.
      data_dir: where prepared data sets live.
      manual_dir: where original files lie that you downloaded yourself.
      binarize: grey values to 0 and 1; dynamic draws anew at each step, auto does so for a bernoulli likelihood.
      dequantize: uniform adds noise within a level, so that densities bound the likelihood of 8-bit data.
      flip: whether training images are flipped from left to right half of the time.
      crop: pixels by which training images are moved at most, at random; 0 is off.
      image_size: to which images of a folder, of celeb_a, dsprites, shapes3d or tfds:NAME are cut and resized, as 64 or
        64x48 (height x width); at which sprites are drawn.
      sequence_length: frames of bouncing_sprites and rotating_sprites; by default 16.
      labels: how many training examples keep their label, equally many of each class; by default all.
      labelled_per_batch: how many examples of each batch are labelled ones, where --labels is given; by default half.
      memory: where training data is kept; host streams it to the device ahead of use, with the same numbers; auto does so
        where it would take more than 40% of the memory that is free.
    """

    dataset: str | None = None
    data_seed: int = 0
    data_dir: str | None = None
    manual_dir: str | None = None
    binarize: Literal["auto", "none", "dynamic", "threshold"] = "auto"
    dequantize: Literal["none", "uniform"] = "none"
    flip: bool = False
    crop: int = 0
    image_size: tuple[int, ...] | None = None
    sequence_length: int | None = None
    labels: int | None = None
    labelled_per_batch: int | None = None
    memory: Literal["auto", "device", "host"] = "auto"


@dataclass(frozen=True)
class EvaluationFlags:
    """The evaluation at the end of the run.

    Attributes:
      eval_split: which examples; choose settings on validation, read test once.
      eval_images: how many of them the importance-weighted log-likelihood uses.
      eval_samples: importance samples K per example.
      show: draw the likelihood's mean, or a sample from it.
      figures: whether to draw pictures.
    """

    eval_split: Literal["test", "validation"] = "test"
    eval_images: int = 1000
    eval_samples: int = 100
    show: Literal["mean", "sample"] = "mean"
    figures: bool = True


GROUPS: tuple[tuple[str, type], ...] = (("run", RunFlags), ("data", DataFlags), ("evaluation", EvaluationFlags))
COUNT = (1, 2**31 - 1)  # compiled programs count in int32
LIMITS = {
    "steps": COUNT,
    "batch_size": COUNT,
    "log_every": COUNT,
    "checkpoint_every": COUNT,
    "devices": COUNT,
    "num_processes": COUNT,
    "process_id": (0, COUNT[1]),
    "crop": (0, COUNT[1]),
    "sequence_length": COUNT,
    "labels": COUNT,
    "labelled_per_batch": COUNT,
    "eval_images": COUNT,
    "eval_samples": COUNT,
    "data_seed": (0, 2**64 - 1),
}
MOST_SEEDS = 65536  # far beyond any population; a slip such as 0:1e9 must not fill the memory


def help_texts(cls: type) -> dict[str, str]:
    """Field -> its line under "Attributes:" in the docstrings of ``cls`` and what it inherits from."""
    import docstring_parser

    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for entry in docstring_parser.parse(base.__doc__ or "").params:
            texts[entry.arg_name] = " ".join((entry.description or "").split())
    return texts


def field_types(cls: type) -> dict[str, Any]:
    """Field -> type of the flags that a dataclass stands for."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.name not in HIDDEN}


def show(value: Any) -> str:
    """The text of a field's default, in the grammar of flags; of a number the shortest that stands for the same float32.

    Example:
      >>> show(0.001), show(1.0), show((500, 500))
      ('0.001', '1', '500x500')
    """
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a Schedule
        start, stop, begin, length, period, cosine = (float(v) for v in value)
        if start == stop:
            return _number(start)
        if period:
            return ":".join(["cycle", *map(_number, (start, stop, period, float(f"{length / period:.6g}")))])
        parts = (start, stop, length, begin) if begin else (start, stop, length)
        return ":".join(["cosine" if cosine else "ramp", *map(_number, parts)])
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    import numpy as np

    return str(np.float32(value)).removesuffix(".0")


def convert(name: str, kind: Any, text: str, limits: tuple[float, float] | None = None) -> Any:
    """The value of ``text`` for a flag of type ``kind``, between ``limits`` (those of the flags of every model by default).

    Raises: UserError that says what was expected.
    Example:
      >>> convert("hidden", tuple[int, ...], "500x500")
      (500, 500)
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(kind):
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        choices = {str(choice): choice for choice in arguments}
        if text not in choices:
            raise UserError(f"--{name}={text}: {nearest(text, choices)}{_one_value(text)}")
        return choices[text]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"--{name}={text}: expected true or false")
        return text.lower() == "true"
    try:
        if origin is tuple:
            return tuple(arguments[0](part) for part in text.split("x")) if text else ()
        value = kind(text)
    except ValueError:
        example = {int: "a whole number", float: "a number"}.get(kind, "whole numbers joined by x, such as 500x500")
        raise UserError(f"--{name}={text}: expected {example}{_one_value(text)}") from None
    if kind is float and not math.isfinite(value):
        raise UserError(f"--{name}={text}: expected a finite number")
    low, high = limits or LIMITS.get(name, (-math.inf, math.inf))
    if kind in (int, float) and not low <= value <= high:
        raise UserError(f"--{name}={text}: expected {f'at least {low}' if value < low else f'at most {high}'}")
    return value


def _one_value(text: str) -> str:
    return "; only hyperparameters and --seeds take several values" if "," in text else ""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0``, ``1,5`` or ``0:8``.

    Example:
      >>> parse_seeds("0:3,7")
      (0, 1, 2, 7)
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            span = range(int(first), int(last) if colon else int(first) + 1)
            if len(seeds) + len(span) > MOST_SEEDS:
                raise UserError(f"--seeds={text}: expected at most {MOST_SEEDS} seeds in one run")
            seeds.extend(span)
    except UserError:
        raise
    except (ValueError, OverflowError):
        raise UserError(f"--seeds={text}: expected whole numbers, as 0:8 (0 to 7) or 1,5") from None
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(f"--seeds={text}: expected at least one seed, all different, each from 0 to 2^32 - 1")
    return tuple(seeds)


def ranges(cls: type) -> dict[str, tuple[float, float]]:
    """Hyperparameter -> (least, most), from ``RANGES`` of ``cls`` and what it inherits from."""
    found: dict[str, tuple[float, float]] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base).get("RANGES", {})
    return found


def parse_hparam(
    name: str, text: str, bounds: tuple[float, float] | None, *, infinite: bool = False
) -> tuple[str, ...]:
    """The texts of one hyperparameter flag, each checked and spelt as ``show`` does, so that 1e-3 and 0.001 are one value.

    Args:
      name: of the flag.
      text: one value or several, joined by commas.
      bounds: (least, most), or None.
      infinite: whether a constant may be infinite (which switches something off).
    Raises: UserError for a value that can't be read or used, or one that stands twice.
    Example:
      >>> parse_hparam("beta", "1,4.0,ramp:0:4:5e3", None)
      ('1', '4', 'ramp:0:4:5000')
    """
    import numpy as np

    from vaex import schedules

    low, high = bounds or (-math.inf, math.inf)
    texts = []
    for part in (part.strip() for part in text.split(",")):
        try:
            with np.errstate(over="ignore"):  # what overflows float32 is refused below
                schedule = schedules.parse(part)
        except ValueError as error:
            raise UserError(f"--{name}={text}: {error}; several values are joined by commas") from None
        numbers = np.asarray(schedule, np.float64)
        ends = numbers[:2]
        if not np.all(np.isfinite(numbers)) and not (infinite and ends[0] == ends[1]):
            raise UserError(f"--{name}={text}: expected finite numbers")
        if not all(np.float32(low) <= np.float32(value) <= np.float32(high) for value in ends):
            wanted = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise UserError(f"--{name}={text}: expected values {wanted}")
        spelt = show(schedule)
        texts.append(spelt if schedules.parse(spelt) == schedule else part)  # a cycle's share may lose a digit
    if len(set(texts)) < len(texts):
        raise UserError(f"--{name}={text}: a value stands twice; give each once, and --seeds for repetitions")
    return tuple(texts)


def stage_flags(module: types.ModuleType) -> dict[str, int]:
    """Flag -> default of the steps of a model's later stages: the entries ``<stage>_steps`` of its ``DEFAULTS``."""
    return {name: steps for name, steps in getattr(module, "DEFAULTS", {}).items() if name.endswith("_steps")}


def hparam_defaults(module: types.ModuleType) -> dict[str, str]:
    """Hyperparameter -> the text of its default."""
    values = module.HParams()
    return {field.name: show(getattr(values, field.name)) for field in dataclasses.fields(values)}
