"""Offline pages: the browser decodes what vaex decodes, and its controls do what they say."""

import base64
import json
import re

import jax
import numpy as np
import pytest
from helpers import browser as browsers
from helpers.untrained_runs import COLOR, CONTINUOUS, GREY, REAL, untrained

from vaex.core import Latents
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.page import primitives, write_page

SERIES = Spec("series", (6, 2), "real", levels=None)
TOLERANCE = 1e-3  # of decoded values, which are between 0 and 1 for images
needs_browser = pytest.mark.skipif(browsers.installed() is None, reason=browsers.MISSING)
ARROW_RIGHT, ENTER = "\ue014", "\ue007"


@pytest.fixture(scope="module")
def window():
    with browsers.browser() as started:
        yield started


def examples_of(model, n=24):
    rng, spec = np.random.default_rng(0), model.spec
    if spec.levels is None:
        return rng.random((n, *spec.shape)).astype(np.float32)
    return rng.integers(0, spec.levels, (n, *spec.shape), dtype=np.uint8)


def content_of(path):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(text[1])


def decoded_in(window, z, label=0):
    """What the page decodes, [n, values]."""
    script = "return arguments[0].map((z) => Array.from(vaexPage.decode(Float32Array.from(z), arguments[1])))"
    return np.array(window.run(script, np.asarray(z).tolist(), label))


def page_of(model, tmp_path, labels=None, **options):
    return write_page(model, tmp_path / "page.html", examples_of(model), labels, **{"examples": 4, **options})


@needs_browser
def test_a_slider_moves_the_image_to_what_vaex_decodes(window, tmp_path):
    model = untrained(GREY, model="vae")
    window.open(page_of(model, tmp_path))
    pixels = "const c = document.getElementById('image'); return Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data)"
    before, code = window.run(pixels), window.run("return Array.from(vaexPage.state.z)")
    window.press("#latent-0", 20 * ARROW_RIGHT)
    after, moved = window.run(pixels), window.run("return Array.from(vaexPage.state.z)")
    at = window.run("return vaexPage.controls[0].at")
    assert moved[at] > code[at] and [z for i, z in enumerate(moved) if i != at] == [
        z for i, z in enumerate(code) if i != at
    ]
    expected = np.asarray(model.decode(np.array([moved])).mean)[0, ..., 0]
    shown = np.array(window.run("return Array.from(vaexPage.shown.x)")).reshape(8, 8)
    np.testing.assert_allclose(shown, expected, atol=TOLERANCE)
    np.testing.assert_allclose(np.array(after).reshape(8, 8, 4)[..., 0], 255 * expected, atol=0.5 + 255 * TOLERANCE)
    assert after != before and window.errors() == []


@pytest.mark.slow
@needs_browser
def test_examples_are_dragged_and_keys_do_all_that_a_mouse_does(window, tmp_path):
    model = untrained(GREY, model="vae")
    window.open(page_of(model, tmp_path))
    ends = "return vaexPage.state.ends"
    assert window.run(ends) == [0, 1]
    window.drag("#examples button:nth-child(3)", ".slot[data-slot='0']")
    assert window.run(ends) == [2, 1]
    window.press("#examples button:nth-child(4)", "b")
    assert window.run(ends) == [2, 3]
    codes = np.asarray(model.encode(examples_of(model)[:4]).mean)
    window.press("#strip button:nth-child(5)", ENTER)
    np.testing.assert_allclose(window.run("return Array.from(vaexPage.state.z)"), codes[2:].mean(0), atol=1e-6)
    window.press("#examples button:nth-child(2)", ENTER)
    np.testing.assert_allclose(window.run("return Array.from(vaexPage.state.z)"), codes[1], atol=1e-6)
    status = "return document.getElementById('plane-status').textContent"
    texts = [window.run(status)]
    window.hover("#plane", 60, -60)
    texts.append(window.run(status))
    window.press("#plane", ARROW_RIGHT)
    texts.append(window.run(status))
    assert len(set(texts)) == 3
    window.press("#plane", ENTER)
    assert window.run("return Array.from(vaexPage.state.z)") != codes[1].tolist()
    samples = "return Array.from(document.querySelectorAll('#samples canvas')).map((c) => c.toDataURL())"
    drawn = window.run(samples)
    window.press("#more", ENTER)
    assert len(drawn) == 32 and window.run(samples) != drawn and window.errors() == []


