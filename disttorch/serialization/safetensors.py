"""Tensors by name in the safetensors format: no code in a file, each tensor read alone."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import copied_to_gpu, namespace_for
from disttorch.core import dtypes
from disttorch.core.device import device
from disttorch.serialization.atomic import atomic_write
from disttorch.serialization.safetensors_header import (
    DTYPE_NAMES,
    Header,
    SafetensorError,
    TensorInfo,
    encode_header,
    header_length,
    parse_header,
)

__all__ = ["SafetensorError", "load_file", "safe_open", "save_file"]

PathLike = str | os.PathLike[str]

_ORDER = list(DTYPE_NAMES)
_CODES = {name: code for code, name in DTYPE_NAMES.items()}
_TIED = "disttorch.tied"  # metadata: JSON of {name: name of the tensor that it is}


def save_file(
    tensors: Mapping[str, Tensor | np.ndarray],
    filename: PathLike,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Save tensors by name, and optionally text by name, to a safetensors file.

    The file appears in one step, as with `save`. Names of one and the same tensor (tied weights)
    are stored once and tied again by `load_file`; views that merely overlap are stored as separate
    values. Raises SafetensorError for what the format cannot hold: complex128, or a name or
    metadata that is not text.
    """
    arrays = {_checked_name(name): _host_array(name, value) for name, value in tensors.items()}
    tied = _tied_names(arrays)
    codes = {name: _code(name, array) for name, array in arrays.items() if name not in tied}
    kept = sorted(codes, key=lambda name: (_ORDER.index(codes[name]), name.encode(errors="replace")))
    infos, position = [], 0
    for name in kept:
        end = position + arrays[name].nbytes
        infos.append((name, TensorInfo(codes[name], arrays[name].shape, position, end)))
        position = end
    header = encode_header(infos, _checked_metadata(metadata, tied))
    with atomic_write(os.fspath(filename)) as file:
        file.write(header)
        for name in kept:
            file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)


def load_file(filename: PathLike, device: str | device = "cpu") -> dict[str, Tensor]:
    """Return all tensors of a safetensors file by name; SafetensorError if it is not one."""
    where = _place(device)
    with open(filename, "rb") as file:
        header = _read_header(file, _source(filename))
        found = {}
        for name, info in header.tensors.items():
            raw = np.empty(info.end - info.begin, np.uint8)
            if file.readinto(raw.data) != raw.size:
                raise SafetensorError(f"{_source(filename)} ends within tensor '{name}'")
            found[name] = _tensor(raw, name, info, where)
    for name, other in _read_tied(header).items():
        found[name] = found[other]
    return found


class safe_open:
    """Reads single tensors of a safetensors file, which is mapped and not loaded.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_file({"w": np.arange(6.0).reshape(2, 3)}, f"{folder}/model.safetensors")
    ...     with safe_open(f"{folder}/model.safetensors") as file:
    ...         file.keys(), file.get_slice("w")[1, 1:].tolist()
    (['w'], [4.0, 5.0])

    `framework` may be "pt", or "np" for NumPy arrays. Raises SafetensorError for a file that is not
    one.
    """

    def __init__(self, filename: PathLike, framework: str = "pt", device: str | device = "cpu") -> None:
        if framework not in ("pt", "pytorch", "torch", "np", "numpy"):
            raise ValueError(f"framework must be 'pt' or 'np', got {framework!r}")
        self._as_arrays = framework in ("np", "numpy")
        self._device = _place(device)
        self._source = _source(filename)
        with open(filename, "rb") as file:
            self._header = _read_header(file, self._source)
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._tied = _read_tied(self._header)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file; tensors that were read stay valid."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def keys(self) -> list[str]:
        """Return the names of the tensors, sorted."""
        return sorted([*self._header.tensors, *self._tied])

    def metadata(self) -> dict[str, str] | None:
        """Return the text that was saved with the tensors; None without any."""
        return {k: v for k, v in self._header.metadata.items() if k != _TIED} or None

    def get_tensor(self, name: str) -> Any:
        """Return one tensor; KeyError if there is none of that name."""
        return self.get_slice(name)[...]

    def get_slice(self, name: str) -> TensorSlice:
        """Return a stand-in that reads only what it is indexed with: `get_slice("w")[:10]`."""
        name = self._tied.get(name, name)
        if name not in self._header.tensors:
            raise KeyError(f"{self._source} has no tensor '{name}'")
        return TensorSlice(self, name, self._header.tensors[name])

    def _part(self, name: str, info: TensorInfo, index: Any) -> Any:
        if self._map is None:
            raise ValueError(f"{self._source} is closed")
        begin = self._header.data_start + info.begin
        raw = np.ndarray((info.end - info.begin,), np.uint8, self._map, begin)
        part = np.array(_typed(raw, name, info)[index], order="C")
        return part if self._as_arrays else _on_device(part, self._device)


