"""`save` and `load`: objects with tensors in PyTorch's zip format."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import IO, Any

from disttorch.core.device import device
from disttorch.serialization.archive_reader import ArchiveReader
from disttorch.serialization.archive_writer import ArchiveWriter
from disttorch.serialization.atomic import atomic_write
from disttorch.serialization.globals import (
    allowed_globals,
    full_name,
    known_globals,
    refuse_unsupported,
)
from disttorch.serialization.pickler import dump
from disttorch.serialization.storage import MapLocation, StorageLoader
from disttorch.serialization.unpickler import WeightsUnpickler

FileLike = str | os.PathLike[str] | IO[bytes]

_FORMAT_VERSION = 3
_NEWEST_READABLE = 10


def save(
    obj: Any,
    f: FileLike,
    pickle_module: ModuleType | None = None,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Save an object to a file, so that `load`, and PyTorch's `torch.load`, can read it.

    `f` is a path, or a binary file with a `write` method. A path is replaced in one step when all
    is on the disk: after a failure the old file is still there. Tensors that share memory still do
    after loading. NumPy arrays and scalars and paths within plain containers are saved as tensors,
    numbers and text, which `weights_only=True` can load. Of memory that only views of are saved, as
    much is written as they cover (PyTorch writes all of it).

    Equal objects give equal files under equal names. Another `pickle_protocol` than 2 cannot be
    read by PyTorch with `weights_only=True`. Raises RuntimeError when tensors of different types
    share memory, or the folder does not exist.
    """
    if not _use_new_zipfile_serialization:
        raise ValueError(
            "only the zip format of PyTorch 1.6 and later is written; leave _use_new_zipfile_serialization at True"
        )
    if not 2 <= pickle_protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"pickle_protocol must be from 2 to {pickle.HIGHEST_PROTOCOL}, got {pickle_protocol}")
    if not _is_path(f):
        _check_file(f, "write", "save")
    pickled, payloads = dump(obj, pickle_module, pickle_protocol)
    with _opened_for_writing(f) as file:
        archive = ArchiveWriter(file.write, _folder_name(f))
        archive.add("data.pkl", pickled)
        archive.add("byteorder", sys.byteorder.encode())
        for key, payload in enumerate(payloads):
            archive.add(f"data/{key}", payload)
        archive.add("version", b"%d\n" % _FORMAT_VERSION)
        archive.close()


