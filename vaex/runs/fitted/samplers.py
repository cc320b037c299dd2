"""Samplers fitted to the codes of the training split, one for each member of a run, and the files that keep them."""

from __future__ import annotations

import hashlib
import io
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from vaex.core import Batch, EvaluationKey, TrainState
from vaex.errors import UserError
from vaex.evaluation.examples import SEED, chosen_examples
from vaex.files import atomic_path, read_json, write_json
from vaex.models.conditions import example_labels
from vaex.runs.fitted.states import each_example
from vaex.runs.setup import Experiment, check_sampler
from vaex.samplers import Sampler, check_kind, draw, fit
from vaex.schedules import resolve
from vaex.training import population
from vaex.training.step import averaged_variables

FOLDER = "samplers"  # of a run directory
MOST = 20_000  # training examples whose codes are fitted, at most
TRIED = 100  # codes that are decoded to see that a sampler stays inside the model's latent space


def fit_samplers(experiment: Experiment, state: TrainState, kind: str) -> list[Sampler]:
    """Fit a sampler of each member to one draw from the posterior of each training example, at most 20,000, chosen at random.

    Args:
      experiment: gives recipe and data.
      state: the last stage's, of all members.
      kind: such as "gmm:10"; see ``vaex.samplers``.
    Returns: [members], a pure function of the arguments.
    Raises: UserError for a kind that the model's latents cannot have, codes that are not finite, or samples that are not.
    """
    recipe = experiment.recipe
    check_sampler(kind, recipe)
    arrays = experiment.dataset.splits["train"]
    rows = np.sort(chosen_examples(len(arrays["x"]), MOST))
    chosen = {name: column[rows] for name, column in arrays.items()}
    averaged, fitted = averaged_variables(state), []
    for index in range(len(experiment.settings.members)):
        variables = jax.device_get(population.member(averaged, index))
        hparams = resolve(population.member(state.hparams, index), np.asarray(state.step)[index])

        def code(keys: jax.Array, batch: Batch, variables=variables, hparams=hparams) -> jax.Array:
            encode_key, draw_key = jax.random.split(keys[0])
            posterior = recipe.model.encode(encode_key, variables, hparams, batch)
            return posterior.sample(draw_key).reshape(batch["x"].shape[0], -1)

        key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.TRAINING_EXAMPLES)
        codes = np.asarray(each_example(experiment, chosen, key)(code))
        if not np.isfinite(codes).all():
            raise UserError(f"sampler {kind!r}: codes hold NaN or infinity; the model has diverged")
        sampler = fit(kind, codes, seed=SEED)
        labels = {} if recipe.labels is None else example_labels(experiment.spec, TRIED)
        px = recipe.model.decode(variables, hparams, draw(sampler, jax.random.key(SEED), TRIED), labels)
        if not np.isfinite(np.asarray(px.mean)).all():
            raise UserError(f"sampler {kind!r}: leaves the latent space of this model; use its own prior")
        fitted.append(sampler)
    return fitted


def samplers_of(experiment: Experiment, state: TrainState, kind: str) -> list[Sampler]:
    """Return the samplers of all members: those that the run directory holds, or else fitted, and kept where there is one.

    Raises: UserError as ``fit_samplers``, and where they would be fitted to other data than the run's.
    """
    directory, step = experiment.store.directory, int(np.asarray(state.step).max())
    if directory is not None and (fitted_before := kept(directory, step, kind)) is not None:
        return fitted_before
    if not experiment.own_data:
        raise UserError(
            f"sampler {kind!r}: is not fitted to this run's own data yet; call run.fit_sampler({kind!r}) first"
        )
    fitted = fit_samplers(experiment, state, kind)
    if directory is not None:
        keep(directory, step, fitted)
    return fitted


def names(directory: pathlib.Path | None) -> list[str]:
    """Return the kinds of the samplers that a run directory holds."""
    folder = None if directory is None else directory / FOLDER
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.stem.replace("-", ":") for path in folder.glob("*.npz") if not path.name.startswith("."))


def keep(directory: pathlib.Path, step: int, fitted: Sequence[Sampler]) -> None:
    """Write the samplers of all members into a run directory, with the step that they were fitted at and a digest."""
    buffer = io.BytesIO()
    arrays = {f"{i}/{name}": array for i, sampler in enumerate(fitted) for name, array in sampler.arrays.items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    path = _path(directory, fitted[0].kind)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    content = {"sampler": fitted[0].kind, "step": step, "members": len(fitted), "sha256": digest}
    write_json(path.with_suffix(".json"), content)


def kept(directory: pathlib.Path, step: int, kind: str) -> list[Sampler] | None:
    """Return the samplers of all members that a run directory holds; None where there are none of this kind.

    Those of a run that has gone on since are not read.

    Raises: UserError for files that are damaged.
    """
    path = _path(directory, kind)
    if not path.exists():
        return None
    try:
        record, content = read_json(path.with_suffix(".json")), path.read_bytes()
        intact = hashlib.sha256(content).hexdigest() == record["sha256"]
        fitted_at, members = int(record["step"]), int(record["members"])
    except (OSError, ValueError, KeyError, TypeError):
        intact, fitted_at, members = False, 0, 0
    if not intact:
        raise UserError(f"{path}: is damaged; remove it, and fit it again by run.fit_sampler({kind!r})")
    if fitted_at != step:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        of_members: list[dict[str, np.ndarray]] = [{} for _ in range(members)]
        for name in stored.files:
            index, _, array = name.partition("/")
            of_members[int(index)][array] = stored[name]
    return [Sampler(record["sampler"], arrays) for arrays in of_members]


def _path(directory: pathlib.Path, kind: str) -> pathlib.Path:
    """Return the file of a kind, named with its number where the kind decides on it."""
    name, number = check_kind(kind)
    return directory / FOLDER / f"{name if number is None else f'{name}-{number}'}.npz"
