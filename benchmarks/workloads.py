"""Networks that the benchmarks train, with shapes of data and batch sizes; synthetic data; counts of operations.

Axes: b batch, n examples, h w c image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vaex import models
from vaex.configuration.settings import DEFAULTS
from vaex.errors import UserError, nearest

EXAMPLES = 2048  # resident, or twice the batch where that is more
CHANNELS, GRID_LATENTS = 64, 4  # of the residual network


class Workload(NamedTuple):
    """A network on data of one shape.

    Attributes:
      name: by which flags choose it.
      summary: one line for the help.
      model: a name of vaex's registry, or a module with Config, HParams and build.
      config: fields of the model's Config.
      shape: [h, w, c] of an image, or [t, h, w, c] of a sequence.
      batch_sizes: default batch sizes.
      kind: as in ``vaex.data.Spec``, like ``levels`` and ``num_classes``.
      levels: of stored values.
      num_classes: of labels, 0 for none.
      peers: True where the peers implement the network.
      stage: of the recipe, counted from 0; those before it are drawn, not trained.
    """

    name: str
    summary: str
    model: str
    config: Mapping[str, Any]
    shape: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    kind: str = "binary"
    levels: int | None = 2
    num_classes: int = 0
    peers: bool = True
    stage: int = 0


NETWORKS = {
    workload.name: workload
    for workload in (
        Workload(
            "small", "an MLP 64-64-8 on 8x8", "vae", {"latent_dim": 8, "hidden": (64,)}, (8, 8, 1), batch_sizes=(64,)
        ),
        Workload("mlp", "an MLP 784-512-16 on 28x28", "vae", {"latent_dim": 16, "hidden": (512,)}, (28, 28, 1), (100,)),
        Workload(
            "conv64",
            "four convolutions 4x4/s2 of 32-32-64-64 channels, 256 hidden, mirrored, on 64x64",
            "vae",
            {"network": "conv", "latent_dim": 10, "hidden": (256,), "channels": (32, 32, 64, 64)},
            (64, 64, 1),
            (64, 128),
        ),
        Workload(
            "residual",
            "two residual blocks a side, 3x3 then 3x3 and 3x3 then 1x1, 64 channels on 16x16",
            "residual",
            {"channels": CHANNELS, "latent_channels": GRID_LATENTS},
            (16, 16, 1),
            (32,),
        ),
    )
}

# data set -> shape, kind, levels, classes of the registered models' default data
SHAPES: dict[str, tuple[tuple[int, ...], str, int | None, int]] = {
    "digits": ((8, 8, 1), "grey", 17, 10),
    "mnist": ((28, 28, 1), "grey", 256, 10),
    "fashion_mnist": ((28, 28, 1), "grey", 256, 10),
    "binarized_mnist": ((28, 28, 1), "binary", 2, 0),
    "omniglot": ((28, 28, 1), "grey", None, 50),
    "freyfaces": ((28, 20, 1), "grey", 256, 0),
    "cifar10": ((32, 32, 3), "color", 256, 10),
    "sprites": ((64, 64, 1), "binary", 2, 0),
    "dsprites": ((64, 64, 1), "binary", 2, 0),
    "color_sprites": ((64, 64, 3), "color", 256, 0),
    "shapes3d": ((64, 64, 3), "color", 256, 0),
    "celeb_a": ((218, 178, 3), "color", 256, 0),
    "bouncing_sprites": ((16, 32, 32, 1), "binary", 2, 0),
}


def find(name: str) -> Workload:
    """Return the network called ``name``, or the default network, data shape and batch size of a registered model.

    Raises: UserError for a name that is neither, or for a model whose default data is not in ``SHAPES``.
    Example:
      >>> find("mlp").shape, find("vae").batch_sizes
      ((28, 28, 1), (128,))
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if name not in models.MODELS and "." not in name:
        raise UserError(
            f"--models={name}: no network or model has this name; {nearest(name, [*NETWORKS, *models.MODELS])}; or give a "
            "module of your own, as my_package.my_module"
        )
    defaults = DEFAULTS | getattr(models.module(name), "DEFAULTS", {})
    if defaults["dataset"] not in SHAPES:
        raise UserError(
            f"--models={name}: the shape of its data set {defaults['dataset']!r} is not known here; add it to SHAPES in "
            "benchmarks/workloads.py"
        )
    shape, kind, levels, classes = SHAPES[defaults["dataset"]]
    summary = f"{name}, its default network on data shaped as {defaults['dataset']}"
    return Workload(name, summary, name, {}, shape, (defaults["batch_size"],), kind, levels, classes, peers=False)


