"""Checkpoints: every bit comes back, what does not fit is refused by name, and what is torn is passed over."""

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers.synthetic import assert_equal
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vaex.errors import UserError
from vaex.training.checkpoint import Checkpoints, packing
from vaex.training.hyperparameters import TrainingHParams, as_schedules


class Kept(NamedTuple):
    """Every kind of node and leaf that a train state may hold."""

    step: jax.Array
    key: jax.Array
    hparams: TrainingHParams
    params: dict
    empty: tuple
    pair: tuple


def example(scale: float = 1.0) -> Kept:
    params = {
        "vae": {"w": scale * jnp.arange(6.0).reshape(2, 3), "half": jnp.ones(3, jnp.bfloat16)},
        "critic": {"flag": jnp.array([True, False]), "count": jnp.arange(2, dtype=jnp.uint8)},
    }
    odd = jnp.array([np.nan, -0.0, np.inf, 1e-42], jnp.float32)
    keys = jax.random.split(jax.random.key(1), 4)
    return Kept(jnp.int32(7), keys, as_schedules(TrainingHParams(learning_rate="ramp:0:1:5")), params, (), ((), (odd,)))


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints")
    yield opened
    opened.close()


def template_of(tree):
    return jax.eval_shape(lambda: tree)


def test_a_round_trip_keeps_every_bit_and_node(checkpoints):
    tree = example()
    checkpoints.save(7, tree)
    for template in (tree, template_of(tree), example(scale=5.0)):
        restored = checkpoints.restore(template)
        assert isinstance(restored, Kept) and isinstance(restored.hparams, TrainingHParams)
        assert restored.empty == () and restored.pair[0] == ()
        assert_equal(jax.tree.map(jnp.asarray, tree), restored)
        np.testing.assert_array_equal(np.signbit(restored.pair[1][0]), np.signbit(tree.pair[1][0]))
    draw = jax.random.normal(checkpoints.restore(tree).key[2])
    assert draw == jax.random.normal(tree.key[2])


@pytest.mark.slow
def test_another_process_reads_a_checkpoint(checkpoints):
    """Without what the writing process knows."""
    checkpoints.save(3, {"w": jnp.arange(3.0), "key": jax.random.key(9)})
    code = f"""
import jax, jax.numpy as jnp, pathlib
from vaex.training.checkpoint import Checkpoints
found = Checkpoints(pathlib.Path({str(checkpoints.folder)!r}))
tree = found.restore({{"w": jnp.zeros(3), "key": jax.random.key(0)}})
print(found.latest(), tree["w"].tolist(), jax.random.key_data(tree["key"]).tolist(), jax.device_count())
"""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n")[0] == "3 [0.0, 1.0, 2.0] [0, 9] 1", done.stderr


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda p: {"vae": p["vae"]}, "the model lacks params/critic/count"),
        (lambda p: p | {"judge": jnp.ones(2)}, "the checkpoint lacks params/judge"),
        (lambda p: p | {"vae": p["vae"] | {"w": jnp.ones((3, 2))}}, r"params/vae/w has shape \(2, 3\) and dtype float32, the"
         r" model needs \(3, 2\) and float32"),
        (lambda p: p | {"vae": p["vae"] | {"w": jnp.ones((2, 3), jnp.bfloat16)}}, "params/vae/w .*float32.*needs.*bfloat16"),
        (lambda p: p | {"vae": p["vae"] | {"half": jnp.ones(3)}}, "params/vae/half .*bfloat16.*needs.*float32"),
        (lambda p: p | {"vae": p["vae"] | {"w": jnp.ones((2, 3), jnp.int32)}}, "params/vae/w"),
        (lambda p: p | {"vae": p["vae"] | {"half": ()}}, "the model lacks params/vae/half"),
        (lambda p: p | {"critic": [p["critic"]["flag"], p["critic"]["count"]]}, "the checkpoint lacks params/critic/0"),
    ],
    ids=["missing", "extra", "shape", "narrower", "wider", "integers", "emptied", "renamed"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(checkpoints, change, match):
    tree = example()
    checkpoints.save(7, tree)
    with pytest.raises(UserError, match=match):
        checkpoints.restore(template_of(tree._replace(params=change(tree.params))))


@pytest.mark.parametrize(
    "key",
    [jax.random.key(0), jax.random.split(jax.random.key(0), 5), jnp.zeros((4, 2), jnp.uint32), jnp.zeros(4),
     jax.random.split(jax.random.key(0, impl="rbg"), 4), jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 2)],
    ids=["one", "five", "words", "floats", "rbg", "two_rbg"],
)  # fmt: skip
def test_keys_of_another_kind_are_refused(checkpoints, key):
    tree = example()
    checkpoints.save(7, tree)
    with pytest.raises(UserError, match="key has shape"):
        checkpoints.restore(tree._replace(key=key))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_every_kind_come_back_with_it(checkpoints, impl):
    tree = {"w": jnp.arange(3.0), "nested": [{"key": jax.random.key(5, impl=impl)}]}
    checkpoints.save(7, tree)
    for restored in (checkpoints.restore(template_of(tree)), checkpoints.read()):
        assert_equal(restored, tree)
        assert restored["nested"][0]["key"].dtype == tree["nested"][0]["key"].dtype


