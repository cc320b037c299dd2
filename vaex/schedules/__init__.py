"""Schedules of hyperparameters as pytrees, resolved at the step: constants, ramps, cosines, cycles, pieces in a row, functions.

Because a constant is a ramp of slope zero, members of a population may mix kinds and lengths: their schedules stack. Those of
several pieces are given as many pieces (``alike``). None depends on the total number of steps, so a run can be extended.
"""

from vaex.schedules.function_schedules import FunctionSchedule, alike_functions, function, probe
from vaex.schedules.moving import Schedule, constant, cosine, cycle, ramp
from vaex.schedules.parsing import GRAMMAR, AnySchedule, Scalar, as_schedule, is_schedule, parse, resolve
from vaex.schedules.piecewise import Piecewise, alike, exponential, hold, join, with_pieces

__all__ = [
    "GRAMMAR",
    "AnySchedule",
    "FunctionSchedule",
    "Piecewise",
    "Scalar",
    "Schedule",
    "alike",
    "alike_functions",
    "as_schedule",
    "constant",
    "cosine",
    "cycle",
    "exponential",
    "function",
    "hold",
    "is_schedule",
    "join",
    "parse",
    "probe",
    "ramp",
    "resolve",
    "with_pieces",
]
