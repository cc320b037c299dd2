"""Every argument of every public function beside the pure rooms changes something, or is refused: none is ignored in silence.

Public is what the site documents. The tables are in ``helpers.argument_cases``; ``test_arguments`` has the pure rooms.
"""

import importlib
import inspect
import re

import pytest
from helpers import ROOT
from helpers.argument_cases import (
    UNSET,
    Case,
    Given,
    Refused,
    ShownBy,
    api,
    call,
    data,
    differ,
    evaluation,
    pairs,
    training,
)

from vaex.errors import UserError

pytestmark = pytest.mark.nightly

TABLES = api.CASES | data.CASES | evaluation.CASES | training.CASES
API = ("vaex.api.run", "vaex.api.sweep", "vaex.api.trained_model")  # of which classes are public
FRONT_DOOR = ("build", "load", "train")  # the other functions of vaex are of its rooms
PURE = {f"vaex.{room}" for room in ("bounds", "distributions", "divergences", "estimators", "flows", "quantizers")}

OTHERS = {  # of records, protocols and declarations, or rooms with their own tests of each function
    *("vaex.configuration.declare", "vaex.core", "vaex.errors", "vaex.evaluation", "vaex.export.functions"),
    *("vaex.inference", "vaex.models.installed", "vaex.models.registry", "vaex.plots.records", "vaex.testing.check"),
    *(
        "vaex.testing.laws",
        "vaex.testing.subject",
        "vaex.training",
        "vaex.training.callbacks",
        "vaex.training.checkpoint",
    ),
}


def documented_modules():
    """Names of the modules whose members the site shows."""
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        yield from re.findall(r"automodule:: (\S+)\n(?!.*:no-members:)", page.read_text())


def public_functions(name):
    """Functions that a module defines or offers, and public methods of its records."""
    module = importlib.import_module(name)
    names = (
        FRONT_DOOR
        if name == "vaex"
        else getattr(module, "__all__", None)
        or [key for key, value in vars(module).items() if key[0] != "_" and getattr(value, "__module__", None) == name]
    )
    for key in names:
        value = getattr(module, key)
        if inspect.isfunction(value) and name not in API:
            yield key, value
        elif inspect.isclass(value) and (issubclass(value, tuple) or name in API) and value.__module__ == name:
            yield from (
                (f"{key}.{method}", function)
                for method, function in vars(value).items()
                if method[0] != "_" and inspect.isfunction(function)
            )


FUNCTIONS = {f"{module}.{name}": function for module in TABLES for name, function in public_functions(module)}
CASES = {f"{module}.{name}": case for module, table in TABLES.items() for name, case in table.items()}


def test_the_tables_have_every_function_and_every_argument():
    assert set(CASES) == set(FUNCTIONS)
    for name, function in FUNCTIONS.items():
        case = CASES[name]
        if isinstance(case, Case):
            assert set(case.arguments) == set(inspect.signature(function).parameters), name


def test_the_tables_have_every_module_that_the_site_shows():
    outside = set(documented_modules()) - set(TABLES) - PURE
    assert outside == OTHERS, "give a module that is new a table"


@pytest.mark.slow
def test_places_of_data_that_is_at_hand_are_refused(tmp_path):
    run = api.run()
    for place in ("data_dir", "manual_dir"):
        with pytest.raises(UserError, match="give data=, and no directory"):
            run.evaluate(**{place: tmp_path}, progress=False)


def test_tests_elsewhere_are_there():
    for name, case in CASES.items():
        for shown in [case] if isinstance(case, ShownBy) else case.arguments.values():
            if isinstance(shown, ShownBy):
                assert shown.text in (ROOT / shown.path).read_text(), (name, shown)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Case)])
def test_every_argument_changes_something(name):
    case, function = CASES[name], FUNCTIONS[name]
    shown = dict(pairs(case))
    first = {argument: pair.first if pair.usual is UNSET else pair.usual for argument, pair in shown.items()}
    first |= {argument: given.value for argument, given in case.arguments.items() if isinstance(given, Given)}
    observed = []  # what the first values give, which most arguments are compared with

    def observe(arguments):
        if any(arguments[argument] is not first[argument] for argument in arguments):
            return case.observe(call(function, arguments))
        if not observed:
            observed.append(case.observe(call(function, arguments)))
        return observed[0]

    for argument, pair in shown.items():
        before = first | dict(pair.beside) | {argument: pair.first}
        if isinstance(pair.second, Refused):
            with pytest.raises(Exception, match=pair.second.match):
                case.observe(call(function, before | {argument: pair.second.value}))
            continue
        results = [observe(before | {argument: value}) for value in (pair.first, pair.second)]
        assert differ(*results), f"{name}: {argument}"
