"""What holds for every quantizer: shapes, dtypes, jit, vmap, finite values and gradients anywhere, errors for invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq

D, KEY = 4, jax.random.key(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# name -> (function of codebooks and vectors, shape of the codebooks, trailing shape of the indices)
QUANTIZERS = {
    "vector": (vq.vector_quantize, (7, D), ()),
    "rotation": (lambda c, z: vq.vector_quantize(c, z, gradient="rotation"), (7, D), ()),
    "cosine": (lambda c, z: vq.vector_quantize(c, z, distance="cosine"), (7, D), ()),
    "residual": (lambda c, z: vq.residual_quantize(c, z, gradient="rotation"), (3, 7, D), (3,)),
    "grouped": (lambda c, z: vq.grouped_quantize(c, z, gradient="rotation"), (2, 7, D // 2), (2,)),
    "finite scalar": (lambda c, z: vq.finite_scalar_quantize(z, levels=(8, 5, 2, 3)), (1,), ()),
    "lookup-free": (lambda c, z: vq.lookup_free_quantize(z), (1,), ()),
    "gumbel": (lambda c, z: vq.gumbel_quantize(KEY, c, z, temperature=0.1), (D, D), ()),
    "hard gumbel": (lambda c, z: vq.gumbel_quantize(KEY, c, z, temperature=1e-3, hard=True), (D, D), ()),
}
each = pytest.mark.parametrize("name", QUANTIZERS)


@pytest.mark.slow
@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_shapes_and_dtypes(name, dtype):
    quantize, shape, trailing = QUANTIZERS[name]
    with jax.enable_x64(dtype == "float64"):
        z, codebook = jnp.asarray(draw(2, 5, D), dtype), jnp.asarray(draw(*shape, seed=1), "float32")

        @jax.jit
        def program(z, codebook):
            gradient = jax.grad(lambda z: quantize(codebook, z).codes.astype("float32").sum())(z)
            return quantize(codebook, z), gradient

        result, gradient = program(z, codebook)
        assert result.codes.shape == z.shape and result.codes.dtype == z.dtype
        assert result.indices.shape == (2, 5, *trailing) and result.indices.dtype == jnp.int32
        for loss in (result.commitment_loss, result.codebook_loss):
            assert loss.shape == (2, 5) and loss.dtype == jnp.promote_types(dtype, "float32")
        assert gradient.dtype == z.dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in QUANTIZERS if "gumbel" not in name])  # its noise goes by the shape
def test_leading_axes_and_vmap_do_not_matter(name):
    quantize, shape, _ = QUANTIZERS[name]
    z, codebook = jnp.asarray(draw(6, D), jnp.float32), jnp.asarray(draw(*shape, seed=1), jnp.float32)

    @jax.jit
    def program(z, codebook):
        split = jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), quantize(codebook, z.reshape(2, 3, D)))
        return quantize(codebook, z), split, jax.vmap(quantize, in_axes=(None, 0))(codebook, z)

    expected, *others = program(z, codebook)
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), expected, other)


@pytest.mark.slow
@each
def test_values_and_gradients_are_finite_at_extremes(name):
    quantize, shape, _ = QUANTIZERS[name]

    @jax.jit
    def program(z, codebook):
        def total(z, codebook):
            quantized = quantize(codebook, z)
            return quantized.codes.sum() + quantized.commitment_loss.sum() + quantized.codebook_loss.sum()

        return jax.value_and_grad(total, (0, 1))(z, codebook)

    for z_scale in (0.0, 1e-38, 1.0, 1e4, -1e9):
        for code_scale in (0.0, 1e-38, 1.0, 1e4):
            z = jnp.asarray(z_scale * np.where(np.arange(D) % 2, draw(5, D), 1), jnp.float32)
            leaves = jax.tree.leaves(program(z, jnp.asarray(code_scale * draw(*shape, seed=1), jnp.float32)))
            assert all(np.isfinite(x).all() for x in leaves), (z_scale, code_scale)


def test_the_rest_is_finite_at_extremes():
    """Entropies and their gradients; moving averages; seeds."""

    def penalty(z, temperature):
        entropy = vq.lookup_free_entropy(z, temperature=temperature)
        return entropy.sample.sum() - entropy.batch

    @jax.jit
    def program(z, decay, temperature):
        state = vq.init_codebook(vq.kmeans_codebook(KEY, z, num_codes=3))
        state = vq.update_codebook(state, z, vq.nearest_code(state.codebook, z), decay=decay)
        state = vq.replace_dead_codes(KEY, state, z, threshold=2.0)
        slopes = jax.value_and_grad(penalty, (0, 1))(z, temperature), jax.jacobian(vq.unit_norm)(z[0])
        return state, vq.squared_distances(state.codebook, z), slopes

    for scale in (0.0, 1e-38, 1e4):
        for decay, temperature in ((0.0, 1e-3), (0.5, 1.0), (1.0, 1e3)):
            leaves = jax.tree.leaves(program(jnp.asarray(scale * draw(20, D), jnp.float32), decay, temperature))
            assert all(np.isfinite(x).all() for x in leaves), (scale, decay, temperature)


Z, BOOK = np.zeros((3, D), np.float32), np.zeros((7, D), np.float32)
STATE, INDICES = vq.CodebookState(BOOK, np.ones(7, np.float32), BOOK), np.zeros(3, np.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vq.nearest_code(BOOK[:, :2], Z), r"nearest_code: codebook has shape \(7, 2\), expected \[k, 4\]"),
        (lambda: vq.nearest_code(BOOK[0], Z), r"codebook has shape \(4,\)"),
        (lambda: vq.nearest_code(BOOK, 1.0), r"nearest_code: z has shape \(\)"),
        (lambda: vq.nearest_code(BOOK, Z, distance="cosin"), "'cosin', expected one of these: euclidean, cosine"),
        (lambda: vq.squared_distances(BOOK[:0], Z), r"squared_distances: codebook has shape \(0, 4\)"),
        (lambda: vq.lookup(BOOK, Z), "lookup: indices has dtype float32, expected integers"),
        (lambda: vq.lookup(Z[0], INDICES), "lookup: codebook"),
        (lambda: vq.unit_norm(1.0), "unit_norm: z has shape"),
        (lambda: vq.straight_through(Z, Z[:1]), r"straight_through: codes has shape \(1, 4\), expected \(3, 4\) like z"),
        (lambda: vq.rotation_trick(Z, Z[0]), "rotation_trick: codes has shape"),
        (lambda: vq.commitment_loss(Z, Z[:, :1]), "commitment_loss: codes has shape"),
        (lambda: vq.codebook_loss(Z[:1], Z), "codebook_loss: codes has shape"),
        (lambda: vq.vector_quantize(BOOK[:, :3], Z), r"vector_quantize: codebook has shape \(7, 3\)"),
        (lambda: vq.vector_quantize(BOOK, Z, gradient="turn"), "gradient is 'turn'.*straight_through, rotation"),
        (lambda: vq.residual_quantize(BOOK, Z), r"residual_quantize: codebooks has shape \(7, 4\), expected \[stage, k, 4\]"),
        (lambda: vq.residual_lookup(BOOK[None], Z.astype(int)), r"expected \[..., 1\]; one index per stage"),
        (lambda: vq.residual_inputs(BOOK[None], Z, INDICES), r"indices has shape \(3,\), expected \(3, 1\)"),
        (lambda: vq.grouped_quantize(BOOK[None, :, :3], Z), "serve 1 groups of 3 channels"),
        (lambda: vq.grouped_lookup(BOOK[None], INDICES[0]), "grouped_lookup: indices has shape"),
        (lambda: vq.init_codebook(BOOK[0]), "init_codebook: codebook"),
        (lambda: vq.update_codebook(STATE, Z[:, :2], INDICES), r"codebook has shape \(7, 4\), expected \[k, 2\]"),
        (lambda: vq.update_codebook(STATE, Z, INDICES[:2]), r"indices has shape \(2,\), expected \(3,\)"),
        (lambda: vq.update_codebook(STATE._replace(counts=np.ones(6)), Z, INDICES), r"state has counts \(6,\)"),
        (lambda: vq.update_codebook(STATE, Z, INDICES, decay=np.ones(2)), r"shape \(2,\), expected a scalar"),
        (lambda: vq.update_codebook(STATE, Z, INDICES, mask=np.ones((3, 1))), r"mask has shape \(3, 1\), expected \(3,\)"),
        (lambda: vq.replace_dead_codes(KEY, STATE, Z[:, 0], threshold=1.0), "replace_dead_codes: codebook"),
        (lambda: vq.kmeans_codebook(KEY, Z, num_codes=0), "num_codes is 0, expected an int, at least 1"),
        (lambda: vq.kmeans_codebook(KEY, Z, num_codes=2, num_iterations=1.0), "num_iterations is 1.0"),
        (lambda: vq.kmeans_codebook(KEY, Z, num_codes=2, num_starts=0), "num_starts is 0"),
        (lambda: vq.kmeans_codebook(KEY, Z[:0], num_codes=2), "at least one vector"),
        (lambda: vq.finite_scalar_quantize(Z, levels=(8, 5, 5)), r"z has shape \(3, 4\), expected \[..., 3\]"),
        (lambda: vq.finite_scalar_quantize(Z, levels=(8, 5, 5, 1)), "is 1, expected an int, at least 2"),
        (lambda: vq.finite_scalar_indices(Z, levels=()), "expected one int per dimension"),
        (lambda: vq.finite_scalar_lookup(INDICES, levels=(1 << 16, 1 << 15)), "more than int32 can number"),
        (lambda: vq.finite_scalar_lookup(Z, levels=(5,)), "finite_scalar_lookup: indices has dtype"),
        (lambda: vq.lookup_free_quantize(np.zeros((2, 32))), r"expected \[..., d\] with d <= 31"),
        (lambda: vq.lookup_free_indices(1.0), r"lookup_free_indices: codes has shape \(\)"),
        (lambda: vq.lookup_free_lookup(INDICES, num_bits=32), "num_bits is 32, expected at most 31"),
        (lambda: vq.lookup_free_entropy(Z, mask=np.ones(2)), "lookup_free_entropy: mask"),
        (lambda: vq.lookup_free_entropy(Z, temperature=np.ones(3)), "temperature has shape"),
        (lambda: vq.gumbel_quantize(KEY, BOOK, Z), r"expected \[4, d\] for logits of shape \(3, 4\)"),
        (lambda: vq.gumbel_quantize(KEY, BOOK[:4], Z, temperature=np.ones(3)), "gumbel_quantize: temperature"),
        (lambda: vq.code_perplexity(Z, num_codes=4), "code_perplexity: indices has dtype"),
        (lambda: vq.code_usage(INDICES, num_codes=4, mask=np.ones((3, 1))), "code_usage: mask has shape"),
        (lambda: vq.code_perplexity(INDICES, num_codes=4.0), "num_codes is 4.0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names_are_listed_in_order():
    assert list(vq.__all__) == sorted(vq.__all__)
    assert all(getattr(vq, name).__doc__ for name in vq.__all__)
