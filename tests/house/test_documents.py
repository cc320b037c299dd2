"""Documents name what exists: files, modules, rooms, links, and one version."""

import doctest
import importlib
import pathlib
import re

import pytest
from helpers import ROOT, linked_file

import vaex

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/api/*.md")),
    *sorted(ROOT.glob("docs/tutorials/*.md")),
    *sorted(ROOT.glob("docs/learn/*.md")),
    *sorted(ROOT.glob("docs/lessons/*.md")),
    *sorted(ROOT.glob("docs/migration/*.md")),
]
PAGES = {path: path.read_text() for path in DOCUMENTS}
ROOMS = {path.name for path in (ROOT / "vaex").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
FILES = {"core", "errors"}  # modules beside the rooms


def exists(dotted: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(value, name):
                return False
            value = getattr(value, name)
        return True
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: pathlib.Path):
    prose = re.sub(r"^```.*?^```", "", PAGES[path], flags=re.MULTILINE | re.DOTALL)  # code has subscripts before calls
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith("http"):
            file, _, heading = target.partition("#")
            page = linked_file(path.parent, file) if file else path
            assert page.exists(), f"{path.name} links to {target}"
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if heading else []
            anchors = {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}
            assert not heading or heading in anchors, f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: pathlib.Path):  # beside patterns such as FAMILY/NAME.py
    for name in re.findall(r"`((?:benchmarks|constraints|docs|experiments|tests|vaex)/[\w./]+)`", PAGES[path]):
        assert "NAME" in name or (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_package_exist(path: pathlib.Path):
    text = re.sub(r"^\| (.*?) \|", "", PAGES[path], flags=re.MULTILINE) if path.name == "CHANGELOG.md" else PAGES[path]
    planned = text.partition("## Planned")[2]
    for name in set(re.findall(r"`(vaex(?:\.[A-Za-z_]\w*)+)(?=[`(])", text.replace(planned, "") if planned else text)):
        assert "NAME" in name or exists(name), f"{path.name} names {name}"


def test_the_design_names_every_room():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES[ROOT / "docs" / "design.md"], re.MULTILINE)
    assert sorted(rows) == sorted(ROOMS | FILES)


def test_the_version_stands_in_one_file_and_in_the_changelog():
    newest, *sections = re.findall(r"^## \[(.*?)\](.*)$", PAGES[ROOT / "CHANGELOG.md"], re.MULTILINE)
    assert newest == ("Unreleased", "") and sections[0][0] == vaex.__version__
    assert re.fullmatch(r" - \d{4}-\d{2}-\d{2}", sections[0][1])
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


def test_tables_are_drawn_from_the_files_of_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    drawn = importlib.import_module("drawn_results")
    page = drawn.PAGE.read_text()
    assert drawn.draw(page) == page, "python docs/_extensions/drawn_results.py draws them anew"
    assert [name for _, name, _ in drawn.PLACE.findall(page)] == sorted(drawn.DRAWN)
    assert {name for name, _ in drawn.DRAWN.values()} == {path.name for path in drawn.RESULTS.iterdir()}
    assert doctest.testmod(drawn).failed == 0


def test_badges_say_what_the_project_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    badges = importlib.import_module("badges")
    stated = badges.statements()
    assert stated["version"] == vaex.__version__ and "3.11" in stated["python"]
    for label, text in stated.items():
        image = ROOT / "docs" / "badges" / f"{label}.svg"
        assert f"(docs/badges/{label}.svg)" in PAGES[ROOT / "README.md"]
        assert image.read_text() == badges.draw(label, text), "python docs/_extensions/badges.py draws them anew"
