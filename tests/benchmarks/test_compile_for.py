"""benchmarks/compile_for.py: what it reads off programs, and every model compiled where the compilers are installed."""

import importlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT

from vaex.errors import UserError
from vaex.models import MODELS
from vaex.training import loop

pytestmark = pytest.mark.nightly

hlo = importlib.import_module("accelerators.hlo")
programs = importlib.import_module("accelerators.programs")
targets = importlib.import_module("accelerators.targets")
report = importlib.import_module("accelerators.report")
compile_for = importlib.import_module("compile_for")
workloads = importlib.import_module("workloads")

TPU = """HloModule jit_chunk, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), {1}: (1, {}, may-alias) }, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused (param_0.1: f32[8,64,64,3], param_1: f32[4,4,3,16]) -> f32[8,32,32,16] {
  %param_0.1 = f32[8,64,64,3]{3,2,1,0:T(8,128)} parameter(0)
  %param_1 = f32[4,4,3,16]{3,2,1,0:T(8,128)} parameter(1)
  ROOT %convolution.1 = f32[8,32,32,16]{3,2,1,0:T(8,128)} convolution(%param_0.1, %param_1), window={size=4x4 stride=2x2}, feature_group_count=2
}

%scan_body (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %tanh = f32[8]{0} tanh(%p)
}

%scan_condition (p: f32[8]) -> pred[] {
  %p.3 = f32[8]{0} parameter(0)
  ROOT %true = pred[] constant(true)
}

%step (s: (f32[8,64,64,3], f32[4,4,3,16], f32[8])) -> (f32[8,64,64,3], f32[4,4,3,16], f32[8]) {
  %s = (f32[8,64,64,3]{3,2,1,0:T(8,128)}, f32[4,4,3,16]{3,2,1,0}, f32[8]{0}) parameter(0)
  %x = f32[8,64,64,3]{3,2,1,0:T(8,128)} get-tuple-element(%s), index=0
  %k = f32[4,4,3,16]{3,2,1,0} get-tuple-element(%s), index=1
  %v = f32[8]{0} get-tuple-element(%s), index=2
  %fusion.7 = f32[8,32,32,16]{3,2,1,0:T(8,128)} fusion(%x, %k), kind=kOutput, calls=%fused
  %reduced = (f32[4,4,3,16]{3,2,1,0}, f32[8]{0}) all-reduce(%k, %v), replica_groups={{0,1}}, to_apply=%add
  %while.3 = f32[8]{0} while(%v), condition=%scan_condition, body=%scan_body, backend_config={"known_trip_count":{"n":"5"}}
  %copy.1 = f32[8,64,64,3]{2,3,1,0:T(8,128)} copy(%x)
  %host = f32[8]{0} custom-call(%v), custom_call_target="xla_python_gpu_callback"
  ROOT %out = (f32[8,64,64,3]{3,2,1,0:T(8,128)}, f32[4,4,3,16]{3,2,1,0}, f32[8]{0}) tuple(%copy.1, %k, %while.3)
}

%row (r: f32[8]) -> f32[8] {
  %r = f32[8]{0} parameter(0)
  ROOT %while.2 = f32[8]{0} while(%r), condition=%c2, body=%step
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %while.1 = f32[8]{0} while(%a), condition=%c1, body=%row
}
"""  # noqa: E501


def test_the_step_is_found_and_its_work_is_counted():
    module = hlo.parse(TPU)
    assert module.aliases == 2 and hlo.step_body(module) == "step"
    work = hlo.work(module, "step")
    x, k, y, v = 8 * 64 * 64 * 3 * 4, 4 * 4 * 3 * 16 * 4, 8 * 32 * 32 * 16 * 4, 32
    assert work.kinds == {"fusion": 1, "all-reduce": 1, "tanh": 5, "copy": 1, "custom call": 1} and work.kernels == 9
    assert (work.convolutions, work.grouped, work.products, work.loops) == (1, 1, 0, 1)
    assert work.collectives == {"all-reduce": k + v} and work.collective_calls == {"all-reduce": 1}
    assert work.host == ["xla_python_gpu_callback"] and work.copies == x
    assert work.moved == (x + k + y) + 2 * (k + v) + 5 * 2 * v + 2 * x + 2 * v
    assert work.padding > 5  # 3 channels take 128 lanes


