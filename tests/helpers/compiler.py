"""Flags under which XLA compiles the programs of tests."""

import importlib.metadata

VERSION = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
# XLA's older emitters, and one module of LLVM for a program, take a quarter of the processor time where the optimiser is off; from
# jaxlib 0.11 on XLA has no older emitters, and ends a process that is given a flag that it does not know
QUICK_COMPILER = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1" if VERSION < (0, 11) else ""
)
