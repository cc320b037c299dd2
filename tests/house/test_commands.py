"""Commands that pages show are commands that vaex takes: their flags are parsed; nothing is trained."""

import argparse
import re
import runpy
import shlex
import sys

import pytest
from helpers import DOCS, ROOT

from vaex.cli import main as cli
from vaex.cli.parse import parse_all

PAGES = [ROOT / "README.md", *DOCS]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
TRAIN = (["python", "experiments/run.py"], ["vaex"])
SHOWN = "import flax.linen as nn\n\nclass Encoder(nn.Module):\n    pass\n\n\nConvolutions = Encoder\n"  # my_nets.py of the pages


def commands() -> list[list[str]]:
    """The commands in blocks of Bash, as lists of words; of settings of the environment and other programs, nothing."""
    lines = [line for page in PAGES for text in BLOCK.findall(page.read_text()) for line in text.splitlines()]
    ended = [word for line in lines for word in re.split(r"&&|;", line.split(" #")[0])]
    words = [shlex.split(line) for line in ended if line.count('"') % 2 == 0]
    return [
        word for word in words if word[:1] == ["vaex"] or (word[1:2] and re.match("(experiments|benchmarks)/", word[1]))
    ]


class Parsed(Exception):
    """Raised where a script would begin to work."""


@pytest.fixture
def stop_after_parsing(monkeypatch, tmp_path):
    parse = argparse.ArgumentParser.parse_args

    def parsed(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(SHOWN)
    for folder in ("experiments", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))


def test_pages_show_commands_that_vaex_takes(stop_after_parsing, monkeypatch, capsys):
    shown = commands()
    assert len(shown) > 25
    for words in shown:
        trained = next((words[len(start) :] for start in TRAIN if words[: len(start)] == start), None)
        if words[:2] == ["vaex", "export"]:
            assert cli.main(words[1:]) == 2 and "holds no config.json" in capsys.readouterr().err
        elif trained is not None and "--help" not in trained:
            assert parse_all(trained).runs
        elif trained is None:
            monkeypatch.setattr(sys, "argv", words[1:])
            with pytest.raises(Parsed):
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
