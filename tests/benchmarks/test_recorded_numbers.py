"""benchmarks/recorded_numbers.py: differences that it reports, and short runs that end with the recorded numbers."""

import copy
import importlib
import math

import pytest

numbers = importlib.import_module("recorded_numbers")

REPRESENTATIVE = (
    "regularised",
    "population",
    "vq_vae",
    "skipped_steps",
)  # optimizers, members, stages and deep networks
BITS = ("jax", "jaxlib", "flax", "optax", "system", "processor", "instructions", "isa", "cores")
# with XLA held to AVX2 no number moved by more than 1e-6 of itself; a kernel that sums in another order may move them further
RELATIVE = 1e-3
COUNTED = ("active_units", "knn_label_agreement")  # what rounding may move by a whole unit or example
PARAMETER, MOMENT = "model/state/variables/params/vae/bias", "model/state/opt_state/vae/mu/bias"


@pytest.fixture
def recording():
    """A full recording of one run, as the script makes them."""
    rows = [{"step": 8, "elbo": [-3.0, -2.0]}, {"step": 16, "elbo": [-1.0, math.nan]}]
    run = {
        "flags": "--model=vae",
        "arrays": {PARAMETER: "float32[1, 2] aa", MOMENT: "float32[1, 2] bb"},
        "metrics": {"model": rows},
        "summary": {"results/0/elbo/mean": -1.23456789, "members/0/elbo": -1.23456789},
    }
    return {"machine": {"jax": "0"}, "runs": {"vae": run}}


def rename(old, new):
    def change(run):
        run["arrays"][new] = run["arrays"].pop(old)

    return change


def test_equal_recordings_are_equal_in_either_form(recording, capsys):
    other = copy.deepcopy(recording)
    assert numbers.report(recording, other) and numbers.report(numbers.compact(recording), other)
    assert capsys.readouterr().out.splitlines() == ["vae: equal bits"] * 2
    small = numbers.compact(recording)
    assert numbers.compact(small) == small


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda run: run["arrays"].update({MOMENT: "float32[1, 2] cc"}), ["mu/bias: other bits"]),
        (lambda run: run["arrays"].update({MOMENT: "float32[2] bb"}), ["float32[1, 2] -> float32[2]"]),
        (lambda run: run["arrays"].pop(MOMENT), ["mu/bias: is gone"]),
        (rename(PARAMETER, f"{PARAMETER}es"), ["bias: is gone", "biases: is new"]),
        (
            lambda run: run["metrics"]["model"][1].update(elbo=[-1.1, math.nan]),
            ["step 16", "elbo/0 -1 -> -1.1 (9.1e-02)"],
        ),
        (lambda run: run["metrics"]["model"].pop(), ["2 -> 1 rows"]),
        (
            lambda run: run["summary"].update({"results/0/elbo/mean": -1.24}),
            ["results/0/elbo/mean -1.23456789 -> -1.24"],
        ),
        (lambda run: run.update(flags="--model=vae --beta=2"), ["other flags"]),
    ],
)
def test_differences_are_reported(recording, change, reported, capsys):
    other = copy.deepcopy(recording)
    change(other["runs"]["vae"])
    assert not numbers.report(recording, other)
    printed = capsys.readouterr().out
    assert printed.startswith("vae: differs") and all(text in printed for text in reported), printed
    assert not numbers.report(numbers.compact(recording), other)


def test_a_new_name_of_an_array_other_than_a_parameter_is_no_difference(recording, capsys):
    other = copy.deepcopy(recording)
    rename(MOMENT, "model/state/opt_state/mu/bias")(other["runs"]["vae"])
    assert numbers.report(recording, other)
    assert "equal bits, 1 arrays under other names" in capsys.readouterr().out
    assert numbers.report(numbers.compact(recording), other)


def test_recordings_without_a_common_run_are_not_the_same(recording, capsys):
    assert not numbers.report(recording, recording | {"runs": {}})
    assert "vae: in one recording only" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_runs_end_with_the_recorded_numbers(name):
    """To the bit on the kind of machine that recorded them."""
    recorded, present = numbers.read(numbers.RECORDED), numbers.compact(numbers.record(numbers.ROOT, [name]))
    before, after = recorded["runs"][name], present["runs"][name]
    if all(recorded["machine"][part] == present["machine"][part] for part in BITS):
        assert numbers.differences(before, after) == []
        return
    assert before["flags"] == after["flags"]
    for stage, row in before["metrics"].items():
        assert after["metrics"][stage] == pytest.approx(row, rel=RELATIVE)
    expected, numbers_now = (
        {name: run["summary"][name] for name in run["summary"] if not counted(name)} for run in (before, after)
    )
    assert numbers_now == pytest.approx(expected, rel=RELATIVE)


def counted(path):
    return any(name in COUNTED for name in path.split("/"))
