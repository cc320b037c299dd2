"""The figures of a run: of each member on the evaluated split, and its training curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import numpy as np

from vaex.configuration.settings import describe_member
from vaex.core import EvaluationKey, PyTree, Variables
from vaex.evaluation import figures, generation, latents, series, traversals
from vaex.evaluation.examples import chosen_examples
from vaex.evaluation.training_curves import training_curves
from vaex.models.conditions import condition_batch
from vaex.plots.records import Curves, FigureRecord, Grid
from vaex.runs.evaluate import Evaluator
from vaex.runs.setup import Experiment
from vaex.samplers import Sampler, draw

ROWS = 1000  # drawn of a table at least
EXAMPLES = 20  # to reconstruct; three times as many samples are drawn
DRAWS = 100  # of p(x|z), whose quantiles are the band around a series
TRAVERSED = 6  # latents of series whose traversals are drawn
MOST_DRAWN, POINTS_DRAWN = 6, 5  # conditions that are moved where each point is a sample of its own, and points of each

Label: TypeAlias = int | np.integer | np.ndarray  # a class, or conditions [m]


@dataclasses.dataclass(frozen=True)
class MemberFigures:
    """Makes the figures of one member.

    Attributes:
      evaluator: of the run.
      variables: the member's, averaged where there is an average.
      hparams: the member's, at the last step.
      save: takes the name of a figure and its record.
      sampler: from which samples are drawn in place of the prior.
    """

    evaluator: Evaluator
    variables: Variables
    hparams: PyTree
    save: Callable[[str, FigureRecord], None]
    sampler: Sampler | None = None

    def draw(self, kl: Sequence[float] | None) -> None:
        """Draw reconstructions, samples, traversals, the KL per latent, and the manifold of a two-dimensional latent space.

        Of a model that reads labels, traversals and manifold have the first example's, and samples show every class; of one that
        reads conditions, another figure moves each of them.

        Args:
          kl: of each latent variable, nats, where it is known.
        """
        spec, recipe = self.evaluator.run.spec, self.evaluator.run.recipe
        examples = self._shown(EXAMPLES)
        mean = self.evaluator.posterior(self.variables, self.hparams, examples)["mean"]
        if len(spec.shape) == 2:
            self._draw_series(examples, mean, kl)
        elif recipe.sequences is not None:
            self._draw_sequences(examples, mean)
        else:
            latent_variables = self.evaluator.latent_variables(mean)
            if kl is not None:
                self.save("kl_per_latent", figures.kl_bars(kl, [variable.name for variable in latent_variables]))
            if len(spec.shape) == 1:
                self._draw_vectors(examples, mean)
            else:
                self._draw_images(examples, mean, latent_variables, kl)
        self._draw_models_own(examples)

    def _shown(self, most: int) -> dict[str, np.ndarray]:
        """Some examples of the split, chosen at random, as they are shown."""
        return self.evaluator.shown(chosen_examples(len(self.evaluator.arrays["x"]), most))

    @property
    def _means(self) -> str:
        """What titles of samples add where they are no draws of x, or z is no draw from the prior."""
        parts = ["means of p(x|z)"] if self.evaluator.run.settings.evaluation.show == "mean" else []
        parts += [] if self.sampler is None else [f"z by {self.sampler.kind}"]
        return f" ({', '.join(parts)})" if parts else ""

    def _decoded(self, z: np.ndarray, label: Label | None) -> np.ndarray:
        """What codes decode to with one label, as it is shown."""
        labels = None if label is None else _repeated(label, len(z))
        show = self.evaluator.run.settings.evaluation.show
        return self.evaluator.decode(self.variables, self.hparams, z, labels, show=show)

    def _decode(self, z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Images in [0, 1]; one label serves all codes where there are not as many."""
        if labels is not None and len(labels) != len(z):
            labels = np.repeat(labels[:1], len(z), axis=0)
        show = self.evaluator.run.settings.evaluation.show
        return self._images(self.evaluator.decode(self.variables, self.hparams, z, labels, show=show))

    def _images(self, x: np.ndarray) -> np.ndarray:
        """Values as images in [0, 1]: of volumes, slices beside each other."""
        images, spec = np.clip(np.asarray(x), 0.0, 1.0), self.evaluator.run.spec
        if spec.alpha:  # over white
            images = images[..., :3] * images[..., 3:] + 1.0 - images[..., 3:]
        return figures.slices(images) if spec.volume else images

    def _samples(self, n: int, label: Label | None = None) -> np.ndarray:
        """n samples as images, [n, h, w, c]; those of different labels have the same z."""
        return self._images(self._sampled(n, label))

    def _sampled(self, n: int, label: Label | None) -> np.ndarray:
        """n samples as they are shown, [n, *shape]."""
        evaluator, reads = self.evaluator, self.evaluator.run.recipe.labels
        condition = None if label is None else _repeated(label, n)
        key = jax.random.fold_in(evaluator.key, EvaluationKey.PRIOR_SAMPLES)
        if self.sampler is not None:
            if condition is None and reads is not None and not reads.prior_only:
                condition = np.asarray(condition_batch(key, reads.classes, n, None, evaluator.run.spec.conditions)["y"])
            show = evaluator.run.settings.evaluation.show
            z = np.asarray(draw(self.sampler, key, n))
            return evaluator.decode(self.variables, self.hparams, z, condition, show=show)
        px = evaluator.run.recipe.model.sample(key, self.variables, self.hparams, n, condition)
        noise_key = jax.random.fold_in(evaluator.key, EvaluationKey.SAMPLE_NOISE)
        return np.asarray(px.mean if evaluator.run.settings.evaluation.show == "mean" else px.sample(noise_key))

    def _draw_images(
        self,
        examples: Mapping[str, np.ndarray],
        mean: np.ndarray,
        latent_variables: Sequence[latents.LatentVariable],
        kl: Sequence[float] | None,
    ) -> None:
        labels = self.evaluator.labels(self.variables, self.hparams, examples)

        def decode(z: np.ndarray) -> np.ndarray:
            return self._decode(z, labels)

        originals = self._images(examples["x"])
        self.save("reconstructions", figures.reconstruction_grid(originals, decode(mean)))
        reads = self.evaluator.run.recipe.labels
        if labels is None or (self.sampler is not None and reads is not None and reads.prior_only):
            self.save("samples", figures.sample_grid(self._samples(3 * EXAMPLES), title=f"Samples{self._means}"))
        elif reads is not None and reads.conditions:
            self._draw_conditions(mean, labels)
        else:
            self._draw_classes(originals, mean)
        moments = self.evaluator.posterior(self.variables, self.hparams, self._shown(self.evaluator.batch))
        self._draw_traversals(decode, moments, latent_variables, kl)
        if [variable.kind for variable in latent_variables] in (["normal"] * 2, ["free"] * 2):
            places = [latents.location_and_scale(variable, **moments) for variable in latent_variables]
            location, scale = np.array(places).T
            grid = generation.manifold(lambda z: decode(location + scale * z))
            self.save("manifold", figures.manifold_grid(grid))

    def _draw_traversals(
        self,
        decode: Callable[[np.ndarray], np.ndarray],
        moments: Mapping[str, np.ndarray],
        latent_variables: Sequence[latents.LatentVariable],
        kl: Sequence[float] | None,
    ) -> None:
        paths = traversals.traversal_paths(latent_variables, moments["mean"], moments["variance"], kl)
        images = traversals.decode_paths(decode, paths.codes)
        most, count = traversals.MOST_PATHS, len(latent_variables)
        title = "Latent traversals" + (f": {most} latents of {count}" if count > most else "")
        self.save("traversals", figures.traversal_grid(images, paths.names, paths.kl, paths.columns, title=title))

    def _draw_models_own(self, examples: Mapping[str, np.ndarray]) -> None:
        """Draw the figures of the model's own; of vectors those that are no images."""
        key = jax.random.fold_in(self.evaluator.key, EvaluationKey.FIGURES)
        vectors = len(self.evaluator.run.spec.shape) == 1
        for name, figure in self.evaluator.run.recipe.figures.items():
            record = figure(key, self.variables, self.hparams, dict(examples))
            if not (vectors and isinstance(record, Grid)):
                self.save(name, record)

    def _draw_series(self, examples: Mapping[str, np.ndarray], mean: np.ndarray, kl: Sequence[float] | None) -> None:
        """Series as curves: reconstructions with the band of p(x|z), samples, and, of one code for a series, traversals."""
        evaluator, run = self.evaluator, self.evaluator.run
        labels = evaluator.labels(self.variables, self.hparams, examples)
        few = slice(series.SHOWN)
        given = None if labels is None else labels[few]
        repeated = np.repeat(mean[few], DRAWS, axis=0)
        shown = evaluator.decode(self.variables, self.hparams, mean[few], given)
        draws = evaluator.decode(
            self.variables,
            self.hparams,
            repeated,
            None if given is None else np.repeat(given, DRAWS, axis=0),
            show="sample",
        )
        draws = np.swapaxes(draws.reshape(-1, DRAWS, *run.spec.shape), 0, 1)
        self.save("reconstructions", series.band_panels(examples["x"][few], shown, draws, title="Reconstructions"))
        samples = self._sampled(2 * series.SHOWN, None)
        names = [f"sample {index}" for index in range(len(samples))]
        self.save("samples", series.line_panels([("", names, samples)], title=f"Samples{self._means}"))
        if run.recipe.sequences is not None:
            return
        latent_variables = evaluator.latent_variables(mean)
        if kl is not None:
            self.save("kl_per_latent", figures.kl_bars(kl, [variable.name for variable in latent_variables]))
        moments = evaluator.posterior(self.variables, self.hparams, self._shown(evaluator.batch))
        paths = traversals.traversal_paths(latent_variables, **moments, kl=kl, limit=TRAVERSED)
        label = None if labels is None else labels[0]
        decoded = traversals.decode_paths(lambda z: self._decoded(z, label), paths.codes)
        captions = paths.columns or tuple(map(str, range(decoded.shape[1])))
        groups = [(name, captions, path) for name, path in zip(paths.names, decoded, strict=True)]
        self.save("traversals", series.line_panels(groups, title="Latent traversals"))
        if labels is not None and run.spec.conditions:
            self.save("conditions", self._condition_panels(mean, labels))

    def _condition_panels(self, mean: np.ndarray, y: np.ndarray) -> list[Curves]:
        """A panel of series for each condition, which is moved."""
        moved, _ = self._moved_conditions(mean, y)
        panels = []
        for path, condition in zip(moved, self.evaluator.run.spec.conditions[:TRAVERSED], strict=False):
            path = path[:2] if condition.binary else path
            values = np.linspace(condition.low, condition.high, len(path))
            panels.append((condition.name, tuple(f"{value:.3g}".replace("-", "−") for value in values), path))
        return series.line_panels(panels, title="Moved, with one z")

    def _draw_sequences(self, examples: Mapping[str, np.ndarray], mean: np.ndarray) -> None:
        """Sequences over their reconstructions, and samples in a row each."""
        some = slice(EXAMPLES // 4)
        reconstructions = self._decode(mean, None)
        self.save("reconstructions", figures.sequence_grid(examples["x"][some], reconstructions[some]))
        samples = self._samples(EXAMPLES // 2)
        self.save(
            "samples", Grid(samples, (), tuple(map(str, range(1, 1 + samples.shape[1]))), f"Samples{self._means}")
        )

    def _draw_conditions(self, mean: np.ndarray, y: np.ndarray) -> None:
        """Samples with conditions of training examples; and images with one condition moved in each row."""
        title = f"Samples{self._means}: conditions of training examples"
        self.save("samples", figures.sample_grid(self._samples(3 * EXAMPLES), title=title))
        moved, names = self._moved_conditions(mean, y)
        images = self._images(moved.reshape(-1, *moved.shape[2:]))
        images[np.isnan(moved).reshape(len(images), -1).any(axis=1)] = np.nan
        reads = self.evaluator.run.recipe.labels
        shared = "random numbers" if reads is not None and reads.prior_only else "the z of an example"
        grid = images.reshape(*moved.shape[:2], *images.shape[1:])
        self.save("conditions", Grid(grid, names, title=f"One condition moved in each row, with {shared}"))

    def _moved_conditions(self, mean: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """What the first example's z decodes to, or samples of the same random numbers, with one condition moved at a time:
        [r, t, *shape], and names of the rows."""
        run = self.evaluator.run
        if run.recipe.labels is not None and run.recipe.labels.prior_only:
            paths, names = traversals.condition_paths(run.spec.conditions, y[0], POINTS_DRAWN, limit=MOST_DRAWN)
            return traversals.decode_paths(lambda z: np.concatenate([self._sampled(1, row) for row in z]), paths), names
        paths, names = traversals.condition_paths(run.spec.conditions, y[0])

        def decode(given: np.ndarray) -> np.ndarray:
            z = np.repeat(mean[:1], len(given), axis=0)
            return self.evaluator.decode(self.variables, self.hparams, z, given, show=run.settings.evaluation.show)

        return traversals.decode_paths(decode, paths), names

    def _draw_classes(self, originals: np.ndarray, mean: np.ndarray) -> None:
        """Samples with a class in each row and the same z (or noise) in each column; and the codes of some examples decoded
        with every class, where the label changes what z decodes to."""
        spec, recipe = self.evaluator.run.spec, self.evaluator.run.recipe
        classes = range(min(spec.num_classes, EXAMPLES))
        names = tuple(spec.label_names[label] if spec.label_names else str(label) for label in classes)
        samples = np.stack([self._samples(EXAMPLES // 2, label) for label in classes])
        prior_only = recipe.labels is not None and recipe.labels.prior_only
        shared = "random numbers" if prior_only else "z"
        self.save("samples", Grid(samples, names, title=f"Samples{self._means}: the same {shared} in each column"))
        if prior_only:
            return
        few = len(originals[: EXAMPLES // 2])
        z, labels = np.repeat(mean[:few], len(names), axis=0), np.tile(np.asarray(classes, np.int32), few)
        changed = self._decode(z, labels).reshape(few, len(names), *originals.shape[1:])
        images = np.concatenate([originals[:few, None], changed], axis=1)
        self.save("classes", Grid(images, (), ("original", *names), "Each original's z in every class"))

    def rows(self, n: int) -> np.ndarray:
        """Draw n vectors of p(x), such as rows of a table, [n, d]."""
        evaluator = self.evaluator
        key = jax.random.fold_in(evaluator.key, EvaluationKey.PRIOR_SAMPLES)
        noise_key = jax.random.fold_in(evaluator.key, EvaluationKey.SAMPLE_NOISE)
        if self.sampler is not None and evaluator.run.recipe.labels is None:
            z = np.asarray(draw(self.sampler, key, n))
            return np.asarray(evaluator.decode(self.variables, self.hparams, z, None, show="sample"))
        px = evaluator.run.recipe.model.sample(key, self.variables, self.hparams, n, None)
        return np.asarray(px.sample(noise_key))

    def _draw_vectors(self, examples: Mapping[str, np.ndarray], mean: np.ndarray) -> None:
        """Vectors that are not images: the first one and its reconstruction as curves over the dimensions; columns of tables beside
        those of sampled rows."""
        run = self.evaluator.run
        if run.spec.columns:
            names, x = [column.name for column in run.spec.columns], self.evaluator.arrays["x"]
            self.save("columns", figures.marginals(names, x, self.rows(max(len(x), ROWS))))
            return
        labels = self.evaluator.labels(self.variables, self.hparams, examples)
        first_label = None if labels is None else labels[:1]
        show = run.settings.evaluation.show
        reconstruction = self.evaluator.decode(self.variables, self.hparams, mean[:1], first_label, show=show)[0]
        lines = {"original": examples["x"][0], "reconstruction": reconstruction}
        dimensions, values = np.arange(run.spec.shape[0]), "value"
        if run.spec.location:
            location, scale = np.array(run.spec.location), np.array(run.spec.scale)
            lines = {name: (line - location) / scale for name, line in lines.items()}
            values = "standard deviations from the mean"
        title = "A test example and its reconstruction"
        self.save("reconstructions", Curves(dimensions, lines, "dimension", values, title))


def _repeated(label: Label, n: int) -> np.ndarray:
    """Return one label, or conditions [m], for each of n examples."""
    array = np.asarray(label)
    return np.repeat(array.astype(np.int32 if array.dtype.kind in "iu" else np.float32)[None], n, axis=0)


def training_curve_panels(experiment: Experiment) -> dict[str, list[Curves]]:
    """Return the training curves of each stage that has rows: one panel per metric, all members in each."""
    labels = [describe_member(experiment.settings, member) for member in experiment.settings.members]
    figures_of_stages = {}
    for index, stage in enumerate(experiment.recipe.stages):
        rows = experiment.store.read_rows(experiment.place(index), "metrics")
        if rows:
            name = f"training_curves_{stage.name}" if index else "training_curves"
            figures_of_stages[name] = list(training_curves(rows, members=labels).values())
    return figures_of_stages
