"""Scores of a trained run beyond its own objective: disentanglement of codes, quality of samples, bounds of log p(x), rate."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaex.api.likelihood_bounds import LikelihoodChoices, likelihood_scores, model_inputs
from vaex.api.rate_distortion import rate_distortion_scores
from vaex.core import EvaluationKey
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.data.spec import Dataset, Spec
from vaex.data.synthetic.factors import FactorSource
from vaex.errors import UserError, nearest
from vaex.evaluation import disentanglement, sample_quality
from vaex.evaluation.examples import SEED, random_order
from vaex.evaluation.features import FITTED, Features, fit_features
from vaex.evaluation.likelihood import Estimate, estimate
from vaex.files import write_json
from vaex.plots.records import Bars, Chart, Curves
from vaex.results.compare import aligned, cell
from vaex.runs import console as consoles

if TYPE_CHECKING:
    from vaex.api.run import Run
    from vaex.api.trained_model import TrainedModel

METRICS = ("disentanglement", "samples", "likelihood", "rate_distortion")
IN_PARTS = METRICS[:2]  # whose standard errors are over parts of the examples
SAMPLE_SCORES = {
    "frechet_distance": "squared Fréchet distance of the Gaussians with their moments",
    "kernel_distance": "unbiased squared MMD, cubic kernel",
    "precision": "share of samples inside a ball of 5 neighbours of an example",
    "recall": "share of examples inside a ball of 5 neighbours of a sample",
    "density": "balls of 5 neighbours of examples that hold a sample, divided by 5",
    "coverage": "share of examples whose ball of 5 neighbours holds a sample",
    "nearest_neighbour_accuracy": "share of points whose nearest neighbour is of their own set; 0.5 is right",
    "classifier_accuracy": "share of held-out points that a perceptron (64) assigns to their own set; 0.5 is right",
}
BLOCK = 500  # examples read at a time
FLOOR = "training examples"
PRIOR = "prior"  # the model's own, among samplers


class Scores(NamedTuple):
    """Scores of the members of a run.

    Attributes:
      titles: of the rows: the members, and where samples are scored, training examples in their place: the floor.
      values: for each row, name of the score -> ``Estimate``: its mean over parts of the examples, and standard error over them.
      protocol: what the numbers are of, and name -> how each is computed.
    """

    titles: tuple[str, ...]
    values: tuple[Mapping[str, Estimate], ...]
    protocol: Mapping[str, str]

    def table(self) -> str:
        """Return the scores as a plain table, a line for each score, ± the standard error over parts."""
        names = list(dict.fromkeys(name for row in self.values for name in row))
        lines = [["", *self.titles]]
        for name in names:
            estimates = [row.get(name) for row in self.values]
            lines.append([name, *("-" if e is None else cell(e.mean, e.standard_error) for e in estimates)])
        return aligned(lines)

    def notes(self) -> list[str]:
        """Return the protocol, a line for each entry."""
        return [f"{name}: {text}" for name, text in self.protocol.items()]

    def content(self) -> dict[str, Any]:
        """Return all numbers as JSON holds them."""
        rows = [
            {
                name: {"mean": e.mean, "standard_error": e.standard_error, "parts": e.values.tolist()}
                for name, e in row.items()
            }
            for row in self.values
        ]
        return {"protocol": dict(self.protocol), "scores": dict(zip(self.titles, rows, strict=True))}

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write all numbers to a JSON file; return its path."""
        path = pathlib.Path(path).expanduser()
        write_json(path, self.content())
        return path

    def figure(self) -> list[Chart]:
        """Return the scores as bars with their standard errors, a panel for each, and distortion over rate where members have
        both; ``vaex.plots`` draws them."""
        names = list(dict.fromkeys(name for row in self.values for name in row))
        panels: list[Chart] = []
        for name in names:
            rows = [(title, row[name]) for title, row in zip(self.titles, self.values, strict=True) if name in row]
            panels.append(
                Bars(
                    [e.mean for _, e in rows],
                    tuple(title for title, _ in rows),
                    y_label=name.replace("_", " "),
                    errors=[e.standard_error for _, e in rows],
                )
            )
        curve = sorted((row["rate"].mean, row["distortion"].mean) for row in self.values if "rate" in row)
        if len(curve) > 1:
            rates, distortions = zip(*curve, strict=True)
            marks = {"distortion": (rates, distortions)}
            panels.append(Curves(rates, {"distortion": distortions}, "rate (nats)", "distortion (nats)", marks=marks))
        return panels


