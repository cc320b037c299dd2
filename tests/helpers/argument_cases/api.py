"""Arguments of the front door: ``vaex.train``, ``build``, ``load``, and of the methods of what they return."""

from __future__ import annotations

import functools
import pathlib
import tempfile

import jax
import numpy as np

import vaex
from helpers.argument_cases import Case, Given, Made, Pair, Refused, ShownBy

RNG = np.random.default_rng(0)
X, OTHER_X = RNG.integers(0, 17, (60, 4, 4), np.uint8), RNG.integers(0, 17, (60, 4, 4), np.uint8)
X[0, 0, 0] = OTHER_X[0, 0, 0] = 16
Y = np.arange(60) % 3
KEYS = jax.random.key(0), jax.random.key(1)
FAST = {"progress": False, "compile_cache": "off", "steps": 2, "log_every": 1, "batch_size": 10}
TINY = {"hidden": (8,), "latent_dim": 2}
OPTIONS = TINY | {"compile_cache": "off"}
SMALL = FAST | TINY
FRONT_DOOR = "tests/runs/test_front_door.py"


@functools.cache
def run(seed=0):
    return vaex.train("vae", X, seeds=seed, **SMALL)


def fresh(seed=0):
    """A run of its own, which goes on in memory."""
    return vaex.train("vae", X, seeds=seed, **SMALL)


@functools.cache
def population():
    return vaex.train("vae", X, seeds=(0, 1), **SMALL)


@functools.cache
def labelled(seed=0):
    return vaex.train("m2_vae", (X, Y), seeds=seed, **SMALL)


@functools.cache
def conditional():
    return vaex.train("conditional_vae", (X, Y), **SMALL)


@functools.cache
def hierarchy():
    return vaex.train("hierarchical_vae", X, blocks="4x1,1x1", width=4, latent_channels=2, **FAST)


@functools.cache
def sequences(seed=0):
    small = SMALL | {
        "batch_size": 4,
        "seeds": seed,
        "sequence_length": 5,
        "image_size": 8,
        "recurrent": 4,
        "max_jump": 2,
    }
    return vaex.train("td_vae", "bouncing_sprites", network="mlp", **small)


@functools.cache
def kept(model="vae"):
    """A run directory of two members and two checkpoints."""
    folder = pathlib.Path(tempfile.mkdtemp()) / model
    vaex.train(model, X, out=folder, seeds=(0, 1), checkpoint_every=1, **SMALL)
    return folder


def learned(trained):
    """Variables of a run, or of the member that was asked for."""
    if isinstance(trained, vaex.Run):
        return [member.variables for member in trained], trained.step, trained.summary is None
    if hasattr(trained, "variables"):
        return trained.variables, trained.step
    return [[member.variables for member in trained[index]] for index in range(len(trained))]


def moments(distribution):
    return distribution.mean, distribution.sample(KEYS[0])


def member(make, *args):
    return Made(lambda: make(*args)[0])


MEMBERS = (member(run), member(run, 1))
CLASSIFIERS = (member(labelled), member(labelled, 1))
Z, OTHER_Z = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=(3, 2)).astype(np.float32)
FRAMES, OTHER_FRAMES = (RNG.integers(0, 2, (3, 4, 8, 8, 1), np.uint8) for _ in range(2))
OWN_PLACES = {
    "data_dir": ShownBy("tests/house/test_public_arguments.py", '"data_dir"'),
    "manual_dir": ShownBy("tests/house/test_public_arguments.py", '"manual_dir"'),
}

