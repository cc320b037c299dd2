"""Residual codebooks: the first few decode alone, where the codes of the others are -1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.api.keys_and_labels import check_codes
from vaex.data.spec import Spec
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _quantizers as codebooks
from vaex.models.codebooks import vq_vae

SPEC = Spec("random", (8, 8, 1), "binary", levels=2)
KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_first_residual_codebooks_decode_alone(codebook):
    """Codes of -1 add nothing to their vector, which comes nearer with each codebook; other codes that are none give NaN."""
    changes = {"quantizer": "residual", "codebooks": 3, "codebook": codebook, "codebook_init": "kmeans"}
    quantizer = codebooks.quantizer(vq_vae.Config(**{**vq_vae.TINY, **changes}))
    z = jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 2)), jnp.float32)
    params, state = quantizer.init(KEY, z)
    stack = np.asarray(params if codebook == "gradient" else state["codebooks"].codebook)
    indices, left = np.asarray(quantizer.quantize(params, state, z).indices), []
    for first in range(4):
        some = np.where(np.arange(3) < first, indices, -1)
        vectors = np.asarray(quantizer.lookup(params, state, jnp.asarray(some)))
        expected = np.zeros_like(z) + sum(stack[slot][indices[..., slot]] for slot in range(first))
        np.testing.assert_allclose(vectors, expected, rtol=1e-6, atol=1e-6)
        left.append(float(np.sum(np.square(z - vectors))))
    assert left == sorted(left, reverse=True) and left[3] < 0.5 * left[1]
    for invalid in (-2, len(stack[0])):
        assert np.isnan(quantizer.lookup(params, state, jnp.full((1, 3), invalid))).all()


def test_only_residual_codes_may_be_left_out():
    for quantizer in ("vector", "residual", "grouped"):
        config = vq_vae.Config(**{**vq_vae.TINY, "quantizer": quantizer})
        latents = code_maps.code_maps(config, SPEC, (2,)).latents
        z = jnp.full((1, sum(block.size for block in latents)), -1)
        if quantizer == "residual":
            check_codes(latents, z)
        with pytest.raises(ValueError, match="expected codes 0 to 3"):
            check_codes(latents, z - 1 if quantizer == "residual" else z)
