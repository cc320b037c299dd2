"""The laws of ``vaex.testing`` over the whole registry. A model's laws share its compiled programs, so one process runs them
(``helpers.parallel``).

Laws that compare the bits of programs are kept as users compile; the others, which have a tolerance, in a fraction of the time
without LLVM's optimiser. A few models keep the laws with a tolerance in the default tests, three of them those of bits as well. The
gate adds the bits of the few, and of all others the laws with a tolerance; the nightly tests add their bits.
"""

import sys
import time

import pytest

from vaex import testing
from vaex.models import MODELS

# one of each kind: a plain VAE, two parameter groups, a tighter bound, stages and codes, a hierarchy, labels
REPRESENTATIVE = ("beta_vae", "factor_vae", "iwae", "vq_vae", "ladder_vae", "m2_vae")
BITS_BY_DEFAULT = ("beta_vae", "factor_vae", "iwae")
OF_BITS = ("chunks_are_invisible", "members_equal_solo_runs", "resume_is_exact")
QUICK = [
    pytest.param(model, law, id=f"{model}-{law}", marks=[] if model in REPRESENTATIVE else pytest.mark.slow)
    for model in MODELS
    for law in testing.LAWS
    if law not in OF_BITS
]


def marks_of_bits(model):
    slow = [] if model in BITS_BY_DEFAULT else [pytest.mark.slow]
    return slow if model in REPRESENTATIVE else [*slow, pytest.mark.nightly]


OPTIMISED = [
    pytest.param(model, law, id=f"{model}-{law}", marks=marks_of_bits(model)) for model in MODELS for law in OF_BITS
]


class Subjects:
    """The stages of the model that is tested, on small data, and processor seconds of its laws, printed when they are done."""

    def __init__(self, request):
        self.capture = request.config.pluginmanager.getplugin("capturemanager")
        self.model, self.stages, self.seconds = ("", False), [], {}

    def check(self, law, model, optimised):
        if self.model != (model, optimised):
            self.report()
            self.model, self.stages, self.seconds = (model, optimised), testing.build_subjects(model), {}
        began = time.process_time()
        try:
            testing.check_law(law, self.stages)
        except testing.NothingToCheck as nothing:
            pytest.skip(str(nothing))
        finally:
            self.seconds[law] = time.process_time() - began

    def report(self):
        dearest = sorted(self.seconds.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{law} {took:.1f}" for law, took in dearest if took >= 0.05)
        total = sum(self.seconds.values())
        if self.seconds:
            with self.capture.global_and_fixture_disabled():
                print(f"\n{self.model[0]}: laws in {total:.1f} s of processor time ({listed})", file=sys.stderr)


@pytest.fixture(scope="module")
def subjects(request):
    kept = Subjects(request)
    yield kept
    kept.report()


@pytest.mark.parametrize(("model", "law"), QUICK)
def test_model_keeps_the_law(subjects, model, law):
    subjects.check(law, model, optimised=False)


@pytest.mark.optimised
@pytest.mark.parametrize(("model", "law"), OPTIMISED)
def test_model_keeps_the_law_as_users_compile(subjects, model, law):
    subjects.check(law, model, optimised=True)


def test_laws_of_bits_are_laws():
    assert set(OF_BITS) < set(testing.LAWS) and set(REPRESENTATIVE) < set(MODELS)
