"""The figures of the gallery: one of each model, made by the command that stands beside it.

``python docs/_extensions/gallery_figures.py`` makes those that are missing and those whose command has changed;
``... vae iwae`` makes these anew. A figure is one that the run draws, made smaller, in at most 64 colours; it holds its
command, so that a figure and the command that is shown cannot part.
"""

import argparse
import io
import pathlib
import sys
import tempfile
from typing import NamedTuple

from PIL import Image, PngImagePlugin

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "gallery"
WIDTH, COLOURS, LIMIT = 700, (64, 32, 16, 10), 15_000  # pixels, colours to choose from, bytes


class Figure(NamedTuple):
    """A figure of a run, ``figures/NAME.png``, and the flags of the run."""

    name: str
    flags: str = "--steps=1000"


FIGURES = {
    "vae": Figure("samples"),
    "wake_sleep": Figure("samples"),
    "mcem": Figure("traversals", "--latent_dim=3 --steps=100"),
    "ms_ssim_vae": Figure("reconstructions"),
    "autoencoder": Figure("reconstructions"),
    "denoising_autoencoder": Figure("denoised", "--corruption=gaussian --steps=1000"),
    "sparse_autoencoder": Figure("features"),
    "k_sparse_autoencoder": Figure("features"),
    "contractive_autoencoder": Figure("traversals"),
    "regularized_autoencoder": Figure("samples"),
    "linear_autoencoder": Figure("directions"),
    "linear_vae": Figure("traversals"),
    "beta_vae": Figure("traversals"),
    "annealed_vae": Figure("kl_per_latent", "--capacity=ramp:0:25:1000 --steps=1500"),
    "factor_vae": Figure("traversals"),
    "beta_tc_vae": Figure("traversals"),
    "dip_vae": Figure("traversals"),
    "info_vae": Figure("samples"),
    "wae": Figure("samples"),
    "adversarial_autoencoder": Figure("samples", "--steps=2000"),
    "vae_gan": Figure("samples", "--steps=2000"),
    "iwae": Figure("bounds_by_samples"),
    "miwae": Figure("bounds_by_samples"),
    "ciwae": Figure("bounds_by_samples"),
    "piwae": Figure("bounds_by_samples"),
    "renyi_vae": Figure("bounds_by_samples", "--alpha=0.5 --steps=1000"),
    "vamp_vae": Figure("pseudo_inputs"),
    "mixture_vae": Figure("components"),
    "flow_vae": Figure("samples"),
    "hamiltonian_vae": Figure("leapfrog", "--latent_dim=2 --steps=1000"),
    "riemannian_hamiltonian_vae": Figure("geodesics", "--latent_dim=2 --steps=1000"),
    "poincare_vae": Figure("disk", "--latent_dim=2 --steps=1000"),
    "hyperspherical_vae": Figure("samples"),
    "gumbel_vae": Figure("codes"),
    "joint_vae": Figure("traversals"),
    "vq_vae": Figure("code_maps"),
    "vq_vae2": Figure("top_edits"),
    "ladder_vae": Figure("layers_at_mean"),
    "hierarchical_vae": Figure("layers_at_mean"),
    "sequence_vae": Figure("predictions", "--image_size=16 --sequence_length=12 --steps=300"),
    "td_vae": Figure("predictions", "--image_size=16 --sequence_length=12 --steps=300"),
    "conditional_vae": Figure("classes"),
    "m2_vae": Figure("classes", "--labels=100 --alpha=10 --steps=1000"),
    "semi_supervised_vae": Figure("samples", "--labels=100 --steps=1000 --m2_steps=1000"),
}


def command(model: str) -> str:
    """The command whose figure is shown.

    Example:
      >>> command("vae")
      'python experiments/run.py --model=vae --steps=1000'
    """
    return f"python experiments/run.py --model={model} {FIGURES[model].flags}"


def caption(model: str) -> str:
    """What a figure holds: its command, and which of the run's figures it is.

    Example:
      >>> caption("vae")
      'python experiments/run.py --model=vae --steps=1000: figures/samples.png'
    """
    return f"{command(model)}: figures/{FIGURES[model].name}.png"


def made_by(path: pathlib.Path) -> str:
    """The caption that a figure's file holds; "" where there is no file, or none in it."""
    if not path.exists():
        return ""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def shrunk(image: Image.Image, text: str) -> bytes:
    """A PNG of at most 700 pixels' width, of a palette, which holds ``text``.

    Raises: ValueError where ten colours are still too many for 15,000 bytes.
    """
    small = image.convert("RGB").reduce(-(-image.width // WIDTH))
    information = PngImagePlugin.PngInfo()
    information.add_text("Description", text)
    size = 0
    for colours in COLOURS:
        buffer = io.BytesIO()
        palette = small.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(buffer, "PNG", optimize=True, pnginfo=information)
        size = buffer.tell()
        if size <= LIMIT:
            return buffer.getvalue()
    raise ValueError(f"{text}: {size} bytes in {colours} colours, expected at most {LIMIT}; choose a smaller figure")


def make(model: str, runs: pathlib.Path) -> None:
    """Run the command of a model, where ``runs`` does not hold that run already, and keep its figure."""
    from vaex.cli.main import main as run

    out = runs / model
    if code := run([f"--model={model}", *FIGURES[model].flags.split(), f"--out={out}"]):
        raise SystemExit(f"{command(model)} ended with code {code}")
    with Image.open(out / "figures" / f"{FIGURES[model].name}.png") as image:
        data = shrunk(image, caption(model))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{model}.png").write_bytes(data)


def main(arguments: list[str] | None = None) -> None:
    """Make the figures that are asked for; without names, those that are missing or were made by another command."""
    parser = argparse.ArgumentParser(description="Make the figures of the gallery of models.")
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="all whose figure is missing or changed, if left out"
    )
    parser.add_argument("--runs", type=pathlib.Path, help="keep the runs in this folder, and use those that it holds")
    parsed = parser.parse_args(arguments)
    models = parsed.models or [model for model in FIGURES if made_by(FOLDER / f"{model}.png") != caption(model)]
    if unknown := sorted(set(models) - set(FIGURES)):
        parser.error(f"no figure is declared for {', '.join(unknown)}; FIGURES of {__file__} lists them")
    with tempfile.TemporaryDirectory() as temporary:
        for model in models:
            make(model, parsed.runs or pathlib.Path(temporary))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
