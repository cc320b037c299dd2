"""Description of a data set: shape, kind of values, names, and the protocol under which its likelihoods compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from vaex.data.columns import Column
from vaex.data.conditions import Condition
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vaex.core import Feed

KINDS = ("binary", "grey", "color", "real")
BINARIZE = ("none", "dynamic", "threshold")
DEQUANTIZE = ("none", "uniform")
STANDARDIZE = ("auto", "none")
RECORDED = {  # types of a Spec in JSON, as ``files.mismatch`` takes them
    "path?": (None, str),
    "name?": str,
    "shape?": [int],
    "kind?": set(KINDS),
    "levels?": (None, int),
    "num_classes?": int,
    "label_names?": [str],
    "factor_names?": [str],
    "protocol?": str,
    "data_hash": str,
    "binarize?": set(BINARIZE),
    "dequantize?": set(DEQUANTIZE),
    "num_training_examples?": int,
    "num_labelled?": int,
    "binarization_noise?": (None, float),
    "unit?": float,
    "location?": [float],
    "scale?": [float],
    "missing?": bool,
    "least_scale?": float,
    "counts?": bool,
    "volume?": bool,
    "value_range?": [float],
    "typical_total?": float,
    "columns?": [list],  # each as ``Column`` has its fields
    "conditions?": [list],  # each as ``Condition`` has its fields
    "skipped?": [str],
    "alpha?": bool,
}
LAYOUTS = ("auto", "hwc", "chw", "vector", "tc", "ct", "dhwc", "cdhw", "thwc")  # of the axes of a user's arrays


class Spec(NamedTuple):
    """Static description of a data set (hashable, no arrays).

    ``shape``: one example, an image [h, w, c], a vector [d], a series [t, c], a sequence of images [t, h, w, c] or a volume
    [d, h, w, c], which ``volume`` tells. ``kind``: "binary" (0 or 1), "grey" (one
    channel, a vector or a series, in [0, 1]), "color" (several channels, in [0, 1]) or "real" (vectors and series of any finite
    value). ``value_range``: the numbers of the file that became 0 and 1, where they were others than 0 and ``levels`` - 1.
    ``levels``: number of equally spaced values (2, 17, 256), or None where values are continuous. ``num_classes``: labels are
    0..num_classes-1, and -1 means unlabelled; 0 without labels. ``protocol``: files, split and binarisation by name, printed with
    every likelihood. ``data_hash``: of the arrays of all splits. ``binarize``, ``dequantize``: see ``resolve``.
    ``num_training_examples``: number of examples per epoch, for objectives whose formula needs it; 0 where unknown.
    ``num_labelled``: of how many of these training sees the label, where batches hold more of them than an epoch does; else 0.
    ``binarization_noise``, ``unit``, ``least_scale``: measured on the training examples by ``vaex.data.measure``. The first tells
    how much of intensities is lost where they are binarised; None where it was not measured. The second is the power of ten of
    real numbers' spread; networks and likelihoods work in this unit. The third bounds the scale of densities with one per pixel.
    ``counts``: whether vectors of levels look like counts (``measure.are_counts``).
    ``skipped``: files of a folder that cannot be read and were left out. ``alpha``: whether the fourth channel is opacity.
    ``location``, ``scale``: of each column of real vectors, [d]; networks read (x - location) / scale, and likelihoods start from
    there, in place of the unit. () where columns are not standardised. ``missing``: whether entries may be NaN, for unobserved.
    ``typical_total``: geometric mean of the total counts of vectors of counts; 0 of other data.
    ``conditions``: of each column of "y" [n, m], where y holds conditions that are no classes (``num_classes`` is 0); else ().
    ``columns``: of a table, whose x [d] has kind "real" and holds what ``vaex.data.columns`` says; () of other data.

    Example:
      >>> Spec("digits", (8, 8, 1), "grey", levels=17).binarize
      'none'
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    levels: int | None = None
    num_classes: int = 0
    label_names: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    protocol: str = ""
    data_hash: str = ""
    binarize: str = "none"
    dequantize: str = "none"
    num_training_examples: int = 0
    num_labelled: int = 0
    binarization_noise: float | None = None
    unit: float = 1.0
    least_scale: float = 0.0
    counts: bool = False
    location: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    missing: bool = False
    volume: bool = False
    value_range: tuple[float, ...] = ()
    columns: tuple[Column, ...] = ()
    skipped: tuple[str, ...] = ()
    alpha: bool = False
    typical_total: float = 0.0
    conditions: tuple[Condition, ...] = ()