def test_a_program_without_the_two_loops_is_refused():
    with pytest.raises(ValueError, match="a loop over rows around a loop over steps"):
        hlo.step_body(hlo.parse(TPU.replace("body=%row", "body=%scan_body")))
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule empty")


def test_slices_count_as_what_is_taken():
    text = """HloModule m

%fused (p0: f32[1000,8], p1: s32[]) -> f32[1,8] {
  %p0 = f32[1000,8]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%p0, %p1, %p1), dynamic_slice_sizes={1,8}
}

ENTRY %main (a: f32[1000,8], i: s32[]) -> f32[1,8] {
  %a = f32[1000,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %fusion = f32[1,8]{1,0} fusion(%a, %i), kind=kLoop, calls=%fused
}
"""
    assert hlo.work(hlo.parse(text), "main").moved == 32 + 4 + 32


def test_a_collective_that_fusions_begin_and_end_counts_once():
    fused = """%fused.{0} (p0: f32[4,8]) -> f32[16,8] {{
  %p0 = f32[4,8]{{1,0}} parameter(0)
  ROOT %all-gather.{0} = f32[16,8]{{1,0}} all-gather(%p0), channel_id={1}, dimensions={{0}}
}}
"""
    text = f"""HloModule m

{fused.format(1, 7)}
{fused.format(2, 7)}
{fused.format(3, 8)}
ENTRY %main (a: f32[4,8]) -> f32[16,8] {{
  %a = f32[4,8]{{1,0}} parameter(0)
  %start = f32[16,8]{{1,0}} fusion(%a), kind=kCustom, calls=%fused.1
  %done = f32[16,8]{{1,0}} fusion(%a), kind=kCustom, calls=%fused.2
  ROOT %other = f32[16,8]{{1,0}} fusion(%a), kind=kCustom, calls=%fused.3
}}
"""
    work = hlo.work(hlo.parse(text), "main")
    assert work.collective_calls == {"all-gather": 2} and work.collectives == {"all-gather": 2 * 16 * 8 * 4}


def test_collectives_count_what_they_exchange_once():
    """A GPU's asynchronous ones print their operands beside their results; a TPU scatters by fusions of one channel."""
    text = """HloModule m

%scatter (p0: f32[16,8], i: s32[]) -> f32[4,8] {
  %p0 = f32[16,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %sum = f32[16,8]{1,0} all-reduce(%p0), channel_id=1, to_apply=%add
  ROOT %part = f32[4,8]{1,0} dynamic-slice(%sum, %i, %i), dynamic_slice_sizes={4,8}
}

ENTRY %main (a: f32[16,8], b: f32[4,8], i: s32[]) -> f32[4,8] {
  %a = f32[16,8]{1,0} parameter(0)
  %b = f32[4,8]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %gather = ((f32[4,8]{1,0}, f32[4,8]{1,0}), (f32[16,8]{1,0}, f32[16,8]{1,0})) all-gather-start(%b, %b), channel_id=2
  %gathered = (f32[16,8]{1,0}, f32[16,8]{1,0}) all-gather-done(%gather)
  %scatter.1 = (f32[16,8]{1,0}, f32[4,8]{1,0}) reduce-scatter-start(%a), channel_id=3, to_apply=%add
  %scattered = f32[4,8]{1,0} reduce-scatter-done(%scatter.1)
  %sum.1 = ((f32[4,8]{1,0}, f32[4,8]{1,0}), (f32[4,8]{1,0}, f32[4,8]{1,0})) all-reduce-start(%b, %b), channel_id=4
  %summed = (f32[4,8]{1,0}, f32[4,8]{1,0}) all-reduce-done(%sum.1)
  %move = (f32[4,8]{1,0}, f32[4,8]{1,0}, u32[], u32[]) collective-permute-start(%b), channel_id=5
  %moved = f32[4,8]{1,0} collective-permute-done(%move)
  %first = f32[4,8]{1,0} fusion(%a, %i), kind=kCustom, calls=%scatter
  ROOT %second = f32[4,8]{1,0} fusion(%a, %i), kind=kCustom, calls=%scatter
}
"""
    work, entire, part = hlo.work(hlo.parse(text), "main"), 16 * 8 * 4, 4 * 8 * 4
    assert work.collective_calls == {"all-gather": 1, "reduce-scatter": 3, "all-reduce": 1, "collective-permute": 1}
    assert work.collectives == {
        "all-gather": 2 * entire, "reduce-scatter": 3 * entire, "all-reduce": 2 * part, "collective-permute": part,
    }  # fmt: skip


