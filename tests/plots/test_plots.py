"""Figures: exact pixels, nothing that overlaps, complete files, no global state."""

import concurrent.futures
import itertools
import os
import subprocess
import sys

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from helpers import ROOT
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn.datasets import load_digits

from vaex.plots import draw, save, style
from vaex.plots.images import pixels_per_value, shrink
from vaex.plots.records import Bars, Curves, Grid, Scatter

DIGITS = load_digits().images[..., None] / 16.0


def digits(rows, columns):
    return DIGITS[: rows * columns].reshape(rows, columns, 8, 8, 1)


def sprites(folder, count):
    """Frames of the walking figures, [count, 64, 64, 3] in [0, 1]."""
    layers = np.load(folder / "lpc_sprites" / "lpc_walk_layers.npz")
    figures = np.zeros((count, 64, 64, 3))
    for name in ("body", "bottomwear", "topwear", "hair"):
        layer = layers[name].reshape(-1, 64, 64, 4)[7 : 7 + count] / 255.0
        figures = figures * (1.0 - layer[..., 3:]) + layer[..., :3] * layer[..., 3:]
    return figures


def curves(count, n=20):
    values = np.random.default_rng(0).normal(size=(count, n)).cumsum(axis=1)
    return Curves(np.arange(n), {f"beta={member}": values[member] for member in range(count)}, "step", "nats", "ELBO")


RECORDS = {
    "grid": Grid(digits(2, 5), ("original", "reconstruction"), tuple("abcde"), "Digits"),
    "curves": curves(3)._replace(bands={"beta=1": (np.zeros(20), np.ones(20))}),
    "bars": Bars(np.array([2.0, 1.0, -0.5]), ("z1", "z0", "z2"), "latent", "nats", "KL"),
    "scatter": Scatter(np.random.default_rng(1).normal(size=(50, 2)), np.arange(50) % 3, "z0", "z1", "Latents"),
    "panels": [curves(3), curves(3), Bars([1.0])],
}


def pixels(record, tmp_path):
    """The saved figure, [height, width, 3] uint8."""
    return np.asarray(Image.open(save(record, tmp_path / "figure.png")).convert("RGB"))


def images_box(figure):
    """Where the images of a grid lie, in pixels from the lower left corner."""
    from matplotlib.transforms import Bbox

    (canvas,) = figure.images
    height, width = canvas.get_array().shape[:2]
    return Bbox.from_bounds(canvas.ox, canvas.oy, width, height)


def place_of_images(record):
    """Left, top, right, bottom of the images, in pixels from the upper left corner."""
    figure = draw(record)
    box, height = images_box(figure), figure.canvas.get_width_height()[1]
    return [round(edge) for edge in (box.x0, height - box.y1, box.x1, height - box.y0)]


def assert_apart(boxes):
    for first, second in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), (first, second)


def assert_inside(boxes, figure):
    width, height = figure.canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, (box, width, height)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 10, 40])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (28, 20, 1), (64, 64, 3), (9, 30, 3)])
def test_every_value_is_an_exact_block_of_pixels(shape, columns, tmp_path):
    images = np.random.default_rng(0).random((2, columns, *shape))
    record = Grid(images, ("a", "b"), title="noise")
    canvas = pixels(record, tmp_path)
    left, top, right, bottom = place_of_images(record)
    scale = pixels_per_value(*shape[:2], 2, columns)
    expected = np.round(255 * images).astype(np.uint8).repeat(scale, axis=2).repeat(scale, axis=3)
    expected = np.broadcast_to(expected, (*expected.shape[:-1], 3))
    height, width = scale * shape[0], scale * shape[1]
    np.testing.assert_array_equal(canvas[top : top + height, left : left + width], expected[0, 0])
    np.testing.assert_array_equal(canvas[bottom - height : bottom, right - width : right], expected[1, -1])
    assert (canvas[top + height, left : left + width] == 255).all()  # the gap between the rows
    assert (canvas[0] == 255).all() and (canvas[:, -1] == 255).all()


def test_small_images_are_large_and_large_ones_fit():
    assert 8 * pixels_per_value(8, 8, 2, 10) >= 100
    assert 64 * pixels_per_value(64, 64, 8, 8) >= 100
    assert 8 * pixels_per_value(8, 8, 64, 11) >= 40
    np.testing.assert_allclose(shrink(np.ones((1, 600, 300, 3)), 256), np.ones((1, 200, 100, 3)))
    ramp = np.arange(7.0).reshape(1, 7, 1)
    np.testing.assert_allclose(shrink(ramp, 4)[0, :, 0], [0.5, 2.5, 4.5, 6.0])