class Choices(NamedTuple):
    """What is scored, and how.

    Attributes:
      metrics: as of ``Run.score``.
      split: whose examples.
      factors: integers [n, f], of all examples of the split.
      features: in which samples are compared: "pixels", "pca:D", "classifier", or "module:function".
      examples: of the split, chosen at random, at most; not for log-likelihoods.
      parts: into which they are divided; scores are means over parts, with their standard errors.
      show: "mean" or "sample" of p(x|z), as for ``sample``.
      samplers: that z is drawn by, "prior" and kinds that ``fit_sampler`` takes, which are fitted; a row for each.
      images, importance_samples, temperatures, chains, leapfrog_steps: of log-likelihoods, as ``LikelihoodChoices`` describes
        them.
      progress: whether to say how far log-likelihoods are.
    """

    metrics: Collection[str] = IN_PARTS
    split: str = "test"
    factors: ArrayLike | None = None
    features: str = "pca:50"
    examples: int = 10_000
    parts: int = 4
    show: str = "mean"
    samplers: Sequence[str] = (PRIOR,)
    images: int = LikelihoodChoices().images
    importance_samples: int = LikelihoodChoices().importance_samples
    temperatures: int = LikelihoodChoices().temperatures
    chains: int = LikelihoodChoices().chains
    leapfrog_steps: int = LikelihoodChoices().leapfrog_steps
    progress: bool = True

    @property
    def of_likelihood(self) -> LikelihoodChoices:
        """Those of log-likelihoods."""
        return LikelihoodChoices(*(getattr(self, name) for name in LikelihoodChoices._fields))


def chosen(metrics: Collection[str] | None, choices: Mapping[str, Any], spec: Spec) -> Choices:
    """Return choices by name; by default samples are scored, and codes where factors are given or the data has them.

    Raises: UserError for a name that is none.
    """
    if unknown := [name for name in choices if name not in Choices._fields[1:]]:
        raise UserError(f"score: {unknown[0]!r} is no choice; {nearest(unknown[0], Choices._fields[1:])}")
    if metrics is None:
        metrics = IN_PARTS if choices.get("factors") is not None or spec.factor_names else ("samples",)
    return Choices(metrics, **choices)


def score(run: Run, dataset: Dataset, choices: Choices) -> Scores:
    """Return the scores of all members of a run.

    Raises: UserError for unknown metrics, for too few examples, or where the data has no factors.
    """
    if unknown := [name for name in choices.metrics if name not in METRICS]:
        raise UserError(f"unknown metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    if choices.split not in dataset.splits:
        raise UserError(f"the data has no {choices.split!r} split; there are {', '.join(dataset.splits)}")
    in_parts = [name for name in choices.metrics if name in IN_PARTS]
    scores = _scores_in_parts(run, dataset, choices) if in_parts else Scores(tuple(run.names), ({},) * len(run), {})
    samplers = len(dict.fromkeys(choices.samplers)) if in_parts else 1
    values, protocol = [dict(row) for row in scores.values], dict(scores.protocol)
    tell = consoles.in_python(progress=choices.progress).tell
    for name in dict.fromkeys(choices.metrics):
        if name == "likelihood":
            rows, described = likelihood_scores(run, dataset, choices.split, choices.of_likelihood, tell)
        elif name == "rate_distortion":
            inputs = model_inputs(run, dataset, choices.split, choices.examples)
            rows, described = rate_distortion_scores(run, inputs, tell)
            described = {"rate_distortion": f"of {len(inputs)} examples of the {choices.split} split", **described}
        else:
            continue
        protocol |= described
        for row, of_member in zip(values[: len(run) * samplers : samplers], rows, strict=True):
            row |= of_member
    return Scores(scores.titles, tuple(values), protocol)


def _scores_in_parts(run: Run, dataset: Dataset, choices: Choices) -> Scores:
    """Return those whose standard errors are over parts of the examples: of codes, and of samples."""
    if choices.parts < 2:
        raise UserError(f"parts is {choices.parts}, expected at least 2: standard errors are over parts")
    total = len(dataset.splits[choices.split]["x"])
    size = min(choices.examples, total) // choices.parts
    if size < 20:
        raise UserError(f"{choices.parts} parts of {size} examples are too small; give more examples or fewer parts")
    rows = random_order(total)[: size * choices.parts].reshape(choices.parts, size)
    parts = f"{choices.parts} parts of {size} of the {choices.split} split"
    protocol = {"±": f"standard error over {choices.parts} parts"}
    # a row for each member and sampler; scores of codes stand in the first row of a member
    samplers = tuple(dict.fromkeys(choices.samplers))
    for kind in samplers if "samples" in choices.metrics else ():
        if kind != PRIOR:
            run.fit_sampler(kind)
    members = [run[index] for index in range(len(run))]
    pairs = [(index, kind) for index in range(len(run)) for kind in samplers]
    values: list[dict[str, Estimate]] = [{} for _ in pairs]
    alone = samplers == (PRIOR,)
    titles = [run.names[index] if alone else f"{run.names[index]}, {kind}" for index, kind in pairs]
    if "disentanglement" in choices.metrics:
        x, factors, drawn_from = _with_factors(dataset, choices, rows)
        protocol |= {"codes": f"posterior means of {drawn_from or parts}", **disentanglement.PROTOCOLS}
        for model, row in zip(members, values[:: len(samplers)], strict=True):
            row |= _disentanglement(model, x, factors)
    if "samples" in choices.metrics:
        features, examples = _sample_setting(run, dataset, choices, rows)
        protocol |= {
            "features": features.described,
            "samples": f"{choices.show} of p(x|z), z of {'the prior' if alone else 'the sampler named'}, against {parts}",
        }
        protocol |= SAMPLE_SCORES
        for (index, kind), row in zip(pairs, values, strict=True):
            key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.PRIOR_SAMPLES)
            options: dict[str, Any] = {"show": choices.show} | ({} if kind == PRIOR else {"sampler": kind})
            drawn = [members[index].sample(jax.random.fold_in(key, part), size, **options) for part in range(len(rows))]
            row |= _quality([features.function(np.asarray(part)) for part in drawn], examples)
        train = dataset.splits["train"]["x"]
        chosen = random_order(len(train))[: rows.size]
        real = features.function(chosen_intensities(run.spec, train, chosen, BLOCK))
        if len(real) == rows.size:
            titles.append(FLOOR)
            values.append(_quality(list(real.reshape(*rows.shape, -1)), examples))
    return Scores(tuple(titles), tuple(values), protocol)