def test_options_of_models_are_read_and_unknown_ones_refused():
    network = workloads.find("hierarchical_vae")
    assert programs.with_options(network, ["width=8", "blocks=2x2,1x1"]).config == {"width": 8, "blocks": "2x2,1x1"}
    with pytest.raises(UserError, match=r"--option=widht=8: hierarchical_vae has no option 'widht'; .*width"):
        programs.with_options(network, ["widht=8"])


@pytest.fixture(scope="module")
def small():
    (part,) = programs.parts(workloads.find("small"), 16, "float32", 2)
    return part


def test_the_chunk_of_training_is_what_is_read(small):
    """The very program of ``loop.compile_program``, compiled for the CPU of this process."""
    draft = loop.draft(small.algorithm, small.feed, small.state, log_every=100, strategy="vmap")
    window = jax.ShapeDtypeStruct((2, len(draft.metric_names)), jnp.float32)
    plan = jax.ShapeDtypeStruct((draft.capacity, *draft.row.shape[1:]), draft.row.dtype)
    bounds = [np.int32(number) for number in (0, 0, 1, 100)]
    compiled = draft.call.lower(loop.Carry(small.state, window), small.feed.resident, plan, *bounds).compile()
    module = hlo.parse(compiled.as_text())
    work = hlo.work(module, hlo.step_body(module))
    assert draft.traces == [1] and work.kernels > 20 and work.host == []
    assert module.aliases == len(jax.tree.leaves(small.state)) + 1


def test_products_are_counted_as_they_are_defined(small):
    by_hand = workloads.matrix_flops(workloads.find("small"), 16)
    for members in (1, 2):
        (part,) = programs.parts(workloads.find("small"), 16, "float32", members)
        counted = programs.count_step(part, members)
        assert counted.products == pytest.approx(members * by_hand, rel=0.02) and counted.convolutions == 0


def test_convolutions_of_members_at_once_are_grouped():
    def loss(kernel, x):
        return jnp.sum(
            jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )

    kernel, x = jnp.zeros((3, 4, 4, 1, 8)), jnp.zeros((2, 8, 8, 1))
    one = programs.count_products(jax.make_jaxpr(loss)(kernel[0], x).jaxpr)
    many = programs.count_products(jax.make_jaxpr(jax.vmap(loss, (0, None)))(kernel, x).jaxpr)
    assert one.convolutions == 2 * 2 * 16 * 16 * 8 and one.grouped == 0
    assert many.convolutions == 3 * one.convolutions


def test_tables_say_what_failed_and_what_did_not():
    row = {
        "target": "tpu:v5e:2x2",
        "model": "vae",
        "stage": "vae",
        "population": 2,
        "batch_size": 8,
        "precision": "float32",
    }
    work = hlo.work(hlo.parse(TPU), "step")._asdict()
    memory = {f"{name}_bytes": 1e6 for name in ("argument", "temporary", "output", "held")}
    sound = {
        **row, **work, **memory, "failure": None, "devices": 4, "placement": "data", "compile_seconds": 1.5, "memory_share": 0.25,
        "flops": 1e9, "roofline_seconds": 1e-5, "bound": "bytes", "compiler_seconds": None, "donated": 9, "donated_of": 10,
    }  # fmt: skip
    text = report.markdown([sound, {**row, "failure": "no memory"}])
    assert "TPU v5e, 16.0 GB, 819 GB/s, 197 TFLOP/s" in text and "| vae x 2 | 8 | 4 (data) | 1.50 |" in text
    assert "9 of 10" in text and "1 all-reduce" in text and "| no memory |" in text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("tpu:v5e", "expected the shape of a slice"),
        ("tpu:v9:2x2", "tpu:v4"),
        ("cuda:h200:0", "expected a number of cards"),
        ("cuda", "cuda:h100"),
    ],
)
def test_targets_that_there_are_not_are_refused(flag, message):
    with pytest.raises(UserError, match=message):
        targets.parse(flag)


