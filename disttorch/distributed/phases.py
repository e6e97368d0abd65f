"""How the ranks of a shared segment meet: one word per rank that tells how far it is.

Each rank counts its own word up and waits until all the others' are as far. Waiting first looks at the words for a moment,
then sleeps on a futex. A rank that sleeps says so, for those who can do without a system call where nobody does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from disttorch.distributed import futex

# Spinning costs a core but spares the kernel's wake-up; only a thread that would do nothing else
# spins. Where ranks share cores it gives its core to another one that is ready, again and again.
SPIN_SECONDS = 50e-6
YIELD_SECONDS = 1e-3
# Compiled code spins without the interpreter's lock and leaves the core to its other hardware thread, so it may go on for
# longer: until a processor that sleeps has woken up, as much time passes as a small reduction takes.
COMPILED_SPIN_SECONDS = 2e-3
# How often compiled code looks at once (some 50 µs of 50 ns), and for how many nanoseconds it goes on, giving its core to others.
_LOOKS, _LOOKS_OF_SHARED_CORES = (1000, 0), (5, int(YIELD_SECONDS * 1e9))
SLEEPER_AT = 8  # where in a rank's page is the word that says that it sleeps
_WORD_MASK = 0xFFFFFFFF
_HALF = 0x80000000


@cache
def _compiled() -> Any:
    """Meetings as machine code, imported at their first use: Numba takes a moment to load."""
    return import_module("disttorch.distributed._compiled_meeting")


def _nowhere(*_: object) -> None:
    """What is called when there is no transport any more."""


class Phases:
    """The words of all ranks, as one of them uses them.

    pages: a page of shared memory per rank (uint8), whose first word is the rank's phase; own: this rank's position;
    shares_cores: whether there are more ranks than cores; on_wait: called about every 50 ms while waiting, with the
    positions of the ranks that are missing and the seconds since the last call, and raises to give up; on_waited: gets
    seconds that were waited.

    Attributes: `phase`; `patient`, whether a waiting thread must not spin; `look`, `_compiled_meeting.all_have_come` once
    it is loaded.
    """

    def __init__(
        self,
        pages: Sequence[np.ndarray],
        own: int,
        shares_cores: bool,
        on_wait: Callable[[list[int], float], None],
        on_waited: Callable[[float], None],
    ) -> None:
        self._own = own
        self._others = [i for i in range(len(pages)) if i != own]
        self._words = [page[:4].data.cast("B").cast("I") for page in pages]
        self._asleep = pages[own][SLEEPER_AT : SLEEPER_AT + 4].data.cast("B").cast("I")
        self._addresses = [int(page.ctypes.data) for page in pages]
        self.words = np.array(self._addresses, np.int64)
        self.sleepers = self.words + SLEEPER_AT
        self._shares_cores, self._on_wait, self._on_waited = shares_cores, on_wait, on_waited
        self.phase = 0
        self.patient = False
        self.look: Callable[[np.ndarray, int, int, int, int], bool] | None = None

    def close(self) -> None:
        """Let go of the memory and of the transport."""
        for word in (*self._words, self._asleep):
            word.release()
        self._words = []
        self._on_wait, self._on_waited = _nowhere, _nowhere

    @property
    def looks(self) -> tuple[int, int]:
        """How often compiled code looks at a word, and for how many nanoseconds it yields, before it returns in order to sleep."""
        return (0, 0) if self.patient else _LOOKS_OF_SHARED_CORES if self._shares_cores else _LOOKS

    def complete(self, run: Callable[[], int], state: np.ndarray, disagree: Callable[[], None]) -> None:
        """Call compiled code, which takes phases by itself, until it is done.

        run: calls it and returns what it returns; state: its own, whose first elements are the phase's; disagree: called
        if the ranks are not in the same collective, raises.
        """
        meeting = _compiled()
        self.look = meeting.all_have_come
        state[: meeting.MORE] = self.phase, *self.looks, 0
        while True:
            status = run()
            self.phase = int(state[meeting.PHASE])
            if status == meeting.DONE:
                return
            if status == meeting.DIFFERENT:
                disagree()
            if status == meeting.SLEEPER:
                self.wake()
            else:
                self.wait(int(state[meeting.BEHIND]))

    def advance(self) -> None:
        """Take the next phase together with all ranks."""
        self.phase = phase = (self.phase + 1) & _WORD_MASK
        futex.fence()
        self._words[self._own][0] = phase
        self.wake()
        self.wait()

    def wake(self) -> None:
        """Wake those who sleep until this rank has come."""
        futex.wake(self._addresses[self._own])

    def wait(self, behind: int = 0) -> None:
        """Wait until all ranks have come to the phase of this one, or to one that is `behind` before it."""
        phase = (self.phase - behind) & _WORD_MASK
        for i in self._others:
            if (self._words[i][0] - phase) & _HALF:
                self._wait_for(i, phase)
        futex.fence()

    def is_ahead(self, position: int) -> bool:
        """Say whether a rank has gone on to the next phase already."""
        return not (self._words[position][0] - self.phase - 1) & _HALF

    def _spin(self, word: memoryview, phase: int, start: float) -> bool:
        """Look at a word for a while; return whether its rank has come."""
        look, shares_cores = self.look, self._shares_cores
        until = start + (YIELD_SECONDS if shares_cores else SPIN_SECONDS if look is None else COMPILED_SPIN_SECONDS)
        while (word[0] - phase) & _HALF:
            if time.perf_counter() > until:
                return False
            if look is not None and look(self.words, self._own, phase, *self.looks):
                return True
            if look is not None or shares_cores:
                os.sched_yield()
        return True

    def _wait_for(self, i: int, phase: int) -> None:
        word, address = self._words[i], self._addresses[i]
        start = time.perf_counter()
        if not self.patient and self._spin(word, phase, start):
            self._on_waited(time.perf_counter() - start)
            return
        self._asleep[0] = 1
        try:
            while (seen := word[0]) - phase & _HALF:
                futex.wait(address, seen)
                now = time.perf_counter()
                if word[0] == seen:
                    self._on_wait([j for j in self._others if (self._words[j][0] - phase) & _HALF], now - start)
                else:
                    self._on_waited(now - start)
                start = now
        finally:
            self._asleep[0] = 0
