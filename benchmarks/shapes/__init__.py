"""Work of shapes that the networks of throughput.py do not have, in vaex and in PyTorch. Importing this package imports neither."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

from peers import TOLERANCE, TUNED, Peer
from workloads import Workload

from vaex.errors import UserError, nearest

TORCH, COMPILED = "PyTorch, eager, fused Adam, convolutions channels_last", "the same under torch.compile"
VQ = {"codes": 512, "code_dim": 64, "channels": 64, "blocks": 2, "downsampling": 4}
MLP = {"latent_dim": 50, "hidden": (200, 200)}
STEP = ("before any update", "after one update")


class Shape(NamedTuple):
    """One kind of work on both sides.

    Attributes:
      name: by which flags choose it.
      workload: network, data and batch sizes; its summary is the line of the help.
      peers: name -> framework that does the same work.
      unit: what an example is, counted in the table.
      per_example: how many units an example has, such as the codes of a sequence.
      draws: what a training step draws, see ``shapes.vaex_side.DRAWS``.
      module: of vaex's side where the work is no training step; its classes and functions are ``maker`` and ``parity``.
      maker: class in that module.
      moments: what the two numbers are that a peer must repeat, for messages.
      tolerance: relative, of these two.
    """

    name: str
    workload: Workload
    peers: Mapping[str, Peer]
    unit: str = "examples"
    per_example: int = 1
    draws: str = "none"
    module: str = ""
    maker: str = ""
    moments: tuple[str, str] = STEP
    tolerance: tuple[float, float] = TOLERANCE

    def ours(self, batch_size: int) -> dict[str, Any]:
        """Return the module, the class and its arguments of vaex's side."""
        if self.module:
            return {"module": self.module, "maker": self.maker, "workload": self.workload, "batch_size": batch_size}
        options = {"workload": self.workload, "batch_size": batch_size, "precision": "float32"}
        return {"module": "vaex_loop", "maker": "Loop", **options}

    def reference(self) -> dict[str, Any]:
        """Return the module, the function and its arguments that give what peers must repeat."""
        if self.module:
            return {"module": self.module, "function": "parity", "workload": self.workload}
        return {"module": "shapes.vaex_side", "function": "parity", "workload": self.workload, "draws": self.draws}


def _torch(module: str, eager: str = "Eager", compiled: str = "Compiled") -> dict[str, Peer]:
    return {
        "torch": Peer(module, eager, TORCH, ("torch",)),
        "torch_compile": Peer(module, compiled, COMPILED, ("torch",)),
    }


def _load(
    name: str, summary: str, model: str, config: dict[str, Any], shape: tuple[int, ...], *batch_sizes: int
) -> Workload:
    return Workload(name, summary, model, config, shape, batch_sizes)


