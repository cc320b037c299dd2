"""Data larger than the memory: decoded, recognised, hashed and trained from in little of it, with the same numbers."""

import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from vaex import data
from vaex.cli import main as cli
from vaex.data.storage import checksums, host_memory, splits, values
from vaex.data.storage.mapped_rows import MappedRows
from vaex.errors import UserError

N, SIDE = 256, 512  # 201 MB of RGB pixels
ALLOWED = 120 << 20  # bytes beyond what the imports take

# What is private and writable counts: allocations and stacks, not read-only maps of files.
CHILD = """
import pathlib, re, resource, sys, threading
import numpy as np
import PIL.Image, PIL.ImageOps, PIL.PngImagePlugin
from vaex.data import registry
from vaex.data.sources import image_folder, npz, tfds_decoding
from vaex.data.storage import assemble, checksums, decoded, host_memory, parallel

path, root, large = sys.argv[1:4]
threading.stack_size(1 << 20)
parallel.THREADS = checksums.THREADS = 2
checksums.LARGE = int(large)
if int(large) == 0:
    host_memory.free_memory = lambda: 1e8
used = int(re.search(r"VmData:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + ALLOWED, -1))

class Source:
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, index): return {"image": np.full((512, 512, 3), index % 251, np.uint8)}
    def __getitems__(self, indices): return [self[index] for index in indices]

try:
    if path == "records":
        def decode(writer):
            tfds_decoding.decode_split("own: train", Source(256), "image", None, writer, "train", None)
            return ()
        arrays = decoded.keep(pathlib.Path(root), "own", "v1", decode)
        dataset = assemble.assemble_decoded("own", "own", arrays, ("image", "label"), protocol="own")
    else:
        dataset = registry.load(path, data_dir=root)
    print(dataset.spec.data_hash, len(dataset.splits["train"]["x"][:4]))
except MemoryError:
    print("out of memory")
""".replace("ALLOWED", str(ALLOWED))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Images as a folder, as two .npz files, and as generated records; and their hash."""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("this platform does not tell or limit how much memory a process has")
    folder = tmp_path_factory.mktemp("large")
    (folder / "own").mkdir()
    x = np.empty((N, SIDE, SIDE, 3), np.uint8)
    for index in range(N):
        x[index] = index % 251
        Image.fromarray(x[index]).save(folder / "own" / f"{index:03d}.png", compress_level=1)
    np.savez(folder / "stored.npz", x=x)
    np.savez_compressed(folder / "compressed.npz", x=x)
    expected = splits.data_hash(splits.split_off({"x": x}, ("validation", "test"), ""))
    return {name: folder / name for name in ("own", "stored.npz", "compressed.npz")} | {"records": "records"}, expected


def load_in_child(path, root, large):
    command = [sys.executable, "-W", "error", "-c", CHILD, str(path), str(root), str(large)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own", "records", "stored.npz", "compressed.npz"])
def test_200_megabytes_pass_through_120(sources, tmp_path, name):
    paths, expected = sources
    assert load_in_child(paths[name], tmp_path, 0) == f"{expected} 4"
    assert load_in_child(paths[name], tmp_path, 0) == f"{expected} 4"  # from the cache


@pytest.mark.slow
def test_the_limit_would_stop_what_loads_it_all(sources, tmp_path):
    """Else the test above could not fail."""
    assert load_in_child(sources[0]["own"], tmp_path, 1 << 40) == "out of memory"


RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, [40, 9, 7], dtype=np.uint8)
PIXELS = {"bytes": BYTES, "extremes": (BYTES > 127) * np.uint8(255), "bits": (BYTES > 127).astype(np.uint8)}


def write(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return str(folder)


@pytest.mark.parametrize("name", PIXELS)
def test_mapped_data_is_the_loaded_data(tmp_path, monkeypatch, name):
    path = write(tmp_path / "own", PIXELS[name])
    loaded = data.load(path, data_dir=tmp_path / "root")
    monkeypatch.setattr(checksums, "LARGE", 0)
    mapped = data.load(path, data_dir=tmp_path / "root")
    assert mapped.spec == loaded.spec
    for split, expected in loaded.splits.items():
        rows = mapped.splits[split]["x"]
        assert isinstance(rows, MappedRows) and isinstance(rows._base, np.memmap)
        assert (rows.shape, rows.dtype) == (expected["x"].shape, expected["x"].dtype)
        assert np.array_equal(np.asarray(rows), expected["x"])


@pytest.mark.parametrize("name", PIXELS)
def test_a_second_start_passes_over_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(checksums, "LARGE", 0)
    path = write(tmp_path / "own", PIXELS[name])
    first = data.load(path, data_dir=tmp_path / "root")
    monkeypatch.setattr(values, "recognise", None)
    monkeypatch.setattr(splits, "data_hash", None)
    again = data.load(path, data_dir=tmp_path / "root")
    assert again.spec == first.spec
    assert all(np.array_equal(again.splits[s]["x"][:], first.splits[s]["x"][:]) for s in first.splits)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_run_from_mapped_data_equals_one_from_loaded_data_to_the_bit(tmp_path, monkeypatch, capsys):
    path, written, results = write(tmp_path / "own", PIXELS["extremes"]), [], []
    for memory, large in (("device", 1 << 28), ("host", 0)):
        monkeypatch.setattr(checksums, "LARGE", large)
        flags = ["--model=vae", f"--dataset={path}", f"--data_dir={tmp_path / 'root'}", "--steps=30", "--batch_size=8"]
        flags += ["--hidden=16", "--log_every=7", "--no-figures", "--eval_samples=2", f"--memory={memory}"]
        assert cli.main([*flags, f"--out={tmp_path / memory}"]) == 0, capsys.readouterr().err
        written.append((tmp_path / memory / "metrics.jsonl").read_bytes())
        results.append(json.loads((tmp_path / memory / "summary.json").read_text())["results"])
    assert written[0] == written[1] and results[0] == results[1]


# --- a user's .npz --------------------------------------------------------------------------------------------------

UNIT = RNG.random([40, 9, 7])
FILES = {
    "bytes": {"x": BYTES, "y": np.arange(40) % 3},
    "splits": {"x_train": BYTES[:20], "x_validation": BYTES[20:30], "x_test": BYTES[30:]},
    "grid": {"x": BYTES / 255},
    "doubles": {"x": UNIT},
    "big-endian": {"x": BYTES.astype(">i2")},
    "bools": {"x": BYTES > 127},
    "vectors": {"x": UNIT.reshape(40, 63) * 8 - 4},
}


def save(folder, compressed, **content):
    (np.savez_compressed if compressed else np.savez)(folder / "own.npz", **content)
    return str(folder / "own.npz")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_an_npz_left_on_the_disk_is_the_loaded_one(tmp_path, monkeypatch, name, compressed):
    path = save(tmp_path, compressed, **FILES[name])
    loaded = data.load(path)
    monkeypatch.setattr(host_memory, "free_memory", lambda: 100.0)
    monkeypatch.setattr(checksums, "LARGE", 0)
    for _ in range(2):
        found = data.load(path, data_dir=tmp_path / "root")
        assert found.spec == loaded.spec
        for split, expected in loaded.splits.items():
            assert isinstance(found.splits[split]["x"], MappedRows)
            assert all(np.array_equal(np.asarray(found.splits[split][key]), expected[key]) for key in expected)
    assert bool(list((tmp_path / "root").rglob("*.npy"))) == compressed  # else it is mapped where it lies


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(host_memory, "free_memory", lambda: 100.0)


def test_an_uncompressed_npz_in_fortran_order_is_mapped_and_a_compressed_one_refused(tmp_path, little_memory):
    x = np.asfortranarray(BYTES)
    found = data.load(save(tmp_path, False, x=x), data_dir=tmp_path / "root")
    assert sum(len(split["x"]) for split in found.splits.values()) == 40
    assert {row.tobytes() for split in found.splits.values() for row in split["x"][:]} == {
        row.tobytes() for row in BYTES
    }
    with pytest.raises(UserError, match="compressed, in Fortran order, and too large"):
        data.load(save(tmp_path, True, x=x), data_dir=tmp_path / "root")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_byte_and_a_changed_file_are_noticed(tmp_path, little_memory, compressed):
    path = pathlib.Path(save(tmp_path, compressed, x=BYTES))
    first = data.load(str(path), data_dir=tmp_path / "root").spec
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(damaged)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match=r"is damaged .*write or copy it again"):
        data.load(str(path), data_dir=tmp_path / "root")
    save(tmp_path, compressed, x=255 - BYTES)
    assert data.load(str(path), data_dir=tmp_path / "root").spec.data_hash != first.data_hash


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(("cut", "match"), [(slice(None, -9), "fewer values than"), (slice(None), "more values than")])
def test_a_header_that_lies_is_noticed(tmp_path, little_memory, kind, cut, match):
    array = io.BytesIO()
    np.save(array, BYTES)
    with zipfile.ZipFile(tmp_path / "own.npz", "w", kind) as archive:
        archive.writestr("x.npy", (array.getvalue() + b"0" * (cut.stop is None))[cut])
    with pytest.raises(UserError, match=f"is damaged .*{match} its header says"):
        data.load(str(tmp_path / "own.npz"), data_dir=tmp_path / "root")


def test_a_disk_that_refuses(tmp_path, little_memory, full_disk):
    path = save(tmp_path, True, x=BYTES)
    with full_disk(1000), pytest.raises(UserError, match="too large for the memory, and cannot be decompressed there"):
        data.load(path, data_dir=tmp_path / "root")
    assert not (tmp_path / "root").exists()
    path = save(tmp_path, False, x=BYTES)
    with full_disk(10), pytest.warns(UserWarning, match="every start will check"):
        assert len(data.load(path, data_dir=tmp_path / "root").splits["test"]["x"]) == 4


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"x": BYTES.astype(complex)}, "dtype complex128"),
        ({"x": np.array([object()] * 200)}, "pickled Python objects"),
        ({"x": np.zeros([5, 3, 32, 32], np.uint8)}, "looks like .n, c, h, w."),
        ({"x": np.where(UNIT > 0.99, np.nan, UNIT)}, "NaN or infinite, the first at index"),
        ({"x": BYTES, "labels": np.arange(40)}, "'labels'; Known: .*, x, "),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_invalid_input_in_a_large_npz_get_one_clear_line(tmp_path, little_memory, content, match, compressed):
    path = save(tmp_path, compressed, **content)
    with pytest.raises(UserError, match=match) as caught:
        data.load(path, data_dir=tmp_path / "root")
    assert str(caught.value).startswith(path) and "\n" not in str(caught.value)
