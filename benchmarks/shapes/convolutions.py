"""Convolutions of vaex.nets beside flax.linen's, alone and in networks: ``python benchmarks/shapes/convolutions.py``.

Both modules hold the same parameters and must give the same results before they are timed, in turn, in one process. forward: the
jitted module; gradient: that of a loss with respect to the parameters, or to x as well. One call at a time, outside of any loop:
inside of ``lax.scan``, where vaex trains, XLA's own gradients take about ten times as long as vaex's, and more. Networks are
encoders and decoders that only run forward, once and over four batches in ``lax.map``, as an evaluation does.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from console import counts, guarded, names, say
from measure import interleave
from tables import number, table

from vaex import nets
from vaex.errors import UserError

Work = Callable[[Any, jax.Array], Any]


class Layer(NamedTuple):
    """A convolution of square images. Example: ``Layer.parse("32x32x32-64-4x4s2")``."""

    side: int
    channels: int
    features: int
    kernel: int
    stride: int

    @classmethod
    def parse(cls, text: str) -> Layer:
        """Return the layer of a text such as "32x32x32-64-4x4s2": image, features, kernel and stride.

        Raises: UserError for another text.
        Example:
          >>> Layer.parse("16x16x64-32-3x3s1")
          Layer(side=16, channels=64, features=32, kernel=3, stride=1)
        """
        try:
            image, features, kernel = text.split("-")
            (side, width, channels), (size, strides) = (part.split("x") for part in (image, kernel))
            other, stride = strides.split("s")
            if side != width or size != other:
                raise ValueError
            return cls(*map(int, (side, channels, features, size, stride)))
        except ValueError:
            raise UserError(
                f"--layers={text}: expected IMAGE-FEATURES-KERNELsSTRIDE with square sides, such as 32x32x32-64-4x4s2"
            ) from None

    def __str__(self) -> str:
        size = f"{self.kernel}x{self.kernel}"
        return f"{self.side}x{self.side}x{self.channels} -> {self.features}, {size}, stride {self.stride}"

    def modules(self) -> dict[str, nn.Module]:
        """Return vaex's layer and Linen's."""
        options: dict[str, Any] = {"strides": self.stride, "padding": (self.kernel - 1) // 2}
        size = (self.kernel, self.kernel)
        return {"vaex": nets.Conv(self.features, size, **options), "flax": nn.Conv(self.features, size, **options)}

    def inputs(self) -> tuple[int, ...]:
        """Return the shape of an example."""
        return self.side, self.side, self.channels

    def kinds_of_work(self, module: nn.Module) -> dict[str, Work]:
        """Return what is timed, each (variables, x) -> arrays."""

        def loss(variables: Any, x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.square(jnp.asarray(module.apply(variables, x))))

        return {
            "forward": module.apply,
            "gradient": jax.grad(loss),
            "gradient and input's": jax.grad(loss, argnums=(0, 1)),
        }


class Chain(nn.Module):
    """Convolutions 4x4 with stride 2, ReLU between them; transposed ones double the sides.

    Attributes:
      layer: class of the layers.
      widths: features of each.
    """

    layer: type[nn.Module]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, *sides, features]."""
        for index, width in enumerate(self.widths):
            options: dict[str, Any] = {"strides": (2, 2), "padding": "SAME", "name": f"layer_{index}"}
            x = self.layer(width, (4, 4), **options)(x if index == 0 else nn.relu(x))  # type: ignore[call-arg]
        return x


class Network(NamedTuple):
    """An encoder or decoder of square images. Example: ``Network.both("64x64x3-32-64")``."""

    side: int
    channels: tuple[int, ...]  # of the image, then of the encoder's layers
    transposed: bool

    @classmethod
    def both(cls, text: str) -> tuple[Network, Network]:
        """Return the encoder and the decoder of a text such as "64x64x3-32-64": image, features of the encoder's layers.

        Raises: UserError for another text, and where a layer would leave no pixel.
        Example:
          >>> [str(network) for network in Network.both("64x64x3-32-64")]
          ['encoder 64x64x3-32-64', 'decoder 64x64x3-32-64']
        """
        try:
            image, *widths = text.split("-")
            side, width, channels = map(int, image.split("x"))
            every = (channels, *map(int, widths))
            if side != width or not widths or min(every) < 1 or side < 1 or side % 2 ** len(widths):
                raise ValueError
        except ValueError:
            raise UserError(
                f"--networks={text}: expected IMAGE-FEATURES-FEATURES-... with square sides that every layer can halve, such as "
                "64x64x3-32-64"
            ) from None
        return cls(side, every, False), cls(side, every, True)

    def __str__(self) -> str:
        features = "-".join(map(str, self.channels[1:]))
        return f"{'decoder' if self.transposed else 'encoder'} {self.side}x{self.side}x{self.channels[0]}-{features}"

    def modules(self) -> dict[str, nn.Module]:
        """Return the network of vaex's layers and that of Linen's."""
        if self.transposed:
            layers, widths = {"vaex": nets.ConvTranspose, "flax": nn.ConvTranspose}, self.channels[-2::-1]
        else:
            layers, widths = {"vaex": nets.Conv, "flax": nn.Conv}, self.channels[1:]
        return {name: Chain(layer, widths) for name, layer in layers.items()}

    def inputs(self) -> tuple[int, ...]:
        """Return the shape of an example."""
        side = self.side // 2 ** (len(self.channels) - 1)
        return (side, side, self.channels[-1]) if self.transposed else (self.side, self.side, self.channels[0])

    def kinds_of_work(self, module: nn.Module) -> dict[str, Work]:
        """Return what is timed, each (variables, x) -> arrays."""

        def four(variables: Any, x: jax.Array) -> jax.Array:
            return jax.lax.map(lambda scale: module.apply(variables, scale * x), jnp.arange(1.0, 5.0))

        return {"forward": module.apply, "forward, four batches in a loop": four}