class Source(Protocol):
    """Source of rendered data: ``FactorSource`` or ``SequenceSource``."""

    @property
    def spec(self) -> Spec:
        """Description of the data."""
        ...

    @property
    def num_observations(self) -> int:
        """Number of examples per epoch, 0 where unknown."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Number of examples per batch where the source fixes it."""
        ...

    def feed(self, batch_size: int, data_seed: int = 0) -> Feed:
        """Return a feed whose batches are rendered inside the compiled step."""
        ...


class Dataset(NamedTuple):
    """Arrays of the three splits: "train", "validation", "test" -> {"x": [n, ...], "y": [n] int32 where labelled}.

    ``x`` is uint8, or uint16 for more than 256 levels, holding level indices 0..levels-1 where ``Spec.levels`` is set, else
    float32. ``y`` is float32 [n, m] where it holds ``Spec.conditions``. ``source``: of rendered data, a ``FactorSource`` or
    ``SequenceSource``; training then takes batches from its ``feed``, and "train" holds a sample.

    Example:
      >>> x = np.zeros([2, 4], np.uint8)
      >>> Dataset({"train": {"x": x}}, Spec("zeros", (4,), "binary", levels=2)).splits["train"]["x"].shape
      (2, 4)
    """

    splits: dict[str, dict[str, np.ndarray]]
    spec: Spec
    source: Source | None = None

    @classmethod
    def from_arrays(
        cls,
        x: ArrayLike | Mapping[str, ArrayLike],
        y: ArrayLike | None = None,
        *,
        name: str = "arrays",
        layout: str = "auto",
        kind: str = "auto",
        value_range: str = "auto",
        first_label: int = 0,
        **splits: ArrayLike,
    ) -> Dataset:
        """Make a data set of arrays in memory.

        Args:
          x: training examples, [n, h, w], [n, h, w, c] or [n, d], or of another ``kind``; or a mapping with "x" and the names
            below.
          y: labels of x, integers [n] with -1 for unlabelled; or conditions, real numbers [n] or [n, m].
          name: of the data in reports.
          layout, kind, value_range, first_label: how axes, values and labels are read, as in ``vaex.data.load``.
          **splits: x_validation, y_validation, x_test, y_test; a split that is left out is a tenth of x.
        Raises: UserError for arrays that vaex cannot use, with the remedy.
        """
        from vaex.data import registry

        arrays = dict(x) if isinstance(x, Mapping) else {"x": x}
        more = ({} if y is None else {"y": y}) | splits
        if twice := sorted(set(arrays) & set(more)):
            raise UserError(f"{name}: {twice[0]} is given twice; give it once")
        return registry.from_arrays(
            {**arrays, **more}, name=name, layout=layout, kind=kind, value_range=value_range, first_label=first_label
        )

    @classmethod
    def from_batches(
        cls,
        batches: Callable[..., Any] | Iterable[Any],
        *,
        x: str = "x",
        y: str | None = None,
        validation: object = None,
        test: object = None,
        name: str = "batches",
        examples_per_epoch: int = 0,
        layout: str = "auto",
        kind: str = "auto",
        value_range: str = "auto",
    ) -> Dataset:
        """Return a data set whose training examples come as batches of one shape.

        A batch is x, (x, y), or a mapping of columns; tensors of other libraries are converted by ``numpy.asarray``. Training
        starts again exactly where it stopped if ``batches`` is a function of the step. An iterable, such as a data loader, is
        iterated over again from its beginning up to the step: exact if it yields the same batches each time. An iterator, such
        as a generator, passes once: the run continues within the process only.

        Args:
          batches: function of the step that returns a batch, or an iterable or iterator of batches. A function of the step and of a
            slice of rows returns these rows of the batch: of several processes each reads its own alone.
          x: name of the examples' column.
          y: name of the labels' column, None without labels.
          validation, test: arrays to evaluate on, as a batch is written. Where they are left out, the first batches, at least 500
            examples for each, are held out; an iterable that repeats needs them.
          name: of the data in reports.
          examples_per_epoch: number of training examples, where there is one; epochs and some objectives need it.
          layout, kind, value_range: how axes and values are read, as in ``vaex.data.load``.
        Raises: UserError for batches that vaex cannot use, when they are first seen.
        """
        from vaex.data import registry

        return registry.from_batches(
            batches,
            x=x,
            y=y,
            validation=validation,
            test=test,
            name=name,
            examples_per_epoch=examples_per_epoch,
            layout=layout,
            kind=kind,
            value_range=value_range,
        )

    @classmethod
    def from_table(
        cls, table: object, *, name: str = "table", columns: str | None = None, label_column: str | None = None
    ) -> Dataset:
        """Return columns in memory as a data set.

        Args:
          table: name -> entries [n] of numbers, bools or texts, NaN or None where missing, or masked arrays: a mapping or a data
            frame.
          name: of the data in reports.
          columns, label_column: as in ``vaex.data.load``.
        Raises: UserError for columns that vaex cannot use, with the remedy.
        """
        from vaex.data import registry

        return registry.from_table(table, name=name, columns=columns, label_column=label_column)

    @classmethod
    def load(cls, name: str, **options: Any) -> Dataset:
        """Return the data set of this name or path; see ``vaex.data.load``."""
        from vaex.data import registry

        return registry.load(name, **options)

    @property
    def num_training_examples(self) -> int:
        """Number of examples per epoch of training."""
        return len(self.splits["train"]["x"]) if self.source is None else self.source.num_observations


