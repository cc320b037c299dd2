"""Gallery of models, written from the registry, the docstrings and the declarations of options when the site is built."""

import pathlib
from collections import Counter
from types import ModuleType

from sphinx.application import Sphinx

from vaex import models
from vaex.configuration.declare import Field, fields
from vaex.configuration.grammar import write, write_hyperparameter
from vaex.configuration.settings import stage_fields

FOLDER = "models"  # inside docs/, written anew by each build
MANY = 0.5  # share of the models above which an option is listed once for all
TITLE = "Gallery of models"
INTRODUCTION = """\
Every model of the registry, by family: objective, source, command, and the result of that command. Pages of this gallery are made
from the docstrings and declarations in ``vaex/models`` when the site is built. ``python -m vaex.models`` prints parameter groups,
stages and lines of code; ``python experiments/run.py --model=NAME --help`` every flag of one model.
"""


def heading(text: str, underline: str) -> list[str]:
    """Lines of a heading."""
    return [text, underline * len(text), ""]


def table(header: list[str], rows: list[list[str]], widths: str) -> list[str]:
    """Lines of a list table; a row of cells in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        lines += [f"   {'* -' if column == 0 else '  -'} {cell}" for column, cell in enumerate(row)]
    return [*lines, ""]


def declared(module: ModuleType) -> dict[str, tuple[Field, str]]:
    """Options, hyperparameters and steps of later stages of a model: each with its default as the command line writes it."""
    static = {**fields(module.Config), **stage_fields(module)}
    traced = fields(module.HParams)
    return {name: (field, write(field.default)) for name, field in static.items()} | {
        name: (field, write_hyperparameter(field, field.default)) for name, field in traced.items()
    }


def option_table(options: dict[str, tuple[Field, str]]) -> list[str]:
    """Lines of a table of options."""
    rows = [
        [
            f"``--{name}``",
            f"``{default}``" if default else "",
            field.declaration.doc.replace("|", r"\|").replace("*", r"\*"),
        ]
        for name, (field, default) in options.items()
    ]
    return table(["flag", "default", "meaning"], rows, "25 15 60")


def pages() -> dict[str, str]:
    """Name of a file -> its text."""
    modules = {name: models.module(name) for name in models.MODELS}
    options = {name: declared(module) for name, module in modules.items()}
    # the same flag with the same default and meaning
    told = [(flag, *value) for of_model in options.values() for flag, value in of_model.items()]
    counts = Counter((flag, default, field.declaration.doc) for flag, field, default in told)
    frequent = {key for key, count in counts.items() if count > MANY * len(modules)}
    common = {flag: (field, text) for flag, field, text in told if (flag, text, field.declaration.doc) in frequent}
    texts, overview = {}, []
    for family, entries in models.FAMILIES.items():
        lines = heading(family.replace("_", " ").capitalize(), "=")
        for name, entry in entries.items():
            lines += [f".. _model-{name}:", "", *heading(name, "-")]
            lines += [f".. automodule:: {modules[name].__name__}", "   :no-index:", ""]
            special = {
                flag: (field, text)
                for flag, (field, text) in options[name].items()
                if (flag, text, field.declaration.doc) not in frequent
            }
            if special:
                lines += option_table(special)
            overview.append([f":ref:`{name} <model-{name}>`", entry.summary, entry.bound, entry.source])
        texts[f"{family}.rst"] = "\n".join(lines)
    lines = [*heading(TITLE, "="), INTRODUCTION]
    lines += table(["model", "what distinguishes it", "bound on log p(x)", "source"], overview, "25 40 15 20")
    lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {family}" for family in models.FAMILIES), ""]
    lines += heading("Options of most models", "-")
    lines += ["A model's own section lists only what differs from these.", "", *option_table(common)]
    texts["index.rst"] = "\n".join(lines)
    return texts


def write_pages(app: Sphinx) -> None:
    """Write the pages whose text has changed, and remove those of families that are gone."""
    folder = pathlib.Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    texts = pages()
    for path in folder.glob("*.rst"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
