"""Replacing a file so that a reader, or a crash, never sees half of the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Open `path` for writing; what is written appears under that name if the block succeeds.

    The data goes to a temporary file in the same folder, which is flushed to the disk and then
    renamed. On failure the temporary file is removed and an old file is untouched. Permission bits
    are those of the old file, or what the umask gives. Symbolic links are followed; devices and
    pipes are written directly. Raises RuntimeError if the folder does not exist, IsADirectoryError
    for a directory, PermissionError where a plain open() would.
    """
    path = os.path.realpath(path)
    mode = _check_target(path)
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as device:
            yield device
        return
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
    try:
        with _create(temporary, path) as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C may come as soon as the file is there
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _create(temporary: str, path: str) -> BinaryIO:
    try:
        return open(temporary, "xb")
    except PermissionError:
        raise PermissionError(
            f"cannot create files in the folder '{os.path.dirname(path)}', where '{os.path.basename(path)}' is to be"
        ) from None


def _check_target(path: str) -> int | None:
    """Return the mode of the file at `path`, None if there is none; raise if it is not writable."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"expected the name of a file to write, got the directory '{path}'")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"the file '{path}' is read-only; it was not replaced")
    return mode


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot flush a folder say so with EINVAL
            raise
    finally:
        os.close(descriptor)