def load(
    f: FileLike,
    map_location: MapLocation = None,
    pickle_module: ModuleType | None = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Load an object that `save`, or PyTorch's `torch.save`, wrote.

    `f` is a path, or a seekable binary file. Tensors go to the device that they were saved from
    unless `map_location` says otherwise: a device, a string, a dict from location to location, or a
    function of (storage, location) that returns a storage or None.

    With `weights_only=True`, the default unless `pickle_module` is given, a file can hold only
    tensors, numbers, text and containers of them, and what `add_safe_globals` allowed. With
    `weights_only=False` a file can run any code: trust its author. `mmap=True` maps the file
    instead of reading it: pages are read when they are used, and changes stay in memory. A path
    that ends in `.safetensors` is read in that format.

    Raises RuntimeError for a file that is not a checkpoint, is damaged, or needs a device that is
    not there, and pickle.UnpicklingError for contents that may not, or cannot, be loaded.
    """
    if weights_only is None:
        weights_only = pickle_module is None
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    if weights_only and pickle_load_args:
        warnings.warn("pickle_load_args only works if `weights_only=False`.", UserWarning, stacklevel=2)
    if mmap and not _is_path(f):
        raise ValueError("f must be a file path in order to use the mmap argument")
    if isinstance(f, (str, os.PathLike)) and os.fsdecode(f).endswith(".safetensors"):
        return _load_safetensors(os.fsdecode(f), map_location)
    with _opened_for_reading(f) as file:
        archive = ArchiveReader(file, _described(f))
        _check_kind(archive)
        loader = StorageLoader(archive, map_location, _mapped(file) if mmap else None)
        data = archive.read("data.pkl")
        if weights_only:
            return WeightsUnpickler(data, loader).load()
        return _trusting_load(data, loader, pickle_module or pickle, pickle_load_args)


def get_unsafe_globals_in_checkpoint(f: FileLike) -> list[str]:
    """Return the full names that keep a checkpoint from loading with `weights_only=True`.

    What `add_safe_globals` has allowed is not listed. Nothing is loaded or imported.
    """
    from disttorch.serialization.scan import names_in_pickle  # rarely used, and slow to import

    with _opened_for_reading(f) as file:
        names = names_in_pickle(ArchiveReader(file, _described(f)).read("data.pkl"))
    return sorted(names - known_globals().keys() - allowed_globals().keys())


def _check_kind(archive: ArchiveReader) -> None:
    if "constants.pkl" in archive.records:
        raise RuntimeError(
            f"{archive.name} is a TorchScript program, not a checkpoint; save the module's state_dict() instead"
        )
    archive.record("data.pkl")
    text = archive.read("version") if archive.record("version").size < 16 else b""
    if not (text.strip().isdigit() and 1 <= int(text) <= _NEWEST_READABLE):
        raise archive.damaged(f"its format version is {text!r}; expected a number from 1 to {_NEWEST_READABLE}")


def _trusting_load(data: bytes, loader: StorageLoader, pickle_module: Any, options: dict[str, Any]) -> Any:
    """Unpickle with Python's own unpickler, which imports and calls whatever the file names."""

    class Unpickler(pickle_module.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            path = full_name(module, name)
            if path in known_globals():
                return known_globals()[path]
            refuse_unsupported(path)
            if module.partition(".")[0] != "torch":
                return super().find_class(module, name)
            try:
                return super().find_class("disttorch" + module[len("torch") :], name)
            except (ImportError, AttributeError):
                raise pickle.UnpicklingError(
                    f"the file uses {path}, a part of PyTorch that disttorch does not have; load "
                    "it with PyTorch and save a state_dict, or other plain tensors"
                ) from None

        def persistent_load(self, identity: Any) -> Any:
            return loader(identity)

    return Unpickler(io.BytesIO(data), **{"encoding": "utf-8", **options}).load()


def _load_safetensors(path: str, map_location: MapLocation) -> Any:
    from disttorch.serialization.safetensors import load_file

    if map_location is not None and not isinstance(map_location, (str, device)):
        raise TypeError("map_location must be a device or a string for a .safetensors file")
    return load_file(path, device=map_location or "cpu")


def _is_path(f: Any) -> bool:
    return isinstance(f, (str, os.PathLike))


def _described(f: Any) -> str:
    if _is_path(f):
        return f"the file '{os.fsdecode(f)}'"
    name = getattr(f, "name", None)
    return f"the file '{name}'" if isinstance(name, str) else f"the given {type(f).__name__}"


def _folder_name(f: Any) -> str:
    name = os.path.splitext(os.path.basename(os.fsdecode(f)))[0] if _is_path(f) else "archive"
    return name if name.isascii() and name.strip(".") else "archive"


def _check_file(f: Any, method: str, function: str) -> None:
    if isinstance(f, io.TextIOBase):
        mode = "rb" if method == "read" else "wb"
        raise TypeError(f"{function}() needs a file opened in binary mode ('{mode}'), got a text file")
    if not hasattr(f, method):
        raise AttributeError(
            f"{function}(): expected 'f' to be a string, path, or a file-like object with a "
            f"'{method}' attribute, got {type(f).__name__}"
        )


@contextlib.contextmanager
def _opened_for_writing(f: Any) -> Iterator[Any]:
    if _is_path(f):
        with atomic_write(os.fsdecode(f)) as file:
            yield file
        return
    yield f
    flush = getattr(f, "flush", None)
    if flush is not None:
        flush()


@contextlib.contextmanager
def _opened_for_reading(f: Any) -> Iterator[Any]:
    if _is_path(f):
        path = os.fsdecode(f)
        if os.path.isdir(path):
            raise IsADirectoryError(f"expected the name of a checkpoint file, got the directory '{path}'")
        with open(path, "rb") as file:
            yield file
        return
    _check_file(f, "read", "load")
    try:
        f.seek(f.tell())
    except (AttributeError, io.UnsupportedOperation) as error:
        raise AttributeError(
            f"load() needs a file that can seek ({error}); read it into an io.BytesIO first and load from that"
        ) from None
    yield f


def _mapped(file: Any) -> Any:
    import mmap

    # A private mapping: what is written to the tensors never reaches the file.
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
