"""benchmarks/scaling.py: what it varies, the exponents it finds, and the command."""

import importlib
import json

import pytest

pytestmark = pytest.mark.nightly

scaling = importlib.import_module("scaling")
workloads = importlib.import_module("workloads")


@pytest.mark.parametrize(
    "network, axis, value, field, expected",
    [
        ("conv64", "width", 8, "channels", (8, 8, 16, 16)),
        ("conv64", "latent", 3, "latent_dim", 3),
        ("residual", "width", 8, "channels", 8),
        ("residual", "latent", 2, "latent_channels", 2),
        ("small", "latent", 5, "latent_dim", 5),
    ],
)
def test_one_axis_changes(network, axis, value, field, expected):
    before = workloads.find(network)
    after, options = scaling.vary(before, axis, value)
    assert after.config == {**before.config, field: expected} and after._replace(config=before.config) == before
    assert options == {"batch_size": before.batch_sizes[0], "members": 1, "devices": 1}


class Model:
    """A worker whose step of n examples takes 1 ms + n * 0.1 ms."""

    def __init__(self):
        self.size = {}

    def ask(self, method, name="", steps=0, **arguments):
        if method == "build":
            self.size[name] = arguments["batch_size"]
            return {"strategy": "solo", "devices_used": 1, "flops": 2.0 * arguments["batch_size"]}
        return (steps * (1e-3 + 1e-4 * self.size[name]), 0.0) if method == "run" else None


def test_the_exponents_of_a_known_cost():
    values = [1, 2, 100, 1000, 10_000]
    rows = scaling.measure_axis(Model(), "cpu", workloads.find("mlp"), "batch", values, 4, 0.01, lambda text: None)
    assert [row["value"] for row in rows] == values
    assert [row["seconds_per_step"] for row in rows] == pytest.approx([1e-3 + 1e-4 * n for n in values])
    summary = scaling.summary(rows)
    assert 0.7 < summary["exponent"] < 0.9 and summary["flops_exponent"] == pytest.approx(1.0)
    assert summary["linear"] == "slower than linear from 1 to 100, linear from 100 to 10000"
    text = scaling.markdown(rows)
    assert "| 10000 | 1,000 | ±0.0% |" in text and "batch: exponent 0.73" in text
    (panel,) = scaling.figure(rows)
    assert panel.lines["linear"][-1] == pytest.approx(panel.lines["measured"][-1])
    assert scaling.summary(rows[:1])["linear"] == "too few values" and "exponent -" in scaling.markdown(rows[:1])


def test_members_divide_the_cores_of_a_cpu():
    workload = workloads.find("mlp")
    assert scaling.vary(workload, "population", 8, "gpu")[1]["devices"] == 1
    assert 8 % scaling.vary(workload, "population", 8, "cpu")[1]["devices"] == 0


def test_an_image_is_measured_in_pixels():
    assert scaling.size_of("image", 8) == 64 and scaling.size_of("width", 8) == 8


@pytest.mark.slow
def test_from_flags_to_files(tmp_path, capsys):
    flags = ["--model=small", "--axes=devices", "--devices=2,1", "--repeats=1", "--seconds=0.005", "--device=cpu"]
    assert scaling.main([*flags, f"--out={tmp_path}"]) == 0
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert [(row["value"], row["devices_used"]) for row in results["rows"]] == [(1, 1), (2, 2)]
    assert results["axes"][0]["axis"] == "devices" and results["axes"][0]["standard_error"] is None
    assert capsys.readouterr().out.strip() in (tmp_path / "scaling.md").read_text()
    assert (tmp_path / "scaling.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--model=mpl"], "did you mean mlp"),
        (["--axes=bach"], "did you mean batch"),
        (["--axes="], "Known: batch"),
        (["--repeats=0"], "--repeats must be at least 1"),
        (["--model=conv64", "--image=4,64"], "conv64 needs at least 8 pixels"),
        ([f"--out={__file__}"], "cannot be written"),
    ],
)
def test_invalid_flags_are_refused_in_one_line(flags, message, capsys):
    assert scaling.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("scaling: ") and error.count("\n") == 1
