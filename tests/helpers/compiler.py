"""Flags under which XLA compiles the programs of tests."""

import importlib.metadata

VERSION = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
# XLA's older emitters take half of the processor time where the optimiser is off; from jaxlib 0.11 on XLA has none, and ends a
# process that is given a flag that it does not know. One LLVM module for a program (xla_cpu_parallel_codegen_split_count=1) saved a
# seventh of the processor time of a model's laws, but of the long runs of pytest with it, one aborted and one mixed up the states
# of two models
QUICK_COMPILER = "--xla_cpu_use_fusion_emitters=false" if VERSION < (0, 11) else ""
