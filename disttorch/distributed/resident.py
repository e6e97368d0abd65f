"""The compiled sum of a bucket whose rows are in shared memory, one row per rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from disttorch.distributed.phases import Phases
from disttorch.distributed.reduction import Reduction


class ResidentSum:
    """Sums one rank's slice of a bucket, as often as there are steps.

    reduction: one that is `compilable`; slices: that slice in every rank's row, 1-D; rank: this one's position.
    """

    def __init__(self, reduction: Reduction, slices: Sequence[np.ndarray], rank: int, phases: Phases) -> None:
        self._code: Any = import_module("disttorch.distributed._compiled_resident")  # Numba takes a moment to load
        self._phases, self._rank = phases, rank
        addresses = np.array([piece.ctypes.data for piece in slices], np.int64)
        self._operands = addresses, slices[0].size, reduction.divisor, reduction.scratch
        self._slices = slices  # keeps the memory
        self._state = np.zeros(self._code.STATE_SIZE, np.int64)
        self._state[self._code.STAGE] = self._code.LAST
        self._go_on(0)  # waits for nobody and does nothing, but the code is compiled then

    def run(self, header_at: int, disagree: Callable[[], None]) -> None:
        """Do it; header_at: where the ranks' headers are, 0 if they were compared; disagree: called if they differ, raises."""
        self._state[self._code.STAGE] = self._code.BEGIN
        self._phases.complete(lambda: self._go_on(header_at), self._state, disagree)

    def _go_on(self, header_at: int) -> int:
        words, sleepers = self._phases.words, self._phases.sleepers
        status: int = self._code.run(self._state, words, sleepers, self._rank, header_at, *self._operands)
        return status
