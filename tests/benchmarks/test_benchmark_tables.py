"""The pure parts of the benchmarks: tables, comparisons, ratios, exponents, and the examples in their docstrings."""

import doctest
import importlib
import json
import math

import numpy as np
import pytest

from vaex.errors import UserError

block = importlib.import_module("block")
exponents = importlib.import_module("exponents")
tables = importlib.import_module("tables")
Timing = importlib.import_module("measure").Timing


@pytest.mark.parametrize("name", ["block", "console", "exponents", "peers", "scaling", "tables", "workloads"])
def test_the_examples_hold(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert results.failed == 0 and results.attempted > 0


# --- ratios ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured():
    """Rows of a block in which vaex takes 2 ms a step, 4 members 8 ms, torch 4 ms; the peaks are 1 TFLOP/s and 10 GB/s."""

    def contestant(name, **properties):
        return block.Contestant(name, None, properties.pop("properties", {}), **properties)

    built = [
        contestant(
            "vaex", framework="vaex", strategy="solo", properties={"flops": 1e9, "bytes": 1e7, "compile_seconds": 3.0}
        ),
        contestant(
            "vaex auto 4",
            framework="vaex",
            strategy="auto",
            population=4,
            properties={"flops": 4e9, "strategy": "vmap"},
        ),
        contestant("torch", framework="torch"),
        contestant("peak product", properties={"per_step": 1e9}),
        contestant("peak copy", properties={"per_step": 1e7}),
    ]
    seconds = {"vaex": 0.2, "vaex auto 4": 0.8, "torch": 0.4, "peak product": 0.1, "peak copy": 0.1}
    timings = {name: Timing([took] * 4, 1) for name, took in seconds.items()}
    properties = {"model": "mlp", "batch_size": 50, "precision": "float32", "repeats": 5}
    lost = [{"framework": "vaex", "strategy": "members", "population": 4, "failure": "out of memory"}]
    return block.rows(properties, 8e8, built, timings, dict.fromkeys(seconds, 100), lost)


def test_rates_ratios_and_fractions(measured):
    solo, vmap, torch, lost = measured
    assert solo["steps_per_second"] == pytest.approx(500) and solo["examples_per_second"] == pytest.approx(25_000)
    assert solo["product_fraction"] == pytest.approx(0.4) and solo["bandwidth_fraction"] == pytest.approx(0.5)
    assert vmap["model_examples_per_second"] == pytest.approx(25_000) and vmap["per_model_ratio"] == pytest.approx(1.0)
    assert vmap["bandwidth_fraction"] == pytest.approx(0.5) and vmap["product_fraction"] == pytest.approx(0.4)
    assert torch["vaex_ratio"] == pytest.approx(2.0) and torch["flops_per_step"] == 1e9
    assert torch["bandwidth_fraction"] is None and solo["per_model_ratio"] is None and vmap["vaex_ratio"] is None
    assert lost["failure"] == "out of memory"


def test_the_table_and_the_figure_show_every_row(measured):
    text = tables.markdown(measured)
    assert "mlp, batch 50, float32" in text and "products 1,000 GFLOP/s, copies 10.0 GB/s" in text
    lines = text.splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "vaex", "vaex, auto (vmap)", "torch", "vaex, members",
    ]  # fmt: skip
    assert "| 2.00x |" in lines[4] and "out of memory" in lines[5] and "1 of 5" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    (panel,) = tables.figure(measured)
    assert panel.labels == ("vaex", "vaex, auto 4", "torch", "vaex, members 4") and np.isnan(panel.heights[3])


# --- several machines ------------------------------------------------------------------------------------------------


def written(folder, name, device, rows):
    path = folder / name
    results = {"benchmark": "throughput", "machine": {"device": device}, "rows": rows}
    path.write_text(json.dumps(tables.without_nan(results)))
    return str(path)


def test_machines_stand_side_by_side(tmp_path, measured):
    faster = [row | {"model_examples_per_second": 1e6, "population": 64} for row in measured[1:2]]
    paths = [
        written(tmp_path, "a.json", "a CPU", measured),
        written(tmp_path, "b.json", "a GPU", faster + measured[:1]),
    ]
    lines = tables.compare(tables.read_results(paths)).splitlines()
    assert lines[0] == "| model | batch | precision | what | models | a CPU | a GPU |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    rates = {(row[3], row[4]): row[5:] for row in cells}
    assert rates["vaex", "1"] == ["25,000 ±0.0%"] * 2
    assert rates["torch", "1"] == ["12,500 ±0.0%", "not measured"]
    assert rates["vaex, members", "4"] == ["out of memory", "not measured"]
    assert rates["vaex, auto", "64"] == ["not measured", "1,000,000 ±0.0%"]


def test_machines_of_one_kind_have_different_names(tmp_path, measured):
    paths = [written(tmp_path, name, "a CPU", measured) for name in ("a.json", "b.json")]
    assert list(tables.read_results(paths)) == ["a CPU", f"a CPU ({paths[1]})"]


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '{"rows": []}', '{"benchmark": "scaling", "machine": {}, "rows": []}']
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"--compare: .*a\.json"):
        tables.read_results([str(path)])


# --- exponents -------------------------------------------------------------------------------------------------------


def test_a_power_is_fitted_in_noise():
    x = np.array([1, 2, 4, 8, 16, 32, 64])
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=len(x)))
    fit = exponents.fit(x, 3 * x**1.5 * noise)
    assert abs(fit.exponent - 1.5) < 4 * fit.standard_error < 0.2


def test_two_points_have_no_error():
    assert math.isnan(exponents.fit([1, 2], [1.0, 2.0]).standard_error)


@pytest.mark.parametrize(
    "values, costs", [([1], [1.0]), ([1, 2], [1.0]), ([1, 1], [1.0, 2.0]), ([0, 1], [1.0, 2.0]), ([1, 2], [1.0, 0.0])]
)
def test_what_has_no_exponent_is_refused(values, costs):
    with pytest.raises(ValueError, match="exponents: values"):
        exponents.fit(values, costs)


@pytest.mark.parametrize("seconds", [0.001, 0.5])
def test_calibration_finds_the_number_of_steps(seconds):
    calls = []

    def run(steps):
        calls.append(steps)
        return 1e-4 * steps

    assert block.calibrate(run, seconds) == pytest.approx(seconds / 1e-4, rel=0.01) and max(calls) < 2e4 * seconds
    assert block.calibrate(lambda steps: 10.0 * steps, seconds) == 1
