"""The front door in Python: ``vaex.train`` and ``vaex.build``."""

from __future__ import annotations

import os
import pathlib
import types
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.api.arguments import choices_of, settings_of
from vaex.api.completed import completed_run
from vaex.api.run import Run
from vaex.api.sources import source_of
from vaex.api.sweep import Sweep
from vaex.api.trained_model import TrainedModel
from vaex.configuration.partition import part_of
from vaex.configuration.settings import Settings, replace_run
from vaex.core import PyTree, Recipe
from vaex.data.spec import Spec
from vaex.errors import NonFiniteError, UserError
from vaex.ops.widths import in_single_width
from vaex.runs import changes, console, lifecycle, setup
from vaex.runs.store import DirectoryStore, MemoryStore
from vaex.schedules import resolve
from vaex.training import population
from vaex.training.callbacks import Callback

LOADING = (
    "data_dir",
    "manual_dir",
    "image_size",
    "sequence_length",
    "columns",
    "label_column",
)  # of data loaded by name


@in_single_width
def train(
    model: str | types.ModuleType,
    data: object = None,
    *,
    steps: int | None = None,
    batch_size: int | Sequence[int] | None = None,
    seeds: int | Iterable[int] = 0,
    out: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    evaluate: bool = False,
    init_from: Run | TrainedModel | str | os.PathLike[str] | None = None,
    init_only: str | Sequence[str] | None = None,
    freeze: str | Sequence[str] | None = None,
    **options: Any,
) -> Run | Any:
    """Train a model, or a population of models, and return the run.

    The command line calls this function, so the same settings give the same bits. The run stays in memory unless ``out`` is given.
    Compiled programs are kept in the user's cache folder, unless ``compile_cache="off"``.

    Args:
      model: name in the registry (``vaex.models.MODELS``), or your own module: its dotted path, its file "my_model.py", or itself.
      data: array [n, h, w], [n, h, w, c] or [n, d]; (x, y) with labels y [n]; mapping with "x", "y", or "x_train", "x_test" and so
        on; data frame; ``vaex.Dataset``; name or path as for ``--dataset``. By default the model's default data set.
      steps: number of training steps, counted from the start of the run; by default that of the model.
      batch_size: examples per step; by default that of the model.
      seeds: seed of initialisation and noise, 0 by default; several seeds make a population.
      out: run directory, which ``vaex.load`` and the command line read; the same call continues a stopped run in it.
      callbacks: called during training; see ``vaex.Callback``.
      progress: whether to report progress on standard error.
      evaluate: whether to evaluate the run after training and, with ``out``, draw its figures; ``run.evaluate()`` does so later.
      init_from: run, member of a run, or run directory (``"runs/a:2"`` for a member) whose trained parameters this run starts from;
        members start from those of the same index if both runs have as many, else all from member 0.
      init_only: parts taken from ``init_from``, such as ``("encoder", "decoder")``; the others are initialised.
      freeze: parts whose parameters training does not change.
      **options: options and hyperparameters of the model, and other options of the command line, by name. Several values of a
        hyperparameter make a population: all combinations, each with every seed. Several values of an option, which is compiled
        into the program, make one run each, with ``out`` in its own folder; ``hidden=[(512, 512), (256,)]`` makes two runs.
    Returns: the trained run; a ``vaex.api.sweep.Sweep`` of runs if an option has several values, or if ``part="3/16"`` asks for a
      share of a sweep.
    Raises: UserError, before anything is compiled, for invalid arguments; NonFiniteError if the loss of every member of every run
      stops being finite. Members that diverge are named by a warning and by ``run.diverged``.
    Example::

      run = vaex.train("beta_vae", x, beta=[1, 4], seeds=range(3), steps=2000)
      z = run[0].encode(x).mean
    """
    values: dict[str, Any] = dict(options, seeds=seeds)
    named = {"steps": steps, "batch_size": batch_size, "init_only": init_only, "freeze": freeze}
    values |= {name: value for name, value in named.items() if value is not None}
    source = None
    if isinstance(init_from, str | os.PathLike):
        values["init_from"] = os.fspath(init_from)
    elif init_from is not None:
        source = source_of(init_from)
    wrong = [callback for callback in callbacks if not isinstance(callback, Callback)]
    if wrong:
        raise UserError(f"train: callbacks has a {type(wrong[0]).__name__}; give vaex.Callback(on_rows=...)")
    dataset = None
    if isinstance(data, str | os.PathLike):
        values["dataset"] = os.fspath(data)
    elif data is not None:
        loading = {name: values.get(name) for name in (*LOADING, "dataset")}
        dataset = setup.as_dataset(data, values, **loading)
        values["dataset"] = dataset.spec.name
    settings = _runs(model, values, in_memory=out is None)
    talk, runs = console.in_python(progress=progress), {}
    for name, chosen in settings.items():
        if name:
            talk.say(name)
        store = MemoryStore() if out is None else DirectoryStore(pathlib.Path(out).expanduser() / name)
        try:
            completed = lifecycle.run(
                chosen, talk, dataset=dataset, store=store, evaluate=evaluate, callbacks=callbacks, source=source
            )
        except NonFiniteError as error:
            if name == list(settings)[-1] and not runs:
                raise
            talk.warn(f"{name} is left out: {error}")
        else:
            runs[name] = completed_run(completed, callbacks)
    return runs[""] if list(settings) == [""] else Sweep(runs)


