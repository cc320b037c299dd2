"""Configuration of Sphinx: ``sphinx-build -W -b html docs docs/_build``."""

import importlib.util
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# the kernel that executes notebooks finds the checkout too, and the lessons of docs/lessons
FOUND = [str(HERE.parent), str(HERE.parent / "experiments"), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, FOUND))

import vaex  # noqa: E402  (the checkout, not what is installed)

project = "vaex"
author = "the vaex-jax authors"
copyright = author
version = release = vaex.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "model_gallery",
    "repository_pages",
    "solutions",
]
# myst-nb writes the last two beside _build
exclude_patterns = ["_build", "_extensions", "jupyter_execute", ".jupyter_cache"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 3600  # seconds of the clock a cell: a guard, since a busy machine needs many times the usual
nb_merge_streams = True

smartquotes = False  # "..." stands in shapes
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["References"]
copybutton_prompt_text = ">>> "
copybutton_exclude = ".linenos, .go"

# one script with its glyphs inside: formulas are drawn without a network, also where pages are opened as files
mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert mathjax is not None and mathjax.origin is not None, 'MathJax is missing; pip install -e ".[docs]"'
mathjax_path = "tex-svg.js"
html_static_path = ["_static", str(pathlib.Path(mathjax.origin).parent / "static" / "mathjax" / mathjax_path)]

toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = f"vaex {release}"
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_copy_source = False
html_domain_indices = False
html_show_search_summary = False  # summaries are fetched, which browsers refuse to pages that are opened as files
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
