"""Directive ``solutions``: the tests that solve a chapter's exercises, folded away below them."""

import pathlib

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "learn"


class Solutions(SphinxDirective):
    """``{solutions} NAME`` shows tests/learn/test_exercises_of_NAME.py; the build depends on that file."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the file's text between the tags that fold it."""
        path = TESTS / f"test_exercises_of_{self.arguments[0]}.py"
        self.env.note_dependency(str(path))
        code = nodes.literal_block(path.read_text(), path.read_text(), language="python")
        summary = f"<details><summary>Solutions: <code>python -m pytest tests/learn/{path.name}</code></summary>"
        return [nodes.raw("", summary, format="html"), code, nodes.raw("", "</details>", format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("solutions", Solutions)
    return {"parallel_read_safe": True}
