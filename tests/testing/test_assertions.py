"""Comparisons of pytrees: what rounding explains passes, anything else does not."""

import numpy as np
import pytest

from vaex.testing.assertions import assert_close_but_for_rounding

EXPECTED = {"kernel": np.array([1.0, 2.0], np.float32), "step": np.int32(3)}


def changed(kernel=0.0, step=0):
    return {"kernel": EXPECTED["kernel"] + np.float32(kernel), "step": EXPECTED["step"] + np.int32(step)}


@pytest.mark.parametrize("off", [1e-5, 1e-3])
def test_ten_times_a_rounding_passes_and_a_hundred_times_does_not(off):
    assert_close_but_for_rounding(changed(8 * off), EXPECTED, changed(off))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close_but_for_rounding(changed(100 * off), EXPECTED, changed(off))


def test_a_model_that_amplifies_nothing_has_the_plain_tolerance():
    assert_close_but_for_rounding(changed(5e-6), EXPECTED, EXPECTED)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close_but_for_rounding(changed(5e-5), EXPECTED, EXPECTED)


def test_integers_and_nan_are_never_rounded():
    with pytest.raises(AssertionError):
        assert_close_but_for_rounding(changed(step=1), EXPECTED, changed(1.0, step=5))
    with pytest.raises(AssertionError):
        assert_close_but_for_rounding(changed(np.nan), EXPECTED, changed(1.0))
    with pytest.raises(AssertionError):
        assert_close_but_for_rounding(changed(1.0), EXPECTED, changed(np.nan))
