"""Resolving a Spec: protocols, and treatments that do not suit the data."""

import pytest

from vaex.data import Spec, resolve
from vaex.data.spec import with_protocol
from vaex.errors import UserError

GREY = with_protocol(Spec("digits", (8, 8, 1), "grey", levels=17), "digits_1397_200_200")
CONTINUOUS = with_protocol(Spec("c", (4, 4, 1), "grey"), "c_8_1_1")
BINARY = with_protocol(Spec("b", (4,), "binary", levels=2), "b_8_1_1")
REAL = with_protocol(Spec("r", (4,), "real"), "r_8_1_1")


@pytest.mark.parametrize(
    ("spec", "changes", "protocol"),
    [
        (GREY, {}, "digits_1397_200_200 17_levels"),
        (GREY, {"binarize": "dynamic"}, "digits_1397_200_200 dynamic_binarisation"),
        (GREY, {"binarize": "threshold"}, "digits_1397_200_200 threshold_binarisation"),
        (GREY, {"dequantize": "uniform"}, "digits_1397_200_200 17_levels_uniform_dequantisation"),
        (CONTINUOUS, {}, "c_8_1_1 continuous"),
        (CONTINUOUS, {"binarize": "dynamic"}, "c_8_1_1 dynamic_binarisation"),
        (BINARY, {}, "b_8_1_1 binary"),
        (BINARY, {"dequantize": "uniform"}, "b_8_1_1 2_levels_uniform_dequantisation"),
        (REAL, {}, "r_8_1_1 real"),
    ],
)
def test_protocols(spec, changes, protocol):
    resolved = resolve(spec, **changes)
    assert resolved.protocol == protocol
    assert (resolved.binarize, resolved.dequantize) == (
        changes.get("binarize", "none"),
        changes.get("dequantize", "none"),
    )
    assert hash(resolved) == hash(resolve(spec, **changes))


def test_resolving_again_replaces_the_treatment():
    spec = resolve(resolve(GREY, binarize="dynamic"), dequantize="uniform")
    assert spec == resolve(GREY, dequantize="uniform")
    assert resolve(spec) == GREY


@pytest.mark.parametrize(
    ("spec", "changes", "match"),
    [
        (REAL, {"binarize": "dynamic"}, "real numbers.*--binarize=none"),
        (REAL, {"binarize": "threshold"}, "real numbers"),
        (REAL, {"dequantize": "uniform"}, "continuous values.*--dequantize=none"),
        (CONTINUOUS, {"dequantize": "uniform"}, "continuous values"),
        (BINARY, {"binarize": "dynamic"}, "binary already"),
        (GREY, {"binarize": "dynamic", "dequantize": "uniform"}, "set one of them to none"),
        (GREY, {"binarize": "dinamic"}, "did you mean dynamic"),
        (GREY, {"binarize": "auto"}, "Known: dynamic, none, threshold"),
        (GREY, {"dequantize": "unifrom"}, "did you mean uniform"),
    ],
)
def test_unsuitable_treatments_are_refused(spec, changes, match):
    with pytest.raises(UserError, match=match):
        resolve(spec, **changes)
