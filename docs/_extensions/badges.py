"""The README's badges that no server draws: ``python docs/_extensions/badges.py`` writes them to ``docs/badges``.

Each states what ``pyproject.toml`` and ``vaex/__init__.py`` state; ``tests/house/test_documents.py`` compares the files with them.
"""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "badges"
CHARACTER, MARGIN, HEIGHT = 6.4, 12, 20  # pixels; the width of a text is fixed, whatever font draws it
PYTHON = "Programming Language :: Python :: "


def statements() -> dict[str, str]:
    """Return what each badge states: the supported versions of Python, the licence, the version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = re.search(r'^__version__ = "(.*)"$', (ROOT / "vaex" / "__init__.py").read_text(), re.MULTILINE)
    assert version, "vaex/__init__.py lacks its version"
    pythons = [name.removeprefix(PYTHON) for name in project["classifiers"] if name.startswith(PYTHON)]
    return {"python": " | ".join(pythons), "license": project["license"], "version": version[1]}


def draw(label: str, text: str) -> str:
    """Return an image in SVG: a label on grey, a text on blue.

    Example:
      >>> import xml.etree.ElementTree as xml
      >>> [element.text for element in xml.fromstring(draw("license", "MIT")) if element.text and element.text.strip()]
      ['license: MIT', 'license', 'MIT']
    """
    left, right = (round(CHARACTER * len(part)) for part in (label, text))
    middle, width = left + MARGIN, left + right + 2 * MARGIN
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" role="img" aria-label="{label}: {text}"
 font-family="Verdana, DejaVu Sans, sans-serif" font-size="11" fill="#fff">
<title>{label}: {text}</title>
<rect width="{width}" height="{HEIGHT}" rx="3" fill="#555"/>
<path d="M{middle} 0h{right + 9}a3 3 0 0 1 3 3v{HEIGHT - 6}a3 3 0 0 1 -3 3h-{right + 9}z" fill="#1f6feb"/>
<text x="{MARGIN / 2:g}" y="14" textLength="{left}">{label}</text>
<text x="{middle + MARGIN / 2:g}" y="14" textLength="{right}">{text}</text>
</svg>
"""


def main() -> None:
    """Write all badges."""
    FOLDER.mkdir(exist_ok=True)
    for label, text in statements().items():
        (FOLDER / f"{label}.svg").write_text(draw(label, text))


if __name__ == "__main__":
    main()
