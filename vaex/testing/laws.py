"""The table of laws, by name."""

from __future__ import annotations

from typing import Protocol

from vaex.testing import division_laws, evaluation_laws, numerical_laws, training_laws
from vaex.testing.subject import Subject


class Law(Protocol):
    """A law: raises AssertionError where the subject breaks it, ``NothingToCheck`` where it has nothing that the law is about."""

    __name__: str

    def __call__(self, subject: Subject, /) -> None: ...


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        training_laws.one_trace,
        training_laws.chunks_are_invisible,
        training_laws.members_equal_solo_runs,
        training_laws.resume_is_exact,
        training_laws.sharding_changes_nothing,
        numerical_laws.finite_gradients,
        numerical_laws.runs_in_64_bits,
        numerical_laws.groups_keep_apart,
        training_laws.stable_state,
        evaluation_laws.shapes,
        numerical_laws.bounds_tighten,
        evaluation_laws.evaluation_completes,
        division_laws.metrics_per_example_are_of_one,
        division_laws.losses_are_means_of_examples,
        division_laws.evaluation_ignores_division,
        evaluation_laws.trained_run_is_usable,
    )
}
