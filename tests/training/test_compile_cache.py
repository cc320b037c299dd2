"""The compilation cache: what is kept, what is removed, where it lies, and that it changes no number."""

import json
import os
import pathlib
import subprocess
import sys
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.errors import UserError
from vaex.training import compile_cache as compilation

pytestmark = pytest.mark.optimised

WHOLE = zlib.compress(b"\0\0\0\1" + bytes(range(256)) * 40)


def entry(folder: pathlib.Path, name: str, content: bytes = WHOLE, age: int = 0) -> pathlib.Path:
    path = folder / f"{name}-cache"
    path.write_bytes(content)
    now = path.stat().st_mtime - age
    os.utime(path, (now, now))
    return path


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name.removesuffix("-cache") for path in folder.glob("*-cache"))


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]


DAMAGED = {
    "empty": b"",
    "truncated": WHOLE[:-3],
    "half": WHOLE[: len(WHOLE) // 2],
    "first bit": flipped(WHOLE, 0),
    "middle bit": flipped(WHOLE, len(WHOLE) // 2),
    "checksum": flipped(WHOLE, len(WHOLE) - 1),
    "text": b"not a program",
    "nothing in it": zlib.compress(b"\0\0\0\1"),
    "zstandard cut": b"\x28\xb5\x2f\xfd\x24",
}


@pytest.mark.parametrize("damage", [name for name in DAMAGED if name != "zstandard cut"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "changed since it was checked"])
def test_damaged_entries_are_removed_quietly(tmp_path, damage, known):
    entry(tmp_path, "good")
    if known:
        entry(tmp_path, "bad", age=5)
        compilation.clean(tmp_path)
    entry(tmp_path, "bad", DAMAGED[damage])
    compilation.clean(tmp_path)
    assert names(tmp_path) == ["good"]
    assert list(json.loads((tmp_path / compilation.CHECKED).read_text())) == ["good-cache"]


def test_a_torn_zstandard_entry_is_removed(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    content = zstandard.ZstdCompressor().compress(WHOLE)
    entry(tmp_path, "good", content)
    entry(tmp_path, "bad", content[:-2])
    compilation.clean(tmp_path)
    assert names(tmp_path) == ["good"]


def test_an_entry_is_read_once(tmp_path, monkeypatch):
    entry(tmp_path, "good")
    compilation.clean(tmp_path)
    monkeypatch.setattr(compilation, "_is_whole", lambda path: pytest.fail(f"{path} was read again"))
    compilation.clean(tmp_path)
    assert names(tmp_path) == ["good"]


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"good-cache": 3}', b"\xff\xfe"])
def test_a_damaged_record_is_written_anew(tmp_path, record):
    entry(tmp_path, "good")
    entry(tmp_path, "bad", b"")
    (tmp_path / compilation.CHECKED).write_bytes(record)
    compilation.clean(tmp_path)
    assert names(tmp_path) == ["good"]


def test_the_longest_unused_go_first(tmp_path):
    for age, name in enumerate("abcd"):
        entry(tmp_path, name, age=100 * age)
    compilation.clean(tmp_path, limit=2 * len(WHOLE) + 1)
    assert names(tmp_path) == ["a", "b"]


def test_a_folder_that_is_gone_or_refuses_is_left_alone(tmp_path):
    compilation.clean(tmp_path / "missing")
    entry(tmp_path, "bad", b"")
    (tmp_path / compilation.CHECKED).mkdir()
    compilation.clean(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VAEX_CACHE": "/a"}, "/a/programs"),
        ({"VAEX_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/programs"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/vaex/programs"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/vaex/programs"),
        ({"HOME": "/h"}, "/h/.cache/vaex/programs"),
    ],
)
@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="other platforms keep caches elsewhere")
def test_the_default_folder(monkeypatch, environment, expected):
    for name in ("VAEX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert compilation.default_folder() == pathlib.Path(expected)


def test_off_and_a_folder_of_jax_s_own(tmp_path):
    with compilation.cache(str(tmp_path / "ours")) as folder:
        assert folder == tmp_path / "ours" and jax.config.jax_compilation_cache_dir == str(folder)
        with compilation.cache("auto"):  # given to jax already
            assert jax.config.jax_compilation_cache_dir == str(folder)
        with compilation.cache("off"):
            assert jax.config.jax_compilation_cache_dir is None
        assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.slow
@pytest.mark.parametrize("bound", [10_000_000, 1])
def test_a_bound_of_jax_s_own_is_kept(tmp_path, bound):
    """Also where entries are there already, which jax itself refuses to join: each lacks its file of access times."""
    before = jax.config.jax_compilation_cache_max_size
    with compilation.cache(str(tmp_path)):
        jax.jit(lambda x: x + 12345.0)(1.0).block_until_ready()
    entries = {path.name for path in tmp_path.glob("*-cache")}
    assert entries
    jax.config.update("jax_compilation_cache_max_size", bound)
    try:
        with compilation.cache(str(tmp_path)):
            assert {path.name for path in tmp_path.glob("*-cache")} == (entries if bound > 1 else set())
            jax.jit(lambda x: x + 54321.0)(1.0).block_until_ready()
        assert {path.name for path in tmp_path.glob("*-cache")} - entries
        assert jax.config.jax_compilation_cache_max_size == bound
    finally:
        jax.config.update("jax_compilation_cache_max_size", before)


def test_a_bound_of_nothing_is_off(monkeypatch):
    monkeypatch.setattr(compilation, "_bound", lambda: 0)
    with compilation.cache("auto") as folder:
        assert folder is None


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    said = []
    refused = pytest.raises(UserError, match=r"--compile_cache=.*file: cannot be written \(File exists\)")
    with refused, compilation.cache(str(tmp_path / "file")):
        pass
    monkeypatch.setenv("VAEX_CACHE", str(tmp_path / "file"))
    with compilation.cache("auto", said.append) as folder:
        assert folder is None and jax.config.jax_compilation_cache_dir is None
    assert len(said) == 1 and "cannot be written" in said[0]


# --- with programs of jax's -----------------------------------------------------------------------------------------


def program():
    """A function that jax has not compiled, the same program each time."""
    return jax.jit(lambda x: jnp.sin(x @ x.T).sum(0) * jnp.pi)


@pytest.mark.parametrize("damage", ["empty", "truncated", "half", "middle bit"])
def test_jax_compiles_a_damaged_entry_again_and_keeps_it(tmp_path, damage):
    x = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    with compilation.cache(str(tmp_path)):
        fresh = np.asarray(program()(x))
    stored = {path: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert stored
    for path, content in stored.items():
        half = len(content) // 2
        cut = {"empty": content[:0], "truncated": content[:-1], "half": content[:half]}
        path.write_bytes(cut.get(damage, flipped(content, half)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with compilation.cache(str(tmp_path)):
            np.testing.assert_array_equal(np.asarray(program()(x)), fresh)
    assert all(len(zlib.decompress(path.read_bytes())) > 4 for path in stored)  # written anew
    with compilation.cache(str(tmp_path)):
        np.testing.assert_array_equal(np.asarray(program()(x)), fresh)


def test_an_entry_torn_after_the_check_is_silent(tmp_path):
    x = np.ones((3, 4), np.float32)
    with compilation.cache(str(tmp_path)):
        program()(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with compilation.cache(str(tmp_path)):
            for path in tmp_path.glob("*-cache"):
                path.write_bytes(path.read_bytes()[:-5])
            program()(x)


FULL_DISK = """
import resource, signal, sys, warnings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import jax, jax.numpy as jnp
from vaex.training import compile_cache
warnings.simplefilter("error")
with compile_cache.cache(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    print(float(jax.jit(lambda x: jnp.sin(x @ x.T).sum())(jnp.ones((3, 4)))))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on a file's size")
def test_a_full_disk_costs_the_entry_and_no_more(tmp_path):
    """A limit on the size of files tears a write as a full disk does."""

    def run(limit: int) -> tuple[str, str]:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    torn = run(100)
    assert torn[1] == ""
    assert any(path.stat().st_size <= 100 for path in tmp_path.glob("*-cache"))
    assert run(1 << 20) == torn
    assert all(path.stat().st_size > 100 for path in tmp_path.glob("*-cache"))


@pytest.mark.slow
def test_two_processes_at_once_share_a_folder(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(1 << 20)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert said[0] == said[1] and said[0][1] == ""
    compilation.clean(tmp_path)
    assert names(tmp_path)
