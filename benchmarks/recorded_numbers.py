"""The numbers that short runs end with, recorded and compared: has a change of the code changed what it computes?

    python benchmarks/recorded_numbers.py --record=before.json --checkout=FOLDER   # a checkout of the code as it was
    python benchmarks/recorded_numbers.py --record=after.json                      # the checkout that holds this script
    python benchmarks/recorded_numbers.py --compare before.json after.json         # ends with 1 where anything differs

A refactoring should leave every bit alone, and a test of one function cannot tell whether it did: random keys, the order of
examples, what is compiled together and what a checkpoint holds all show only in whole runs. So small runs of many kinds of models
are trained through the command line, each in a process of its own, and of what they write is kept: a digest of every array in the
final checkpoint of each stage and of the test images' log-likelihoods, all rows of metrics.jsonl, and the numbers of summary.json.
Nothing of vaex is imported, so that only the flags, the layout of a run directory and the tree of the parameters need to stay.

Left out are seconds, versions and paths, and of checkpoints the hyperparameters, whose values the flags give. Parameters compare
by their names; of other arrays (the optimizer's, the running average, keys, states) a new name alone is told, and is no
difference.

Bits compare only on one kind of machine: what XLA compiles follows the instructions and the cores of the processor, and the
version of jax. The recording says what it was made on. Runs are always made on the CPU. ``--isa=AVX2`` withholds newer
instructions from XLA, which shows how far a machine's rounding moves the numbers.

``--compact`` keeps two digests a run, the last row of each stage's metrics and the summary's results, numbers to six digits.
benchmarks/numbers.json is such a recording, with which tests/benchmarks/test_recorded_numbers.py compares. All runs take about
four minutes on two cores that are idle, and half of that where their programs are cached.
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
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDED = ROOT / "benchmarks" / "numbers.json"  # the recording that the tests compare with
STEPS = 40
COMMON = "--batch_size=32 --log_every=8 --eval_samples=5 --eval_images=50 --no_figures"
SMALL = "--latent_dim=4 --hidden=16x16"
FRAMES = "--sequence_length=6 --image_size=16"
SEQUENCE = f"--network=mlp --hidden=8 --channels=2x2 --recurrent=4 --latent_dim=2 {FRAMES}"
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
SAME = {"resumed": "beta_vae"}  # what must end with the same numbers
SUMMARISED = ("parameters", "results", "members")  # entries of summary.json that the machine's speed doesn't change
HYPERPARAMETERS, PARAMETERS = "state/hparams/", "state/variables/params/"  # in the tree of a checkpoint
SHOWN = 6  # entries of each list of differences
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
INSTRUCTIONS = ("avx", "fma", "f16c", "amx", "asimd", "sve", "bf16")  # what flags of a processor that matter begin with


# --- recording -------------------------------------------------------------------------------------------------------


def record(checkout: pathlib.Path, names: Sequence[str], cache: str = "auto", isa: str = "") -> dict[str, Any]:
    """A recording of these runs, trained by the code of a checkout.

    Args:
      checkout: the root of a checkout of vaex.
      names: of ``RUNS``; what a run must be the same as is added.
      cache: where compiled programs are kept, as vaex's ``--compile_cache``.
      isa: the newest instructions that XLA may use, such as AVX2; all where empty.
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
                words = [*COMMON.split(), *RUNS[name].split(), f"--steps={steps}"]
                train(checkout, environment, [*words, f"--compile_cache={cache}", f"--out={directory}"])
            run = read_run(directory)
        seconds = time.perf_counter() - began
        recording["runs"][name] = {"flags": f"{COMMON} {RUNS[name]}", "seconds": round(seconds, 1), **run}
        print(f"{name}: {seconds:.1f} s, {len(run['arrays'])} arrays", flush=True)
    return recording


def environment_of(checkout: pathlib.Path, isa: str = "") -> dict[str, str]:
    """The variables of a run's process: this checkout is imported, and no setting of jax from outside changes numbers."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    added = {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    return environment | added | ({"XLA_FLAGS": f"--xla_cpu_max_isa={isa}"} if isa else {})


def check_import(checkout: pathlib.Path, environment: dict[str, str]) -> None:
    """Raise RuntimeError unless a process imports vaex from the checkout."""
    words = [sys.executable, "-c", "import vaex; print(vaex.__file__)"]
    done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode or not pathlib.Path(done.stdout.strip()).is_relative_to(checkout):
        raise RuntimeError(f"{checkout}: vaex is not imported from there: {done.stdout}{done.stderr}")


def train(checkout: pathlib.Path, environment: dict[str, str], words: Sequence[str]) -> None:
    """Run the checkout's command line; raise RuntimeError with what it printed where it fails."""
    command = [sys.executable, str(checkout / "experiments" / "run.py"), *words]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def machine(isa: str = "") -> dict[str, Any]:
    """What the bits of a run depend on beside the code and its flags."""
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
    """What Linux says about the first core; nothing on other systems."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().partition("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): text.strip() for name, _, text in pairs}


def read_run(directory: pathlib.Path) -> dict[str, Any]:
    """What of a run directory is recorded."""
    stages = {"model": directory, **{path.name: path for path in sorted((directory / "stages").glob("*"))}}
    arrays, metrics = {}, {}
    for stage, folder in stages.items():
        final = max((path for path in (folder / "checkpoints").glob("*") if path.name.isdecimal()), key=step_of)
        for path, array in read_checkpoint(final / "state").items():
            if not path.startswith(HYPERPARAMETERS):
                arrays[f"{stage}/{path}"] = digest_array(array)
        metrics[stage] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for path in directory.glob("log_likelihood.npz"):  # some models have none
        with np.load(path) as file:
            arrays |= {f"file/{name}": digest_array(file[name]) for name in sorted(file.files)}
    summary = json.loads((directory / "summary.json").read_text())
    numbers = dict(numeric_leaves({name: summary[name] for name in SUMMARISED}))
    return {"arrays": arrays, "metrics": metrics, "summary": numbers}


def step_of(folder: pathlib.Path) -> int:
    """The step of a checkpoint's folder."""
    return int(folder.name)


