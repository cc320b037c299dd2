"""No file, function or folder outgrows what a reader takes in at once."""

import ast
import collections
import pathlib

from helpers import ROOT

FILES = sorted(path for room in ("vaex", "tests", "experiments", "benchmarks") for path in (ROOT / room).rglob("*.py"))
LINES, FUNCTION_LINES, FILES_IN_A_FOLDER = 400, 60, 20


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first, last = function.body[0], function.end_lineno or function.lineno
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if is_docstring else 0
    return last - function.lineno + 1 - docstring


def test_no_file_is_longer_than_400_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in FILES
        if "benchmarks" not in path.parts and "tests" not in path.parts
    }
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_no_function_is_longer_than_60_lines():
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > FUNCTION_LINES:
                long[f"{path.relative_to(ROOT)}: {node.name}"] = body_lines(node)
    assert long == {}


def test_no_folder_holds_more_than_20_files():
    counts = collections.Counter(str(path.parent.relative_to(ROOT)) for path in FILES)
    assert {folder: count for folder, count in counts.items() if count > FILES_IN_A_FOLDER} == {}


def test_half_of_the_packages_files_are_short():
    lengths = sorted(len(path.read_text().splitlines()) for path in FILES if path.is_relative_to(ROOT / "vaex"))
    assert lengths[len(lengths) // 2] <= 150


def imported(path: pathlib.Path) -> set[str]:
    """Dotted names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


TESTS = [path for path in FILES if path.is_relative_to(ROOT / "tests")]


def test_tests_import_helpers_and_never_each_other():
    for path in TESTS:
        tests = {name for name in imported(path) if name.split(".")[-1].startswith(("test_", "conftest"))}
        assert not tests, f"{path} imports {tests}"


def test_tests_use_public_names_of_jax_and_orbax():
    for path in TESTS:
        private = {name for name in imported(path) if name.startswith(("jax.", "orbax.")) and "._" in name}
        assert not private, f"{path} imports {private}"
