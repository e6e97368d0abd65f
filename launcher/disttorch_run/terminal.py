"""The status line: at the bottom of a terminal, or as a plain line now and then where there is no terminal.

Rank 0 writes to the terminal itself, so the launcher never knows where the cursor is. The bottom
row is therefore kept out of the part that scrolls (DECSTBM), and every update is a single write
that saves the cursor and puts it back: whatever the ranks print, progress bars included, is not
touched. It needs no more than a VT100 understands.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_WHOLE_SCREEN, _ERASE_LINE, _DOWN, _UP = "\x1b[r", "\x1b[2K", "\x1bD", "\x1b[1A"
_MIN_ROWS, _MIN_COLUMNS = 4, 20


class PlainLine:
    """Says a line about the ranks whenever it has changed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = ""

    def show(self, text: str) -> None:
        """Say one line."""
        if text != self._last:
            self._say(f"disttorch-run: {text}")
            self._last = text

    def close(self) -> None:
        """Nothing is to be put back."""


class BottomLine:
    """The bottom row of the terminal `fd`; it is taken at the first `show` and given back by `close`.

    leave_word: told what somebody has to write to the terminal if this process dies.
    """

    def __init__(self, fd: int, leave_word: Callable[[str], None]) -> None:
        self._fd = fd
        self._leave_word = leave_word
        self._rows = 0

    def show(self, text: str) -> None:
        """Show one line; nothing while the launcher is in the background or the terminal is tiny."""
        try:
            columns, rows = os.get_terminal_size(self._fd)
            if rows < _MIN_ROWS or columns < _MIN_COLUMNS or os.tcgetpgrp(self._fd) != os.getpgrp():
                return
        except OSError:  # no controlling terminal any more
            return
        take = "" if rows == self._rows else self._as_it_was() + _take(rows)
        if self._write(f"{take}{_SAVE}\x1b[{rows};1H{_ERASE_LINE}{text[: columns - 1]}{_RESTORE}") and take:
            self._rows = rows
            self._leave_word(_give_back(rows))

    def close(self) -> None:
        """Erase the line and let the whole screen scroll again."""
        if self._rows:
            self._write(self._as_it_was())
            self._rows = 0
            self._leave_word("")

    def stop(self) -> None:
        """Do what Ctrl-Z does, with the terminal as it was; return when the process goes on."""
        self.close()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)

    def _as_it_was(self) -> str:
        return _give_back(self._rows) if self._rows else ""

    def _write(self, text: str) -> bool:
        """Write at once or, when the terminal is halted (Ctrl-S), not at all; say whether it was written."""
        with contextlib.suppress(OSError):
            if select.select([], [self._fd], [], 0)[1]:
                return os.write(self._fd, text.encode()) > 0
        return False


def is_capable(fd: int) -> bool:
    """Say whether `fd` is a terminal that understands escape sequences."""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _give_back(rows: int) -> str:
    """Return what makes the whole screen scroll again and erases the bottom one of `rows` rows."""
    return f"{_SAVE}{_WHOLE_SCREEN}\x1b[{rows};1H{_ERASE_LINE}{_RESTORE}"


def _take(rows: int) -> str:
    """Return what keeps the bottom row from scrolling; the cursor must not be in it, and stays in its column."""
    return f"{_DOWN}{_SAVE}\x1b[1;{rows - 1}r{_RESTORE}{_UP}"
