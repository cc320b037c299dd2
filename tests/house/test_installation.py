"""What an installation without the extra "train" offers: the pure layer, and elsewhere one line that names the remedy."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from helpers import ROOT

import vaex
from vaex.errors import TRAIN

PURE = "bounds distributions divergences estimators flows ops quantizers schedules"
OPTIONAL = {
    "IPython",
    "blackjax",
    "compression",
    "h5py",
    "zstandard",
    "safetensors",
    "tensorboardX",
    "wandb",
}  # used where they are installed
# a module that is None in sys.modules can be neither found nor imported
BARE = f"import sys; sys.modules.update(dict.fromkeys({TRAIN!r}))\n"


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """Run code as if none of the packages of the extra "train" were installed."""
    return subprocess.run([sys.executable, "-c", BARE + code], capture_output=True, text=True)


def third_party(folder: pathlib.Path) -> set[str]:
    """Top-level packages that the files of a folder import, beside the standard library, jax, numpy and vaex."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    return names - {"jax", "numpy", "vaex", "__future__"} - set(sys.stdlib_module_names)


def test_the_extra_holds_what_vaex_imports():
    assert third_party(ROOT / "vaex") - OPTIONAL == set(TRAIN)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = re.compile(r"[\w-]+")
    always, extra = (
        {name.match(line)[0] for line in lines}
        for lines in (project["dependencies"], project["optional-dependencies"]["train"])
    )
    assert always == {"jax", "numpy"}
    distributions = importlib.metadata.packages_distributions()
    for package in TRAIN:
        assert {name.lower() for name in distributions[package]} & extra, f"{package} is not in the extra train"


def test_the_pure_layer_needs_jax_and_numpy_alone():
    code = f"""
import importlib, vaex, jax, jax.numpy as jnp
for room in {PURE.split()!r}:
    importlib.import_module(f"vaex.{{room}}")
log_px = vaex.bernoulli_log_prob(jnp.array([[2.0, -1.0]]), jnp.array([[1.0, 0.0]]))
print(vaex.elbo(log_px, vaex.gaussian_kl(jnp.zeros((1, 2)), jnp.zeros((1, 2)))).shape)
"""
    done = bare(code)
    assert (done.returncode, done.stdout) == (0, "(1,)\n"), done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import vaex; vaex.load('runs/x')",
        "from vaex import nets",
        "from vaex.cli.main import main; sys.exit(main(['--model=vae']))",
        "from vaex.cli.main import main; sys.exit(main(['--help']))",
        "import runpy; sys.argv = ['models']; runpy.run_module('vaex.models', run_name='__main__')",
    ],
)
def test_the_rest_names_the_remedy(code):
    done = bare(code)
    last = done.stderr.splitlines()[-1]
    assert done.returncode != 0 and 'pip install "vaex-jax[train]"' in last and "flax" in last
    if "sys." in code:  # a command prints one line, no traceback
        assert done.stderr.count("\n") == 1


def test_the_conda_recipe_requires_what_the_wheel_does():
    """conda has no extras: its package has the requirements of the extra train, with the same bounds."""
    recipe = (ROOT / "packaging" / "recipe.yaml").read_text()
    run = re.search(r"^  run:\n((?:    - .*\n)+)", recipe, re.MULTILINE)
    assert run
    listed = {line.strip("- ").replace(" ", "") for line in run[1].splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {*project["dependencies"], *project["optional-dependencies"]["train"]}
    assert listed == {*declared, f"python{project['requires-python']}"}
    assert "- hatchling >=1.27" in recipe and "hatchling>=1.27" in (ROOT / "pyproject.toml").read_text()
    entry = next(iter(project["scripts"].items()))
    assert f"- {entry[0]} = {entry[1]}" in recipe
    assert vaex.__version__.startswith(re.search(r'version: "(.*)"', recipe)[1])
