"""The laws that every model keeps, for vaex's own and for yours: ``check_model("my_package.my_module")``.

A law takes a ``Subject``, a stage of a model on its TINY config and small random images. It raises AssertionError where the model
breaks it, and ``NothingToCheck`` where the model has nothing that the law is about. Sharding laws use as many devices as there are
(eight virtual ones in vaex's own tests).

With pytest, one test per law::

    SUBJECTS = testing.build_subjects("my_package.my_module")

    @pytest.mark.parametrize("law", testing.LAWS)
    def test_law(law):
        try:
            testing.check_law(law, SUBJECTS)
        except testing.NothingToCheck as nothing:
            pytest.skip(str(nothing))
"""

from __future__ import annotations

from vaex.testing.check import LawResult, check_law, check_model
from vaex.testing.laws import LAWS
from vaex.testing.subject import NothingToCheck, Subject, build_subject, build_subjects

__all__ = [
    "LAWS",
    "LawResult",
    "NothingToCheck",
    "Subject",
    "build_subject",
    "build_subjects",
    "check_law",
    "check_model",
]
