"""The laws run over every flow of the table."""

import pytest
from helpers.flow_table import FLOWS


@pytest.fixture(params=FLOWS)
def flow(request):
    return FLOWS[request.param]
