"""Arguments of ``vaex.data``, ``vaex.schedules`` and ``vaex.nets``."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from helpers.argument_cases import Case, Made, Pair, Refused, ShownBy
from vaex import data, nets, samplers
from vaex.data.columns import Column
from vaex.data.measure import Measures, measure
from vaex.data.spec import Dataset, Spec
from vaex.schedules import constant, cosine, join, ramp

RNG = np.random.default_rng(0)
KEYS = jax.random.key(0), jax.random.key(1)
X, OTHER_X = (RNG.integers(0, 256, (12, 4, 4, 1), np.uint8) for _ in range(2))
GREY = Spec("grey", (4, 4, 1), "grey", levels=256, binarization_noise=0.1)
DYNAMIC = data.resolve(GREY, binarize="dynamic")
FLOATS, OTHER_FLOATS = (RNG.random((12, 4, 4, 1)).astype(np.float32) for _ in range(2))
ARRAYS, OTHER_ARRAYS = {"x": X}, {"x": OTHER_X}
SOME, OTHER = (measure(GREY, x) for x in (X, OTHER_X // 2))
TABLE = Spec("table", (3,), "real")
GRU = nets.GRU(3)
FRAMES, OTHER_FRAMES = (jnp.asarray(RNG.normal(size=(2, 4, 5)), jnp.float32) for _ in range(2))
CODES = nets.CausalTransformer(kinds=(0, 0, 0, 0), codes=5, width=8, layers=1, heads=2)
CONDITION = jnp.eye(4)[:, :3]


def gru_params(key):
    return GRU.init(key, jnp.zeros(3), jnp.zeros(5))["params"]


def wide_params(key):
    """Parameters so wide that codes depend on one another."""
    params = CODES.init(key, jnp.zeros((1, 4), jnp.int32), jnp.zeros((1, 3)))["params"]
    return jax.tree.map(lambda leaf: leaf + jax.random.normal(key, leaf.shape), params)


GRU_PARAMS = tuple(Made(functools.partial(gru_params, key)) for key in KEYS)
CODE_PARAMS = tuple(Made(functools.partial(wide_params, key)) for key in KEYS)


def reverse(first_step, count):
    return np.tile(np.arange(3)[::-1], (count, 1))


def first_batches(feed):
    plan = feed.plan(0, 2)
    return [feed.batch(feed.resident, jax.tree.map(lambda leaf, i=i: leaf[i], plan)) for i in range(2)]


def splits(dataset):
    return dataset.splits, dataset.spec


def batches_of(step):
    return RNG.random((4, 3)) + step


FEED = {
    "arrays": (ARRAYS, OTHER_ARRAYS),
    "batch_size": (3, 4),
    "data_seed": (0, 1),
    "order": (None, reverse),
}
LOADING = {
    "name": ("digits", "bouncing_sprites"),
    "data_dir": ShownBy("tests/data/sources/test_originals.py", "data_dir"),
    "manual_dir": ShownBy("tests/data/sources/test_originals.py", "manual_dir"),
    "binarize": ("auto", "dynamic"),
    "dequantize": ("none", "uniform"),
    "standardize": ("auto", Refused("none", "--standardize=none")),
    "image_size": (None, Refused(9, "--image_size=9")),
    "sequence_length": Pair(None, 4, {"name": "bouncing_sprites"}),
    "layout": ("auto", Refused("chw", "--layout=chw")),
    "kind": ("auto", Refused("table", "--kind=table")),
    "value_range": ("auto", Refused("0:1", "--value_range=0:1")),
    "first_label": (0, Refused(1, "--first_label=1")),
    "columns": (None, Refused("a:drop", "--columns=a:drop")),
    "label_column": (None, Refused("a", "--label_column=a")),
    "transparency": ("auto", Refused("white", "--transparency=white")),
    "skip_unreadable": (False, Refused(True, "--skip_unreadable")),
}
TABLES = tuple({"a": RNG.normal(size=40), "b": np.array(["u", "v"] * 20)} for _ in range(2))
COLUMNS = Spec("columns", (2,), "real", location=(1.0, 2.0), scale=(3.0, 4.0))
DRAWN = {"spec": (DYNAMIC, GREY), "key": KEYS, "x": (X, OTHER_X)}
transforms = {
    "prepare": Case(DRAWN),
    "intensities": Case({"spec": (GREY, data.resolve(GREY, binarize="threshold")), "x": (X, OTHER_X)}),
    "binarize": Case({"key": KEYS, "x": (jnp.asarray(FLOATS), jnp.asarray(OTHER_FLOATS))}),
    "augment": Case(
        {
            "key": Pair(*KEYS, {"crop": 2}),
            "x": (X, OTHER_X),
            "flip": (False, True),
            "crop": (0, 2),
        }
    ),
}
order = {
    "epoch_order": Case({"data_seed": (0, 1), "epoch": (0, 1), "n": (9, 8)}),
    "batch_indices": Case(
        {"data_seed": (0, 1), "n": (9, 8), "batch_size": (3, 4), "first_step": (0, 1), "count": (2, 3)}
    ),
}
spec = {
    "resolve": Case(
        {
            "spec": (GREY, DYNAMIC._replace(name="b")),
            "binarize": ("none", "dynamic"),
            "dequantize": ("none", "uniform"),
            "standardize": Pair("auto", "none", {"spec": COLUMNS}),
        }
    ),
    "with_protocol": Case({"spec": (GREY, DYNAMIC), "files_and_split": ("a", "b")}),
}
registry = {
    "load": Case(LOADING, splits),
    "from_arrays": Case(
        {
            "arrays": (ARRAYS, OTHER_ARRAYS),
            "name": ("a", "b"),
            "layout": ("auto", "vector"),
            "kind": ("auto", "table"),
            "value_range": ("auto", "0:2"),
            "first_label": Pair(0, 1, {"arrays": {**ARRAYS, "y": np.full(len(ARRAYS["x"]), 3)}}),
        },
        splits,
    ),
    "from_table": Case(
        {"table": TABLES, "name": ("a", "b"), "columns": (None, "a:student_t"), "label_column": (None, "b")}, splits
    ),
    "from_batches": Case(
        {
            "batches": ShownBy("tests/runs/test_front_door.py", "from_batches("),
            "layout": ShownBy("tests/runs/test_announcement.py", "from_batches("),
            "kind": ShownBy("tests/data/test_readings.py", "from_batches("),
            "value_range": ShownBy("tests/data/test_readings.py", "from_batches("),
            "arguments": ShownBy("tests/runs/test_front_door.py", "from_batches("),
        }
    ),
    "is_table_file": Case({"name": ("a.csv", "mnist")}),
    "is_array_file": Case({"name": ("a.npz", "mnist")}),
}
COUNTS = Spec("counts", (3,), "grey", levels=20)
TOTALS = np.arange(3 * 4000).reshape(4000, 3) % 50  # more rows than are read of wide ones
MEASURED = measure(COUNTS, RNG.poisson(3.0, (50, 3)).astype(np.uint8))
measures = {
    "measure": Case({"spec": (GREY, GREY._replace(levels=300)), "x": (X, OTHER_X)}),
    "binarization_noise": Case({"measures": (SOME, OTHER)}),
    "least_scale": Case({"measures": (SOME._replace(repeated=0.5), OTHER._replace(repeated=0.5))}),
    "unit": Case(
        {"measures": (Measures(9, 0, 1, np.zeros(2), np.ones(2)), Measures(9, 0, 1, np.zeros(2), np.full(2, 50.0)))}
    ),
    "columns": Case(
        {"measures": (Measures(9, 0, 1, np.zeros(2), np.ones(2)), Measures(9, 0, 1, np.ones(2), np.full(2, 50.0)))}
    ),
    "described": Case({"dataset": (Dataset({"train": ARRAYS}, GREY), Dataset({"train": {"x": OTHER_X // 2}}, GREY))}),
    "are_counts": Case({"spec": (COUNTS, GREY), "measures": (MEASURED, MEASURED._replace(upper=0.3))}),
    "typical_total": Case({"spec": (COUNTS, COUNTS._replace(shape=(2**20,))), "x": (TOTALS, TOTALS + 1)}),
    "nearly_binary": Case({"spec": (GREY, GREY._replace(binarization_noise=0.9))}),
}
feeds = {
    "resident_feed": Case(FEED, first_batches),
    "streamed_feed": Case(FEED, first_batches),
    "feed_for": Case(
        FEED | {"memory": ("device", "host")}, lambda feed: (first_batches(feed), len(jax.tree.leaves(feed.resident)))
    ),
    "padded_batches": Case(
        {"arrays": (ARRAYS, OTHER_ARRAYS), "batch_size": (3, 5), "rows": (None, np.arange(5))}, list
    ),
}
room = transforms | order | feeds
TABLE_COLUMNS = (Column("a", "gaussian"),), (Column("b", "gaussian"),)
room = {name: room[name] for name in room if name != "binarize"} | {
    "as_table": Case({"columns": TABLE_COLUMNS, "x": (np.ones((2, 1)), np.zeros((2, 1)))}),
    "load": registry["load"],
    "resolve": spec["resolve"],
}
SHAPE = {"start": (0.1, 0.2), "stop": (1.0, 2.0), "length": (10, 20), "begin": (0, 5)}


def values(schedule):
    from vaex.schedules import resolve

    return [np.asarray(resolve(schedule, jnp.int32(step)), np.float32) for step in (0, 3, 8, 15, 30)]


def square(step):
    return 1.0 * step * step


def twice(step):
    return 2.0 * step


schedules = {
    "alike": Case({"schedules": ([constant(1.0), ramp(0.0, 1.0, 5)], [constant(2.0), ramp(0.0, 1.0, 5)])}),
    "alike_functions": Case({"schedules": ([constant(1.0), ramp(0.0, 1.0, 5)], [constant(2.0), ramp(0.0, 1.0, 5)])}),
    "as_schedule": Case({"value": (1.0, "ramp:0:1:5")}, values),
    "constant": Case({"value": (1.0, 2.0)}, values),
    "cosine": Case(SHAPE, values),
    "cycle": Case({"start": (0.0, 0.1), "stop": (1.0, 2.0), "period": (10, 20), "fraction": (0.5, 0.8)}, values),
    "exponential": Case(SHAPE, values),
    "function": Case(
        {"value": (square, twice), "name": ("a", "b")}, lambda schedule: (values(schedule), str(schedule))
    ),
    "hold": Case({"value": (1.0, 2.0), "length": (3, 4)}, lambda held: values(join(held, constant(0.0)))),
    "is_schedule": Case({"value": (constant(1.0), 1.0)}),
    "join": Case(
        {"schedules": ([ramp(0.0, 1.0, 5), ramp(1.0, 2.0, 5)], [ramp(0.0, 1.0, 5), ramp(1.0, 3.0, 5)])}, values
    ),
    "parse": Case({"text": ("ramp:0:1:5", "cosine:0:1:5")}, values),
    "probe": Case({"value": (square, twice)}),
    "ramp": Case(SHAPE, values),
    "resolve": Case(
        {"hparams": ({"a": ramp(0.0, 1.0, 5)}, {"a": ramp(0.0, 2.0, 5)}), "step": (jnp.int32(2), jnp.int32(3))}
    ),
    "with_pieces": Case({"schedule": (ramp(0.0, 1.0, 5), cosine(0.0, 1.0, 5)), "number": (2, 3)}),
}
networks = {
    "activation_function": Case({"name": ("relu", "tanh")}, lambda function: function(jnp.array([-1.0, 0.5]))),
    "hidden_states": Case(
        {
            "gru": (GRU, Refused(nets.GRU(4), "shape")),
            "params": GRU_PARAMS,
            "x": (FRAMES, OTHER_FRAMES),
        }
    ),
    "sample_codes": Case(
        {
            "net": (CODES, nets.CausalTransformer(kinds=(0, 0, 0, 0), codes=5, width=8, layers=1, heads=1)),
            "params": CODE_PARAMS,
            "key": KEYS,
            "n": Pair(4, 5, {"condition": None}),
            "temperature": (1.0, 0.1),
            "condition": (CONDITION, -2 * CONDITION),
            "prefix": (None, jnp.full((4, 2), 3)),
        }
    ),
    "soft_clip": Case({"log_scale": (jnp.array([3.0]), jnp.array([4.0])), "limit": (7.0, 5.0)}),
}
POINTS, OTHER_POINTS = (RNG.normal(size=(40, 2)) for _ in range(2))
SAMPLERS = tuple(Made(functools.partial(samplers.fit, "gaussian", points)) for points in (POINTS, OTHER_POINTS))
of_samplers = {
    "check_kind": Case({"kind": ("gmm:10", "gmm:9")}),
    "draw": Case({"sampler": SAMPLERS, "key": KEYS, "n": (3, 4)}),
    "fit": Case(
        {"kind": ("gmm:2", "gaussian"), "codes": (POINTS, OTHER_POINTS), "seed": Pair(0, 1, {"kind": "knn:3"})}
    ),
    "fit_mixture": Case({"codes": (POINTS, OTHER_POINTS), "components": (2, 3), "seed": (0, 3)}),
}
CASES = {
    "vaex.samplers": of_samplers,
    "vaex.data": room,
    "vaex.data.spec": spec,
    "vaex.data.registry": registry,
    "vaex.data.transforms": transforms,
    "vaex.data.order": order,
    "vaex.data.measure": measures,
    "vaex.schedules": schedules,
    "vaex.nets": networks,
}