def read_checkpoint(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, by their paths in its tree."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax warns where it is given no template
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored: Any = checkpointer.metadata(folder)
        arguments = as_numpy(stored.item_metadata.tree)
        tree = checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=arguments))
    return dict(leaves(tree))


def as_numpy(tree: Any) -> Any:
    """The same tree with, for each leaf, orbax's word for "restore it as a NumPy array"."""
    if isinstance(tree, dict):
        return {name: as_numpy(branch) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_numpy(branch) for branch in tree]
    return ocp.RestoreArgs(restore_type=np.ndarray)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and leaf of all leaves that are something, in the order of their paths."""
    if isinstance(tree, list | tuple):
        tree = {str(index): branch for index, branch in enumerate(tree)}
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from leaves(tree[name], f"{path}/{name}" if path else name)
    elif tree is not None:
        yield path, tree


def numeric_leaves(tree: Any) -> Iterator[tuple[str, float]]:
    """Path and leaf of all leaves that are numbers."""
    return (pair for pair in leaves(tree) if isinstance(pair[1], int | float))


def digest_array(array: Any) -> str:
    """The dtype, the shape and a digest of the bytes of an array."""
    array = np.asarray(array)
    text = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} {text}"


# --- compact recordings ----------------------------------------------------------------------------------------------


def compact(recording: dict[str, Any]) -> dict[str, Any]:
    """A small form of a recording, enough to tell whether runs end the same; what is compact already stays as it is."""
    return recording | {"runs": {name: compact_run(run) for name, run in recording["runs"].items()}}


def compact_run(run: dict[str, Any]) -> dict[str, Any]:
    """A run's small form: its digests, each stage's last row, and the results, averages over seeds."""
    if "arrays" not in run:
        return run
    arrays, results = run["arrays"], run["summary"].items()
    return {
        "flags": run["flags"],
        "parameters": digest_lines(f"{path} {text}" for path, text in arrays.items() if is_parameter(path)),
        "everything": digest_lines(arrays.values()),
        "metrics": {stage: rounded(dict(numeric_leaves(rows[-1]))) for stage, rows in run["metrics"].items()},
        "summary": rounded({path: number for path, number in results if not path.startswith("members/")}),
    }


def is_parameter(path: str) -> bool:
    """Whether a recorded array is one of a stage's parameters."""
    return path.partition("/")[2].startswith(PARAMETERS)


def digest_lines(lines: Any) -> str:
    """One digest of texts, in whichever order they come."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """The numbers to six significant digits."""
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """What differs in each run that both recordings have, in words; compact forms are compared where either is one.

    Returns: run -> lines, none where the runs end with the same bits.
    """
    if any("arrays" not in run for recording in (before, after) for run in recording["runs"].values()):
        before, after = compact(before), compact(after)
    both = [name for name in before["runs"] if name in after["runs"]]
    return {name: differences(before["runs"][name], after["runs"][name]) for name in both}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two recordings of a run, both full or both compact."""
    lines = []
    if before["flags"] != after["flags"]:
        lines.append(f"other flags: {before['flags']} -> {after['flags']}")
    if "arrays" in before:
        lines += different_arrays(before["arrays"], after["arrays"])
    else:
        lines += [f"other {digest}" for digest in ("parameters", "everything") if before[digest] != after[digest]]
    for stage in sorted({*before["metrics"], *after["metrics"]}):
        rows = (metrics_rows(run["metrics"].get(stage, [])) for run in (before, after))
        lines += different_rows(stage, *rows)
    return lines + different_numbers("summary", before["summary"], after["summary"])


