"""Where the workers' output goes: the terminal, with the rank in front of each line, and log files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LONGEST_LINE = 64 * 1024
_READ_BYTES, _READS = 64 * 1024, 16


class Stream:
    """One output stream of one worker, read from a pipe.

    prefix: written before each line; "" passes everything on as it comes, so that progress bars
    work. terminal: descriptor to write to, or -1; log: file to copy to, or None.
    """

    def __init__(self, prefix: str, terminal: int, log: Path | None) -> None:
        self.fd, self.inlet = os.pipe()
        os.set_blocking(self.fd, False)
        self._prefix = prefix.encode()
        self._terminal = terminal
        self._log = log.open("wb", buffering=0) if log is not None else None
        self._line = b""

    def pump(self) -> bool:
        """Pass on what is there, at most 1 MiB of it; False at the end of the stream."""
        for _ in range(_READS):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._write(data)
        return True

    def close_inlet(self) -> None:
        """Close the writing end, once the worker has it."""
        if self.inlet >= 0:
            os.close(self.inlet)
            self.inlet = -1

    def close(self) -> None:
        """Pass on the rest and close."""
        self.pump()
        if self._line:
            self._show(self._prefix + _last_version(self._line) + b"\n")
        self.close_inlet()
        os.close(self.fd)
        if self._log is not None:
            self._log.close()

    def _write(self, data: bytes) -> None:
        if self._log is not None:
            self._log.write(data)
        if not self._prefix:
            self._show(data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _LONGEST_LINE:
            lines, self._line = [*lines, self._line], b""
        self._show(b"".join(self._prefix + _last_version(line) + b"\n" for line in lines))

    def _show(self, data: bytes) -> None:
        if self._terminal < 0 or not data:
            return
        view = memoryview(data)
        with contextlib.suppress(OSError):  # nobody reads the launcher's output any more
            while view:
                view = view[os.write(self._terminal, view) :]


def _last_version(line: bytes) -> bytes:
    """Return what a line that a progress bar has overwritten shows at last."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