@pytest.mark.parametrize(("channels", "kept"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_channels(channels, kept, tmp_path):
    values = np.linspace(0.1, 0.8, channels)
    record = Grid(np.broadcast_to(values, (1, 1, 8, 8, channels)))
    left, top, *_ = place_of_images(record)
    assert pixels(record, tmp_path)[top, left].tolist() == np.round(255 * values[kept]).astype(int).tolist()


@pytest.mark.parametrize(
    ("channels", "title", "text"),
    [
        (1, "Samples", ["Samples"]),
        (3, "", []),
        (2, "Samples", ["Samples (channel 1 of 2)"]),
        (4, "", ["(channels 1 to 3 of 4, as red, green and blue)"]),
        (10, "Samples", ["Samples (channels 1 to 3 of 10, as red, green and blue)"]),
    ],
)
def test_channels_that_are_not_drawn_are_told(channels, title, text):
    figure = draw(Grid(np.zeros((1, 9, 8, 8, channels)), title=title))
    assert [drawn.get_text() for drawn in figure.texts] == text
    assert_inside([drawn.get_window_extent() for drawn in figure.texts], figure)


def test_values_outside_are_clipped_and_values_that_are_not_finite_are_marked(tmp_path):
    images = np.zeros((1, 3, 2, 1, 1))
    images[0, 0, :, 0, 0] = -3.0, 7.0
    images[0, 1, 1] = np.inf
    images[0, 2] = np.nan
    record = Grid(images)
    left, top, right, bottom = place_of_images(record)
    canvas = pixels(record, tmp_path)[top:bottom, left:right]
    assert canvas[0, 0].tolist() == [0, 0, 0] and canvas[-1, 0].tolist() == [255, 255, 255]
    middle = canvas.shape[1] // 2
    assert canvas[0, middle].tolist() == [0, 0, 0]
    assert canvas[-1, middle].tolist() == np.round(255 * np.array(to_rgb(style.ALARM))).tolist()
    assert (canvas[:, -1] == 255).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 10), (16, 11), (2, 40), (50, 3)])
@pytest.mark.parametrize("column_label", ["{:.1f}", "a long label {}"])
def test_labels_of_grids_are_apart_from_each_other_and_from_the_images(rows, columns, column_label):
    images = np.zeros((rows, columns, 8, 8, 1))
    names = tuple(column_label.format(column) for column in range(columns))
    record = Grid(images, tuple(f"z{row}  KL 1.42" for row in range(rows)), names, "A title that is rather long")
    figure = draw(record)
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 1 + rows + columns
    assert_apart([*boxes, images_box(figure)])
    assert_inside(boxes, figure)
    row_boxes = boxes[1 : 1 + rows]
    centres = [figure.canvas.get_width_height()[1] - (box.y0 + box.y1) / 2 for box in row_boxes]
    _, top, _, bottom = place_of_images(record)
    np.testing.assert_allclose(centres, top + (np.arange(rows) + 0.5) * (bottom - top + 3) / rows, atol=6)


def test_real_sprites_keep_their_colours(shared_data, tmp_path):
    images = sprites(shared_data, 8).reshape(2, 4, 64, 64, 3)
    record = Grid(images)
    left, top, right, bottom = place_of_images(record)
    scale = pixels_per_value(64, 64, 2, 4)
    shown = pixels(record, tmp_path)[top:bottom, left:right][: 64 * scale : scale, : 64 * scale : scale]
    assert images[0, 0].std() > 0.05
    np.testing.assert_array_equal(shown, np.round(255 * images[0, 0]).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 10, 16, 64])
@pytest.mark.parametrize("panels", [1, 3])
def test_legends_stand_beside_the_data_and_inside_the_figure(count, panels):
    figure = draw([curves(count)] * panels)
    figure.canvas.draw()
    legends = figure.legends or [axes.get_legend() for axes in figure.axes]
    assert len(legends) == 1
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert_apart([*boxes, legends[0].get_window_extent()])
    assert_inside([legends[0].get_window_extent()], figure)
    assert min(box.width for box in boxes) > 350
    assert len(figure.axes[0].lines) == count and len(set(style.colors(count))) == count
    entries = list(zip(legends[0].get_texts(), legends[0].legend_handles, strict=True))
    assert len(entries) >= min(count, 12)
    drawn = {f"beta={member}": line.get_color() for member, line in enumerate(figure.axes[0].lines)}
    for text, handle in entries:
        assert np.array_equal(drawn[text.get_text()], handle.get_color())


