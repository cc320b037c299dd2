"""Settings of a command line that asks for one run."""

from collections.abc import Sequence

from vaex.cli.parse import parse_all
from vaex.configuration.settings import Settings


def parse(arguments: Sequence[str]) -> Settings:
    """The settings that the command line makes of its arguments."""
    (settings,) = parse_all(arguments).runs.values()
    return settings