def _with_factors(
    dataset: Dataset, choices: Choices, rows: np.ndarray
) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray], str | None]:
    """Return stored examples and factors of each part: of the split, or drawn from the data's own grid of factors, in words."""
    if choices.factors is None and isinstance(dataset.source, FactorSource):
        source, size = dataset.source, choices.examples // choices.parts
        key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.INPUTS)
        drawn = [np.asarray(source.sample_factors(k, size)) for k in jax.random.split(key, choices.parts)]
        observe = jax.jit(source.render)
        images = [
            np.concatenate(
                [np.asarray(observe(source.resident, part[at : at + BLOCK])) for at in range(0, size, BLOCK)]
            )
            for part in drawn
        ]
        return images, drawn, f"{choices.parts} parts of {size} images, factors drawn uniformly and independently"
    factors = _factors(dataset, choices)
    x = dataset.splits[choices.split]["x"]
    return [x[part] for part in rows], [factors[part] for part in rows], None


def _factors(dataset: Dataset, choices: Choices) -> np.ndarray:
    """Return the factors of all examples of the split."""
    total = len(dataset.splits[choices.split]["x"])
    given = dataset.splits[choices.split].get("factors") if choices.factors is None else choices.factors
    if given is None:
        raise UserError(
            f"disentanglement: {dataset.spec.name} has no known factors; give factors=, an integer array [{total}, f] of the "
            f"{choices.split} split (--factors=FILE.npy)"
        )
    factors = np.asarray(given)
    if factors.ndim != 2 or len(factors) != total or factors.dtype.kind not in "iub":
        raise UserError(
            f"disentanglement: factors is {factors.dtype} of shape {factors.shape}, expected integers [{total}, f], a row for each "
            f"example of the {choices.split} split"
        )
    return factors


def _disentanglement(
    model: TrainedModel, x: Sequence[np.ndarray], factors: Sequence[np.ndarray]
) -> dict[str, Estimate]:
    """Return the scores of posterior means, over parts."""
    of_parts = []
    for images, known in zip(x, factors, strict=True):
        codes = np.asarray(model.encode(images).mean).reshape(len(images), -1)
        of_parts.append(disentanglement.all_scores(codes, known))
    return _over_parts(of_parts)


def _sample_setting(
    run: Run, dataset: Dataset, choices: Choices, rows: np.ndarray
) -> tuple[Features, list[np.ndarray]]:
    """Return the features, and those of the examples of each part."""
    train = dataset.splits["train"]
    fitted = np.sort(random_order(len(train["x"]))[:FITTED])
    labels = train["y"][fitted] if "y" in train and run.spec.num_classes else None
    features = fit_features(choices.features, chosen_intensities(run.spec, train["x"], fitted, BLOCK), labels)
    x = dataset.splits[choices.split]["x"]
    return features, [features.function(chosen_intensities(run.spec, x, part, BLOCK)) for part in rows]


def _quality(samples: Sequence[np.ndarray], examples: Sequence[np.ndarray]) -> dict[str, Estimate]:
    of_parts = []
    for drawn, real in zip(samples, examples, strict=True):
        if not np.isfinite(drawn).all():
            raise UserError("samples: the model's samples hold NaN or infinity; it has diverged")
        of_parts.append(
            {
                "frechet_distance": sample_quality.frechet_distance(drawn, real),
                "kernel_distance": sample_quality.kernel_distance(drawn, real),
                **sample_quality.manifold_scores(drawn, real)._asdict(),
                "nearest_neighbour_accuracy": sample_quality.nearest_neighbour_accuracy(drawn, real),
                "classifier_accuracy": sample_quality.classifier_test(drawn, real).accuracy,
            }
        )
    return _over_parts(of_parts)


def _over_parts(of_parts: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    return {name: estimate(np.array([part[name] for part in of_parts])) for name in of_parts[0]}
