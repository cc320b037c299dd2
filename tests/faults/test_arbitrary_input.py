"""Whatever stands in a file, a flag or a message: it is read as written, or refused in one line; nothing else is raised.

Hypothesis draws ``FEW`` inputs for each reader here, and ``MANY`` with ``-m slow``.
"""

import contextlib
import json
import pathlib
import shutil
import socket
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaex.cli.parse import parse_all
from vaex.configuration.declare import fields
from vaex.configuration.grammar import read_seeds, write
from vaex.configuration.run_options import GROUPS
from vaex.data.sources.npy import load_npy
from vaex.data.sources.npz import load_npz
from vaex.errors import UserError
from vaex.files import with_digest
from vaex.models import module
from vaex.runs.config_file import read_config, read_spec, restore_settings
from vaex.runs.directory import finished_summary
from vaex.schedules import parse
from vaex.training.connections.wire import Wire, host_and_port
from vaex.training.metrics import Rows, read_rows

FEW, MANY = 30, 3000
pytestmark = pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 100), "elbo": st.lists(st.none() | st.floats(-1e9, 1e9), max_size=2)}
    ),
    max_size=4,
)
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3)


def drawn(number: int, *strategies: st.SearchStrategy):
    """Call a function with so many draws of its arguments, the same ones each time; warnings are no failure."""

    def decorate(function) -> None:
        @settings(
            max_examples=number, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(st.tuples(*strategies))
        def check(values: tuple) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(*values)

        check()

    return decorate


def changed(content: bytes, changes) -> bytes:
    """Content with other bytes at some places, given as shares of its length."""
    result = bytearray(content)
    for place, value in changes:
        result[int(place * len(result))] = value
    return bytes(result)


def test_metrics_of_any_bytes(number, tmp_path):
    path = tmp_path / "metrics.jsonl"

    @drawn(
        number, st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(json.dumps).map(str.encode)
    )
    def check(content: bytes) -> None:
        path.write_bytes(content)
        rows = read_rows(path)
        assert all(isinstance(row["step"], int) for row in rows)
        Rows(path, keep_until=10**9)
        assert read_rows(path) == [row for row in rows if row["step"] <= 10**9]


def test_changed_metrics_are_never_read_as_other_values(number, tmp_path):
    path = tmp_path / "metrics.jsonl"

    @drawn(number, ROWS, CHANGES)
    def check(rows: list[dict], changes) -> None:
        path.unlink(missing_ok=True)
        Rows(path, keep_until=0).append([*rows, {"step": 7, "elbo": [1.5]}])
        path.write_bytes(changed(path.read_bytes(), changes))
        assert all(row in [*rows, {"step": 7, "elbo": [1.5]}] for row in read_rows(path))


@pytest.fixture
def config(trained_runs, tmp_path) -> pathlib.Path:
    """config.json of a run, for changes."""
    return pathlib.Path(shutil.copy(trained_runs("--model=vae", "--no-figures") / "config.json", tmp_path))


def read(path: pathlib.Path) -> None:
    """Read config.json as loading does, up to the settings."""
    with contextlib.suppress(UserError):
        content = read_config(path)
        restore_settings(content["identity"], {})
        with contextlib.suppress(KeyError):  # which loading says in its own words
            read_spec(content)


def test_a_config_with_other_values(number, config):
    written = json.loads(config.read_text())

    def places(value, path=()):
        yield path
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, entry in entries:
            yield from places(entry, (*path, name))

    @drawn(number, st.sampled_from([path for path in places(written) if path]), JSON)
    def check(path, value) -> None:
        content = inner = json.loads(json.dumps(written))
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        config.write_text(json.dumps(with_digest(content)))
        read(config)


def test_a_config_of_changed_bytes(number, config):
    written = config.read_bytes()

    @drawn(number, CHANGES)
    def check(changes) -> None:
        config.write_bytes(changed(written, changes))
        read(config)


def test_a_changed_summary_is_read_as_written_or_not_at_all(number, trained_runs, tmp_path):
    run = trained_runs("--model=vae", "--no-figures")
    written, path = (run / "summary.json").read_bytes(), tmp_path / "summary.json"
    whole = finished_summary(run / "summary.json")
    assert whole is not None

    @drawn(number, CHANGES)
    def check(changes) -> None:
        path.write_bytes(changed(written, changes))
        assert finished_summary(path) in (None, whole)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_data_files_of_changed_bytes(number, kind, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    path = tmp_path / f"data.{kind}"
    np.savez(path, x=x, y=np.arange(20) % 3) if kind == "npz" else np.save(path, x)
    written = path.read_bytes()

    @drawn(number, CHANGES, st.integers(0, len(written)))
    def check(changes, length: int) -> None:
        path.write_bytes(changed(written, changes)[: length if length % 4 == 0 else None])
        with contextlib.suppress(UserError):
            dataset = load_npz(path) if kind == "npz" else load_npy(path)
            read = np.concatenate([dataset.splits[name]["x"] for name in ("train", "validation", "test")])
            if kind == "npz" and read.shape == (20, 4, 4, 1):  # a checksum of zip's; in an .npy any values are as good
                assert sorted(map(bytes, read)) == sorted(map(bytes, x))


MODEL = module("beta_vae")
FLAGS = sorted(
    {*(name for _, group in GROUPS for name in fields(group)), *fields(MODEL.Config), *fields(MODEL.HParams)}
    - {"model"}
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("0123456789.,:+-xe", max_size=12),
    st.sampled_from(["none", "auto", "true", "1e9", "ramp:0:1:5"]),
)


def test_any_command_line(number):
    @drawn(number, st.lists(st.tuples(st.sampled_from(FLAGS) | st.text(max_size=8), TEXTS), max_size=4))
    def check(flags) -> None:
        arguments = [f"--{name}={text}" for name, text in flags]
        with contextlib.suppress(UserError):
            parse_all(["--model=beta_vae", *arguments])


def test_any_schedule_and_seeds(number):
    @drawn(number, st.text("rampcosinehldcy:0123456789.+-e", max_size=30) | TEXTS)
    def check(text: str) -> None:
        with contextlib.suppress(UserError):
            assert len(read_seeds(text)) > 0
        with contextlib.suppress(ValueError):
            schedule = parse(text)
            assert write(parse(write(schedule))) == write(schedule)


def test_any_message_between_processes(number):
    @drawn(number, st.binary(max_size=100) | JSON.map(json.dumps).map(str.encode))
    def check(content: bytes) -> None:
        sending, receiving = socket.socketpair()
        with sending, receiving:
            sending.sendall(content + b"\n")
            message = Wire(receiving).receive(timeout=5.0)
            assert message is None or "kind" in message


def test_any_address(number):
    @drawn(number, st.text(max_size=20) | st.from_regex(r".{0,8}:\d{0,7}", fullmatch=True))
    def check(text: str) -> None:
        with contextlib.suppress(UserError):
            host, port = host_and_port(text)
            assert host is not None and 0 < port < 1 << 16
