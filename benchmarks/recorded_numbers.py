"""Regression test of whole runs: record the numbers that short runs end with, and compare two recordings.

    python benchmarks/recorded_numbers.py --record=before.json --checkout=FOLDER   # a checkout of the code as it was
    python benchmarks/recorded_numbers.py --record=after.json                      # the checkout that holds this script
    python benchmarks/recorded_numbers.py --compare before.json after.json         # ends with 1 where anything differs

A refactoring should leave every bit alone, and tests of single functions cannot show that it did: random keys, the order of
examples, what is compiled together and the content of checkpoints show only in whole runs. So small runs of many kinds of models
are trained through the command line, each in a process of its own. A recording keeps a digest of every array in the final
checkpoint of each stage and of the test images' log-likelihoods, all rows of metrics.jsonl, and the numbers of summary.json.
Nothing of vaex is imported: only the flags, the layout of a run directory and the tree of the parameters need to stay.

Seconds, versions and paths are left out, and so are the hyperparameters in checkpoints, which the flags set. Parameters compare by
name; other arrays (optimizer, running average, keys, states) may change their names, which is reported but is no difference.

Bits compare only on one kind of machine: XLA's programs depend on the instructions and the cores of the processor and on the
version of jax. A recording describes its machine. Runs use the CPU. ``--isa=AVX2`` withholds newer instructions from XLA, which
shows how far the rounding of a machine moves the numbers.

``--compact`` keeps two digests a run, the last row of each stage's metrics and the summary's results, numbers to six digits.
benchmarks/numbers.json is such a recording; tests/benchmarks/test_recorded_numbers.py compares with it. All runs take about four
minutes on two idle cores, half of that where their programs are cached.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from recordings import compact, differences, leaves, numeric_leaves, report

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDED = ROOT / "benchmarks" / "numbers.json"  # the recording that the tests compare with
STEPS = 40
COMMON = "--batch_size=32 --log_every=8 --eval_samples=5 --eval_images=50 --no_figures"
SMALL = "--latent_dim=4 --hidden=16x16"
FRAMES = "--sequence_length=6 --image_size=16"
SEQUENCE = f"--network=mlp --hidden=8 --recurrent=4 --latent_dim=2 {FRAMES}"
HIERARCHY = "--model=hierarchical_vae --blocks=4x2,2x1,1x1 --width=4 --latent_channels=1"
BETA_VAE = f"--model=beta_vae {SMALL}"
POPULATION = f"{BETA_VAE} --beta=1,4 --seeds=0:2"
RUNS = {
    "beta_vae": BETA_VAE,
    "resumed": BETA_VAE,
    "schedules": f"{BETA_VAE} --learning_rate=cosine:0.003:0.0003:40 --beta=cycle:0:1:20",
    "regularised": f"{BETA_VAE} --clip_norm=1 --average_decay=0.99 --weight_decay=0.01",
    "population": POPULATION,
    "population_by_members": f"{POPULATION} --population_strategy=members",
    "convolutions": "--model=vae --network=conv --channels=4x4 --hidden=16 --latent_dim=4",
    "factor_vae": f"--model=factor_vae {SMALL} --critic_hidden=8x8",
    "wae": f"--model=wae {SMALL}",
    "iwae": f"--model=iwae {SMALL} --num_samples=3",
    "vamp_vae": f"--model=vamp_vae {SMALL} --components=4",
    "flow_vae": f"--model=flow_vae {SMALL} --flow_hidden=4 --posterior_layers=1 --prior_layers=2",
    "gumbel_vae": f"--model=gumbel_vae {SMALL} --classes=3",
    "vq_vae": "--model=vq_vae --channels=4 --blocks=1 --codes=8 --code_dim=2 "
    "--prior_width=8 --prior_layers=1 --prior_heads=2 --prior_steps=40",
    "hierarchical_vae": HIERARCHY,
    "skipped_steps": f"{HIERARCHY} --skip_norm=330",  # which six steps exceed
    "ladder_vae": "--model=ladder_vae --hidden=8x4 --latents=2x1",
    "m2_vae": f"--model=m2_vae {SMALL} --labels=50",
    "semi_supervised_vae": f"--model=semi_supervised_vae {SMALL} --labels=50 --m2_latent_dim=2 --m2_hidden=16 --m2_steps=40",
    "sequence_vae": f"--model=sequence_vae {SEQUENCE}",
    "td_vae": f"--model=td_vae {SEQUENCE} --max_jump=2 --pairs=2",
}
STOPS = {"resumed": (STEPS // 2, STEPS)}  # trained to each in turn; the first lies within a row of metrics
SAME = {"resumed": "beta_vae"}  # run -> another that must end with the same numbers
SUMMARISED = ("parameters", "results", "members")  # entries of summary.json that the machine's speed doesn't change
HYPERPARAMETERS = "state/hparams/"  # in the tree of a checkpoint
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
INSTRUCTIONS = ("avx", "fma", "f16c", "amx", "asimd", "sve", "bf16")  # prefixes of the processor flags that matter


# --- recording -------------------------------------------------------------------------------------------------------


def record(checkout: pathlib.Path, names: Sequence[str], cache: str = "auto", isa: str = "") -> dict[str, Any]:
    """Train these runs with the code of a checkout, and record them.

    Args:
      checkout: the root of a checkout of vaex.
      names: of ``RUNS``; runs that must equal them are added.
      cache: where compiled programs are kept, as vaex's ``--compile_cache``.
      isa: the newest instructions that XLA may use, such as AVX2; all if empty.
    Returns: ``{"machine": what bits depend on, "runs": {name: what the run wrote}}``.
    Raises: RuntimeError where a run fails, or where the checkout's code is not what runs.
    """
    environment = environment_of(checkout, isa)
    check_import(checkout, environment)
    recording: dict[str, Any] = {"machine": machine(isa), "runs": {}}
    for name in [name for name in RUNS if name in {*names, *(SAME[name] for name in names if name in SAME)}]:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="vaex-numbers-") as folder:
            directory = pathlib.Path(folder) / "run"
            for steps in STOPS.get(name, (STEPS,)):
                options = [*COMMON.split(), *RUNS[name].split(), f"--steps={steps}"]
                train(checkout, environment, [*options, f"--compile_cache={cache}", f"--out={directory}"])
            run = read_run(directory)
        seconds = time.perf_counter() - began
        recording["runs"][name] = {"flags": f"{COMMON} {RUNS[name]}", "seconds": round(seconds, 1), **run}
        print(f"{name}: {seconds:.1f} s, {len(run['arrays'])} arrays", flush=True)
    return recording


def environment_of(checkout: pathlib.Path, isa: str = "") -> dict[str, str]:
    """Return the environment of a run: the checkout is imported, and no outside setting of jax changes numbers."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    added = {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    return environment | added | ({"XLA_FLAGS": f"--xla_cpu_max_isa={isa}"} if isa else {})


