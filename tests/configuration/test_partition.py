"""vaex.configuration.partition: parts of a sweep cover it, each combination once, with all its seeds."""

import pytest

from vaex.cli.parse import parse_all
from vaex.configuration.partition import part_of, share
from vaex.errors import UserError

SWEEP = ("--model=beta_vae", "--latent_dim=2,10,32", "--beta=1,4", "--seeds=0:2")


def entries(runs):
    return [
        (settings.config.latent_dim, member.hparams.beta, member.seed)
        for settings in runs.values()
        for member in settings.members
    ]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6])
def test_parts_cover_a_sweep_in_order(count):
    parts = [parse_all([*SWEEP, f"--part={number}/{count}", "--out=runs"]) for number in range(1, count + 1)]
    covered = [entry for part in parts for entry in entries(part.runs)]
    assert covered == entries(parse_all(SWEEP).runs) and len(set(covered)) == 12
    directories = [settings.run.out for part in parts for settings in part.runs.values()]
    assert len(set(directories)) == len(directories)
    assert max(len(entries(part.runs)) for part in parts) - min(len(entries(part.runs)) for part in parts) <= 2
    assert all(part.out is None for part in parts)  # none writes a table of all


def test_a_part_is_a_run_of_its_own_and_says_what_varies():
    (name, settings), (other, _) = parse_all([*SWEEP, "--part=2/4", "--out=runs"]).runs.items()
    assert (name, other) == ("latent_dim=2_part=2of4", "latent_dim=10_part=2of4")
    assert settings.run.out == "runs/latent_dim=2_part=2of4"
    assert settings.varied == () and [member.seed for member in settings.members] == [0, 1]


def test_shares_are_even():
    sizes = [len(share(35, number, 16)) for number in range(1, 17)]
    assert sum(sizes) == 35 and set(sizes) == {2, 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7/7", "give at most 6 parts"),
        ("0/4", "from 1/16 to 16/16"),
        ("5/4", "from 1/16"),
        ("3", "the number of a part"),
    ],
)
def test_parts_that_there_are_not_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_all([*SWEEP, f"--part={text}"])
    with pytest.raises(UserError, match=message):
        part_of(text, parse_all(SWEEP).runs)