LAYERS = ("32x32x32-64-4x4s2", "16x16x64-64-3x3s1", "64x64x3-32-4x4s2", "28x28x1-32-4x4s2", "8x8x256-256-3x3s1")
NETWORKS = ("64x64x3-32-32-64-64", "32x32x3-32-64-128", "28x28x1-32-64")


def timings(subject: Layer | Network, batch: int, repeats: int, seconds: float) -> list[dict[str, str]]:
    """Return a row of milliseconds for each kind of work.

    Raises: UserError where the two modules differ.
    """
    x = jax.random.normal(jax.random.key(0), (batch, *subject.inputs()))
    modules = subject.modules()
    variables = modules["flax"].init(jax.random.key(1), x)
    works = {name: subject.kinds_of_work(module) for name, module in modules.items()}
    rows = []
    for kind in works["flax"]:
        calls = {name: jax.jit(work[kind]).lower(variables, x).compile() for name, work in works.items()}
        results = [jax.tree.leaves(call(variables, x)) for call in calls.values()]
        for ours, linens in zip(*results, strict=True):
            if not np.allclose(ours, linens, rtol=1e-3, atol=1e-4 * float(jnp.abs(linens).max())):
                raise UserError(f"convolutions: {subject}, {kind}: the two modules differ")
        count = repetitions(calls["flax"], variables, x, seconds)
        times = interleave({name: repeated(call, variables, x, count) for name, call in calls.items()}, repeats=repeats)
        if any(timing.dropped == repeats for timing in times.values()):
            say(f"{subject}, {kind}: other programs were at work during all repeats, so this row compares nothing")
        each = {name: 1e3 * timing.median / count for name, timing in times.items()}
        row = {"layers": str(subject), "batch": str(batch), "work": kind}
        row |= {f"{name}, ms": number(value) for name, value in each.items()}
        rows.append(row | {"vaex is as fast": number(each["flax"] / each["vaex"], "x")})
    return rows


def repeated(call: Work, variables: Any, x: jax.Array, count: int) -> Callable[[], None]:
    """Return a function that calls ``count`` times and waits."""

    def run() -> None:
        for _ in range(count):
            jax.block_until_ready(call(variables, x))

    return run


def repetitions(call: Work, variables: Any, x: jax.Array, seconds: float) -> int:
    """Return how many calls take about so many seconds."""
    function = repeated(call, variables, x, 1)
    return max(1, round(seconds / interleave({"": function}, repeats=3)[""].median))


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--layers", default=",".join(LAYERS), help="IMAGE-FEATURES-KERNELsSTRIDE (default: %(default)s)"
    )
    parser.add_argument("--networks", default=",".join(NETWORKS), help="IMAGE-FEATURES-... (default: %(default)s)")
    parser.add_argument("--batch_sizes", type=counts, default="8,64", help="of each (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="of each measurement (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a repeat (default: %(default)s)")
    flags = parser.parse_args(arguments)

    def work() -> None:
        rows: list[dict[str, str]] = []
        layers = [Layer.parse(text) for text in names(flags.layers)]
        networks = [network for text in names(flags.networks) for network in Network.both(text)]
        for subject in [*layers, *networks]:
            for batch in flags.batch_sizes:
                say(f"{subject}, batch {batch}")
                rows.extend(timings(subject, batch, flags.repeats, flags.seconds))
        print(table({name: [row[name] for row in rows] for name in rows[0]}))

    return guarded("convolutions", work)


if __name__ == "__main__":
    raise SystemExit(main())
