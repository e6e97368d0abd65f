"""Exceptions that travel from a worker to the loader."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

Dump = Callable[[Any], bytes]


class RemoteTraceback(Exception):  # noqa: N818  it is shown above the error itself
    """The traceback of an exception in a worker; the cause of the exception that the loader raises."""


def _add_note(error: BaseException, note: str) -> None:
    if hasattr(error, "add_note"):  # since Python 3.11
        error.add_note(note)


def dump_error(error: BaseException, where: str, dump: Dump) -> bytes:
    """Return the pickle of an exception and its traceback; one that cannot be pickled becomes a RuntimeError."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = f"Caught {type(error).__name__} in {where}.\nOriginal {lines}"
    try:
        travelling = dump(error)
        pickle.loads(travelling)
    except Exception:
        travelling = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return pickle.dumps((travelling, text, where))


def raise_error(payload: bytes) -> None:
    """Raise the exception of `dump_error`: its original type, with the worker's traceback as its cause."""
    travelling, text, where = pickle.loads(payload)
    try:
        error = pickle.loads(travelling)
    except Exception as failure:
        error = RuntimeError(f"{failure} (the exception of a worker could not be made again here)")
    if isinstance(error, StopIteration):  # the caller's loop would take it for the end of the data
        error = RuntimeError(f"StopIteration: {error}")
    _add_note(error, f"Raised in {where}")
    raise error from RemoteTraceback(f"\n{text}")
