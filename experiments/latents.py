"""The latents of a trained run, measured and drawn: ``python experiments/latents.py RUN --attribute=label:7``.

* Attribute vectors (``--attribute=label:VALUE`` or ``factor:NAME:VALUE``; VALUE of a label also its name, such as that of its
  folder, NAME also a column's number): the mean code of training
  examples with the attribute minus that of the others is added to codes of examples without it, and taken from those with it. A
  classifier of images, trained on training examples, says how often that worked, and which other attributes changed.
* Single latents, moved one standard deviation of the codes up and down: which attributes change, and how much of the image.
* Interpolations between examples: linear, spherical, and shortest paths in the decoder's metric, with their lengths in pixels.
* The aggregate posterior beside the prior, and the codes in the plane: principal components, t-SNE or UMAP (``--embedding=``).

--out keeps numbers and figures. Of a population, ``--member`` chooses one.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.api.trained_model import TrainedModel
from vaex.cli.scripts import add_run_flags, folders
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.data.spec import Dataset
from vaex.data.synthetic.factors import FactorSource
from vaex.errors import UserError
from vaex.evaluation import latent_space, traversals
from vaex.evaluation.examples import SEED, random_order
from vaex.files import write_json
from vaex.plots.records import Curves, FigureRecord, Grid, Scatter
from vaex.results.compare import aligned, cell

BLOCK = 500  # examples rendered or read at a time
SHOWN = 8  # examples in a figure
POINTS = 9  # of an interpolation
STRENGTHS = (0.5, 1.0, 1.5, 2.0)  # of an attribute's vector


class Examples(NamedTuple):
    """Examples as they are shown, x [n, h, w, c], and their attributes, name -> integers [n]."""

    x: np.ndarray
    attributes: Mapping[str, np.ndarray]


def examples_of(dataset: Dataset, spec: Any, split: str, most: int) -> Examples:
    """Return some examples of a split with labels and factors, or of data with a grid of factors, drawn from it."""
    if isinstance(dataset.source, FactorSource):
        source = dataset.source
        key = jax.random.fold_in(jax.random.key(SEED), 0 if split == "train" else 1)
        factors = np.asarray(source.sample_factors(key, most))
        observe = jax.jit(source.render)
        stored = np.concatenate(
            [np.asarray(observe(source.resident, factors[at : at + BLOCK])) for at in range(0, most, BLOCK)]
        )
        return Examples(chosen_intensities(spec, stored, np.arange(most), BLOCK), _named(source.names, factors))
    arrays = dataset.splits[split]
    rows = np.sort(random_order(len(arrays["x"]))[:most])
    attributes = {"label": arrays["y"][rows]} if "y" in arrays and not spec.conditions else {}
    for index, condition in enumerate(spec.conditions):
        if condition.binary:
            attributes[condition.name] = arrays["y"][rows, index].astype(np.int32)
    if "factors" in arrays:
        attributes |= _named(spec.factor_names, arrays["factors"][rows])
    known = np.all([values >= 0 for values in attributes.values()], axis=0) if attributes else np.ones(len(rows), bool)
    kept = {name: values[known] for name, values in attributes.items()}
    return Examples(chosen_intensities(spec, arrays["x"], rows[known], BLOCK), kept)


def _named(names: Sequence[str], factors: np.ndarray) -> dict[str, np.ndarray]:
    return {names[i] if i < len(names) else str(i): factors[:, i] for i in range(factors.shape[1])}


class Attribute(NamedTuple):
    """An attribute that examples have where ``name`` is ``value``, which is shown as ``value_name``."""

    name: str
    value: int
    value_name: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value_name}"


def attribute(text: str, known: Mapping[str, np.ndarray], label_names: tuple[str, ...] = ()) -> Attribute:
    """Read ``label:7``, ``label:NAME`` or ``factor:NAME:VALUE``.

    Raises: UserError for other text, or what the data does not have.
    """
    kind, *parts = text.split(":")
    if kind == "label" and len(parts) == 1 and parts[0] in label_names:
        parts = [str(label_names.index(parts[0]))]
    names = [name for name in known if name != "label"]
    if kind == "label" and len(parts) == 1:
        name = "label"
    elif kind == "factor" and len(parts) == 2:
        name = names[int(parts[0])] if parts[0].isdecimal() and int(parts[0]) < len(names) else parts[0]
    else:
        raise UserError(f"--attribute={text}: expected label:VALUE or factor:NAME:VALUE")
    if name not in known:
        raise UserError(
            f"--attribute={text}: the data has no {name!r}; it has {', '.join(known) or 'no labels or factors'}"
        )
    values = np.unique(known[name])
    names_of: tuple[str, ...] = label_names if name == "label" else ()
    shown = {value: names_of[value] if 0 <= value < len(names_of) else str(value) for value in map(int, values)}
    if not parts[-1].lstrip("-").isdecimal() or int(parts[-1]) not in values or len(values) < 2:
        raise UserError(f"--attribute={text}: {name} has the values {', '.join(list(shown.values())[:20])}")
    return Attribute(name, int(parts[-1]), shown[int(parts[-1])])


class Space:
    """A model's codes of some training and some test examples, and the classifier of their attributes."""

    def __init__(self, model: TrainedModel, train: Examples, test: Examples) -> None:
        self.model, self.train, self.test = model, train, test
        self.codes, self.test_codes = self.encode(train.x), self.encode(test.x)
        varied = {name: y for name, y in train.attributes.items() if len(np.unique(y)) > 1}
        self.classifier = latent_space.fit_classifier(train.x, varied) if varied else None

    def encode(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.encode(x).mean).reshape(len(x), -1)

    def decode(self, z: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(self.model.decode(z.reshape(-1, *self.model.latent_shape)).mean), 0.0, 1.0)


