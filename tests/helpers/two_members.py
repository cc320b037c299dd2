"""Fixtures: a trained run of two members, the second of them, and the examples that it was trained on."""

import pathlib

import numpy as np
import pytest

import vaex
from helpers.trained_runs import TWO_MEMBERS
from vaex import data
from vaex.api.trained_model import TrainedModel


@pytest.fixture(scope="module")
def trained(trained_runs) -> pathlib.Path:
    """The directory of two members on digits, with averaged parameters."""
    return trained_runs(*TWO_MEMBERS)


@pytest.fixture(scope="module")
def run(trained) -> TrainedModel:
    """Its second member."""
    return vaex.load(trained, member=1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Test images as stored, uint8 in 0..16."""
    return data.load("digits").splits["test"]["x"]