DECODERS = [
    (GREY, ("--network=conv", "--channels=4x6"), "vae"),
    (COLOR, ("--network=conv", "--channels=4x6", "--activation=gelu"), "vae"),
    (GREY, ("--network=resnet", "--channels=4x4", "--activation=silu"), "vae"),
    (COLOR, ("--likelihood=discretized_logistic_mixture",), "vae"),
    (COLOR, ("--likelihood=categorical",), "vae"),
    (GREY, ("--likelihood=continuous_bernoulli",), "vae"),
    (CONTINUOUS, ("--likelihood=gaussian", "--activation=elu"), "vae"),
    (REAL, (), "vae"),
    (SERIES, ("--network=recurrent",), "vae"),
    (SERIES, ("--network=conv1d", "--channels=4x4"), "vae"),
    (GREY, (), "joint_vae"),
    (GREY, (), "hyperspherical_vae"),
    (GREY, (), "poincare_vae"),
]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("spec", "flags", "model"), DECODERS)
def test_the_browser_decodes_what_vaex_decodes(window, tmp_path, spec, flags, model):
    trained = untrained(spec, *flags, model=model)
    # larger parameters than a network starts with: its outputs then reach from black to white
    louder = jax.tree.map(lambda leaf: 3.0 * leaf if leaf.ndim > 1 else leaf, trained.variables)
    trained = type(trained)(trained.recipe, trained.spec, louder, trained.hparams, 0)
    window.open(page_of(trained, tmp_path))
    assert content_of(tmp_path / "page.html")["decoder"]["kind"] == "program"
    z = np.asarray(trained.encode(examples_of(trained)[:6]).mean).reshape(6, -1)
    expected = np.asarray(trained.decode(z).mean).reshape(6, -1)
    np.testing.assert_allclose(decoded_in(window, z), expected, atol=TOLERANCE)
    assert np.ptp(expected, axis=0).max() > 10 * TOLERANCE and window.errors() == []


@needs_browser
@pytest.mark.slow
def test_labels_choose_what_is_decoded(window, tmp_path):
    model = untrained(GREY._replace(num_classes=3), model="conditional_vae")
    labels = np.arange(24, dtype=np.int32) % 3
    window.open(page_of(model, tmp_path, labels))
    z = np.random.default_rng(1).normal(size=(3, 2))
    for label in range(3):
        expected = np.asarray(model.decode(z, label).mean).reshape(3, -1)
        np.testing.assert_allclose(decoded_in(window, z, label), expected, atol=TOLERANCE)
    before = window.run("return Array.from(vaexPage.shown.x)")
    window.press("#label", "2")
    after = window.run("return [vaexPage.state.label, Array.from(vaexPage.shown.x)]")
    assert after[0] == 2 and after[1] != before


@needs_browser
def test_an_operation_that_the_page_lacks_makes_it_a_table(window, tmp_path, monkeypatch):
    model = untrained(GREY, model="vae")
    monkeypatch.delitem(primitives.RULES, "logistic")
    window.open(page_of(model, tmp_path))
    assert "lacks an operation of this decoder (logistic)" in window.run("return document.body.textContent")
    window.press("#latent-1", 3 * ARROW_RIGHT)
    z = np.array([window.run("return Array.from(vaexPage.state.z)")])
    shown = np.array(window.run("return Array.from(vaexPage.shown.x)"))
    np.testing.assert_allclose(shown, np.asarray(model.decode(z).mean).ravel(), atol=TOLERANCE)
    window.press("#examples button:nth-child(3)", "b")
    window.press("#strip button:nth-child(4)", ENTER)
    z = np.array([window.run("return Array.from(vaexPage.state.z)")])
    shown = np.array(window.run("return Array.from(vaexPage.shown.x)"))
    np.testing.assert_allclose(shown, np.asarray(model.decode(z).mean).ravel(), atol=TOLERANCE)
    assert window.errors() == []


def test_a_page_reaches_for_nothing_outside(tmp_path):
    text = page_of(untrained(GREY, model="vae"), tmp_path).read_text()
    assert "default-src 'none'" in text and not re.search(r"(?:src|href)\s*=|https?://|@import|url\(", text)


def test_weights_are_stored_as_their_errors_allow(tmp_path):
    model = untrained(GREY, model="vae")
    decoder = content_of(page_of(model, tmp_path))["decoder"]
    assert decoder["weights"] == "float16"
    louder = model.variables._replace(params=jax.tree.map(lambda leaf: 6.0 * leaf, model.variables.params))
    loud = type(model)(model.recipe, model.spec, louder, model.hparams, 0)
    content = content_of(page_of(loud, tmp_path))
    assert content["decoder"]["weights"] == "float32"
    place = next(
        place for place in content["decoder"]["constants"] if place["shape"] == [2, 8] or place["shape"] == [1, 2, 8]
    )
    stored = np.frombuffer(base64.b64decode(content["blob"]), "<f4", place["length"], place["offset"])
    kernels = [np.asarray(leaf) for leaf in jax.tree.leaves(louder.params) if leaf.shape == (2, 8)]
    assert any(np.array_equal(stored.reshape(2, 8), kernel) for kernel in kernels)


def test_latents_come_by_their_kl(tmp_path):
    model = untrained(GREY, model="vae")
    controls = content_of(page_of(model, tmp_path, kl=[0.5, 2.0]))["controls"]
    assert [control["name"] for control in controls] == ["z1", "z0"]
    assert [control["kl"] for control in controls] == [2.0, 0.5]


def test_refusals_name_the_remedy(tmp_path):
    model = untrained(GREY, model="vae")
    with pytest.raises(UserError, match=r"does not end in .html"):
        write_page(model, tmp_path / "page.txt", examples_of(model))
    with pytest.raises(UserError, match="examples=30, expected 2 to 24"):
        page_of(model, tmp_path, examples=30)
    codes = model.recipe._replace(latents=(Latents("code", 2, 5),))
    with pytest.raises(UserError, match="codes are integers"):
        page_of(type(model)(codes, model.spec, model.variables, model.hparams, 0), tmp_path)