def check_import(checkout: pathlib.Path, environment: dict[str, str]) -> None:
    """Raise RuntimeError unless a process imports vaex from the checkout."""
    command = [sys.executable, "-c", "import vaex; print(vaex.__file__)"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode or not pathlib.Path(done.stdout.strip()).is_relative_to(checkout):
        raise RuntimeError(f"{checkout}: vaex is not imported from there: {done.stdout}{done.stderr}")


def train(checkout: pathlib.Path, environment: dict[str, str], options: Sequence[str]) -> None:
    """Run the checkout's command line; raise RuntimeError with its output where it fails."""
    command = [sys.executable, str(checkout / "experiments" / "run.py"), *options]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(options)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def machine(isa: str = "") -> dict[str, Any]:
    """Describe what the bits of a run depend on beside the code and its flags."""
    described = cpu_information()
    flags = (described.get("flags") or described.get("Features") or "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": "cpu",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": described.get("model name") or platform.processor(),
        "instructions": " ".join(sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS))),
        "isa": isa or "all",
        "cores": cores,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def cpu_information() -> dict[str, str]:
    """Return Linux's description of the first core; nothing on other systems."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().partition("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): text.strip() for name, _, text in pairs}


def read_run(directory: pathlib.Path) -> dict[str, Any]:
    """Return the record of a run directory."""
    stages = {"model": directory, **{path.name: path for path in sorted((directory / "stages").glob("*"))}}
    arrays, metrics = {}, {}
    for stage, folder in stages.items():
        final = max((path for path in (folder / "checkpoints").glob("*") if path.name.isdecimal()), key=step_of)
        for path, array in read_checkpoint(final).items():
            if not path.startswith(HYPERPARAMETERS):
                arrays[f"{stage}/{path}"] = digest_array(array)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        metrics[stage] = [{name: value for name, value in row.items() if name != "crc32"} for row in rows]
    for path in directory.glob("log_likelihood.npz"):  # some models have none
        with np.load(path) as file:
            arrays |= {f"file/{name}": digest_array(file[name]) for name in sorted(file.files)}
    summary = json.loads((directory / "summary.json").read_text())
    numbers = dict(numeric_leaves({name: summary[name] for name in SUMMARISED}))
    return {"arrays": arrays, "metrics": metrics, "summary": numbers}


def step_of(folder: pathlib.Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(folder.name)


def read_checkpoint(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Return all arrays of a checkpoint, by their paths in its tree."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax warns where it is given no template
    if (folder / "packed").exists():
        return read_packed(folder)
    tree = read_item(folder / "state")
    # words of keys lie a level deeper than keys, as which earlier versions kept them
    return {path.partition("/keys of ")[0]: array for path, array in leaves(tree)}


def read_packed(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint whose bytes are one vector, each from a multiple of 64 bytes on."""
    layout = json.loads((folder / "layout" / "metadata").read_text())["arrays"]
    data, arrays, end = read_item(folder / "packed")["bytes"], {}, 0
    for entry in layout:
        dtype, shape, start = np.dtype(entry["dtype"]), entry["shape"], -(-end // 64) * 64
        end = start + math.prod(shape) * dtype.itemsize
        arrays["/".join(map(str, entry["path"]))] = data[start:end].view(dtype).reshape(shape)
    return arrays


def read_item(folder: pathlib.Path) -> Any:
    """Return the tree of an item as NumPy arrays."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored: Any = checkpointer.metadata(folder)
        arguments = as_numpy(stored.item_metadata.tree)
        return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=arguments))


def as_numpy(tree: Any) -> Any:
    """Return a tree of orbax's arguments that restore each leaf as a NumPy array."""
    if isinstance(tree, dict):
        return {name: as_numpy(branch) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_numpy(branch) for branch in tree]
    return ocp.RestoreArgs(restore_type=np.ndarray)


def digest_array(array: Any) -> str:
    """Return dtype, shape and a digest of the bytes of an array."""
    array = np.asarray(array)
    text = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} {text}"