def arithmetic(space: Space, wanted: Attribute) -> tuple[dict[str, Any], Grid]:
    """Add and remove an attribute at several strengths; the figure shows both at each strength."""
    assert space.classifier is not None
    vector = latent_space.attribute_vector(space.codes, space.train.attributes[wanted.name] == wanted.value)
    has = space.test.attributes[wanted.name] == wanted.value
    numbers: dict[str, Any] = {"examples": {"add": int(np.sum(~has)), "remove": int(np.sum(has))}}
    lines = [
        [
            "",
            "strength",
            "before",
            "after",
            *(f"{name} changed" for name in space.classifier.accuracy if name != wanted.name),
        ]
    ]
    columns: dict[str, list[np.ndarray]] = {"add": [], "remove": []}
    for name, sign, codes in (("add", 1.0, space.test_codes[~has]), ("remove", -1.0, space.test_codes[has])):
        columns[name].append(space.decode(codes[:SHOWN]))
        for strength in STRENGTHS:
            result = latent_space.attribute_arithmetic(
                space.decode,
                codes,
                vector,
                space.classifier.classify,
                wanted.name,
                wanted.value,
                strength=sign * strength,
            )
            columns[name].append(result.images[:SHOWN])
            cells = [result.before, result.success, *result.changed.values()]
            lines.append([name, f"{strength:g}", *(cell(of.mean, of.standard_error, digits=3) for of in cells)])
            numbers[f"{name} {strength:g}"] = {
                "before": result.before[:2],
                "success": result.success[:2],
                "changed": {other: change[:2] for other, change in result.changed.items()},
                "values": {str(value): share for value, share in result.values.items()},
            }
    print(f"\n{wanted}: share of images to which the classifier gives it, before and after\n{aligned(lines)}")
    images = np.concatenate([np.stack(columns[name], axis=1) for name in columns])
    rows = tuple("add" if row < len(columns["add"][0]) else "remove" for row in range(len(images)))
    heads = ("reconstruction", *(f"{strength:g}" for strength in STRENGTHS))
    return numbers, Grid(images, rows, heads, f"{wanted} added and removed, by strength of the vector")


def perturbed(space: Space) -> dict[str, Any]:
    """Move single latents, and print which attributes change."""
    assert space.classifier is not None
    result = latent_space.perturbations(space.decode, space.test_codes, space.classifier.classify)
    order = np.argsort(-result.values)
    lines = [["latent", *result.names, "change of a value"]]
    lines += [[f"z{j}", *(f"{share:.3f}" for share in result.changed[j]), f"{result.values[j]:.4f}"] for j in order]
    print(
        f"\nshare of examples whose attribute changes where a latent moves by its standard deviation\n{aligned(lines)}"
    )
    return {"names": result.names, "changed": result.changed.tolist(), "change_of_a_value": result.values.tolist()}


def interpolated(space: Space) -> tuple[dict[str, Any], Grid]:
    """Draw three kinds of paths between pairs of test examples, and measure their lengths."""
    z = space.test_codes[: SHOWN + SHOWN % 2]
    starts, ends = z[::2], z[1::2]

    def decode(points: jax.Array) -> jax.Array:
        return space.model.decode(points.reshape(-1, *space.model.latent_shape)).mean.reshape(len(points), -1)

    paths = {
        "linear": traversals.interpolate(lambda z: z, starts, ends, POINTS),
        "spherical": traversals.interpolate(lambda z: z, starts, ends, POINTS, spherical=True),
        "geodesic": latent_space.geodesic(decode, starts, ends, POINTS),
    }
    lengths = {name: latent_space.path_length(decode, path) for name, path in paths.items()}
    print(
        "\nlength of paths in x, mean over pairs: "
        + ", ".join(f"{name} {of.mean():.3f}" for name, of in lengths.items())
    )
    images = [space.decode(path[pair]) for pair in range(len(starts)) for path in paths.values()]
    grid = Grid(np.stack(images), tuple(paths) * len(starts), title="Interpolations between test examples")
    return {name: of.tolist() for name, of in lengths.items()}, grid


