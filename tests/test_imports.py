"""The house's arrows: what each room may import, read from the source; and what importing vaex costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1] / "vaex"
PURE = {"distributions", "divergences", "bounds", "estimators", "flows", "quantizers", "schedules", "errors", "keys"}
# room -> the rooms that it may import, beside itself
ALLOWED = {
    **{room: PURE for room in PURE},
    "files": PURE,
    "core": PURE,
    "nets": {*PURE, "core"},
    "data": {*PURE, "core", "files"},
    "evaluation": {*PURE, "core"},
    "plots": {"core", "files", "errors"},
    "training": {*PURE, "core", "files", "nets"},
    "models": {*PURE, "core", "nets", "training", "data", "evaluation"},
}
EXTERNAL = {"files": set(), "core": {"jax"}, "errors": set(), **{room: {"jax", "numpy"} for room in PURE - {"errors"}}}


def test_names_of_test_files_are_unique():
    """Of two files with one name pytest collects only the first, and says so at the end of a long run."""
    names = [path.name for path in ROOT.parent.joinpath("tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def imports(path: pathlib.Path) -> set[str]:
    """Dotted modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "vaex":
            found |= {f"vaex.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def room(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    name = room(path)
    inner = {module.split(".")[1] for module in imports(path) if module.startswith("vaex.")}
    outer = {module.split(".")[0] for module in imports(path)} - {"vaex", "__future__"} - set(sys.stdlib_module_names)
    if name in ALLOWED:
        assert inner <= ALLOWED[name] | {name}, f"{path} imports {inner - ALLOWED[name] - {name}}"
    if name in EXTERNAL:
        assert outer <= EXTERNAL[name], f"{path} imports {outer - EXTERNAL[name]}"
    if name != "nets":
        assert "flax" not in outer, f"{path} imports flax, which only nets may"


def test_every_room_is_known():
    outside = {
        "__init__",
        "plots",
        "config",
        "flags",
        "identity",
        "usage",
        "cli",
        "codec",
        "comparison",
        "experiment",
        "run_directory",
        "trainer",
        "profiling",
        "evaluator",
        "report",
        "testing",
    }
    assert {room(path) for path in ROOT.rglob("*.py")} <= {*ALLOWED, *outside}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_vaex_imports_no_jax():
    heavy = "('jax', 'flax', 'numpy', 'optax', 'orbax', 'matplotlib', 'sklearn', 'tensorflow_datasets', 'tyro', 'rich')"
    assert run(f"import sys, vaex; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_pure_names_import_no_framework():
    names = "elbo gaussian_kl bernoulli_log_prob reparameterize monte_carlo_kl importance_bound effective_sample_size"
    heavy = "('flax', 'optax', 'orbax', 'matplotlib', 'sklearn', 'tensorflow_datasets', 'chex', 'tyro', 'rich')"
    code = f"import sys, vaex; [getattr(vaex, n) for n in '{names}'.split()]; print([n for n in {heavy} if n in sys.modules])"
    assert run(code) == "[]"


def test_names_and_errors_of_the_top_level():
    import vaex

    assert set(vaex.__all__) <= set(dir(vaex))
    with pytest.raises(AttributeError, match="no attribute 'elbow'"):
        _ = vaex.elbow
