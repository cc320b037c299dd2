"""A trained model's methods inside jax's transformations, on many examples, and where jax makes arrays of 64 bits."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import vaex
from vaex.api.in_batches import in_batches

KEY = jax.random.key(0)
METHODS = {
    "encode": lambda run, x: run.encode(x).mean,
    "decode": lambda run, x: run.decode(run.encode(x).mean).mean,
    "density": lambda run, x: run.encode(x).log_prob(run.encode(x).mean),
    "reconstruct": lambda run, x: run.reconstruct(x),
    "log_likelihood": lambda run, x: run.log_likelihood(KEY, x, 4),
}


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def x(digits) -> np.ndarray:
    return (digits[:6] / 16).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_under_jit_vmap_grad_and_export(run, x, name):
    def method(x):
        return METHODS[name](run, x)

    expected = method(x)
    close(jax.jit(method)(x), expected)
    if name != "log_likelihood":  # whose draws are of a batch
        close(jax.vmap(lambda one: method(one[None])[0])(x), expected)
        gradient = jax.grad(lambda x: jnp.sum(method(x)))(jnp.asarray(x))
        assert np.isfinite(gradient).all() and np.any(gradient != 0)
    pytest.importorskip("flatbuffers")
    exported = export.export(jax.jit(method))(jax.ShapeDtypeStruct(export.symbolic_shape("b,8,8,1"), jnp.float32))
    close(exported.call(jnp.asarray(x)), expected)
    close(exported.call(jnp.asarray(x[:2])), method(x[:2]))


@pytest.mark.slow
def test_levels_samples_and_labels_are_traced(run, digits):
    close(jax.jit(lambda x: run.encode(x).mean)(digits[:3]), run.encode(digits[:3]).mean)
    close(jax.jit(lambda key: run.sample(key, 3))(KEY), run.sample(KEY, 3))
    assert jax.vmap(lambda key: run.sample(key, 2))(jax.random.split(KEY, 3)).shape == (3, 2, 8, 8, 1)


@pytest.mark.slow
def test_traced_values_that_would_be_refused_are_nan(run, x):
    beyond = x.copy()
    beyond[1] += 2
    between = x.copy()
    between[2] += 0.4 / 16
    codes = jax.jit(lambda x: run.encode(x).mean)(beyond)
    assert np.isnan(codes[1]).all() and np.isfinite(codes[2:]).all()
    bounds = jax.jit(lambda x: run.log_likelihood(KEY, x, 2))(between.clip(0, 1))
    assert np.isnan(bounds[2]) and np.isfinite(bounds[3:]).all()
    with pytest.raises(ValueError, match="encode: x has shape"):
        jax.jit(lambda x: run.encode(x).mean)(x[:, :7])
    with pytest.raises(ValueError, match="dtype complex64"):
        jax.jit(lambda x: run.encode(x).mean)(x.astype(np.complex64))


@pytest.mark.slow
def test_many_examples_are_computed_in_batches(run, monkeypatch):
    many = np.random.default_rng(0).integers(0, 17, (25, 8, 8, 1)).astype(np.uint8)
    expected = [run.encode(many).mean, run.reconstruct(many), run.decode(run.encode(many).mean).mean]
    draws = run.decode(np.ones((3, 25, 2))).mean
    sizes = []
    encode = run._encode
    monkeypatch.setattr(run, "_most", 10)
    monkeypatch.setattr(run, "_encode", lambda v, batch: (sizes.append(len(batch["x"])), encode(v, batch))[1])
    for value, at_once in zip(
        [run.encode(many).mean, run.reconstruct(many), run.decode(run.encode(many).mean).mean], expected, strict=True
    ):
        close(value, at_once)
    assert max(sizes) <= 10
    close(run.decode(np.ones((3, 25, 2))).mean, draws)
    samples = run.sample(KEY, 25)
    assert samples.shape == (25, 8, 8, 1) and not np.array_equal(samples[:8], samples[8:16])
    close(jax.jit(lambda key: run.sample(key, 25))(KEY), samples)


@pytest.mark.parametrize("number", [4, 7, 10, 11])
def test_batches_are_joined_in_order_along_the_axis_of_the_examples(number):
    x = np.arange(2 * number).reshape(2, number)

    def function(columns):
        return {"moved": columns["x"].T + 1, "shared": jnp.ones(3), "same": -columns["x"]}

    joined = in_batches(function, {"x": x}, most=3, axis=1)
    np.testing.assert_array_equal(joined["moved"], x.T + 1)
    np.testing.assert_array_equal(joined["same"], -x)
    assert joined["shared"].shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy])
def test_a_run_says_how_it_is_kept(trained, run, how):
    for held in (run, vaex.load(trained)):
        with pytest.raises(TypeError, match=r"cannot be pickled or copied; write run\.save\(directory\)"):
            how(held)


@pytest.mark.slow
def test_a_run_is_the_same_where_jax_makes_arrays_of_64_bits(trained, run, x, tmp_path):
    options = {"steps": 6, "hidden": (8,), "latent_dim": 2, "progress": False}
    narrow = vaex.train("vae", "digits", **options)
    assert narrow.save(tmp_path / "run").exists()
    with jax.enable_x64(True):
        wide = vaex.train("vae", "digits", **options)
        loaded = vaex.load(trained, member=1)
        going_on = vaex.load(tmp_path / "run").continue_to(9, progress=False)
        for name, method in METHODS.items():
            result = method(loaded, x)
            assert result.dtype == jnp.float32
            np.testing.assert_array_equal(result, method(run, x), err_msg=name)
        assert loaded.sample(KEY, 2).dtype == jnp.float32
    expected = narrow.continue_to(9, progress=False)
    for left, right in ((wide, narrow), (going_on, expected)):
        for one, other in zip(jax.tree.leaves(left.variables), jax.tree.leaves(right.variables), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
