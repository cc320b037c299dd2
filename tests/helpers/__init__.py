"""What several test modules share; pytest puts the folder of tests on the path."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]  # of the repository

GENERATED = {"_build", "models"}  # folders of docs/ that the build of the site writes
DOCS = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if not GENERATED & set(path.relative_to(ROOT / "docs").parts)
)
WORKFLOWS = (
    "../../actions/workflows/"  # beside the branches of a repository's host: the runs of a workflow, and their badge
)


def linked_file(folder: pathlib.Path, link: str) -> pathlib.Path:
    """The file that a link from a document in ``folder`` needs: of runs of a workflow, the workflow."""
    name = link.removeprefix(WORKFLOWS).removesuffix("/badge.svg")
    return ROOT / ".github" / "workflows" / name if link.startswith(WORKFLOWS) else folder / link
