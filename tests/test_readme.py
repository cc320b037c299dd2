"""What the README shows is what happens: its examples are run as they stand."""

import contextlib
import doctest
import importlib.util
import io
import pathlib
import re
import sys

import pytest

import vaex
from vaex import cli, testing

README = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()


def block(name: str) -> str:
    """The Python block after the comment ``<!-- test: name -->``."""
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no example called {name}"
    return found.group(1)


def test_pure_functions_print_what_the_readme_shows():
    examples = doctest.DocTestParser().get_doctest(
        README.split("```python")[1].split("```")[0], {}, "README", "README.md", 0
    )
    assert len(examples.examples) >= 5
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(examples, out=report.write).failed == 0, report.getvalue()


def test_the_codec_example_runs(tmp_path):
    out = tmp_path / "run"
    assert cli.main(["--model=beta_vae", "--steps=20", f"--out={out}", "--no-figures", "--eval_samples=2"]) == 0
    code = re.sub(r'vaex\.load\("[^"]*"\)', f"vaex.load({str(out)!r})", block("codec"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    shown = re.search(r"```text\n(.*?)```", README[README.index("<!-- test: codec -->") :], re.DOTALL)
    assert shown
    # the numbers depend on the training, the rest does not
    skeleton = [re.sub(r"-?\d+\.\d+|step=\d+", "#", text).split() for text in (shown.group(1), printed.getvalue())]
    assert skeleton[0] == skeleton[1]


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    path = tmp_path / "sparse_vae.py"
    path.write_text(block("own model"))
    monkeypatch.chdir(tmp_path)
    yield "sparse_vae"
    sys.modules.pop("sparse_vae", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_the_own_model_keeps_the_laws(own_model):
    laws = ["one_trace", "stable_state", "finite_gradients"]  # all of them run on the builder that it uses
    assert list(testing.check_model(own_model, laws)) == laws


def test_the_own_model_trains_by_the_readmes_command(own_model, capsys):
    assert (
        cli.main(
            [
                f"--model={own_model}",
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
    assert importlib.util.find_spec(own_model) is not None


def test_links_and_names_exist():
    root = pathlib.Path(__file__).resolve().parents[1]
    for path in re.findall(r"\]\(([^)h][^)]*)\)", README) + re.findall(
        r"`((?:benchmarks|vaex|experiments|constraints)/[\w./]+)`", README
    ):
        assert (root / path).exists(), f"README.md names {path}, which is not there"
    for name in re.findall(r"vaex\.(\w+)\(", README):
        assert hasattr(vaex, name), f"README.md calls vaex.{name}"
