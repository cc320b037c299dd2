"""The site builds with warnings as errors, needs no network, and what rewrites its sources does what it says."""

import doctest
import html
import importlib.util
import os
import re
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers import browser as browsers
from helpers.scripts import script

PACKAGES = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton", "sphinx-mathjax-offline")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
CHAPTERS = sorted(path.stem for path in (ROOT / "docs" / "learn").glob("*.md") if path.stem != "course")
LESSONS = sorted({path.stem for path in (ROOT / "docs" / "lessons").glob("*.md")} - {"lessons", "aevb"})
needs_browser = pytest.mark.skipif(browsers.installed() is None, reason=browsers.MISSING)
needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing; pip install -e '.[docs]'")

# of a page: its width, formulas in lines of text that have scroll bars, images that did not load, contrast of its text by WCAG 2
MEASURE = """
const root = document.documentElement;
const light = (colour) => {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
  const linear = parts.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const text = light(getComputedStyle(document.querySelector('article h1') || document.body).color);
const paper = light(getComputedStyle(document.body).backgroundColor);
return {
  wide: root.scrollWidth,
  inner: root.clientWidth,
  bars: Array.from(document.querySelectorAll('mjx-container:not([display="true"])'))
    .filter((m) => m.offsetHeight > m.clientHeight && m.clientHeight).length,
  broken: Array.from(document.images).filter((i) => i.complete && !i.naturalWidth).map((i) => i.src),
  contrast: (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05),
};
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(out)]
    quick = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # of tests; pages show what users' programs compute
    environment = {name: value for name, value in os.environ.items() if name not in quick}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@needs_sphinx
@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_a_network(site):
    from vaex import models

    for path in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"(https?:[^\"]*)\"", path.read_text())
        assert not loaded, f"{path.name} loads {loaded}"
    gallery = "".join(path.read_text() for path in (site / "models").glob("*.html"))
    for name in models.MODELS:
        assert f'id="{name.replace("_", "-")}"' in gallery, f"the gallery lacks {name}"
    assert (site / "_static" / "tex-svg.js").exists()
    bounds = (site / "api" / "bounds.html").read_text()
    assert 'id="vaex.bounds.importance_bound"' in bounds and "<dt" in bounds and "Returns" in bounds


@needs_sphinx
@pytest.mark.slow
def test_the_tour_was_executed_and_shows_its_figures(site):
    page = (site / "tutorials" / "tour.html").read_text()
    outputs = re.findall(r'<div class="cell_output.*?</div>\s*</div>', page, re.DOTALL)
    assert len(outputs) >= 10 and "Traceback" not in page
    assert len(re.findall(r'<img [^>]*src="\.\./_images/', page)) >= 3
    assert "with 0 Axes" not in page  # what IPython shows of a figure that it cannot draw


@needs_sphinx
@pytest.mark.slow
def test_links_inside_the_site_lead_to_places(site):
    # the source of a module that is documented under two names leads back to one of them: pages of _modules are left out
    pages = {path: path.read_text() for path in site.rglob("*.html") if not {"_static", "_modules"} & set(path.parts)}
    places = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    for path, text in pages.items():
        for link in map(html.unescape, re.findall(r'href="([^":]+)"', text)):
            file, _, place = link.partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            assert target.exists(), f"{path.name} links to {link}"
            assert not place or target not in places or place in places[target], f"{path.name} links to {link}"


@needs_sphinx
@pytest.mark.parametrize("name", ["docstrings", "repository_pages"])
def test_extensions_of_sphinx_do_what_their_examples_say(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    result = doctest.testmod(__import__(name))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_checks_its_numbers_and_its_exercises_are_solved(name):
    """Every exercise has a test of its number, and what the text says is compared with what its cells compute."""
    text = (ROOT / "docs" / "learn" / f"{name}.md").read_text()
    solutions = (ROOT / "tests" / "learn" / f"test_exercises_of_{name}.py").read_text()
    exercises = re.findall(r"^(\d+)\. ", text.partition("## Exercises")[2], re.MULTILINE)
    assert len(exercises) >= 3 and f"{{solutions}} {name}\n" in text
    assert sorted(set(re.findall(r"^def test_(\d+)_", solutions, re.MULTILINE))) == exercises
    hidden = re.findall(r":tags: \[hide-input\]\n(.*?)```", text, re.DOTALL)
    assert sum("assert" in cell or "testing" in cell for cell in hidden) >= 2
    course = (ROOT / "docs" / "learn" / "course.md").read_text()
    assert re.search(rf"^{name}$", course, re.MULTILINE), "the course does not list it"


def test_every_example_of_inference_has_a_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    assert sorted(script("inference").EXAMPLES) == LESSONS
    for page in ("lessons", "../inference"):
        text = (ROOT / "docs" / "lessons" / f"{page}.md").read_text()
        assert [name for name in LESSONS if not re.search(rf"[(/]{name}\.md\)", text)] == []


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_names_its_command_and_checks_its_numbers(name):
    text = (ROOT / "docs" / "lessons" / f"{name}.md").read_text()
    assert f"```bash\npython experiments/inference.py --example={name}\n```" in text
    assert f'EXAMPLES["{name}"]()' in text and "## What to see\n\n- " in text
    (checked,) = re.findall(r":tags: \[hide-input\]\n(.*?)```", text, re.DOTALL)
    assert checked.count("assert") >= 3
    index = (ROOT / "docs" / "lessons" / "lessons.md").read_text()
    assert re.search(rf"^{name}$", index, re.MULTILINE), "the index does not list it"


def figures_of(page: str) -> int:
    """How many figures an executed page shows, without a traceback or an empty figure among its outputs."""
    assert "Traceback" not in page and "with 0 Axes" not in page
    return len(re.findall(r'<img [^>]*src="\.\./_images/', page))


@needs_sphinx
@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_was_executed_and_draws(site, name):
    assert figures_of((site / "lessons" / f"{name}.html").read_text()) == 1


@needs_sphinx
@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_was_executed_and_draws(site, name):
    page = (site / "learn" / f"{name}.html").read_text()
    assert figures_of(page) >= 1
    assert "<details><summary>Solutions" in page


@pytest.fixture(scope="module")
def window():
    with browsers.browser() as started:
        yield started


@needs_sphinx
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_pages_open_from_files_without_errors_and_fit_the_screen(site, window, width, theme):
    window.call("/window/rect", {"width": width, "height": 900})
    pages = [path for path in sorted(site.rglob("*.html")) if not {"_static", "_modules"} & set(path.parts)]
    assert len(pages) > 40
    for path in pages:
        window.open(path)
        window.run(
            "document.documentElement.dataset.mode = document.documentElement.dataset.theme = arguments[0]", theme
        )
        shown = window.run(MEASURE)
        assert window.errors() == [], path.name
        assert shown["wide"] <= shown["inner"] + 1, (
            f"{path.name} is {shown['wide']} wide on a screen of {shown['inner']}"
        )
        assert shown["broken"] == [] and shown["bars"] == 0, path.name
        assert shown["contrast"] > 4.5, f"{path.name}: contrast {shown['contrast']} in {theme}"