def words(leaf):
    """Keys as version 0.2 kept them."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(leaf)
    return {f"keys of {jax.random.key_impl(leaf)}": np.asarray(jax.random.key_data(leaf))}


@pytest.mark.parametrize("stored", [lambda leaf: leaf, words], ids=["keys", "words"])
def test_checkpoints_with_an_entry_for_each_array_are_read(tmp_path, stored):
    """As several processes and earlier versions write them, keys as keys or as words."""
    tree = example()
    with ocp.CheckpointManager(tmp_path / "older", options=ocp.CheckpointManagerOptions()) as manager:
        item = ocp.args.StandardSave(jax.tree.map(stored, tree))
        manager.save(7, args=ocp.args.Composite(state=item))
    checkpoints = Checkpoints(tmp_path / "older")
    assert checkpoints.latest() == 7
    assert_equal(checkpoints.restore(template_of(tree)), jax.tree.map(jnp.asarray, tree))
    assert_equal(checkpoints.read()["key"], tree.key)
    with pytest.raises(UserError, match="key has shape"):
        checkpoints.restore(tree._replace(key=jnp.zeros((4, 2), jnp.uint32)))
    checkpoints.save(9, tree)  # the run goes on
    checkpoints.close()
    again = Checkpoints(tmp_path / "older")
    assert_equal(again.restore(tree), jax.tree.map(jnp.asarray, tree))
    assert_equal(again.restore(tree, step=7), jax.tree.map(jnp.asarray, tree))
    again.close()


def test_a_layout_leads_back_to_every_array():
    tree = {"a": [(), {"b": jnp.ones((2, 0))}, [jnp.float32(3.0), ()]], "c": {"0": jnp.arange(3, dtype=jnp.uint8)}}
    tree |= {"d": {1: jnp.ones(5, bool)}, "key": jax.random.split(jax.random.key(3, impl="rbg"), 2)}
    data, layout = packing.pack(tree)
    layout = json.loads(json.dumps(layout))
    back = packing.unpack(data, layout)
    assert_equal(back["a"][1]["b"], tree["a"][1]["b"])
    assert back["a"][2] == [3.0] and back["a"][0] == []
    assert set(back["c"]) == {"0"} and set(back["d"]) == {"1"}
    assert_equal(back["key"], tree["key"])
    told = [(entry["path"], tuple(entry["shape"]), entry["dtype"], entry["key"]) for entry in layout]
    assert told[:2] == [(["a", 1, "b"], (2, 0), "float32", None), (["a", 2, 0], (), "float32", None)]
    assert told[-1][0] == ["key"] and told[-1][2:] == ("uint32", "rbg")
    assert packing.unpack(*packing.pack(jnp.arange(2))).tolist() == [0, 1]
    assert packing.unpack(*packing.pack({})) == {}
    with pytest.raises(ValueError, match="the layout is of"):
        packing.unpack(data[:-1], layout)


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="counts of objects are CPython's")
def test_a_save_keeps_little_memory(checkpoints):
    """Tensorstore frees no text that it returns, of which orbax asks for more the more arrays there are."""
    tree = {str(index): jnp.arange(8.0) for index in range(60)} | {"key": jax.random.key(0)}
    for step in range(10):
        checkpoints.save(step, tree)
    gc.collect()
    before = sys.getallocatedblocks()
    for step in range(10, 20):
        checkpoints.save(step, tree)
    gc.collect()
    assert (sys.getallocatedblocks() - before) / 10 < 80  # 37; 390 with an entry for each array


def test_words_do_not_become_a_key(checkpoints):
    checkpoints.save(7, {"key": jnp.zeros(2, jnp.uint32)})
    with pytest.raises(UserError, match="key has shape"):
        checkpoints.restore({"key": jax.random.key(0)})


def test_steps_only_go_up_and_two_are_kept(checkpoints):
    for step in (0, 3, 10, 11):
        checkpoints.save(step, {"w": jnp.full(2, step)})
        assert checkpoints.latest() == step
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["10", "11", "digests.json"]
    for step in (11, 10, 2):
        with pytest.raises(ValueError, match=f"step {step} is not newer than the latest, 11"):
            checkpoints.save(step, {"w": jnp.zeros(2)})
    template = {"w": jnp.zeros(2, jnp.int32)}
    assert checkpoints.restore(template)["w"].tolist() == [11, 11]
    assert checkpoints.restore(template, step=10)["w"].tolist() == [10, 10]
    with pytest.raises(UserError, match="holds no checkpoint of step 3; there are: 10, 11"):
        checkpoints.restore(template, step=3)


def test_an_empty_folder_says_so(checkpoints):
    assert checkpoints.latest() is None
    with pytest.raises(UserError, match="holds no whole checkpoint; train the run first"):
        checkpoints.restore({"w": jnp.zeros(2)})


def unfinished(step):
    step.rename(step.with_name(step.name + ".orbax-checkpoint-tmp-123"))  # what kill -9 leaves behind


def without_metadata(step):
    (step / "packed" / "_METADATA").unlink()


def without_layout(step):
    (step / "layout" / "metadata").unlink()


def without_bytes(step):
    (step / "packed" / "bytes" / "0").unlink()


def truncated(step):
    path = step / "packed" / "bytes" / "0"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(step):
    for path in step.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def emptied(step):
    shutil.rmtree(step)
    step.mkdir()


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(tmp_path):
    """Whichever file it is in: the values are those that were saved, or the checkpoint is passed over."""
    tree = {"w": jnp.arange(300.0), "half": jnp.ones((3, 5), jnp.bfloat16), "key": jax.random.key(4)}
    newer = jax.tree.map(lambda leaf: leaf, tree) | {"w": jnp.arange(300.0) + 1}
    before = Checkpoints(tmp_path / "whole")
    before.save(2, tree)
    before.save(5, newer)
    before.close()
    noticed = 0
    files = [path for path in sorted((tmp_path / "whole" / "5").rglob("*")) if path.is_file()]
    for index, path in enumerate(files):
        copy = tmp_path / str(index)
        shutil.copytree(tmp_path / "whole", copy)
        damaged = copy / path.relative_to(tmp_path / "whole")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        damaged.write_bytes(bytes(content))
        after = Checkpoints(copy)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step = after.latest()
            assert_equal(after.restore(tree), newer if step == 5 else tree)
        noticed += step == 2 and "passed over" in str(caught[0].message)
        after.close()
    assert noticed >= 2


def test_values_that_were_not_saved_are_noticed(tmp_path):
    """The whole files of another run, copied into place."""
    for name, value in (("a", 1.0), ("b", 2.0)):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(5, {"w": jnp.full(3, value), "v": jnp.zeros(2)})
        checkpoints.close()
    shutil.rmtree(tmp_path / "a" / "5")
    shutil.copytree(tmp_path / "b" / "5", tmp_path / "a" / "5")
    after = Checkpoints(tmp_path / "a")
    with (
        pytest.warns(UserWarning, match=r"5 holds other values than were saved \(w\) and is passed over"),
        pytest.raises(UserError, match=r"holds no whole checkpoint \(damaged: 5\)"),
    ):
        after.restore({"w": jnp.zeros(3), "v": jnp.zeros(2)})
    after.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "tear", [unfinished, without_metadata, without_layout, without_bytes, truncated, zeroed, emptied]
)
def test_a_torn_checkpoint_is_passed_over(tmp_path, tear):
    tree = {"w": jnp.arange(300.0), "key": jax.random.key(4)}
    before = Checkpoints(tmp_path)
    for step in (2, 5):
        before.save(step, tree)
    before.close()
    shutil.copytree(tmp_path / "5", tmp_path / "9")
    tear(tmp_path / "9")

    after = Checkpoints(tmp_path)
    if tear is unfinished:
        assert after.latest() == 5
    else:
        with pytest.warns(UserWarning, match=r"9 can't be read and is passed over"):
            assert after.latest() == 5
    assert_equal(after.restore(tree), tree)
    after.save(7, {"w": tree["w"] + 1, "key": tree["key"]})  # training goes on below the torn step
    after.save(9, {"w": tree["w"] + 2, "key": tree["key"]})  # and through it
    after.close()
    again = Checkpoints(tmp_path)
    assert again.latest() == 9 and again.restore(tree)["w"][0] == 2
    again.close()


def test_all_torn_is_none(tmp_path):
    before = Checkpoints(tmp_path)
    before.save(5, {"w": jnp.zeros(3)})
    before.close()
    emptied(tmp_path / "5")
    after = Checkpoints(tmp_path)
    with (
        pytest.warns(UserWarning, match="5 can't be read"),
        pytest.raises(UserError, match="holds no whole checkpoint"),
    ):
        after.restore({"w": jnp.zeros(3)})
    after.close()


ABANDONED = """
import pathlib, sys, types
from vaex.training.checkpoint import Checkpoints