def resolve(spec: Spec, *, binarize: str = "none", dequantize: str = "none", standardize: str = "auto") -> Spec:
    """Return ``spec`` with this binarisation and dequantisation, which its protocol names, and columns standardised or not.

    The first two replace those of ``spec``, so it may be resolved again with other values.

    Args:
      spec: of the data set.
      binarize: "none"; "dynamic" draws every value anew as a Bernoulli variable whose probability is the intensity
        (Salakhutdinov & Murray 2008); "threshold" is 1 above one half.
      dequantize: "none"; "uniform" adds noise within a level, so that a density bounds the likelihood of the levels
        (Theis et al. 2016, section 3.1).
      standardize: "auto" leaves ``location`` and ``scale`` as they were measured; "none" drops them.
    Raises: UserError for an unknown value, or for one that does not suit this data.
    Example:
      >>> spec = Spec("digits", (8, 8, 1), "grey", levels=17, protocol="digits_1397_200_200 17_levels")
      >>> resolve(spec, binarize="dynamic").protocol
      'digits_1397_200_200 dynamic_binarisation'
    """
    known_values = (
        ("binarize", binarize, BINARIZE),
        ("dequantize", dequantize, DEQUANTIZE),
        ("standardize", standardize, STANDARDIZE),
    )
    for flag, value, known in known_values:
        if value not in known:
            raise UserError(f"--{flag}={value}: {nearest(str(value), known)}")
    problem = _problem(spec, binarize, dequantize)
    if problem is None and standardize == "none" and spec.kind != "real":
        problem = f"--standardize=none: {spec.name} holds no real numbers, so nothing is standardised; leave it out"
    if problem:
        raise UserError(problem)
    if standardize == "none":
        as_given = tuple(column._replace(location=0.0, scale=1.0) for column in spec.columns)
        spec = spec._replace(location=(), scale=(), columns=as_given)
    base = spec.protocol.removesuffix(_treatment(spec)).rstrip()
    changed = spec._replace(binarize=binarize, dequantize=dequantize)
    return changed._replace(protocol=f"{base} {_treatment(changed)}".lstrip())


def with_protocol(spec: Spec, files_and_split: str) -> Spec:
    """Return ``spec`` with a protocol that names ``files_and_split`` and then the treatment of the values.

    Example:
      >>> with_protocol(Spec("faces", (28, 20, 1), "grey", levels=256), "faces_1573_196_196").protocol
      'faces_1573_196_196 256_levels'
    """
    return spec._replace(protocol=f"{files_and_split} {_treatment(spec)}")


def _problem(spec: Spec, binarize: str, dequantize: str) -> str | None:
    if binarize != "none" and spec.kind == "real":
        return f"--binarize={binarize}: {spec.name} holds real numbers, not intensities; use --binarize=none or rescale to [0, 1]"
    if binarize != "none" and spec.kind == "binary":
        return f"--binarize={binarize}: {spec.name} is binary already; use --binarize=none"
    if dequantize != "none" and spec.levels is None:
        return f"--dequantize={dequantize}: {spec.name} has continuous values, not levels; use --dequantize=none"
    if dequantize != "none" and binarize != "none":
        return (
            f"--dequantize={dequantize} spreads levels that --binarize={binarize} has removed; set one of them to none"
        )
    return None


def _treatment(spec: Spec) -> str:
    """Name the treatment of the values, for the end of a protocol."""
    if spec.binarize != "none":
        return f"{spec.binarize}_binarisation"
    if spec.dequantize != "none":
        return f"{spec.levels}_levels_{spec.dequantize}_dequantisation"
    if spec.kind in ("binary", "real"):
        return "table" if spec.columns else spec.kind
    return "continuous" if spec.levels is None else f"{spec.levels}_levels"
