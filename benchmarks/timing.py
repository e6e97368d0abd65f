"""How long one statement takes: many calls per reading, several readings."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

READINGS = 7


class Case(NamedTuple):
    """A statement to time and the names it uses.

    A statement, not a function: calling one would add a tenth to the cheapest cases.
    """

    statement: str
    names: dict[str, Any]


def measure(case: Case, seconds: float, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median and the minimum time of one execution, in microseconds.

    Args:
        case: what to time; it is executed a few times before, to warm up.
        seconds: how long one of the readings should take at least.
        clock: what tells the time, in seconds.
    """
    # timeit switches the garbage collector off; training runs with it, so it counts here.
    timer = timeit.Timer(case.statement, "import gc; gc.enable()", clock, globals=case.names)
    timer.timeit(3)
    number = 1
    while (elapsed := timer.timeit(number)) < seconds:
        number = max(2 * number, round(1.2 * number * seconds / elapsed))
    readings = [1e6 * total / number for total in timer.repeat(READINGS, number)]
    return {"median": statistics.median(readings), "min": min(readings)}