def test_panels_with_their_own_legends():
    figure = draw([curves(16), curves(2), RECORDS["bars"], RECORDS["scatter"]])
    figure.canvas.draw()
    legends = [axes.get_legend() for axes in figure.axes]
    assert [legend is not None for legend in legends] == [True, True, False, True]
    boxes = [legend.get_window_extent() for legend in legends if legend]
    assert_apart([axes.get_window_extent() for axes in figure.axes] + boxes)
    assert_inside(boxes, figure)


def test_curves_have_gaps_dots_and_bands():
    y = np.array([0.0, 1.0, np.nan, 2.0, np.inf, 3.0, 4.0])
    figure = draw(Curves(np.arange(7), {"a": y}, bands={"a": (y - 1.0, y + 1.0)}))
    line, dots = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), np.where(np.isfinite(y), y, np.nan))
    assert (dots.get_xdata().tolist(), dots.get_ydata().tolist()) == ([3], [2.0])
    edges = np.concatenate([path.vertices for path in figure.axes[0].collections[0].get_paths()])
    assert edges[:, 1].min() == -1.0 and edges[:, 1].max() == 5.0


@pytest.mark.parametrize("record", [Curves([0, 1], {"a": [np.nan] * 2}), Scatter(np.full((3, 2), np.nan))])
def test_nothing_finite_is_said(record):
    assert [text.get_text() for text in draw(record).axes[0].texts] == ["no finite values"]


def test_bars_stand_as_given():
    axes = draw(Bars(np.array([0.5, np.nan, 2.0, -1.0]), ("c", "a", "d", "b"))).axes[0]
    assert [patch.get_height() for patch in axes.patches] == [0.5, 2.0, -1.0]
    assert [round(patch.get_x() + patch.get_width() / 2) for patch in axes.patches] == [0, 2, 3]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "a", "d", "b"]
    assert [text.get_text() for text in axes.texts] == ["nan"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4, 16, 50, 300])
@pytest.mark.parametrize("panels", [1, 3])
def test_labels_of_bars_are_apart(count, panels):
    figure = draw([Bars(np.ones(count), tuple(f"z{latent}" for latent in range(count)))] * panels)
    figure.canvas.draw()
    labels = figure.axes[-1].get_xticklabels()
    assert len(labels) >= min(count, 16)
    assert_apart([label.get_window_extent() for label in labels])


def test_points_have_the_colour_of_their_label():
    points = np.arange(10.0).reshape(5, 2)
    axes = draw(Scatter(points, np.array([0, 2, -1, 2, 0]))).axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), points)
    faces = axes.collections[0].get_facecolors()[:, :3]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["0", "2", "unlabelled"]
    legend = dict(zip(names, [to_rgb(handle.get_color()) for handle in axes.get_legend().legend_handles], strict=True))
    np.testing.assert_allclose(faces, [legend[name] for name in ("0", "2", "unlabelled", "2", "0")], atol=1e-6)


