"""What the README shows is what happens: its examples are run as they stand."""

import contextlib
import doctest
import io
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from helpers import DOCS, ROOT, linked_file

import vaex
from vaex import data, testing
from vaex.cli import main as cli

pytestmark = pytest.mark.nightly

README = (ROOT / "README.md").read_text()
PURE_LAYER = (ROOT / "docs" / "pure_layer.md").read_text()
PYTHON = (ROOT / "docs" / "python.md").read_text()
DATA = (ROOT / "docs" / "data.md").read_text()
INFERENCE = (ROOT / "docs" / "inference.md").read_text()
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
FILES = {
    name: (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("index", "getting_started", "extending", "faq", "migration/from_flax")
}
QUICK = {"factors", "sequences", "readings", "folders", "conv", "keys"}  # blocks of pages; others train for longer
NAMED = re.compile(r"<!-- test: ([\w ]+) -->")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def block(name: str, page: str = README) -> str:
    """The Python block after the comment ``<!-- test: name -->``."""
    match = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert match, f"there is no example called {name}"
    return match.group(1)


def shown(name: str, page: str = README) -> str:
    """The first text block after that comment: what the example prints."""
    match = re.search(r"```text\n(.*?)```", page[page.index(f"<!-- test: {name} -->") :], re.DOTALL)
    assert match, f"nothing is shown after the example called {name}"
    return match.group(1)


def test_pure_functions_print_what_the_readme_shows():
    examples = doctest.DocTestParser().get_doctest(
        README.split("```python")[1].split("```")[0], {}, "README", "README.md", 0
    )
    assert len(examples.examples) >= 5
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(examples, out=report.write).failed == 0, report.getvalue()


@pytest.mark.slow
def test_the_codec_example_runs(trained_runs):
    out = trained_runs("--model=beta_vae", "--latent_dim=10", "--no-figures")
    code = re.sub(r'vaex\.load\("[^"]*"\)', f"vaex.load({str(out)!r})", block("codec"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    # the numbers depend on the training, the rest does not
    skeleton = [re.sub(r"-?\d+\.\d+|step=\d+", "#", text).split() for text in (shown("codec"), printed.getvalue())]
    assert skeleton[0] == skeleton[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("front door", README),
        ("population", README),
        *((name, PYTHON) for name in NAMED.findall(PYTHON)),
    ],
    ids=lambda value: "" if len(value) > 40 else value,  # no page in a name
)
def test_training_from_python_prints_what_the_page_shows(name, page):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block(name, page), name, "exec"), {"__name__": "page"})
    assert printed.getvalue().split() == shown(name, page).split()


@pytest.fixture
def user_model(tmp_path, monkeypatch):
    path = tmp_path / "sparse_vae.py"
    path.write_text(block("own model"))
    monkeypatch.chdir(tmp_path)
    return "sparse_vae.py"


def test_the_user_model_keeps_the_laws(user_model):
    laws = ["one_trace", "stable_state", "finite_gradients"]  # all of them run on the builder that it uses
    assert list(testing.check_model(user_model, laws)) == laws


@pytest.mark.slow
def test_the_user_model_trains_by_the_readmes_command(user_model, capsys):
    assert (
        cli.main(
            [
                f"--model={user_model}",
                "--sparsity=0,0.5,2",
                "--steps=10",
                "--hidden=8",
                "--no-figures",
                "--eval_samples=2",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "sparsity" in printed and (pathlib.Path("runs")).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bare loop", "other bounds"])
def test_the_page_of_the_pure_layer_shows_what_its_examples_print_without_a_framework(name):
    check = "\nimport sys; print([m for m in ('flax', 'optax', 'orbax', 'matplotlib', 'tyro') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", block(name, PURE_LAYER) + check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *printed, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert_lines_agree(printed, shown(name, PURE_LAYER).splitlines())


def assert_lines_agree(printed: list[str], expected: list[str]) -> None:
    """The same text, and numbers within what the rounding of another machine changes in a short training."""
    for line, shown_line in zip(printed, expected, strict=True):
        assert NUMBER.sub("#", line) == NUMBER.sub("#", shown_line)
        numbers, shown_numbers = ([float(n) for n in NUMBER.findall(text)] for text in (line, shown_line))
        np.testing.assert_allclose(numbers, shown_numbers, rtol=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "name"),
    [(page, name) for page, text in FILES.items() for name in NAMED.findall(text)],
)
def test_blocks_of_the_pages_run_as_files(page, name, tmp_path, monkeypatch):
    path = tmp_path / f"{name}.py"
    path.write_text(block(name, FILES[page]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(path), run_name="__main__")
    assert_lines_agree(printed.getvalue().splitlines(), shown(name, FILES[page]).splitlines())


def test_what_the_pure_layers_page_names_exists():
    for module in re.findall(r"^\| `vaex\.(\w+)`", PURE_LAYER, re.MULTILINE):
        assert getattr(vaex, module)


def test_links_and_names_exist():
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README) + re.findall(
        r"`((?:benchmarks|vaex|experiments|constraints)/[\w./]+)`", README
    ):
        assert linked_file(ROOT, path).exists(), f"README.md names {path}, which is not there"
    for name in re.findall(r"vaex\.(\w+)\(", README):
        assert hasattr(vaex, name), f"README.md calls vaex.{name}"


@pytest.mark.parametrize(
    ("name", "page"),
    [
        pytest.param(name, page, marks=() if name in QUICK else pytest.mark.slow, id=name)
        for page in (DATA, PERFORMANCE, INFERENCE)
        for name in NAMED.findall(page)
    ],
)
def test_pages_show_what_their_examples_print(name, page):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block(name, page), "docs", "exec"), {"__name__": "page"})
    assert printed.getvalue() == shown(name, page)


def test_no_block_of_python_stands_unexecuted():
    """Before each stands the name of its test, the file that it is quoted from, or, where it needs a library of an extra or files,
    what tests like it; cells of notebooks are run by the build."""
    elsewhere = (ROOT / "docs" / "migration" / "from_pythae.md").read_text()  # by tests/house/test_migration.py
    run = [README, PYTHON, DATA, INFERENCE, PERFORMANCE, PURE_LAYER, *FILES.values(), elsewhere]
    for path in [*ROOT.glob("*.md"), *DOCS]:
        text = path.read_text()
        for before, code in re.findall(r"^([^\n]*)\n```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            quoted = re.fullmatch("<!-- from: (.*) -->", before)
            like = re.fullmatch("<!-- like: (.*) (.*) -->", before)
            named = NAMED.fullmatch(before) and text in run
            assert quoted or like or named or code.startswith(">>> "), (
                f"{path.name} has a block that no test runs:\n{code}"
            )
            if quoted:
                assert code in (ROOT / quoted[1]).read_text(), f"{path.name}: {quoted[1]} reads otherwise"
            if like:
                assert f"def {like[2]}(" in (ROOT / like[1]).read_text(), f"{path.name}: {like[1]} has no {like[2]}"


def test_the_data_page_names_every_data_set():
    rows = re.findall(r"^\| (`.*?) \|", DATA, re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`([^`]+)`", row)}
    assert named == {name for name in data.DATASETS if name != "FOLDER"}
