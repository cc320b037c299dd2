"""The site builds with warnings as errors, needs no network, and what rewrites its sources does what it says."""

import doctest
import html
import importlib.util
import re
import subprocess
import sys

import pytest
from helpers import ROOT

PACKAGES = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton", "sphinx-mathjax-offline")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing; pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
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
