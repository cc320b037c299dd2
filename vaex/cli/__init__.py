"""The command line, a thin client of ``vaex.runs``."""
