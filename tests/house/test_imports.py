"""The house's arrows: what each room may import, read from the source; and what importing vaex costs."""

import ast
import pathlib
import subprocess
import sys

import pytest
from helpers import ROOT

import vaex
from vaex import distributions

PACKAGE = ROOT / "vaex"
PURE = {
    "errors",
    "schedules",
    "ops",
    "ops.cpu_conv",
    "distributions",
    "divergences",
    "bounds",
    "estimators",
    "flows",
    "quantizers",
}
DATA = {"data", "data.loader", "data.storage", "data.sources", "data.synthetic"}
FAMILIES = {
    f"models.{path.name}" for path in (PACKAGE / "models").iterdir() if path.is_dir() and path.name != "__pycache__"
}
MODEL = {*PURE, "core", "configuration", "nets", "plots", "data", "samplers", "evaluation", "training"}
RUN = {*MODEL, *DATA, "files", "models"}
# room -> the rooms that its files may import beside their own; imports go down only
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "schedules": {"errors"},
    "ops": {"errors"},
    "ops.cpu_conv": {"errors", "ops"},
    "distributions": {"errors", "ops"},
    "divergences": {"errors", "ops", "distributions"},
    "bounds": {"errors", "ops", "distributions", "divergences"},
    "estimators": {"errors", "ops", "distributions", "divergences", "bounds"},
    "flows": {"errors", "ops", "distributions"},
    "quantizers": {"errors", "ops", "distributions"},
    "inference": {"errors", "ops", "distributions", "divergences", "bounds", "estimators", "flows"},
    "samplers": {"errors", "ops", "distributions", "divergences", "flows"},
    "core": {"errors", "schedules"},
    "files": {"errors"},
    "configuration": {"errors", "schedules", "files"},
    "nets": {"errors", "core", "ops", "ops.cpu_conv"},
    "plots": {"errors", "files"},
    "data": {"errors", "core", "ops"},
    "data.loader": {"errors", "core", "data", "data.storage"},
    "data.storage": {"errors", "files", "data"},
    "data.sources": {"errors", "data", "data.storage"},
    "data.synthetic": {"errors", "core", "data", "data.storage"},
    "evaluation": {*PURE, "core", "plots"},
    "training": {*PURE, "core", "files", "configuration"},
    "models": MODEL,
    **{family: {*MODEL, "models"} for family in FAMILIES},
    "results": {"errors", "files", "evaluation", "plots"},
    "runs": {*RUN, "results"},
    "export": {"errors", "core", "files", "ops", "data", "data.loader"},
    "page": {"errors", "core", "files", "ops", "data", "evaluation"},
    "api": {*RUN, "results", "runs", "export", "page"},
    "testing": {*RUN, "results", "runs", "export", "page", "api"},
    "cli": {*RUN, "results", "runs", "export", "page", "api"},
}
# files that list and open the rooms above or beside them, for users
DOORS = {
    "__init__.py": set(ALLOWED),
    "data/__init__.py": DATA,
    "data/registry.py": DATA,
    "ops/__init__.py": {"ops.cpu_conv"},
}
EXTERNAL = {  # distributions beside the standard library
    "errors": set(),
    "files": set(),
    "core": {"jax"},
    "configuration": {"jax", "numpy"},
    **{name: {"jax", "numpy"} for name in PURE - {"errors"}},
    "inference": {"jax", "numpy", "optax", "blackjax"},  # the last where it is used
}


def test_names_of_test_files_are_unique():
    """Of two files with one name pytest collects only the first, and says so at the end of a long run."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def is_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def imported_modules(path: pathlib.Path) -> set[str]:
    """Dotted modules that a file imports, anywhere in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vaex":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name if is_module(name) else str(node.module) for name in names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def room(parts: tuple[str, ...]) -> str:
    """The room of a module, given the parts of its path inside the package; "" for the package itself."""
    if not parts or parts == ("__init__",):
        return ""
    nested = parts[0] in ("data", "models", "ops") and PACKAGE.joinpath(*parts[:2]).is_dir()
    return ".".join(parts[:2]) if nested and len(parts) > 1 else parts[0]


FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down_only(name):
    modules = imported_modules(PACKAGE / name)
    inside = room(pathlib.Path(name).with_suffix("").parts)
    rooms = {room(tuple(module.split(".")[1:])) for module in modules if module.split(".")[0] == "vaex"} - {"", inside}
    outside = {module.split(".")[0] for module in modules} - {"vaex", "__future__"} - set(sys.stdlib_module_names)
    allowed = ALLOWED[inside] if inside else set()
    assert rooms <= allowed | DOORS.get(name, set()), f"{name} imports {rooms - allowed}"
    if inside in EXTERNAL:
        assert outside <= EXTERNAL[inside], f"{name} imports {outside - EXTERNAL[inside]}"
    if inside != "nets":
        assert "flax" not in outside, f"{name} imports flax, which only nets may"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.py")), ids=lambda path: path.stem)
def test_experiments_train_by_the_front_door(path):
    """That is, by ``vaex.train``; ``run.py`` is the command line."""
    engine = ("vaex.training", "vaex.cli.main", "vaex.runs.lifecycle", "vaex.runs.train")
    around = {module for module in imported_modules(path) if module.startswith(engine)}
    assert around == ({"vaex.cli.main"} if path.name == "run.py" else set())


def test_every_room_is_known():
    rooms = {room(pathlib.Path(name).with_suffix("").parts) for name in FILES}
    assert rooms - {""} == set(ALLOWED)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "core.py", "errors.py"}


def test_no_folder_holds_more_than_20_files():
    folders = [str(pathlib.Path(name).parent) for name in FILES]
    assert {folder: folders.count(folder) for folder in folders if folders.count(folder) > 20} == {}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_vaex_imports_no_jax():
    heavy = "('jax', 'flax', 'numpy', 'optax', 'orbax', 'matplotlib', 'sklearn', 'tensorflow_datasets', 'tyro', 'rich')"
    assert run(f"import sys, vaex; print([name for name in {heavy} if name in sys.modules])") == "[]"


TRAINING = (
    "Callback",
    "Dataset",
    "Run",
    "build",
    "load",
    "train",
)  # names of the top level that need the extra "train"


def test_pure_names_import_no_framework():
    heavy = "('flax', 'optax', 'orbax', 'matplotlib', 'sklearn', 'tensorflow_datasets', 'chex', 'tyro', 'rich')"
    names = f"[name for name in vaex.__all__ if name not in {TRAINING}]"
    code = f"import sys, vaex; [getattr(vaex, n) for n in {names}]; print([n for n in {heavy} if n in sys.modules])"
    assert run(code) == "[]"


def test_the_top_level_offers_its_names_and_rooms_and_shows_nothing_else():
    expected = {
        *("bernoulli_log_prob", "effective_sample_size", "elbo", "estimate_elbo", "gaussian_kl", "importance_bound"),
        *("kl", "monte_carlo_kl", "reparameterize", *TRAINING),
        *(
            name
            for name in distributions.__all__
            if name[0].isupper() and name not in ("BaseDistribution", "Elementwise")
        ),
    }
    rooms = {name for name in ALLOWED if "." not in name}
    assert set(vaex.__all__) == expected
    assert set(dir(vaex)) == {*expected, *rooms, "__version__"}
    assert all(getattr(vaex, name) is not None for name in dir(vaex))
    with pytest.raises(AttributeError, match="no attribute 'elbow'"):
        _ = vaex.elbow


def test_type_checkers_read_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    names = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(dir(vaex)) - {"__version__"}


def test_files_of_the_dataframe_library_of_the_same_name_are_reported(tmp_path):
    package = tmp_path / "vaex"
    package.mkdir()
    (package / "__init__.py").write_text((PACKAGE / "__init__.py").read_text())
    command = [sys.executable, "-c", "import vaex"]
    reports = []
    for dataframe in (False, True):
        if dataframe:
            (package / "dataframe.py").touch()
        ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env={})
        reports.append(ended.stderr)
    assert reports[0] == ""
    assert f"{package} also holds files of the dataframe library vaex" in reports[1] and "pip uninstall" in reports[1]
