"""Other frameworks on the same network, batch and optimizer. Importing this package imports none of them.

A peer's module has a maker ``(workload, batch_size, precision, platform) -> contestant`` with ``properties``, ``run(steps)`` and
``check(parity)``, which returns the losses of two training steps from vaex's weights, on its batch and noise.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaex.errors import UserError, nearest

TUNED = "_tuned"
TOLERANCE = (1e-4, 1e-3)  # relative, of the loss before and after an update, in which rounding can flip a sign


class Peer(NamedTuple):
    """A framework to compare with.

    Attributes:
      module: that builds it.
      maker: name of the class in that module.
      summary: one line for the help.
      needs: packages.
      platforms: on which it runs.
      precisions: in which it computes.
    """

    module: str
    maker: str
    summary: str
    needs: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ("cpu", "gpu")
    precisions: tuple[str, ...] = ("float32", "bfloat16")


PEERS = {
    "torch": Peer("peers.torch_loop", "Eager", "PyTorch, eager, fused Adam, convolutions channels_last", ("torch",)),
    "torch_compile": Peer(
        "peers.torch_loop", "Compiled", "the same under torch.compile, with CUDA graphs on a GPU", ("torch",)
    ),
    "pythae": Peer(
        "peers.pythae_trainer",
        "Trainer",
        "Pythae's trainer with its own data loader and Adam",
        ("torch", "pythae"),
        precisions=("float32",),
    ),
    "flax_loop": Peer(
        "peers.flax_loop",
        "Loop",
        "stock Flax: Linen's layers and optax in a jitted step, called from Python",
        platforms=("cpu", "gpu", "tpu"),
    ),
}


def find(name: str) -> Peer:
    """Return the peer called ``name``; with the suffix "_tuned" the same peer, to be started with a tuned allocator.

    Raises: UserError for an unknown name, and for a package that is not installed.
    Example:
      >>> find("flax_loop_tuned").module
      'peers.flax_loop'
    """
    peer = PEERS.get(name.removesuffix(TUNED))
    if peer is None:
        known = [*PEERS, *(peer_name + TUNED for peer_name in PEERS)]
        raise UserError(f"--peers={name}: no peer has this name; {nearest(name, known)}")
    missing = [package for package in peer.needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"--peers={name} needs {' and '.join(missing)}, not installed here; "
            'pip install -e ".[benchmarks]", or leave the peer out'
        )
    return peer


def check_losses(
    name: str,
    expected: Sequence[float],
    losses: Sequence[float],
    *,
    when: Sequence[str] = ("before any update", "after one update"),
    tolerances: Sequence[float] = TOLERANCE,
) -> None:
    """Refuse a peer that does not compute vaex's losses, or other numbers that ``when`` tells apart.

    Raises: UserError that names both.
    Example:
      >>> check_losses("torch", [180.0, 175.0], [180.001, 175.01])
      >>> check_losses("torch", [180.0, 175.0], [181.0, 175.0])
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: torch has a loss of 181 where vaex has 180, before any update, on the same weights, batch and noise
      (relative difference 0.0056, allowed 0.0001): it trains another model, so nothing was timed
    """
    for loss, reference, tolerance, moment in zip(losses, expected, tolerances, when, strict=True):
        difference = abs(loss - reference) / abs(reference)
        if not (math.isfinite(difference) and difference <= tolerance):
            raise UserError(
                f"{name} has a loss of {loss:.6g} where vaex has {reference:.6g}, {moment}, on the same weights, batch and noise "
                f"(relative difference {difference:.2g}, allowed {tolerance:g}): it trains another model, so nothing was timed"
            )


def torch_device(platform: str) -> str:
    """Return PyTorch's name of the platform.

    Raises: UserError where PyTorch sees no GPU.
    """
    import torch  # pyright: ignore[reportMissingImports]

    if platform == "gpu" and not torch.cuda.is_available():
        raise UserError("--peers=torch: this PyTorch sees no GPU; install one with CUDA, or use --device=cpu")
    return "cuda" if platform == "gpu" else "cpu"


def as_options(workload: Any, batch_size: int, precision: str, platform: str) -> dict[str, Any]:
    """Return the arguments of a peer's maker."""
    return {"workload": workload, "batch_size": batch_size, "precision": precision, "platform": platform}
