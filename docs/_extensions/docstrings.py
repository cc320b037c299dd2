"""Docstrings of vaex as reStructuredText: sections on one line, tables of Markdown, asterisks that are no emphasis."""

import re
from collections import namedtuple

from sphinx.application import Sphinx

FIELDS = ("Returns", "Source", "Command", "Result", "References", "Optional", "Linear", "Gradients")
SECTION = re.compile(rf"^(\s*)({'|'.join((*FIELDS, 'Raises', 'Parameters'))}): (.*)$")
LITERAL = re.compile(r"(``.*?``|:\w+:`.*?`)")
PROMPT = re.compile(r"^\s*(>>>|\.\.\. )")


def one_line_sections(lines: list[str]) -> list[str]:
    """Give each ``Name: text`` the form that Sphinx reads as a field, with the lines that continue it.

    Example:
      >>> one_line_sections(["Returns: [b],", "  in nats.", "Raises: ValueError if b is 0."])
      ['', ':Returns: [b],', '  in nats.', '', ':Raises: ValueError if b is 0.']
    """
    result: list[str] = []
    inside: str | None = None  # the indentation of the section that is read
    for line in lines:
        match = SECTION.match(line)
        if match:
            indent, name, text = match.groups()
            result += ["", f"{indent}:{name}: {text}"]
            inside = indent
        elif inside is not None and line.strip() and not re.match(r"^\s*(Args|Example|Attributes|Raises):", line):
            result.append(line if line.startswith(inside + "  ") else f"{inside}  {line.strip()}")
        else:
            if inside is not None and line.strip():
                result.append("")
            inside = None
            result.append(line)
    return result


def tables(lines: list[str]) -> list[str]:
    """Turn tables of Markdown into list tables."""
    result: list[str] = []
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if rows:
            result += ["", ".. list-table::", "   :header-rows: 1", ""]
            for row in [rows[0], *rows[2:]]:
                result += [f"   {'* -' if not column else '  -'} {cell}" for column, cell in enumerate(row)]
            rows = []
            result.append("")
        result.append(line)
    return result[:-1]


def escaped(line: str) -> str:
    """Escape asterisks and bars outside literals, formulas and fields.

    Example:
      >>> escaped("x: [*batch, d], ``*b``")
      'x: [\\\\*batch, d], ``*b``'
    """
    parts = LITERAL.split(line)
    parts[::2] = [re.sub(r"(?<![\\*])([*|])(?!\s*-)|(?<=\w)(_)(?=\W|$)", r"\\\1\2", part) for part in parts[::2]]
    return "".join(parts)


def before_napoleon(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Rewrite sections and tables, in place."""
    lines[:] = one_line_sections(tables(lines))


def after_napoleon(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Escape what is text, in place."""
    lines[:] = [line if PROMPT.match(line) or line.lstrip().startswith(".. ") else escaped(line) for line in lines]


def skip(app: Sphinx, what: str, name: str, value: object, skipped: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples, which the section Attributes of their class describes."""
    is_field = isinstance(value, type(namedtuple("Pair", "x").x))
    return True if is_field else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, on both sides of napoleon (priority 500)."""
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
