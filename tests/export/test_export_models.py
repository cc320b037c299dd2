"""Models of every kind are exported, and give their own numbers."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.exported import assert_like, expected
from jax import export

import vaex
from vaex import testing
from vaex.api.trained_model import TrainedModel
from vaex.export import functions, onnx, stablehlo
from vaex.models import MODELS

pytestmark = pytest.mark.nightly

# which of a model's functions jax2onnx 0.17 and onnxruntime do not have, and the operation that is missing
NOT_IN_ONNX = {
    ("flow_vae", "encode"): "RandomNormal",
    ("poincare_vae", "encode"): "RandomNormal",
    ("vq_vae", "encode"): "fill_value",
    ("vq_vae", "decode"): "fill_value",
    ("vq_vae2", "encode"): "fill_value",
    ("vq_vae2", "decode"): "fill_value",
    ("hierarchical_vae", "decode"): "conv layouts",
    ("hamiltonian_vae", "encode"): "Differentiation rule",
    ("riemannian_hamiltonian_vae", "encode"): "Differentiation rule",
}
# models that differ from vae, or from autoencoder, in their objective alone
SAME = {
    *("beta_vae", "annealed_vae", "factor_vae", "beta_tc_vae", "dip_vae", "info_vae"),
    *("iwae", "miwae", "ciwae", "piwae", "renyi_vae"),
    *("denoising_autoencoder", "sparse_autoencoder", "contractive_autoencoder"),
}
DIFFERENT = [name for name in MODELS if name not in SAME]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in DIFFERENT])
def named_model(request):
    """A model's name, and the model as it starts, on small data."""
    subject = testing.build_subjects(request.param)[-1]
    state = subject.first_state()
    return request.param, TrainedModel(subject.recipe, subject.spec, state.variables, subject.first_hparams(), 0)


def test_artefacts_give_the_models_numbers(named_model):
    _, model = named_model
    for function in functions.functions(model):
        loaded = export.deserialize(stablehlo.lower(function).serialize())
        for size in (1, 7):
            arrays = function.arguments(np.random.default_rng(size), size)
            assert_like(loaded.call(*arrays.values()), expected(model, function, arrays))


def test_onnx_gives_the_models_numbers(named_model, tmp_path):
    pytest.importorskip("jax2onnx", reason="needs an environment with the extra onnx")
    from vaex.errors import UserError

    name, model = named_model
    for function in functions.functions(model, ("encode", "decode")):
        missing = NOT_IN_ONNX.get((name, function.name))
        if missing is None:
            onnx.write_onnx(tmp_path / f"{function.name}.onnx", function)  # compares
        else:
            with pytest.raises(UserError, match=f"cannot be converted to onnx .*{missing}"):
                onnx.write_onnx(tmp_path / f"{function.name}.onnx", function)


class Encoder(nn.Module):
    """Reads x, and the condition where the model has one; ``len`` needs a batch of known size."""

    @nn.compact
    def __call__(self, x, *condition):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        return nn.relu(nn.Dense(8)(jnp.concatenate([x.reshape(len(x), -1), *condition], axis=-1)))


class Decoder(nnx.Module):
    def __init__(self, *, rngs, inputs=2):
        self.output = nnx.Linear(inputs, 64, rngs=rngs)

    def __call__(self, z, *condition):
        return self.output(jnp.concatenate([z, *condition], axis=-1)).reshape(len(z), 8, 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["beta_vae", "conditional_vae"])
def test_own_networks_are_exported_and_need_no_known_size_of_a_batch(model):
    x = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
    width = 2 + 3 * (model == "conditional_vae")
    run = vaex.train(
        model,
        (x, np.arange(60) % 3),
        encoder=Encoder(),
        decoder=lambda rngs: Decoder(rngs=rngs, inputs=width),
        latent_dim=2,
        steps=2,
        progress=False,
    )
    test_artefacts_give_the_models_numbers((model, run[0]))