train = Case(
    {
        "model": ("vae", "beta_vae"),
        "data": (X, OTHER_X),
        "steps": (2, 3),
        "batch_size": (10, 11),
        "seeds": (0, (0, 1)),
        "out": ShownBy(FRONT_DOOR, "out="),
        "callbacks": ShownBy(FRONT_DOOR, "callbacks="),
        "progress": Given(False),
        "evaluate": Pair(False, True, {"options": OPTIONS | {"eval_samples": 2, "figures": False}}),
        "init_from": (None, Made(lambda: run(1))),
        "init_only": Pair(None, "encoder", {"init_from": Made(lambda: run(1))}),
        "freeze": (None, "encoder"),
        "options": (OPTIONS, OPTIONS | {"hidden": (4,)}),
    },
    learned,
)
build = Case(
    {
        "model": ("vae", "beta_vae"),
        "like": (X, X[:, :2]),
        "options": ({"hidden": (8,)}, {"hidden": (8,), "learning_rate": 0.1}),
    },
    lambda built: (built.hparams, built.spec, built.recipe.model.objective),
)
load = Case(
    {
        "directory": (Made(kept), Made(lambda: kept("beta_vae"))),
        "member": (0, 1),
        "step": (None, 1),
        "trust": ShownBy(FRONT_DOOR, "trust=True"),
        "own": ShownBy(FRONT_DOOR, "vaex.load("),
    },
    learned,
)
trained_model = {
    "encode": Case(
        {"self": MEMBERS, "x": (X[:3], OTHER_X[:3]), "labels": Pair(None, Y[:3], {"self": CLASSIFIERS[0]})}, moments
    ),
    "decode": Case(
        {"self": MEMBERS, "z": (Z, OTHER_Z), "labels": Pair(Y[:3], Y[1:4], {"self": CLASSIFIERS[0]}, None)}, moments
    ),
    "reconstruct": Case(
        {"self": MEMBERS, "x": (X[:3], OTHER_X[:3]), "labels": Pair(None, Y[1:4], {"self": CLASSIFIERS[0]})}
    ),
    "sample": Case(
        {
            "self": MEMBERS,
            "key": KEYS,
            "n": (3, 4),
            "labels": Pair(Y[:3], Y[1:4], {"self": CLASSIFIERS[0]}, None),
            "show": ("mean", "sample"),
            "temperature": Pair(None, 0.3, {"self": member(hierarchy)}),
            "sampler": ShownBy("tests/api/test_run_samplers.py", 'sampler="gmm:2"'),
        }
    ),
    "export": Case(
        {
            "self": ShownBy("tests/export/test_export.py", "export("),
            "directory": ShownBy("tests/export/test_export.py", "export("),
            "what": ShownBy("tests/export/test_export.py", "what"),
            "formats": ShownBy("tests/export/test_export.py", "formats"),
        }
    ),
    "predict": Case(
        {
            "self": (member(sequences), member(sequences, 1)),
            "key": KEYS,
            "x": (FRAMES, OTHER_FRAMES),
            "steps": (1, 3),
            "num_samples": (1, 2),
        },
        moments,
    ),
    "impute": ShownBy("tests/api/test_missing_values.py", "num_draws=3"),
    "step_scores": ShownBy("tests/api/test_series.py", "step_scores(jax.random.key(0), broken, 20)"),
    "classify": Case({"self": CLASSIFIERS, "x": (X[:3], OTHER_X[:3])}, jax.tree.leaves),
    "log_likelihood": Case(
        {
            "self": MEMBERS,
            "key": KEYS,
            "x": (X[:3], OTHER_X[:3]),
            "num_samples": (2, 3),
            "labels": Pair(Y[:3], Y[1:4], {"self": member(conditional)}, None),
        }
    ),
    "class_log_likelihoods": Case({"self": CLASSIFIERS, "key": KEYS, "x": (X[:3], OTHER_X[:3]), "num_samples": (2, 3)}),
}
scores = {
    name: ShownBy("tests/api/test_scores.py", text)
    for name, text in {"metrics": '["samples"]', "data": "data", "choices": "parts"}.items()
}
runs = {
    "rows": Case(
        {"self": (Made(run), Made(lambda: run(1))), "stage": (None, Refused("prior", "expected one of model"))}
    ),
    "dataset": Case(
        {"self": Pair(Made(run), Made(labelled), {"data": None}), "data": (X, OTHER_X), **OWN_PLACES},
        lambda dataset: {split: dict(columns) for split, columns in dataset.splits.items()},
    ),
    "evaluate": Case(
        {
            "self": (Made(run), Made(lambda: run(1))),
            "data": (X, OTHER_X),
            **OWN_PLACES,
            "progress": Given(False),
            "options": ({"eval_samples": 2, "figures": False}, {"eval_samples": 3, "figures": False}),
        },
        lambda summary: [member["log_likelihood"] for member in summary["members"]],
    ),
    "table": Case({"self": ShownBy(FRONT_DOOR, ".table()")}),
    "score": Case({"self": ShownBy("tests/api/test_scores.py", ".score("), **scores, **OWN_PLACES}),
    "figures": Case(
        {
            "self": ShownBy(FRONT_DOOR, ".figures("),
            "member": ShownBy(FRONT_DOOR, ".figures("),
            "sampler": ShownBy("tests/api/test_run_samplers.py", 'sampler="full_gaussian"'),
            **OWN_PLACES,
        },
    ),
    "page": Case(
        {
            **dict.fromkeys(
                ("self", "path", "member", "examples", "split"), ShownBy("tests/api/test_pages.py", "run.page(tmp_path")
            ),
            "data": Given(None),
            **OWN_PLACES,
        }
    ),
    "fit_sampler": ShownBy("tests/api/test_run_samplers.py", 'fit_sampler("gmm:2")'),
    "save": Case({"self": ShownBy(FRONT_DOOR, ".save("), "directory": ShownBy(FRONT_DOOR, ".save(")}),
    "continue_to": Case(
        {
            "self": (Made(fresh), Made(lambda: fresh(1))),
            "steps": (3, 4),
            "data": (None, Refused(OTHER_X, "is not the data that the run was trained on")),
            "callbacks": ShownBy(FRONT_DOOR, "callbacks="),
            "progress": Given(False),
            **OWN_PLACES,
            "change": (None, {"learning_rate": 0.1}),
            "stage_steps": ShownBy("tests/runs/test_fitted_state.py", "density_steps=3"),
        },
        learned,
    ),
}
sweeps = {name: ShownBy("tests/api/test_sweep.py", f"{name}(") for name in ("table", "save_csv", "figure")}
CASES = {
    "vaex": {"train": train, "build": build, "load": load},
    "vaex.api.trained_model": {f"TrainedModel.{name}": case for name, case in trained_model.items()},
    "vaex.api.run": {f"Run.{name}": case for name, case in runs.items()},
    "vaex.api.sweep": {f"Sweep.{name}": case for name, case in sweeps.items()},
}