Checkpoints(pathlib.Path(sys.argv[1])).close()

@types.coroutine
def waiting():
    yield

source = '''async def read():
    try:
        await waiting()
    except GeneratorExit:
        raise ValueError("collected in " + __file__)'''
for file in ("site-packages/orbax/reads.py", "site-packages/other/reads.py"):
    names = {"waiting": waiting, "__file__": file}
    exec(compile(source, file, "exec"), names)
    names["read"]().send(None)
"""


def test_only_what_orbax_abandons_is_collected_in_silence(tmp_path):
    done = subprocess.run([sys.executable, "-c", ABANDONED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "collected in site-packages/other" in done.stderr and "orbax" not in done.stderr


@pytest.mark.parametrize("divided", [True, False], ids=["divided", "copied"])
@pytest.mark.parametrize(("saved_on", "restored_on"), [(8, 1), (1, 8), (8, 2), (2, 4)])
def test_a_checkpoint_moves_to_another_device_count(tmp_path, saved_on, restored_on, divided):
    def placed(devices):
        mesh = jax.make_mesh((devices,), ("population",), (AxisType.Auto,), devices=jax.devices()[:devices])
        ours = NamedSharding(mesh, PartitionSpec("population") if divided else PartitionSpec())
        tree = {"w": jnp.arange(24.0).reshape(8, 3), "key": jax.random.split(jax.random.key(2), 8)}
        return jax.device_put(tree, ours)

    tree, template = placed(saved_on), placed(restored_on)
    before = Checkpoints(tmp_path)
    before.save(1, tree)
    before.close()
    after = Checkpoints(tmp_path)
    restored = after.restore(template)
    after.close()
    assert_equal(restored, tree)
    assert {name: leaf.sharding for name, leaf in restored.items()} == {
        n: leaf.sharding for n, leaf in template.items()
    }
    assert len(restored["w"].devices()) == restored_on