ones = np.ones(3)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Grid(np.zeros((2, 8, 8, 1))), r"expected \[rows, columns, h, w, c\]"),
        (Grid(np.zeros((0, 3, 8, 8, 1))), "is empty"),
        (Grid(np.zeros((1, 1, 8, 8, 0))), "is empty"),
        (Grid(np.full((1, 1, 8, 8, 1), 255, np.uint8)), "divide by the largest level"),
        (Grid(np.zeros((1, 2, 8, 8, 1)), row_labels=("a", "b")), "2 row_labels, expected 1"),
        (Grid(np.zeros((1, 2, 8, 8, 1)), column_labels=("a",)), "1 column_labels, expected 2"),
        (Grid(np.zeros((1400, 1, 8, 8, 1))), "give fewer images"),
        (Curves([], {"a": []}), r"expected \[n\] with n > 0"),
        (Curves(ones, {}), "at least one line"),
        (Curves(ones, {"a": np.ones(4)}), r"lines\['a'\] has shape \(4,\), expected \(3,\)"),
        (Curves(ones, {"a": ones}, bands={"b": (ones, ones)}), "expected a name of a line; known: a"),
        (Curves(ones, {"a": ones}, bands={"a": (ones, np.ones(2))}), r"bands\['a'\]\[1\]"),
        (Bars([]), r"expected \[n\] with n > 0"),
        (Bars(ones, ("a",)), "1 labels, expected 3"),
        (Scatter(np.ones((3, 3))), "project to two dimensions"),
        (Scatter(np.ones((0, 2))), "n > 0"),
        (Scatter(np.ones((3, 2)), np.zeros(2, int)), "expected integers of shape"),
        (Scatter(np.ones((3, 2)), np.zeros(3)), "expected integers of shape"),
        ([], "got an empty sequence"),
    ],
)
def test_a_record_that_cannot_be_drawn_is_refused(record, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save(record, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("record", [3, [RECORDS["grid"]], [RECORDS["bars"], None]])
def test_anything_but_a_record_is_refused(record):
    with pytest.raises(TypeError, match="expected Grid, Curves, Bars"):
        draw(record)


def test_save_writes_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.png"):
        save(RECORDS["bars"], tmp_path / "figure.pdf")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_save_is_deterministic_makes_folders_and_respects_the_umask(name, tmp_path):
    path = save(RECORDS[name], str(tmp_path / "deep" / "er" / "a.png"))
    assert path == tmp_path / "deep" / "er" / "a.png"
    assert path.read_bytes() == save(RECORDS[name], tmp_path / "b.png").read_bytes()
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("broken", ["os.replace", "matplotlib.backends.backend_agg.FigureCanvasAgg.print_png"])
def test_a_failure_leaves_the_old_file_and_nothing_else(broken, tmp_path, monkeypatch):
    path = save(RECORDS["bars"], tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="no space left"):
        save(RECORDS["curves"], path)
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before


@pytest.mark.slow
def test_threads_draw_the_same_figures(tmp_path):
    names = list(RECORDS) * 3
    expected = {name: save(RECORDS[name], tmp_path / f"{name}.png").read_bytes() for name in RECORDS}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda at: save(RECORDS[names[at]], tmp_path / f"{at}.png"), range(len(names))))
    for name, path in zip(names, paths, strict=True):
        assert path.read_bytes() == expected[name]


@pytest.mark.slow
def test_a_users_style_changes_neither_colours_nor_is_it_changed(tmp_path):
    plain = {name: pixels(record, tmp_path) for name, record in RECORDS.items()}
    with matplotlib.style.context("dark_background"):
        settings = dict(matplotlib.rcParams)
        for name, record in RECORDS.items():
            np.testing.assert_array_equal(pixels(record, tmp_path), plain[name])
        assert dict(matplotlib.rcParams) == settings


def test_labels_are_plain_text(tmp_path):
    odd = "$x_{1} \\frac$"
    save(Grid(digits(1, 2), (odd,), (odd, odd), odd), tmp_path / "a.png")
    save(Curves([0, 1], {odd: [0, 1], "b": [1, 0]}, odd, odd, odd), tmp_path / "a.png")
    save(Bars([1.0], (odd,), odd, odd, odd), tmp_path / "a.png")
    assert draw(Bars([1.0], (odd,))).axes[0].get_xticklabels()[0].get_text() == odd


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path):
    code = f"""
import sys
import vaex.plots
from vaex.plots.records import Bars
assert "matplotlib" not in sys.modules
vaex.plots.save(Bars([1.0, 2.0], ("a", "b")), {str(tmp_path / "a.png")!r})
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_notebooks_show_grids_as_files_do(tmp_path):
    grid = Grid(digits(2, 4), ("original", "reconstruction"), tuple("abcd"), "Digits")
    cropped = tmp_path / "cropped.png"
    figure = draw(grid)
    assert figure.axes  # IPython shows no figure without
    figure.savefig(cropped, bbox_inches="tight")  # as it does
    complete = np.asarray(Image.open(save(grid, tmp_path / "complete.png")).convert("RGB"))
    shown = np.asarray(Image.open(cropped).convert("RGB"))
    np.testing.assert_array_equal(shown, complete[-shown.shape[0] :, : shown.shape[1]])
    assert all(0 <= a - b <= 1 for a, b in zip(complete.shape, shown.shape, strict=True))
