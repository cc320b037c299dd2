"""The laws of ``vaex.testing`` over the whole registry. A model's laws share its compiled programs, so one process runs them
(``helpers.parallel``)."""

import sys
import time

import pytest

from vaex import testing
from vaex.models import MODELS

pytestmark = pytest.mark.optimised
# one of each kind: a plain VAE, two parameter groups, a tighter bound, stages and codes, a hierarchy, labels
REPRESENTATIVE = ("beta_vae", "factor_vae", "iwae", "vq_vae", "ladder_vae", "m2_vae")


def marks(name: str) -> list[pytest.MarkDecorator]:
    """The laws of all models but a few are slow."""
    return [] if name in REPRESENTATIVE else [pytest.mark.slow]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=marks(name)) for name in MODELS])
def subject(request):
    """The model's stages on small data, and processor seconds of its laws, printed when they are done."""
    seconds: dict[str, float] = {}
    yield testing.build_subjects(request.param), seconds
    dearest = sorted(seconds.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{law} {took:.1f}" for law, took in dearest if took >= 0.05)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{request.param}: laws in {sum(seconds.values()):.1f} s of processor time ({listed})", file=sys.stderr)


@pytest.mark.parametrize("law", testing.LAWS)
def test_model_keeps_the_law(subject, law):
    stages, seconds = subject
    began = time.process_time()
    try:
        testing.check_law(law, stages)
    except testing.NothingToCheck as nothing:
        pytest.skip(str(nothing))
    finally:
        seconds[law] = time.process_time() - began
