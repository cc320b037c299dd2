"""Accelerators to compile for: their names, their devices without the hardware, and what a device can do."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

from vaex.errors import UserError, nearest

GB = 1e9


class Chip(NamedTuple):
    """What the vendor says of one device.

    Attributes:
      title: its name.
      memory: bytes.
      bandwidth: bytes per second of that memory.
      float32, bfloat16: operations per second of dense matrix products on arrays of this type, as jax computes them by default:
        rounded to bfloat16 on a TPU, to TF32 on a GPU.
    """

    title: str
    memory: float
    bandwidth: float
    float32: float
    bfloat16: float

    def peak(self, precision: str) -> float:
        """Return the operations per second of products in "float32" or "bfloat16"."""
        return self.bfloat16 if precision == "bfloat16" else self.float32


CHIPS = {
    "tpu:v4": Chip("TPU v4", 32 * GB, 1228 * GB, 275e12, 275e12),
    "tpu:v5e": Chip("TPU v5e", 16 * GB, 819 * GB, 197e12, 197e12),
    "tpu:v5p": Chip("TPU v5p", 95 * GB, 2765 * GB, 459e12, 459e12),
    "tpu:v6e": Chip("TPU v6e", 32 * GB, 1640 * GB, 918e12, 918e12),
    "cuda:h100": Chip("NVIDIA H100 SXM", 84.929347584 * GB, 3352.32 * GB, 494.7e12, 989.4e12),
    "cuda:h200": Chip("NVIDIA H200", 150 * GB, 4800 * GB, 494.7e12, 989.4e12),
}
L2_BYTES = {"cuda:h100": 52_428_800, "cuda:h200": 62_914_560}
EXTRAS = {"tpu": ("libtpu", "tpu"), "cuda": ("jax_cuda13_plugin", "gpu")}  # platform -> module it needs, vaex's extra
GPU = """
gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {bandwidth}
  l2_cache_size: {l2} clock_rate_ghz: 1.98 device_memory_size: {memory} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }} registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 28 patch: 1 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }} device_description_str: "{title}"
"""


class Target(NamedTuple):
    """Devices to compile for.

    Attributes:
      name: as the flag gives it, such as "tpu:v5e:2x2".
      platform: "tpu" or "cuda".
      chip: of each device.
      topology: as the platform's plugin takes it: "v5e:2x2", or slices x hosts x cards such as "1x1x8".
    """

    name: str
    platform: str
    chip: Chip
    topology: str

    @property
    def kind(self) -> str:
        """The chip's name as in ``CHIPS``."""
        return ":".join(self.name.split(":")[:2])


def parse(text: str) -> Target:
    """Return the target of a flag: "tpu:v5e:2x2", "cuda:h200", or "cuda:h200:8" for eight cards.

    Raises: UserError for another text.
    Example:
      >>> parse("cuda:h200:8").topology, parse("tpu:v5e:4x4").topology
      ('1x1x8', 'v5e:4x4')
    """
    kind, _, size = text.lower().partition(":")
    chip, _, size = size.partition(":")
    name = f"{kind}:{chip}"
    if name not in CHIPS:
        raise UserError(f"--target={text}: {nearest(name, CHIPS)}")
    if kind == "tpu":
        if re.fullmatch(r"\d+(x\d+){1,2}", size) is None:
            raise UserError(f"--target={text}: expected the shape of a slice, such as {name}:2x2")
        return Target(text.lower(), kind, CHIPS[name], f"{chip}:{size}")
    if re.fullmatch(r"[1-9]\d*", size or "1") is None:
        raise UserError(f"--target={text}: expected a number of cards, such as {name}:8")
    return Target(text.lower(), kind, CHIPS[name], f"1x1x{size or 1}")


def is_installed(platform: str) -> bool:
    """Return whether the compiler of a platform is installed."""
    return importlib.util.find_spec(EXTRAS[platform][0]) is not None


def require(target: Target) -> None:
    """Raise UserError where the compiler of a target is not installed."""
    if not is_installed(target.platform):
        module, extra = EXTRAS[target.platform]
        raise UserError(
            f"--target={target.name}: {module} is not installed; in an environment of its own: "
            f'pip install "vaex-jax[train,{extra}]"'
        )


def environment() -> dict[str, str]:
    """Variables that jax needs, before its import, to compile for devices that are not there."""
    flags = os.environ.get("XLA_FLAGS", "")
    autotuning = "--xla_gpu_autotune_level=0"  # timings of kernels need a device
    return {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip is taken, so no lock is needed
        "XLA_FLAGS": flags if "autotune_level" in flags else f"{flags} {autotuning}".strip(),
    }


def devices(target: Target) -> list[Any]:
    """Return the devices of a target; programs can be compiled for them, but not run.

    Raises: UserError where the compiler is not installed, or does not know the topology.
    """
    require(target)
    from jax.experimental import topologies

    more = {}
    if (
        target.platform == "tpu"
        and math.prod(int(size) for size in re.findall(r"\d+", target.topology.partition(":")[2])) == 1
    ):
        more = {"chips_per_host_bounds": (1, 1, 1)}  # a host of one chip, where the default is four
    if target.platform == "cuda":
        chip = target.chip
        config = GPU.format(
            bandwidth=round(chip.bandwidth), l2=L2_BYTES[target.kind], memory=round(chip.memory), title=chip.title
        )
        more = {"topology": target.topology, "target_config": config}
    name = target.topology if target.platform == "tpu" else target.kind.partition(":")[2]
    try:
        return list(topologies.get_topology_desc(topology_name=name, platform=target.platform, **more).devices)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--target={target.name}: the compiler does not know these devices ({reason})") from None