def fitted_prior(space: Space) -> tuple[dict[str, Any], FigureRecord]:
    """Compare the aggregate posterior with the prior; draw the quantiles of each latent over those of the normal."""
    draws = np.asarray(space.model.encode(space.train.x).sample(jax.random.key(SEED))).reshape(len(space.train.x), -1)
    fit = latent_space.prior_fit(draws)
    lines = [["latent", "mean", "deviation", "distance"]]
    lines += [
        [f"z{j}", *(f"{of[j]:.3f}" for of in (fit.mean, fit.deviation, fit.distance))] for j in range(draws.shape[1])
    ]
    print(
        f"\naggregate posterior against a standard normal; largest correlation {fit.correlation:.3f}\n{aligned(lines)}"
    )
    levels = np.linspace(0.01, 0.99, 49)
    normal = np.quantile(np.random.default_rng(0).normal(size=200_000), levels)
    curves = {f"z{j}": np.quantile(draws[:, j], levels) for j in np.argsort(-fit.distance)[:9]}
    figure = Curves(normal, {"prior": normal, **curves}, "quantile of the prior", "quantile of the aggregate posterior")
    values = {name: getattr(fit, name).tolist() for name in ("mean", "deviation", "distance")}
    return {**values, "correlation": fit.correlation}, figure


def report(space: Space, given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, FigureRecord]]:
    """Print all tables; return numbers and figures by name."""
    wanted = [attribute(text, space.train.attributes, space.model.spec.label_names) for text in given.attribute]
    numbers: dict[str, Any] = {"examples": {"train": len(space.train.x), "test": len(space.test.x)}}
    figures: dict[str, FigureRecord] = {}
    if space.classifier is not None:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in space.classifier.accuracy.items())
        print(f"classifier, accuracy on training examples that it has not seen: {shares}")
        numbers["classifier_accuracy"] = dict(space.classifier.accuracy)
        numbers["perturbations"] = perturbed(space)
    for one in wanted:
        name = f"attribute_{one.name}_{one.value}"
        numbers[name], figures[name] = arithmetic(space, one)
    numbers["path_lengths"], figures["interpolations"] = interpolated(space)
    numbers["prior_fit"], figures["prior_fit"] = fitted_prior(space)
    few = space.test_codes[: given.embedded]
    embedding = latent_space.embed(few, given.embedding)
    label = next(iter(space.test.attributes), None)
    colors = None if label is None else space.test.attributes[label][: len(few)]
    title = f"Codes: {embedding.described}" + ("" if label is None else f"; coloured by {label}")
    figures["embedding"] = Scatter(embedding.points, colors, title=title)
    return numbers, figures


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory, of images and real-valued latents")
    parser.add_argument(
        "--attribute", action="append", default=[], help="label:VALUE or factor:NAME:VALUE; may be repeated"
    )
    parser.add_argument("--member", type=int, default=0, help="of a population (default: 0)")
    parser.add_argument(
        "--embedding", default="pca", choices=["pca", "tsne", "umap"], help="of the codes (default: pca)"
    )
    parser.add_argument("--embedded", type=int, default=2000, help="codes that are embedded, at most (default: 2000)")
    parser.add_argument("--examples", type=int, default=10_000, help="training examples, at most (default: 10000)")
    parser.add_argument("--tested", type=int, default=2000, help="test examples, at most (default: 2000)")
    add_run_flags(parser)
    parser.add_argument("--out", metavar="DIR", type=pathlib.Path, help="folder for latents.json and figures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and draw; return 2 for what a user can fix."""
    given = parse(arguments)
    try:
        run = vaex.load(given.run, trust=given.trust)
        model, dataset = run[given.member], run.dataset(**folders(given))
        kinds = {block.kind for block in run.recipe.latents} or {"normal"}
        if not kinds <= {"normal", "free"} or len(run.spec.shape) != 3 or run.recipe.labels is not None:
            raise UserError(f"{given.run}: expected a model of images with real-valued latents, that reads no labels")
        train, test = (
            examples_of(dataset, run.spec, *of) for of in (("train", given.examples), ("test", given.tested))
        )
        numbers, figures = report(Space(model, train, test), given)
    except UserError as error:
        print(f"latents: {error}", file=sys.stderr)
        return 2
    if given.out is not None:
        write_json(given.out / "latents.json", numbers)
        drawn = [plots.save(figure, given.out / f"{name}.png") for name, figure in figures.items()]
        print(f"\nwritten: {given.out / 'latents.json'}, {', '.join(path.name for path in drawn)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
