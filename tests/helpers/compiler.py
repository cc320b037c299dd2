"""Flags under which XLA compiles the programs of tests."""

import importlib.metadata

VERSION = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
# XLA's older emitters compile faster; from jaxlib 0.11 on XLA has no others, and ends a process that is given the flag
OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false" if VERSION < (0, 11) else ""