PRIOR = VQ | {"prior_width": 128, "prior_layers": 4, "prior_heads": 4}
CELLS = {"blocks": "16x2,8x2,4x2,2x2,1x2", "width": 32, "latent_channels": 4}
JUMPS = {
    "network": "mlp",
    "hidden": (256,),
    "recurrent": 256,
    "latent_dim": 32,
    "layers": 2,
    "max_jump": 4,
    "pairs": 8,
}
IMAGES = (64, 64, 1)
RESNET = {
    "network": "resnet",
    "channels": (64, 64, 64),
    "hidden": (256,),
    "latent_dim": 64,
    "likelihood": "gaussian",
    "likelihood_scale": "fixed",
}
SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "vq_vae",
            _load(
                "vq_vae", "a VQ-VAE's step: 512 codes of 64 by moving averages, 64x64 images", "vq_vae", VQ, IMAGES, 32
            ),
            {
                **_torch("shapes.torch_vq"),
                "vector_quantize_pytorch": Peer(
                    "shapes.torch_vq",
                    "WithPackage",
                    "the same network with that package's layer, eager",
                    ("torch", "vector_quantize_pytorch"),
                ),
            },
        ),
        Shape(
            "iwae",
            _load(
                "iwae",
                "an IWAE's step: 50 samples, an MLP 784-200-200-50",
                "iwae",
                MLP | {"num_samples": 50},
                (28, 28, 1),
                20,
                100,
            ),
            _torch("shapes.torch_bounds"),
            draws="normal",
        ),
        Shape(
            "bound",
            _load("bound", "importance bounds of 5,000 samples, an MLP 784-200-200-50", "vae", MLP, (28, 28, 1), 10),
            {
                **_torch("shapes.torch_bounds", "Bound", "CompiledBound"),
                "pythae": Peer(
                    "shapes.torch_bounds",
                    "PythaesBound",
                    "Pythae's get_nll, 500 samples at a time",
                    ("torch", "pythae"),
                ),
            },
            unit="bounds",
            module="shapes.vaex_bounds",
            maker="Bound",
            moments=("as the mean bound of two images", "as the mean bound of two others"),
            tolerance=(1e-4, 1e-4),
        ),
        Shape(
            "prior",
            _load(
                "prior",
                "a transformer prior's step on the codes of that VQ-VAE: 256 codes, width 128, 4 layers",
                "vq_vae",
                PRIOR,
                IMAGES,
                32,
            )._replace(stage=1),
            _torch("shapes.torch_prior"),
            unit="tokens",
            per_example=256,
            draws="dropout",
        ),
        Shape(
            "sampling",
            _load("sampling", "that prior's sampling, with a cache", "vq_vae", PRIOR, IMAGES, 16, 128)._replace(
                stage=1
            ),
            _torch("shapes.torch_prior", "Sampler", "CompiledSampler"),
            unit="tokens",
            per_example=256,
            module="shapes.vaex_prior",
            maker="Sampler",
            moments=("as -log p of its codes with the cache", "as the share of its codes that its noise draws"),
            tolerance=(1e-4, 1e-2),  # a rounded tie in one code changes those after it
        ),
        Shape(
            "resnet",
            _load(
                "resnet", "a VAE's step: residual convolutions of 64 channels, 32x32x3", "vae", RESNET, (32, 32, 3), 64
            )._replace(kind="color", levels=256),
            _torch("shapes.torch_resnet"),
            draws="normal",
        ),
        Shape(
            "hierarchy",
            _load(
                "hierarchy",
                "a hierarchical VAE's step: ten layers of latents, 32x32 images",
                "hierarchical_vae",
                CELLS,
                (32, 32, 1),
                32,
            ),
            _torch("shapes.torch_hierarchy"),
            draws="hierarchy",
        ),
        Shape(
            "td_vae",
            _load(
                "td_vae",
                "a TD-VAE's step: 16 frames of 16x16, MLPs and a GRU of 256",
                "td_vae",
                JUMPS,
                (16, 16, 16, 1),
                32,
            ),
            _torch("shapes.torch_sequences"),
            unit="frames",
            per_example=16,
            draws="pairs",
        ),
    )
}


def shape(name: str) -> Shape:
    """Return the shape of this name.

    Raises: UserError for an unknown name.
    """
    if name not in SHAPES:
        raise UserError(f"--only={name}: no shape has this name; {nearest(name, SHAPES)}")
    return SHAPES[name]


def names() -> list[str]:
    """Return the names of all peers, without suffixes."""
    return list(dict.fromkeys(name for entry in SHAPES.values() for name in entry.peers))


def check_peer(name: str) -> None:
    """Check that a peer is known and its packages are installed; "_tuned" starts it with a tuned allocator.

    Raises: UserError where not.
    """
    plain, known = name.removesuffix(TUNED), names()
    if plain not in known:
        raise UserError(
            f"--peers={name}: no peer has this name; {nearest(name, [*known, *(x + TUNED for x in known)])}"
        )
    needs = dict.fromkeys(
        need for entry in SHAPES.values() if plain in entry.peers for need in entry.peers[plain].needs
    )
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"--peers={name} needs {' and '.join(missing)}, not installed here; "
            'pip install -e ".[benchmarks]", or leave the peer out'
        )
