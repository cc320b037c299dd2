"""Sizes that both sides of a shape share and no option of a model says."""

from __future__ import annotations

from workloads import Workload

SAMPLES, CHUNK = 5000, 500  # of an importance bound, and how many at a time: vaex's default

DROPOUT = 0.1  # of a prior: vaex's default


def codes_of(workload: Workload) -> int:
    """Return the number of codes of an image by a VQ-VAE.

    Example:
      >>> codes_of(Workload("", "", "vq_vae", {"downsampling": 4}, (64, 64, 1), (32,)))
      256
    """
    h, w, _ = workload.shape
    return (h // workload.config["downsampling"]) * (w // workload.config["downsampling"])
