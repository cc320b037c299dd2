"""--profile: which ops a trace holds on the CPU and on accelerators, which steps it covers, and what a run writes."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from vaex.cli import main as cli
from vaex.errors import UserError
from vaex.training import profiling

QUICK = [
    "--model=vae", "--hidden=8", "--latent_dim=2", "--log_every=5", "--eval_samples=2", "--eval_images=10", "--devices=1",
    "--no-figures",
]  # fmt: skip


def plane(name: str, lines: dict[str, list[tuple[str, str | None, int, int]]]) -> str:
    """A plane in xplane's text format; an event is (name, hlo_op, start, duration), in nanoseconds."""
    names = {event[0] for events in lines.values() for event in events}
    ids = {name: index + 1 for index, name in enumerate(sorted(names))}
    text = [f'name: "{name}"', 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }']
    text += [f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}' for name, i in ids.items()]
    for line, events in lines.items():
        text.append(f'lines {{ name: "{line}"')
        for event, op, start, duration in events:
            stat = f' stats {{ metadata_id: 1 str_value: "{op}" }}' if op else ""
            text.append(
                f"events {{ metadata_id: {ids[event]} offset_ps: {start}000 duration_ps: {duration}000{stat} }}"
            )
        text.append("}")
    return "planes { " + " ".join(text) + " }"


def ops(*planes: str) -> dict[str, tuple[float, int]]:
    times = profiling.op_times(jax.profiler.ProfileData.from_text_proto(" ".join(planes)))
    assert [op.seconds for op in times] == sorted((op.seconds for op in times), reverse=True)
    return {op.name: (round(op.seconds * 1e9), op.count) for op in times}


CPU = plane(
    "/host:CPU",
    {
        "tf_XLAPjRtCpuClient/1": [
            ("while.5", "while.5", 0, 100),
            ("dot.1", "dot.1", 10, 30),
            ("end: dot.1", None, 40, 1),
            ("fusion.2", "fusion.2", 50, 40),
            ("copy.3", "copy.3", 60, 10),
            ("dot.1", "dot.1", 120, 5),
        ],
        "python": [("PjitFunction(f)", None, 0, 500)],
    },
)
STREAMS = {"Stream #1(Compute)": [("gemm_kernel", "dot.1", 0, 7), ("memcpy", None, 8, 2)]}


def test_ops_of_the_cpu_nest_and_control_is_left_out():
    assert ops(CPU) == {"dot.1": (35, 2), "fusion.2": (30, 1), "copy.3": (10, 1)}


def test_an_accelerator_s_ops_come_before_the_host_s():
    assert ops(CPU, plane("/device:GPU:0", STREAMS)) == {"dot.1": (7, 1), "memcpy": (2, 1)}


def test_a_line_of_ops_is_not_added_to_the_streams_below():
    lines = STREAMS | {
        "XLA Ops": [("%fusion.9 = f32[2] fusion(%x)", None, 0, 4)],
        "XLA Modules": [("jit_f", None, 0, 9)],
    }
    assert ops(plane("/device:TPU:0", lines), plane("/device:TPU:1", lines)) == {"fusion.9": (8, 2)}


def test_no_times_are_said_to_be_none(tmp_path):
    times = profiling.op_times(jax.profiler.ProfileData.from_text_proto(plane("/host:CPU", {"python": []})))
    assert profiling.table(times, {}, 3, 0.1)[0].endswith("the profiler wrote no times of ops on this platform")


@pytest.mark.parametrize("left", [0, profiling.WARM_UP])
def test_too_few_steps_are_refused(tmp_path, left):
    with pytest.raises(
        UserError, match=f"--profile: {left} steps are left to train, expected more than {profiling.WARM_UP}"
    ):
        profiling.Profiler(tmp_path / "profile", 100, 100 + left)


def test_one_chunk_after_the_warm_up_is_traced(tmp_path):
    old = tmp_path / "profile" / "plugins" / "old.xplane.pb"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    profiler = profiling.Profiler(tmp_path / "profile", 100, 1000)
    first = 100 + profiling.WARM_UP
    assert [profiler.boundary(step) for step in (100, first - 1, first, first + 1)] == [
        first, first, first + profiling.STEPS, first + profiling.STEPS,
    ]  # fmt: skip
    assert profiler.boundary(first + profiling.STEPS) is None
    program = jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((64, 64))).compile()
    profiler.before(101)
    profiler.after(1, 0.5)
    assert profiler.steps == 0 and old.exists()
    profiler.before(first)
    assert not old.exists()
    program(jnp.ones((64, 64))).block_until_ready()
    profiler.after(8, 0.5)
    profiler.after(9, 0.5)  # later chunks are not traced
    said = []
    profiler.summarize(program, said.append)
    assert said[0].startswith("profile of 8 steps, 62.500 ms each; ") and "no times" not in said[0]
    text = (tmp_path / "profile" / "ops.txt").read_text()
    assert "dot_general" in text or "tanh" in text
    assert list((tmp_path / "profile").rglob("*.trace.json.gz"))


def test_a_trace_that_training_leaves_early_is_ended(tmp_path):
    for _ in range(2):  # jax refuses to begin a second trace within one
        profiler = profiling.Profiler(tmp_path / "profile", 0, 100)
        profiler.before(profiling.WARM_UP)
        profiler.close()


def test_a_process_that_is_not_the_first_cuts_its_chunks_alike_and_writes_nothing(tmp_path):
    profiler = profiling.Profiler(tmp_path / "profile", 0, 100, writes=False)
    assert profiler.boundary(0) == profiling.WARM_UP
    profiler.before(profiling.WARM_UP)
    profiler.after(8, 0.5)
    profiler.summarize(None, pytest.fail)
    assert not (tmp_path / "profile").exists()


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    """It traces, changes no number, asks for steps where none are left, and --overwrite clears its folder."""

    def run(directory: pathlib.Path, *flags: str) -> int:
        return cli.main([*QUICK, f"--out={directory}", *flags])

    assert run(tmp_path / "plain", "--steps=25") == 0
    assert run(tmp_path / "traced", "--steps=25", "--profile", "--checkpoint_every=7") == 0
    out = capsys.readouterr().out
    assert "profile of " in out and "compiled in " in out
    rows = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "traced")]
    assert rows[0] == rows[1]
    assert (tmp_path / "traced" / "profile" / "ops.txt").read_text().count("\n") > 10
    before = (tmp_path / "traced" / "summary.json").read_bytes()
    assert run(tmp_path / "traced", "--steps=25", "--profile") == 2
    assert "--profile: 0 steps are left to train" in capsys.readouterr().err
    assert (tmp_path / "traced" / "summary.json").read_bytes() == before
    assert run(tmp_path / "short", "--steps=9", "--profile") == 2 and not (tmp_path / "short").exists()
    assert run(tmp_path / "traced", "--steps=12", "--overwrite") == 0
    assert not (tmp_path / "traced" / "profile").exists()
