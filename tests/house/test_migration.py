"""The pages for users of Pythae: a row for each of its models, and one run in both libraries, with equal losses."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT

from vaex import models
from vaex.cli.parse import parse_all

PAGE = (ROOT / "docs" / "migration" / "from_pythae.md").read_text()
MISSING = [name for name in ("torch", "pythae") if importlib.util.find_spec(name) is None]
SCRIPT, SHOWN = re.findall(r"<!-- test: same run -->\n```python\n(.*?)```\n```text\n(.*?)```", PAGE, re.DOTALL)[0]
LINE = re.compile(r"step (\d+): vaex (\d+\.\d{3}), Pythae (\d+\.\d{3})")

PYTHAE = {  # the models of release 0.1.2, as pythae.models names them
    *("AE", "VAE", "BetaVAE", "DisentangledBetaVAE", "FactorVAE", "BetaTCVAE", "IWAE", "MIWAE", "PIWAE", "CIWAE"),
    *("WAE_MMD", "INFOVAE_MMD", "VAMP", "SVAE", "VAE_LinNF", "VAE_IAF", "VQVAE", "Adversarial_AE", "VAEGAN"),
    *("MSSSIM_VAE", "PoincareVAE", "HVAE", "RHVAE", "RAE_L2", "RAE_GP"),
}
SHORT = {  # models that show what a file can do without another one's being edited
    *("adversarial_autoencoder", "vae_gan", "regularized_autoencoder", "poincare_vae", "hamiltonian_vae"),
    *("riemannian_hamiltonian_vae", "ms_ssim_vae"),
}
TABLE = (ROOT / "docs" / "migration" / "models_compared.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)([^`]*)` \| (\d+) \|", TABLE, re.MULTILINE)
LENGTHS = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "vaex" / "models").glob("*/*.py")}


def test_every_model_of_pythae_has_one_row():
    assert len(ROWS) == TABLE.count("\n| ") - 1  # its head is no row
    assert sorted(theirs for theirs, *_ in ROWS) == sorted(PYTHAE)


@pytest.mark.parametrize(("ours", "flags", "lines"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_row_names_a_model_with_its_flags_and_the_length_of_its_file(ours, flags, lines):
    assert ours in models.MODELS
    parse_all([f"--model={ours}", *flags.split()])  # raises where a flag is refused
    assert int(lines) == LENGTHS[ours]


def test_models_with_parts_of_their_own_fit_in_90_lines():
    assert {name: LENGTHS[name] for name in SHORT if LENGTHS[name] > 90} == {}


@pytest.mark.skipif("pythae" in MISSING, reason="pythae missing; pip install -e '.[benchmarks]'")
def test_the_names_are_those_of_pythae():
    package = importlib.util.find_spec("pythae")
    assert package and package.origin
    source = pathlib.Path(package.origin).with_name("models") / "__init__.py"  # read, since to import it is slow
    listed = re.findall(r'"(\w+)"', source.read_text().partition("__all__")[2])
    named = {name for name in listed if not name.endswith("Config")}
    assert PYTHAE <= named <= PYTHAE | {"AutoModel", "BaseAE", "HRQVAE"}


def losses(text: str) -> np.ndarray:
    """Step, loss of vaex and loss of Pythae, a row for each line."""
    rows = LINE.findall(text)
    assert len(rows) == len(text.strip().splitlines())
    return np.array(rows, float)


def test_the_losses_that_the_page_shows_are_equal():
    step, ours, theirs = losses(SHOWN).T
    assert step.tolist() == [0, 1, 10, 100] and ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    compile(SCRIPT, "from_pythae.md", "exec")


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing; pip install -e '.[benchmarks]'")
def test_one_run_in_vaex_and_pythae_has_one_loss(tmp_path):
    path = tmp_path / "same_run.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    printed, shown = losses(done.stdout), losses(SHOWN)
    np.testing.assert_allclose(printed[:, 1], printed[:, 2], rtol=1e-5)  # float32, also after a hundred steps
    np.testing.assert_allclose(printed, shown, rtol=1e-3)  # jax and torch of other versions round differently