def different_arrays(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Which arrays differ; arrays other than parameters may have moved."""
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    if not any(map(is_parameter, paths)) and sorted(before.values()) == sorted(after.values()):
        return []
    texts = [f"{path}: {state_of_array(before.get(path), after.get(path))}" for path in paths]
    return first_of(texts, f"arrays differ, of {len({*before, *after})}")


def state_of_array(before: str | None, after: str | None) -> str:
    """What became of an array, by its digests."""
    if before is None or after is None:
        return "is new" if before is None else "is gone"
    kinds = before.rpartition(" ")[0], after.rpartition(" ")[0]
    return "other bits" if kinds[0] == kinds[1] else " -> ".join(kinds)


def moved_arrays(before: dict[str, Any], after: dict[str, Any]) -> int:
    """How many arrays of two equal runs have another name; of compact forms that is not known, and 0."""
    return len(set(before["arrays"]) - set(after["arrays"])) if "arrays" in before and "arrays" in after else 0


def metrics_rows(metrics: Any) -> list[dict[str, float]]:
    """The rows of one stage, flat; a compact recording has one, the last."""
    return [dict(numeric_leaves(row)) for row in (metrics if isinstance(metrics, list) else [metrics])]


def different_rows(stage: str, before: list[dict[str, float]], after: list[dict[str, float]]) -> list[str]:
    """What differs in the first row of a stage's metrics that is not the same."""
    if len(before) != len(after):
        return [f"{stage}: {len(before)} -> {len(after)} rows of metrics"]
    for old, new in zip(before, after, strict=True):
        if lines := different_numbers(f"{stage}, the row of step {old.get('step', 0):.0f}", old, new):
            return lines
    return []


def different_numbers(where: str, before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Which numbers differ, and by which share."""
    texts = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            texts.append(f"{name} {'is gone' if name in before else 'is new'}")
        elif distance := relative_difference(before[name], after[name]):
            texts.append(f"{name} {before[name]:.9g} -> {after[name]:.9g} ({distance:.1e})")
    return first_of(texts, f"of {len({*before, *after})} numbers of {where} differ")


def relative_difference(before: float, after: float) -> float:
    """The distance of two numbers as a share of the larger, infinite where only one is finite; 0 for equal ones and two NaNs."""
    if before == after or (math.isnan(before) and math.isnan(after)):
        return 0.0
    share = abs(before - after) / max(abs(before), abs(after))
    return math.inf if math.isnan(share) else share


def first_of(texts: list[str], what: str) -> list[str]:
    """A line that counts and one for each of the first few texts; nothing where there are none."""
    more = [f"  and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return [f"{len(texts)} {what}", *(f"  {text}" for text in texts[:SHOWN]), *more] if texts else []


def report(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Print what each run's comparison found; whether all runs that both recordings have are the same."""
    for name in sorted({*before["machine"], *after["machine"]}):
        old, new = before["machine"].get(name), after["machine"].get(name)
        if old != new:
            print(f"recorded on machines of which bits do not compare: {name} {old} -> {new}")
    compared = compare(before, after)
    for name, lines in compared.items():
        moved = moved_arrays(before["runs"][name], after["runs"][name])
        equal = "equal bits" + (f", {moved} arrays under other names" if moved else "")
        print(f"{name}: {'differs' if lines else equal}", *lines, sep="\n    ")
    for name in sorted({*before["runs"], *after["runs"]} - {*compared}):
        print(f"{name}: in one recording only")
    return bool(compared) and not any(compared.values())


def check_same(recording: dict[str, Any]) -> bool:
    """Print what differs between runs of a recording that must end the same; whether nothing does."""
    good = True
    for name, other in SAME.items():
        if name in recording["runs"]:
            lines = differences(recording["runs"][other], recording["runs"][name])
            print(f"{name}: {'differs from' if lines else 'the same as'} {other}", *lines, sep="\n    ")
            good = good and not lines
    return good


# --- the command -----------------------------------------------------------------------------------------------------


def write(path: pathlib.Path, recording: dict[str, Any]) -> None:
    """Write a recording as JSON."""
    path.write_text(json.dumps(recording, indent=1) + "\n")


def read(path: pathlib.Path) -> dict[str, Any]:
    """A recording that was written."""
    return json.loads(path.read_text())


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--record", type=pathlib.Path, metavar="FILE", help="train the runs and write a recording")
    action.add_argument("--compare", type=pathlib.Path, nargs=2, metavar="FILE", help="compare two recordings")
    parser.add_argument("--checkout", type=pathlib.Path, default=ROOT, help="whose code trains; by default this one's")
    parser.add_argument("--runs", default=",".join(RUNS), metavar="A,B", help="only these runs: %(default)s")
    parser.add_argument("--compact", action="store_true", help="write the small form of the recording")
    parser.add_argument("--compile_cache", default="auto", help="as vaex's flag: auto, off or a folder")
    parser.add_argument("--isa", default="", help="newest instructions that XLA may use, such as AVX2; by default all")
    flags = parser.parse_args(words)
    flags.runs = flags.runs.split(",")
    if unknown := [name for name in flags.runs if name not in RUNS]:
        parser.error(f"--runs: {', '.join(unknown)} is none of {', '.join(RUNS)}")
    return flags


def main(words: Sequence[str] | None = None) -> int:
    """Record or compare; 1 where what should be the same is not."""
    flags = parse(words)
    if flags.compare:
        return 0 if report(*map(read, flags.compare)) else 1
    recording = record(flags.checkout.resolve(), flags.runs, flags.compile_cache, flags.isa)
    write(flags.record, compact(recording) if flags.compact else recording)
    return 0 if check_same(recording) else 1


if __name__ == "__main__":
    sys.exit(main())
