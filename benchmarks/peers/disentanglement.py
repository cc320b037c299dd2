"""MIG, modularity, SAP and DCI of the same arrays by vaex and by disentanglement_lib (Locatello et al. 2019).

    pip download --no-deps disentanglement-lib==1.5 && python -m zipfile -e disentanglement_lib-1.5-py3-none-any.whl peer
    python benchmarks/peers/disentanglement.py peer

Only that package's functions of arrays run, without TensorFlow: gin's decorators and absl's logging are stood in for. Both fit
predictors to the same halves. Its trees have no seed, so DCI differs where trees do; "of its trees": vaex's score of its
importances.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
import types

import numpy as np

from vaex.evaluation import disentanglement
from vaex.evaluation.disentanglement.inputs import split
from vaex.results.compare import aligned

FACTORS = (3, 4, 5)
EXAMPLES = 4000


def stand_in() -> None:
    """Put modules in place that the package imports and its functions of arrays do not need."""

    def configurable(*_: object, **__: object) -> object:
        return lambda function: function

    gin, absl, six = types.ModuleType("gin"), types.ModuleType("absl"), types.ModuleType("six")
    gin.__dict__.update(
        configurable=configurable, REQUIRED=20, tf=types.ModuleType("gin.tf")
    )  # 20 bins, as its configurations say
    absl.__dict__["logging"] = types.ModuleType("absl.logging")
    six.__dict__["moves"] = types.ModuleType("six.moves")
    six.__dict__["moves"].__dict__["range"] = range
    sys.modules |= {
        "gin": gin,
        "gin.tf": gin.__dict__["tf"],
        "absl": absl,
        "six": six,
        "six.moves": six.__dict__["moves"],
    }


def codes_of(factors: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return codes [n, d] by name: noisy copies of factors, rotated, duplicated, and noise alone."""
    standard = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    noisy = standard + 0.2 * rng.normal(size=standard.shape)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    noise = rng.normal(size=(len(factors), 2))
    return {
        "one latent a factor": np.concatenate([noisy, noise], axis=1),
        "rotated": np.concatenate([noisy @ rotation, noise], axis=1),
        "a factor twice": np.concatenate([noisy, noisy[:, :1] + 0.1 * noise[:, :1]], axis=1),
        "noise": rng.normal(size=(len(factors), 4)),
    }


def theirs(codes: np.ndarray, factors: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Return the scores of disentanglement_lib, whose arrays are [d, n], and the importances of its trees, [d, f]."""
    names = ("mig", "sap_score", "dci", "modularity_explicitness", "utils")
    root = "disentanglement_lib.evaluation.metrics"
    mig, sap, dci, modularity, utils = (importlib.import_module(f"{root}.{name}") for name in names)
    bins_of = functools.partial(utils._histogram_discretize, num_bins=20)  # as its configurations say
    utils.__dict__["make_discretizer"] = bins_of
    fitted, tested = split(len(codes), 0)
    half, other = (codes[fitted].T, factors[fitted].T), (codes[tested].T, factors[tested].T)
    bins = bins_of(codes.T)
    information = utils.discrete_mutual_info(bins, factors.T)
    importance, _, quality = dci.compute_importance_gbt(*half, *other)
    scores = {
        "mig": mig._compute_mig(codes.T, factors.T)["discrete_mig"],
        "modularity": modularity.modularity(information),
        "sap": sap.compute_avg_diff_top_two(sap.compute_score_matrix(*half, *other, continuous_factors=False)),
        "dci disentanglement": dci.disentanglement(importance),
        "dci completeness": dci.completeness(importance),
        "dci informativeness": quality,
    }
    return scores, importance


def ours(codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """Return vaex's scores, DCI by boosted trees as theirs is."""
    importances = disentanglement.dci(codes, factors, predictor="boosted_trees")
    return {
        "mig": disentanglement.mutual_information_gap(codes, factors).score,
        "modularity": disentanglement.modularity(codes, factors).score,
        "sap": disentanglement.separated_attribute_predictability(codes, factors).score,
        "dci disentanglement": importances.disentanglement,
        "dci completeness": importances.completeness,
        "dci informativeness": importances.informativeness,
    }


def main() -> None:
    """Print a table of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", help="folder of the unpacked wheel")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help=f"how many (default: {EXAMPLES})")
    given = parser.parse_args()
    sys.path.insert(0, given.peer)
    stand_in()
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, given.examples) for size in FACTORS], axis=1)
    lines = [["codes", "score", "vaex", "disentanglement_lib", "difference"]]
    for title, codes in codes_of(factors, rng).items():
        mine, (other, importance) = ours(codes, factors), theirs(codes, factors)
        parts = ("dci disentanglement", "dci completeness")
        for name, score in zip(parts, disentanglement.importance_scores(importance), strict=True):
            mine[f"{name} of its trees"], other[f"{name} of its trees"] = score, other[name]
        for name in mine:
            lines.append([title, name, f"{mine[name]:.6f}", f"{other[name]:.6f}", f"{mine[name] - other[name]:+.1e}"])
    print(aligned(lines))


if __name__ == "__main__":
    main()
