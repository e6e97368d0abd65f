"""The memory of loaded tensors: read once for each storage of a file, and put on a device."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np

from disttorch.backends import copied_to_gpu, cuda_device_count, device_of
from disttorch.core import dtypes
from disttorch.core.device import device
from disttorch.core.device import device as torch_device
from disttorch.serialization.archive_reader import ArchiveReader

MapLocation = Callable[["Storage", str], Any] | Mapping[str, Any] | device | str | bytes | None


class StorageType:
    """What a name such as `torch.FloatStorage` in a file stands for: the type of the elements."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: dtypes.dtype) -> None:
        self.dtype = dtype


class Storage:
    """The memory that tensors share, a 1-D array; what a callable `map_location` gets."""

    __slots__ = ("array", "may_copy")

    def __init__(self, array: Any, may_copy: Callable[[int], None]) -> None:
        self.array = array
        self.may_copy = may_copy  # raises when tensors would copy more bytes than the file has

    @property
    def device(self) -> torch_device:
        """Where the memory is."""
        return device_of(self.array)

    def nbytes(self) -> int:
        """Return the size in bytes."""
        return int(self.array.nbytes)

    def cpu(self) -> Storage:
        """Return this storage: a file is read into the memory of the CPU."""
        return self

    def cuda(self, device: Any = None) -> Storage:
        """Return a copy on a GPU; RuntimeError where there is none."""
        return self.to(_cuda_device(device))

    def to(self, target: torch_device) -> Storage:
        """Return the storage on a device."""
        if target.type == "cpu":
            return self
        _check_cuda(target)
        return Storage(copied_to_gpu(self.array, target), self.may_copy)

    def as_type(self, dtype: dtypes.dtype) -> Storage:
        """Return the same memory as elements of another type."""
        if self.array.dtype == dtype.numpy:
            return self
        return Storage(_typed(self.array.view(np.uint8), dtype), self.may_copy)


class StorageLoader:
    """Reads the storages that a pickle names, each once; call it with a persistent id."""

    def __init__(self, archive: ArchiveReader, map_location: MapLocation, mapped: mmap.mmap | None = None) -> None:
        self._archive = archive
        self._mapped = mapped
        self._map_location = _checked_map_location(map_location)
        self._loaded: dict[str, Storage] = {}
        self._copied = 0
        self._swap = self._byte_order() != sys.byteorder

    def __call__(self, identity: Any) -> Storage:
        dtype, key, location, count = _parse_identity(identity)
        name = f"data/{key}"
        size = self._archive.record(name).size
        if count * dtype.itemsize > size:
            raise UnpicklingError(
                f"storage '{key}' of {self._archive.name} should have {count} elements of "
                f"{dtype!r}, but its record has {size} bytes"
            )
        storage = self._loaded.get(key)
        if storage is None:
            storage = Storage(self._read(name, dtype), self._may_copy)
            storage = self._loaded[key] = self._place(storage, location)
        return storage.as_type(dtype)

    def _byte_order(self) -> str:
        if "byteorder" not in self._archive.records:
            return "little"
        order = self._archive.read("byteorder").decode("ascii", "replace")
        if order not in ("little", "big"):
            raise self._archive.damaged(f"its byte order is {order[:16]!r}, not 'little' or 'big'")
        return order

    def _read(self, name: str, dtype: dtypes.dtype) -> np.ndarray:
        array = _typed(self._raw(name, dtype.itemsize), dtype)
        if self._swap:
            part = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
            array.view(f"u{part}").byteswap(inplace=True)
        return array

    def _raw(self, name: str, itemsize: int) -> np.ndarray:
        size = self._archive.record(name).size
        offset = self._archive.payload_offset(name)
        # Compiled kernels refuse unaligned arrays, so what others packed without alignment is read.
        if self._mapped is not None and size and offset % itemsize == 0:
            return np.frombuffer(self._mapped, np.uint8, size, offset)
        raw = np.empty(size, np.uint8)
        self._archive.read_into(name, raw)
        return raw

    def _may_copy(self, nbytes: int) -> None:
        self._copied += nbytes
        if self._copied > self._archive.size:
            raise UnpicklingError(
                f"{self._archive.name} asks for more memory than it has data; it is not a "
                "checkpoint that torch.save wrote"
            )

    def _place(self, storage: Storage, location: str) -> Storage:
        wanted = self._map_location
        if callable(wanted):
            found = wanted(storage, location)
            if isinstance(found, Storage):
                return found
            if found is not None:
                raise TypeError(
                    f"map_location(storage, location) must return a storage or None, got {type(found).__name__}"
                )
        elif isinstance(wanted, Mapping):
            location = str(wanted.get(location, location))
        elif wanted is not None:
            location = wanted
        return storage.to(_known_device(location))


def _typed(raw: Any, dtype: dtypes.dtype) -> Any:
    """Return bytes as elements of a type; UnpicklingError for bools that are neither 0 nor 1."""
    if dtype is dtypes.bool_ and raw.size and raw.max() > 1:
        raise UnpicklingError("a storage of bools has bytes other than 0 and 1")
    return raw[: raw.size - raw.size % dtype.itemsize].view(dtype.numpy)


def _checked_map_location(map_location: MapLocation) -> Any:
    if map_location is None or callable(map_location) or isinstance(map_location, Mapping):
        return map_location
    if isinstance(map_location, bytes):
        map_location = map_location.decode("ascii", "replace")
    if isinstance(map_location, (str, device)):
        _known_device(str(map_location))
        return str(map_location)
    raise TypeError(
        "map_location must be a device, a string such as 'cpu', a dict from location to location "
        f"or a function of (storage, location), got {type(map_location).__name__}"
    )


def _known_device(location: str) -> device:
    try:
        return device(location)
    except RuntimeError:
        raise RuntimeError(
            f"cannot load tensors to the location '{location[:40]}': expected 'cpu' or 'cuda:N'; "
            "use map_location='cpu' to load everything to the CPU"
        ) from None


def _cuda_device(index: Any) -> device:
    if index is None or isinstance(index, int):
        return device("cuda", index)
    return device(index)


def _check_cuda(target: device) -> None:
    count = cuda_device_count()
    if count == 0:
        raise RuntimeError(
            "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is "
            "False. If you are running on a CPU-only machine, please use torch.load with "
            "map_location=torch.device('cpu') to map your storages to the CPU."
        )
    if target.index is not None and target.index >= count:
        raise RuntimeError(
            f"Attempting to deserialize object on CUDA device {target.index} but "
            f"torch.cuda.device_count() is {count}. Please use torch.load with map_location to map "
            "your storages to an existing device."
        )


def _parse_identity(identity: Any) -> tuple[dtypes.dtype, str, str, int]:
    if isinstance(identity, tuple) and len(identity) == 5 and _text(identity[0]) == "storage":
        kind, key, location, count = identity[1:]
        key, location = _text(key), _text(location)
        counted = type(count) is int and count >= 0
        if isinstance(kind, StorageType) and counted and key is not None and location is not None:
            return kind.dtype, key, location, count
    raise UnpicklingError(
        "the file names a storage as PyTorch does not: expected ('storage', type, key, location, number of elements)"
    )


def _text(value: Any) -> str | None:
    """Return text; files written by Python 2 have it as bytes."""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else None