def check_same(recording: dict[str, Any]) -> bool:
    """Print differences between runs of a recording that must end with equal numbers; return whether there are none."""
    all_equal = True
    for name, other in SAME.items():
        if name in recording["runs"]:
            lines = differences(recording["runs"][other], recording["runs"][name])
            print(f"{name}: {'differs from' if lines else 'the same as'} {other}", *lines, sep="\n    ")
            all_equal = all_equal and not lines
    return all_equal


# --- the command -----------------------------------------------------------------------------------------------------


def write(path: pathlib.Path, recording: dict[str, Any]) -> None:
    """Write a recording as JSON."""
    path.write_text(json.dumps(recording, indent=1) + "\n")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Read a recording."""
    return json.loads(path.read_text())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--record", type=pathlib.Path, metavar="FILE", help="train the runs and write a recording")
    action.add_argument("--compare", type=pathlib.Path, nargs=2, metavar="FILE", help="compare two recordings")
    parser.add_argument(
        "--checkout", type=pathlib.Path, default=ROOT, help="checkout whose code trains (default: this one)"
    )
    parser.add_argument("--runs", default=",".join(RUNS), metavar="A,B", help="only these runs: %(default)s")
    parser.add_argument("--compact", action="store_true", help="write the small form of the recording")
    parser.add_argument("--compile_cache", default="auto", help="as vaex's flag: auto, off or a folder")
    parser.add_argument("--isa", default="", help="newest instructions that XLA may use, such as AVX2; by default all")
    flags = parser.parse_args(arguments)
    flags.runs = flags.runs.split(",")
    if unknown := [name for name in flags.runs if name not in RUNS]:
        parser.error(f"--runs: {', '.join(unknown)} is none of {', '.join(RUNS)}")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare; return 1 where numbers that should be equal differ."""
    flags = parse(arguments)
    if flags.compare:
        return 0 if report(*map(read, flags.compare)) else 1
    recording = record(flags.checkout.resolve(), flags.runs, flags.compile_cache, flags.isa)
    write(flags.record, compact(recording) if flags.compact else recording)
    return 0 if check_same(recording) else 1


if __name__ == "__main__":
    sys.exit(main())
