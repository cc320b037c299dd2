"""Pages of the site whose text is a document of the repository, and links between the two."""

import pathlib
import re

from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).resolve().parents[2]
# page of docs/ -> document that is its text
PAGES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "benchmarks": "benchmarks/RESULTS.md"}
# file and heading that the site has elsewhere -> page
MOVED = {"README.md#your-own-model-in-one-file": "extending.md#a-model"} | {
    file: f"{page}.md" for page, file in PAGES.items()
}


def relink(text: str) -> str:
    """Return Markdown whose links to documents of the repository lead to pages of the site.

    Example:
      >>> relink("[a](../CONTRIBUTING.md#release) [b](docs/design.md#laws) [c](README.md#your-own-model-in-one-file)")
      '[a](contributing.md#release) [b](design.md#laws) [c](extending.md#a-model)'
    """

    def page(match: re.Match[str]) -> str:
        target = match.group(1).removeprefix("../").removeprefix("docs/")
        file, mark, place = target.partition("#")
        return f"]({MOVED.get(target) or MOVED.get(file, file) + mark + place})"

    return re.sub(r"\]\(((?:\.\./|docs/|README\.md|CONTRIBUTING\.md)[^)\s]*)\)", page, text)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the source of a page, in place."""
    text = (ROOT / PAGES[page]).read_text() if page in PAGES else source[0]
    source[0] = relink(text) if "/" not in page else text


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