def _runs(model: str | types.ModuleType, values: dict[str, Any], *, in_memory: bool) -> dict[str, Settings]:
    """Return name -> settings of the runs that options ask for; "" where it is one."""
    change, settings = values.pop("change", None), {}
    for choice in choices_of(model, values):
        chosen = settings_of(model, {**values, **choice.values})
        settings[choice.name] = replace_run(chosen, change=changes.text_of(chosen, change))
    if values.get("part") is not None:
        settings = part_of(str(values["part"]), settings)
    if (in_memory or list(settings) != [""]) and next(iter(settings.values())).run.is_shared:
        raise UserError(
            "train: several processes train one run together, in a directory that all can read; give out=, and each option one "
            "value"
        )
    return settings


class Built(NamedTuple):
    """A model for certain data, as pure functions for a training loop of your own.

    Attributes:
      recipe: stages whose ``model`` has init, objective, encode, decode, log_weights and sample.
      hparams: values of the hyperparameters, which these functions take.
      spec: description of the data; ``vaex.data.prepare(spec, key, x)`` makes model inputs of stored values.
    """

    recipe: Recipe
    hparams: PyTree
    spec: Spec


def build(model: str | types.ModuleType, like: object, **options: Any) -> Built:
    """Build a model for data as pure functions, without training it: for your own training loop.

    Args:
      model: as for ``train``.
      like: data as for ``train``, or a ``Spec`` with its shape and kind.
      **options: options and hyperparameters of the model, by name.
    Returns: the recipe, the values of its hyperparameters, and the ``Spec`` of the data.
    Raises: UserError for invalid arguments.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> recipe, hparams, spec = build("beta_vae", np.eye(16).reshape(16, 4, 4), latent_dim=2, beta=4.0)
      >>> variables = recipe.model.init(jax.random.key(0), {"x": jnp.zeros((1, *spec.shape))})
      >>> outcome = recipe.model.objective(jax.random.key(1), variables, hparams, {"x": jnp.ones((3, 4, 4, 1))}, train=True)
      >>> sorted(outcome.metrics)
      ['elbo', 'kl', 'reconstruction']
    """
    settings = settings_of(model, options)
    if len(settings.members) > 1:
        raise UserError(
            "build: several values of a hyperparameter or seeds; give one of each, a population is yours to stack"
        )
    if isinstance(like, Spec):
        spec = like
    else:
        loading = {name: options.get(name) for name in LOADING}
        spec = setup.as_dataset(like, setup.reading_of(settings.data), **loading).spec
    spec = setup.resolve_spec(settings, spec)
    setup.refuse_idle(settings, spec)
    hparams = resolve(population.member(setup.stack_hparams(settings), 0), np.int32(0))
    return Built(setup.build_recipe(settings, spec), hparams, spec)