def arrays(workload: Workload, batch_size: int) -> dict[str, np.ndarray]:
    """Synthesise data: dark images with bright blocks, stored as data sets are; labels where the workload has classes.

    Returns: "x" [n, h, w, c] or, of static sequences, [n, t, h, w, c]: uint8 level indices or float32 in [0, 1];
      "y" [n] int32.
    """
    n = max(EXAMPLES, 2 * batch_size)
    h, w, c = workload.shape[-3:]
    random = np.random.default_rng(0)
    coarse = random.random((n, -(-h // 4), -(-w // 4), c), np.float32)
    grey = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)[:, :h, :w] ** 3
    data: dict[str, np.ndarray] = {"x": grey}
    if workload.levels is not None:
        data["x"] = np.rint(grey * (workload.levels - 1)).astype(np.uint8)
    if len(workload.shape) == 4:
        data["x"] = np.repeat(data["x"][:, None], workload.shape[0], axis=1)
    if workload.num_classes:
        data["y"] = random.integers(0, workload.num_classes, n, np.int32)
    return data


def matrix_flops(workload: Workload, batch_size: int) -> float:
    """Count the floating point operations of the matrix products and convolutions of one training step, by hand.

    A product of the forward pass has two more in the backward pass; the first layer's input needs no gradient.

    Raises: ValueError for a model outside ``NETWORKS``, whose layers are not known here.
    Example:
      >>> matrix_flops(find("mlp"), 100) == 2 * 100 * (3 * (784 * 512 + 512 * 32 + 16 * 512 + 512 * 784) - 784 * 512)
      True
    """
    if workload.name not in NETWORKS:
        raise ValueError(f"matrix_flops: the layers of {workload.name!r} are not known; take one of {list(NETWORKS)}")
    layers = multiplications(workload)
    return 2.0 * batch_size * (3 * sum(layers) - layers[0])


def multiplications(workload: Workload) -> list[int]:
    """Count the multiplications of each layer's forward pass for one example, from the image to its reconstruction.

    The workload has one of the networks of ``NETWORKS``, of any sizes.
    """
    config, (h, w, c) = workload.config, workload.shape
    if workload.model == "residual":
        width, latents = config["channels"], config["latent_channels"]
        blocks = width * width * (9 + 9 + 9 + 1)  # 3x3, 3x3 and 3x3, 1x1
        side = [9 * c * width, blocks, width * 2 * latents, latents * width, blocks, 9 * width * c]
        return [h * w * count for count in side]
    pixels, latents, hidden = h * w * c, config["latent_dim"], config["hidden"]
    if config.get("network", "mlp") == "mlp":
        widths = [pixels, *hidden, 2 * latents], [latents, *hidden[::-1], pixels]
        return [a * b for chain in widths for a, b in itertools.pairwise(chain)]
    stages, widths = [(h, w)], [c]
    for width in config["channels"]:
        if min(stages[-1]) < 4:
            break
        stages.append((stages[-1][0] // 2, stages[-1][1] // 2))
        widths.append(width)
    down = [math.prod(size) * 16 * a * b for size, a, b in zip(stages[1:], widths[:-1], widths[1:], strict=True)]
    grid = math.prod(stages[-1]) * widths[-1]
    dense = [grid * hidden[0], hidden[0] * 2 * latents, latents * hidden[0], hidden[0] * grid]
    return [*down, *dense, *down[::-1]]
