"""What the benchmarks train: by name, with data as stored, and as much work as counted by hand."""

import importlib

import jax
import numpy as np
import pytest

from vaex.errors import UserError
from vaex.models import MODELS

pytestmark = pytest.mark.nightly

vaex_loop = importlib.import_module("vaex_loop")
workloads = importlib.import_module("workloads")


@pytest.mark.slow
@pytest.mark.parametrize("name", workloads.NETWORKS)
def test_xla_counts_the_products_that_we_count(name):
    workload = workloads.find(name)
    stepper, _, hparams, example = vaex_loop.setup(workload, 4, "float32")
    state = jax.eval_shape(stepper.init, jax.random.key(0), hparams, example)
    counted = vaex_loop.cost(jax.jit(stepper.step).lower(state, example), "flops")
    # beyond the products there are the convolutions' borders, activations, likelihood and Adam's few operations a parameter
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.variables.params))
    by_hand = workloads.matrix_flops(workload, 4)
    assert by_hand < counted < (1.25 if name == "conv64" else 1.1) * by_hand + 30 * parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", [*workloads.NETWORKS, *MODELS])
def test_every_network_and_registered_model_has_data(name):
    workload = workloads.find(name)
    arrays = workloads.arrays(workload, 5000)
    assert arrays["x"].shape == (10_000, *workload.shape)
    low, high = (0.0, 1.0) if workload.levels is None else (0, workload.levels - 1)
    assert arrays["x"].min() == low and arrays["x"].max() == high and 0.1 < arrays["x"].mean() / high < 0.5
    assert workload.num_classes == 0 or set(np.unique(arrays["y"])) == set(range(workload.num_classes))


@pytest.mark.parametrize("name, hint", [("mpl", "mlp"), ("beta_vea", "beta_vae"), ("nowhere.at.all", "no such module")])
def test_unknown_names_are_refused(name, hint):
    with pytest.raises(UserError, match=hint):
        workloads.find(name)


def test_a_model_on_data_of_unknown_shape_is_refused(monkeypatch):
    monkeypatch.delitem(workloads.SHAPES, "digits")
    with pytest.raises(UserError, match=r"add it to SHAPES"):
        workloads.find("vae")


def test_layers_of_a_registered_model_are_not_known():
    with pytest.raises(ValueError, match="layers of 'vae' are not known"):
        workloads.matrix_flops(workloads.find("vae"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("strategy, members", [("auto", 1), ("vmap", 2)])
def test_vaex_trains_in_its_own_loop(strategy, members):
    loop = vaex_loop.Loop(workloads.find("small"), 8, "float32", members, strategy)
    loop.run(3)
    loop.run(2)
    assert int(loop._carry.state.step[0]) == 5
    properties = loop.properties
    assert properties["strategy"] == ("solo" if members == 1 else strategy) and properties["compile_seconds"] > 0
    assert properties["flops"] > members * workloads.matrix_flops(workloads.find("small"), 8)
    assert properties["memory_bytes"] > 0 and (properties["bytes"] is None) == (members > 1)


def test_bfloat16_keeps_parameters_and_losses_wide():
    stepper, _, hparams, example = vaex_loop.setup(workloads.find("small"), 8, "bfloat16")
    state = jax.jit(stepper.init)(jax.random.key(0), hparams, example)
    text = jax.jit(stepper.step).lower(state, example).as_text()
    after, metrics = jax.eval_shape(stepper.step, state, example)
    assert "dot_general" in text and "tensor<8x64xbf16>" in text
    assert {leaf.dtype for leaf in jax.tree.leaves((after.variables.params, metrics["loss"]))} == {np.dtype("float32")}


@pytest.mark.parametrize("kind, work", [("product", 2 * 32**3), ("copy", 8 * 32)])
def test_peaks_do_their_work(kind, work):
    peak = vaex_loop.Peak(kind, "float32", size=32)
    peak.run(3)
    assert peak.properties == {"per_step": work}


def test_another_device_than_there_is_is_refused():
    with pytest.raises(UserError, match=r"--device=tpu: jax uses cpu here"):
        vaex_loop.machine("tpu")
