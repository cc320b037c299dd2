"""Each model has one figure in the gallery, small, made by the command that is shown, which is one that the command line takes."""

import importlib.util
import sys

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image, PngImagePlugin

from vaex import models
from vaex.cli.parse import parse_all

EXTENSIONS = ROOT / "docs" / "_extensions"


def extension(name):
    """A module of docs/_extensions, which is no package."""
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


gallery = extension("gallery_figures")
FILES = {path.stem: path for path in gallery.FOLDER.glob("*")}


def test_every_model_has_one_figure():
    assert set(FILES) == set(gallery.FIGURES) == set(models.MODELS)
    assert {path.suffix for path in FILES.values()} == {".png"}


def test_figures_are_small():
    sizes = {name: path.stat().st_size for name, path in FILES.items()}
    assert {name: size for name, size in sizes.items() if size > gallery.LIMIT} == {}
    assert sum(sizes.values()) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", gallery.FIGURES)
def test_a_figure_was_made_by_the_command_that_is_shown(name):
    with Image.open(FILES[name]) as image:
        assert image.mode == "P" and image.width <= gallery.WIDTH
        assert image.info["Description"] == gallery.caption(name)
        shades = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(shades) >= 4  # no blank page
    parse_all([f"--model={name}", *gallery.FIGURES[name].flags.split()])  # raises where a flag is refused


@pytest.mark.slow
def test_a_figure_made_smaller_holds_its_command_and_equal_runs_give_equal_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 4), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    image = Image.fromarray(noise[..., :3])
    path = tmp_path / "vae.png"
    path.write_bytes(gallery.shrunk(image, gallery.caption("vae")))
    assert gallery.made_by(path) == gallery.caption("vae") and gallery.made_by(tmp_path / "iwae.png") == ""
    with Image.open(path) as small:
        assert small.size == (640, 64)
    assert gallery.shrunk(image, gallery.caption("vae")) == path.read_bytes()
    fine = Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="choose a smaller figure"):
        gallery.shrunk(fine, "fine")


def test_only_figures_that_are_missing_or_of_another_command_are_made(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(gallery, "FOLDER", tmp_path)
    monkeypatch.setattr(gallery, "make", lambda model, runs: made.append(model))
    for name, text in (("vae", gallery.caption("vae")), ("iwae", "another command")):
        information = PngImagePlugin.PngInfo()
        information.add_text("Description", text)
        Image.new("P", (1, 1)).save(tmp_path / f"{name}.png", pnginfo=information)
    gallery.main([])
    assert made == [name for name in gallery.FIGURES if name != "vae"]
    gallery.main(["vae"])
    assert made[-1] == "vae"
    with pytest.raises(SystemExit):
        gallery.main(["no_such_model"])


@pytest.mark.slow
def test_the_script_makes_the_figure_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "FOLDER", tmp_path)
    gallery.main(["linear_autoencoder", "--runs", str(tmp_path / "runs")])
    with Image.open(tmp_path / "linear_autoencoder.png") as made, Image.open(FILES["linear_autoencoder"]) as kept:
        assert made.size == kept.size and made.info == kept.info


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="sphinx missing; pip install -e '.[docs]'")
def test_the_page_shows_the_figure_above_its_command():
    lines = extension("model_gallery").figure("flow_vae")
    assert lines[0] == ".. figure:: /gallery/flow_vae.png"
    assert gallery.command("flow_vae") in lines[3] and f"figures/{gallery.FIGURES['flow_vae'].name}.png" in lines[3]
