"""Models of every kind are exported, and give their own numbers."""

import numpy as np
import pytest
from helpers.exported import assert_like, expected
from jax import export

from vaex import testing
from vaex.api.trained_model import TrainedModel
from vaex.export import functions, onnx, stablehlo
from vaex.models import MODELS

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
