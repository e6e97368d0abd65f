"""How processes of one user find the key of a store that has no launcher: a file that only this user can read.

The files are in `disttorch` in XDG_RUNTIME_DIR, else in `disttorch-UID` in the folder for temporary files: a directory of
this user with mode 0700, or nothing works. A file is called `store-PORT`, holds the store's key and goes with the store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
import tempfile
from pathlib import Path

from disttorch.distributed.errors import DistError

_KEY_BYTES = 40
_PROBE_SECONDS = 0.2


def run_directory() -> Path:
    """Return the directory for what only this user's processes may know, made if need be; DistError if it is not safe."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and _is_private(Path(runtime)):
        path = Path(runtime) / "disttorch"
    else:
        path = Path(tempfile.gettempdir()) / f"disttorch-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    if not _is_private(path):
        raise DistError(
            f"{path} must be a directory that belongs to this user, with mode 0700; remove it and try again"
        )
    return path


def publish(port: int, key: bytes) -> None:
    """Let this user's processes find the key of the store at `port`."""
    _remove_old()
    path = run_directory() / f"store-{port}"
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    os.replace(draft, path)


def find(port: int) -> bytes | None:
    """Return the key of the store at `port`, or None if there is none (yet)."""
    try:
        with open(os.open(run_directory() / f"store-{port}", os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            key = file.read(_KEY_BYTES + 1)
    except FileNotFoundError:
        return None
    return key if len(key) == _KEY_BYTES else None


def withdraw(port: int, key: bytes) -> None:
    """Remove what `publish` has written, unless another store has taken its place."""
    with contextlib.suppress(OSError, DistError):
        if find(port) == key:
            (run_directory() / f"store-{port}").unlink()


def _remove_old() -> None:
    """Remove the keys of stores that were killed: nothing listens at their ports."""
    for path in run_directory().glob("store-*"):
        port = path.name.partition("-")[2]
        key = find(int(port)) if port.isdecimal() else None
        if key is not None and not _listens(int(port)):
            withdraw(int(port), key)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PROBE_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) != errno.ECONNREFUSED


def _is_private(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
