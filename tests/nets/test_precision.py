"""Encoder and decoder in bfloat16: gradients near those of float32, everything else in float32, and who refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import Fresh

import vaex
from vaex import models, nets
from vaex.api.arguments import settings_of
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.networks import encoder_module
from vaex.runs.config_file import identity
from vaex.training.parts import names

GREY = Spec("random", (16, 16, 1), "grey", levels=256)
IMAGES = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 256, (32, *GREY.shape)) / 255, jnp.float32)}
WIDE = {"hidden": (32, 32), "latent_dim": 4, "likelihood": "discretized_logistic"}


def fresh(model, **options):
    return Fresh(models.module(model), batch=IMAGES, spec=GREY, **WIDE, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "network"), [("vae", "mlp"), pytest.param("iwae", "conv", marks=pytest.mark.slow)])
def test_gradients_are_near_those_of_float32_and_are_float32(model, network):
    narrow, wide = (fresh(model, network=network, precision=name) for name in ("bfloat16", "float32"))
    outcome = jax.eval_shape(lambda: narrow.outcome())
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((narrow.variables, outcome.losses, outcome.metrics))} == {
        "float32"
    }
    expected_gradients = names(wide.gradients())
    for name, gradient in names(narrow.gradients()).items():
        expected = expected_gradients[name]
        size = float(jnp.linalg.norm(expected))
        error = float(jnp.linalg.norm(gradient - expected))
        assert gradient.dtype == jnp.float32 and error < 0.05 * size + 1e-6, (name, error / size)
    loss, expected = (float(subject.outcome().losses["vae"]) for subject in (narrow, wide))
    assert loss != expected and loss == pytest.approx(expected, rel=2e-3)


def test_float32_is_the_network_itself_and_goes_unrecorded():
    config = models.module("vae").Config()
    assert isinstance(encoder_module(config, GREY, 4), nets.MLP)
    settings = settings_of("vae", {"precision": "float32"})
    assert "precision" not in identity(settings)["config"]
    settings = settings_of("vae", {"precision": "bfloat16"})
    assert identity(settings)["config"]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vae", {"network": "resnet"}, "is for --network=mlp and conv, not for --network=resnet"),
        ("vae", {"encoder": nets.MLP((8,), 8)}, "not for --encoder of your own"),
        ("td_vae", {}, "recurrent networks compute in float32"),
        ("vq_vae", {}, "'precision' is no option"),
    ],
)
def test_other_networks_refuse_in_one_line(model, options, message):
    with pytest.raises(UserError, match=message):
        settings_of(model, {"precision": "bfloat16", **options})


@pytest.mark.slow
def test_digits_are_learned_as_well():
    options = {"steps": 400, "hidden": (128, 128), "devices": 1, "progress": False, "seeds": range(2)}
    ends = {}
    for precision in ("float32", "bfloat16"):
        rows = vaex.train("vae", "digits", precision=precision, **options).rows()
        ends[precision] = np.mean(rows[-1]["elbo"])
    assert ends["bfloat16"] == pytest.approx(ends["float32"], abs=1.0), ends
