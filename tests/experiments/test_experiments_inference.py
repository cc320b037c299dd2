"""experiments/inference.py: its tables beside the truth."""

import re

import pytest
from helpers import ROOT
from helpers.scripts import script

pytestmark = pytest.mark.nightly


@pytest.fixture
def lesson(tmp_path, capsys, monkeypatch):
    """Run an example: the cells of its rows, by their first cell."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))

    def run(name):
        assert script("inference").main([f"--example={name}", f"--out={tmp_path}"]) == 0
        assert (tmp_path / f"inference_{name}.png").exists()
        lines = capsys.readouterr().out.splitlines()[:-1]
        rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
        return {row[0]: row[1:] for row in rows}

    return run


def numbers(cells):
    return [float(re.match(r"-?\d+\.?\d*(?:e[-+]\d+)?", cell)[0]) for cell in cells if re.match(r"-?\d", cell)]


@pytest.mark.slow
def test_the_bimodal_example_covers_and_seeks(lesson):
    rows = {name: numbers(row) for name, row in lesson("bimodal").items() if name not in ("fit", "on a plane")}
    deviation = {name: row[1] for name, row in rows.items()}
    assert deviation["reverse KL"] < 1 < 2 < deviation["forward KL"] < deviation["chi bound"]
    assert abs(deviation["forward KL"] - deviation["truth"]) < 0.05
    assert abs(deviation["reverse KL, mixture"] - deviation["truth"]) < 0.05
    seeking, covering = (
        rows["full rank, reverse"],
        rows["full rank, forward"],
    )  # of the plane; mass, ELBO, k, forward KL
    assert seeking[2] > 0.99 and abs(covering[2] - 0.6) < 0.05
    assert seeking[3] > covering[3] and seeking[-1] > covering[-1]  # each is ahead in its own divergence
    assert rows["mean field, reverse"][3] < seeking[3] < rows["mixture of 8, reverse"][3] < 0.01


def test_mean_field_of_spins_is_below_the_exact_partition_function(lesson):
    rows = [numbers(row) for name, row in lesson("ising").items() if name != "coupling"]
    assert len(rows) == 9 and rows[0][2] == 0.0 and all(row[2] > 0 for row in rows[1:])
    assert all(row[4] > row[3] for row in rows[1:])  # mean field is magnetised too much


@pytest.mark.slow
def test_terms_of_one_latent_add_up_to_its_evidence(lesson):
    rows = lesson("hidden_variables")
    exact = numbers(rows.pop("by quadrature"))[0]
    rows.pop("q")
    for row in rows.values():
        reconstruction, prior, elbo, posterior, total = numbers(row)
        assert abs(reconstruction - prior - elbo) < 3e-4 and abs(elbo + posterior - exact) < 5e-4
        assert abs(total - exact) < 5e-4 and elbo <= exact
    assert numbers(rows["mixture of two"])[2] > numbers(rows["Gaussian"])[2]
    assert abs(numbers(rows["posterior"])[3]) < 1e-6


@pytest.mark.slow
def test_jensens_gap_falls_to_its_limit(lesson):
    rows = {name: numbers(row) for name, row in lesson("jensen").items() if name != "K"}
    exact = rows.pop("1, by quadrature")[0]
    assert abs(rows["1"][0] - exact) < 4 * rows["1"][1]
    gaps = [row[0] for row in rows.values()]
    assert gaps == sorted(gaps, reverse=True)
    gap, error, limit = rows["256"]
    assert abs(gap - limit) < 4 * error + 0.3 * limit


@pytest.mark.slow
def test_bounds_lie_on_their_sides(lesson):
    rows = lesson("evidence")
    exact = numbers(rows.pop("quadrature"))[0]
    rows.pop("bound")
    assert len(rows) == 8
    for row in rows.values():
        value, error, side = float(row[0]), float(row[1]), row[2]
        assert value < exact + 4 * error if side == "lower" else value > exact - 4 * error
    assert abs(float(rows["annealed"][0]) - exact) < 4 * float(rows["annealed"][1])


@pytest.mark.slow
def test_richer_families_hold_more_of_the_banana(lesson):
    rows = lesson("banana")
    elbo = {name: numbers(row)[0] for name, row in rows.items() if not name.startswith(("fit", "NUTS"))}
    assert elbo["mean field"] < elbo["mixture of 6"] < elbo["flow"] < 0.01
    name, chains = next((name, numbers(row)) for name, row in rows.items() if name.startswith("NUTS"))
    size = float(re.search(r"ESS (\d+)", name)[1])
    (spread, mean, _), (exact_spread, exact_mean, deviation) = chains, numbers(rows["exact"])[1:]
    # four Monte Carlo standard errors; that of the last column, a fourth moment of heavy tails, is not small
    assert abs(spread - exact_spread) < 4 * exact_spread / (2 * size) ** 0.5
    assert abs(mean - exact_mean) < 4 * deviation / size**0.5


@pytest.mark.slow
def test_another_parametrisation_empties_the_funnel(lesson):
    rows = lesson("funnel")
    assert numbers(rows["mean field, centred"])[0] < -0.5 and numbers(rows["mean field, centred"])[3] < 2.5
    assert abs(numbers(rows["mean field, non-centred"])[0]) < 0.01
    non_centred = next(numbers(row) for name, row in rows.items() if name.startswith("NUTS, non-centred"))
    assert abs(non_centred[1] - 3.0) < 0.3


@pytest.mark.slow
def test_evidence_chooses_the_number_of_clusters(lesson):
    rows = {name: row for name, row in lesson("gaussian_mixture").items() if name != "components"}
    elbo = {int(name): float(row[0]) for name, row in rows.items()}
    assert max(elbo, key=elbo.get) == 3
    assert all(float(row[-1]) < 0.02 for row in rows.values())  # scikit-learn's optimum from the same start


@pytest.mark.slow
def test_averages_over_weights_are_better_calibrated_than_their_mode(lesson):
    rows = lesson("logistic_regression")
    loss = {name.split(" (")[0]: float(row[2]) for name, row in rows.items() if len(row) == 4 and "." in row[2]}
    assert loss["full rank"] < loss["MAP"] and abs(loss["full rank"] - loss["NUTS"]) < 0.02
    accuracy = {name: numbers(rows[name]) for name in ("p(x|y) p(y)", "p(y|x)")}
    assert all(0.3 < value < 1 for values in accuracy.values() for value in values)


@pytest.mark.slow
def test_a_network_with_uncertain_weights_is_less_sure_away_from_its_data(lesson):
    rows = lesson("bayesian_network")
    entropy = {
        name.split(" (")[0]: sum(map(float, row[-1].split(", "))) for name, row in rows.items() if name != "posterior"
    }
    assert entropy["MAP"] < entropy["mean field"] and entropy["MAP"] < entropy["NUTS"]
    assert all(float(row[1]) > 0.8 for name, row in rows.items() if name != "posterior")