class TensorSlice:
    """One tensor of an open file, read when it is indexed."""

    def __init__(self, file: safe_open, name: str, info: TensorInfo) -> None:
        self._file, self._name, self._info = file, name, info

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._info.shape)

    def get_dtype(self) -> str:
        """Return the format's name of the type, such as "F32"."""
        return self._info.dtype

    def __getitem__(self, index: Any) -> Any:
        return self._file._part(self._name, self._info, index)


def _source(filename: PathLike) -> str:
    return f"the file '{os.fspath(filename)}'"


def _read_header(file: Any, source: str) -> Header:
    size = os.fstat(file.fileno()).st_size
    length = header_length(file.read(8), size, source)
    return parse_header(file.read(length), size, source)


def _typed(raw: np.ndarray, name: str, info: TensorInfo) -> np.ndarray:
    if info.dtype not in DTYPE_NAMES:
        raise SafetensorError(f"tensor '{name}' has dtype {info.dtype}, which disttorch does not have")
    if info.dtype == "BOOL" and raw.size and raw.max() > 1:
        raise SafetensorError(f"tensor '{name}' should hold bools, 0 or 1")
    return raw.view(dtypes.BY_NAME[DTYPE_NAMES[info.dtype]].numpy).reshape(info.shape)


def _tensor(raw: np.ndarray, name: str, info: TensorInfo, where: device) -> Tensor:
    return _on_device(_typed(raw, name, info), where)


def _on_device(array: np.ndarray, where: device) -> Tensor:
    return wrap(array if where.type == "cpu" else copied_to_gpu(array, where))


def _place(wanted: str | device) -> device:
    where = device(wanted)
    namespace_for(where)  # raises where there is no such device, before anything is read
    return where


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        raise SafetensorError(f"a tensor's name must be text other than '__metadata__', got {name!r:.80}")
    return name


def _host_array(name: str, value: Any) -> np.ndarray:
    array = value._a if isinstance(value, Tensor) else value
    if hasattr(array, "get") and not isinstance(array, np.ndarray):
        array = array.get()
    if not isinstance(array, np.ndarray):
        raise SafetensorError(f"'{name}' must be a tensor or a NumPy array, got {type(value).__name__}")
    return array


def _code(name: str, array: np.ndarray) -> str:
    try:
        d = dtypes.from_numpy_dtype(array.dtype)
        return _CODES[d.name]
    except (KeyError, TypeError):
        raise SafetensorError(
            f"tensor '{name}' is of type {array.dtype}, which safetensors cannot hold; convert it, or use save()"
        ) from None


def _tied_names(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Return, for each name whose tensor has another name before it, that name."""
    first: dict[Any, str] = {}
    tied = {}
    for name, array in arrays.items():
        address = array.__array_interface__["data"][0]
        same = (address, array.dtype, array.shape, array.strides)
        if array.size and first.setdefault(same, name) != name:
            tied[name] = first[same]
    return tied


def _checked_metadata(metadata: Mapping[str, str] | None, tied: dict[str, str]) -> dict[str, str]:
    checked = dict(metadata or {})
    for key, value in checked.items():
        if not isinstance(key, str) or not isinstance(value, str) or key == _TIED:
            raise SafetensorError(f"metadata must map text to text, got {key!r:.80}: {value!r:.80}")
    if tied:
        checked[_TIED] = json.dumps(tied)
    return checked


def _read_tied(header: Header) -> dict[str, str]:
    text = header.metadata.get(_TIED)
    if text is None:
        return {}
    try:
        tied: dict[str, str] = json.loads(text)
        if all(v in header.tensors and k not in header.tensors for k, v in tied.items()):
            return tied
    except (ValueError, RecursionError, AttributeError, TypeError):
        pass  # not JSON, or not a dict of text
    raise SafetensorError(f"the metadata '{_TIED}' does not name tensors of the file")
