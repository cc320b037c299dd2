"""Gallery of models, written from the registry, the docstrings and the declarations of options when the site is built."""

import math
import pathlib
from collections import Counter
from types import ModuleType

import gallery_figures
import jax
import jax.numpy as jnp
from sphinx.application import Sphinx

from vaex import models
from vaex.configuration.declare import Field, fields
from vaex.configuration.grammar import write, write_hyperparameter
from vaex.configuration.settings import stage_fields
from vaex.models.__main__ import shapes, spec_for
from vaex.training.hyperparameters import as_schedules

FOLDER = "models"  # inside docs/, written anew by each build
MANY = 0.5  # share of the models above which an option is listed once for all
TITLE = "Gallery of models"
INTRODUCTION = """\
The gallery describes every model by family: its objective, source, command, the result of that command, its options, and a
figure with the command of the short run that drew it. :doc:`/how_to_choose` recommends models for common cases. The table below
compares them:

* *lines*: those of the model's file, docstring included; code that a family shares is in other files;
* *parameters*: those of all stages, with the model's own defaults for 8x8 digits (models of sequences: six such frames);
* *cost*: floating-point operations of a training step of the first stage, relative to a step of ``vae`` with as many examples,
  as XLA counts them before it optimises, the body of a loop once. ``python benchmarks/throughput.py`` measures steps per second.

These pages are made from the docstrings and declarations in ``vaex/models`` when the site is built, the figures by
``python docs/_extensions/gallery_figures.py``. ``python -m vaex.models`` prints parameter groups, stages and lines of code, and
``python experiments/run.py --model=NAME --help`` every flag of one model.
"""
FRAMES, EXAMPLES = 6, 128


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


def figure(name: str) -> list[str]:
    """Lines of a model's figure, and of the command that drew it."""
    drawn = gallery_figures.FIGURES[name].name
    return [
        f".. figure:: /gallery/{name}.png",
        f"   :alt: {name}: {drawn.replace('_', ' ')}",
        "",
        f"   ``{gallery_figures.command(name)}``: ``figures/{drawn}.png``",
        "",
    ]


def cost(module: ModuleType) -> tuple[int, float]:
    """Number of parameters of all stages, and floating-point operations of a step of the first; nothing is compiled."""
    spec = spec_for(module)
    if models.frames(module) is not None:
        spec = spec._replace(shape=(FRAMES, *spec.shape[1:]))
    recipe = module.build(module.Config(), spec)
    leaves = [leaf for stage in shapes(recipe, spec).values() for leaf in jax.tree.leaves(stage.params)]
    algorithm = recipe.stages[0].algorithm
    batch = {"x": jnp.zeros((EXAMPLES, *spec.shape)), "y": jnp.zeros(EXAMPLES, jnp.int32)}
    state = jax.eval_shape(algorithm.init, jax.random.key(0), as_schedules(module.HParams()), batch)
    analysis = jax.jit(algorithm.step).lower(state, batch).cost_analysis()
    return sum(math.prod(leaf.shape) for leaf in leaves), analysis["flops"]


def facts(modules: dict[str, ModuleType]) -> dict[str, list[str]]:
    """Lines, parameters and cost of each model, as text."""
    costs = {name: cost(module) for name, module in modules.items()}
    _, unit = costs["vae"]
    return {
        name: [
            str(len(pathlib.Path(str(module.__file__)).read_text().splitlines())),
            f"{costs[name][0]:,}",
            f"{costs[name][1] / unit:.{2 if costs[name][1] < 100 * unit else 3}g}",
        ]
        for name, module in modules.items()
    }


def pages() -> dict[str, str]:
    """Name of a file -> its text."""
    modules = {name: models.module(name) for name in models.MODELS}
    options = {name: declared(module) for name, module in modules.items()}
    # the same flag with the same default and meaning
    told = [(flag, *value) for of_model in options.values() for flag, value in of_model.items()]
    counts = Counter((flag, default, field.declaration.doc) for flag, field, default in told)
    frequent = {key for key, count in counts.items() if count > MANY * len(modules)}
    common = {flag: (field, text) for flag, field, text in told if (flag, text, field.declaration.doc) in frequent}
    texts, overview, measured = {}, [], facts(modules)
    for family, entries in models.FAMILIES.items():
        lines = heading(family.replace("_", " ").capitalize(), "=")
        for name, entry in entries.items():
            lines += [f".. _model-{name}:", "", *heading(name, "-")]
            lines += [f".. automodule:: {modules[name].__name__}", "   :no-index:", "", *figure(name)]
            lines_of_code, parameters, steps = measured[name]
            lines += [f"{lines_of_code} lines, {parameters} parameters; a step costs {steps} times one of ``vae``.", ""]
            special = {
                flag: (field, text)
                for flag, (field, text) in options[name].items()
                if (flag, text, field.declaration.doc) not in frequent
            }
            if special:
                lines += option_table(special)
            overview.append([f":ref:`{name} <model-{name}>`", entry.summary, entry.bound, *measured[name]])
        texts[f"{family}.rst"] = "\n".join(lines)
    lines = [*heading(TITLE, "="), INTRODUCTION]
    header = ["model", "what distinguishes it", "bound on log p(x)", "lines", "parameters", "cost"]
    lines += table(header, overview, "25 35 15 7 11 7")
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
