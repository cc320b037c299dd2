"""The bar in a notebook, with a stand-in for IPython."""

import sys
import types

import pytest

from vaex.training.progress import Progress, in_notebook


class ZMQInteractiveShell:
    """Named as the shell of a Jupyter kernel."""


@pytest.fixture
def notebook(monkeypatch):
    shown = []

    class Handle:
        def update(self, content):
            shown.append(content)

    def display(content, display_id):
        shown.append(content)
        return Handle()

    displayed = types.ModuleType("IPython.display")
    displayed.HTML, displayed.display = str, display
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displayed)
    return shown


def test_a_notebook_shows_one_bar_that_moves(notebook, capsys):
    assert in_notebook()
    progress = Progress("a <model>", 0, 200, 10, ("elbo",))
    progress.update(1, 1, 2.0, {"elbo": -3.0})
    progress.update(101, 100, 0.5, {"elbo": -2.0})
    progress.close()
    assert notebook[0] == "a &lt;model&gt;" and "steps/s" not in notebook[1]
    assert 'value="101" max="200"' in notebook[2]
    assert "101/200  200 steps/s  2,000 examples/s  elbo -2.00  0 s left" in notebook[2]
    assert capsys.readouterr().err == ""


def test_elsewhere_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