@pytest.mark.parametrize(("target", "extra"), [("tpu:v5e:2x2", "tpu"), ("cuda:h200", "gpu")])
def test_a_compiler_that_is_missing_is_named(monkeypatch, capsys, target, extra):
    monkeypatch.setattr(targets, "is_installed", lambda platform: False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert compile_for.main([f"--target={target}"]) == 2
    assert f'pip install "vaex-jax[train,{extra}]"' in capsys.readouterr().err


def compiled(tmp_path, target, *flags):
    """The rows of a command in a process of its own, since the environment of compilers must be there before jax is imported."""
    command = [sys.executable, "benchmarks/compile_for.py", f"--target={target}", f"--out={tmp_path}", *flags]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, cwd=ROOT, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((tmp_path / "compile_for.json").read_text())["rows"]


def needs(target):
    platform = target.partition(":")[0]
    module, extra = targets.EXTRAS[platform]
    return pytest.param(
        target,
        marks=pytest.mark.skipif(
            not targets.is_installed(platform), reason=f'{module} is missing; pip install "vaex-jax[test,{extra}]"'
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", [needs("tpu:v5e:1x1"), needs("cuda:h200")])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_compiles_stays_on_the_device_and_is_donated(tmp_path, model, target):
    for row in compiled(tmp_path, target, f"--models={model}"):
        assert row["failure"] is None and row["host"] == [] and row["traces"] == 1
        assert row["donated"] == row["donated_of"], row
        assert row["memory_share"] < 0.5 and row["collectives"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("target", [needs("tpu:v5e:2x2"), needs("tpu:v5e:16x16"), needs("cuda:h200:8")])
def test_devices_exchange_gradients_once(tmp_path, target):
    (row,) = compiled(tmp_path, target, "--models=vae", "--batch_sizes=256")
    (part,) = programs.parts(workloads.find("vae"), 256, "float32", 1)
    gradients = sum(4 * leaf.size for leaf in jax.tree.leaves(part.state.variables.params))
    assert row["placement"] == "data" and row["devices"] > 1 and row["collective_calls"] == {"all-reduce": 1}
    assert gradients < row["collectives"]["all-reduce"] <= gradients + 64


@pytest.mark.slow
@pytest.mark.parametrize("target", [needs("tpu:v5e:2x2"), needs("tpu:v5e:4x4"), needs("cuda:h200:8")])
def test_devices_gather_parameters_that_they_divide(tmp_path, target):
    flags = ("--models=vae", "--batch_sizes=256", "--option=hidden=512x512")
    (plain,), (row,) = compiled(tmp_path, target, *flags), compiled(tmp_path, target, *flags, "--fsdp")
    assert row["placement"] == "data_fsdp" and row["donated"] == row["donated_of"] and row["host"] == []
    # 8x8 images, ten latents: three kernels and their mirror images, without biases
    divided = 4 * (64 * 512 + 512 * 512 + 512 * 20 + 10 * 512 + 512 * 512 + 512 * 64)
    reduced = row["collectives"].get("reduce-scatter", 0) + row["collectives"]["all-reduce"]
    gathered = divided // 2 if target.startswith("tpu") else divided  # a TPU multiplies, and so gathers, in bfloat16
    assert row["collectives"]["all-gather"] == gathered
    assert reduced == pytest.approx(plain["collectives"]["all-reduce"], rel=1e-3)
    assert row["argument_bytes"] < plain["argument_bytes"] - 2 * divided
