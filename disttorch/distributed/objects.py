"""Python objects as bytes, for the object collectives: msgpack, with arrays as raw buffers. Nothing is pickled.

A tuple or a set is a msgpack list whose first element is a mark, so that all nesting is msgpack's
own, which has a limit; what an extension holds never nests.
"""

from __future__ import annotations

import math
import re
import struct
from enum import Enum
from typing import Any

import msgpack
import numpy as np

from disttorch.distributed import wire

_ARRAY, _TENSOR, _TUPLE, _SET, _BIG_INT, _COMPLEX, _FROZEN_SET = range(1, 8)
# NumPy's `dtype.str` of bools, numbers, dates, times and strings.
_DTYPE = re.compile(r"[<>|][biufcmMSU]\d{1,9}(\[\d{0,9}[A-Za-z]{1,2}\])?")
_PAIR = struct.Struct("<dd")


class _Mark(Enum):
    TUPLE = _TUPLE
    SET = _SET
    FROZEN_SET = _FROZEN_SET


_CONTAINERS = {_Mark.TUPLE: tuple, _Mark.SET: set, _Mark.FROZEN_SET: frozenset}


def dumps(value: Any) -> bytes:
    """Return `value` as bytes.

    None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, NumPy scalars and arrays
    (not of objects or records) and tensors, nested at most 500 deep; TypeError for anything else,
    ValueError for what is nested deeper, holds itself, or is a str that UTF-8 cannot express.
    """
    try:
        data: bytes = msgpack.packb(value, default=_default, strict_types=True, use_bin_type=True)
    except ValueError as error:
        raise ValueError(f"cannot send this object to another rank: {error}") from None
    return data


def loads(data: bytes | memoryview) -> Any:
    """Return the object that `dumps` made `data` of; ValueError for other data."""
    try:
        value = wire.unpack(data, ext_hook=_extension, list_hook=_container, strict_map_key=False)
    except (ValueError, TypeError) as error:
        raise ValueError(f"this is no object that a rank has sent: {error}") from None
    if isinstance(value, _Mark):
        raise ValueError("this is no object that a rank has sent: a mark without its list")
    return value


def _default(value: Any) -> Any:
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        return msgpack.ExtType(_ARRAY, _pack_array(np.asarray(value), isinstance(value, np.generic)))
    if hasattr(value, "_a") and hasattr(value, "requires_grad"):
        return msgpack.ExtType(_TENSOR, _pack_array(_host_array(value._a), False))
    if type(value) is int:
        return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if type(value) is tuple:
        return [msgpack.ExtType(_TUPLE, b""), *value]
    if type(value) is set:
        return [msgpack.ExtType(_SET, b""), *value]
    if type(value) is frozenset:
        return [msgpack.ExtType(_FROZEN_SET, b""), *value]
    if type(value) is complex:
        return msgpack.ExtType(_COMPLEX, _PAIR.pack(value.real, value.imag))
    raise TypeError(
        f"cannot send an object of type {type(value).__module__}.{type(value).__qualname__} to "
        "another rank: "
        "send None, numbers, str, bytes, list, tuple, set, dict, arrays or tensors"
    )


def _host_array(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


def _pack_array(array: np.ndarray, scalar: bool) -> bytes:
    if array.dtype.hasobject:
        raise TypeError("cannot send an array of Python objects to another rank")
    name = "bfloat16" if array.dtype.name == "bfloat16" else array.dtype.str
    if _dtype(name) != array.dtype:
        raise TypeError(f"cannot send an array of {array.dtype} to another rank")
    head: bytes = msgpack.packb([name, list(array.shape), scalar])
    return len(head).to_bytes(4, "little") + head + array.tobytes()


def _unpack_array(data: bytes) -> Any:
    end = 4 + int.from_bytes(data[:4], "little")
    name, shape, scalar = wire.unpack(data[4:end])
    dtype = _dtype(name)
    if dtype is None or not dtype.itemsize:
        raise ValueError(f"no array has the dtype {name!r:.40}")
    if not all(type(length) is int and length >= 0 for length in shape) or (scalar and shape):
        raise ValueError("an array with a malformed shape")
    if math.prod(shape) * dtype.itemsize != len(data) - end:
        raise ValueError("an array with another number of bytes than its shape needs")
    try:
        array = np.frombuffer(bytearray(data[end:]), dtype).reshape(shape)
    except OverflowError as error:
        raise ValueError(f"an array with an impossible shape: {error}") from None
    return array[()] if scalar else array


def _dtype(name: Any) -> np.dtype | None:
    """Return the dtype that has this name on the wire, or None."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name) if isinstance(name, str) and _DTYPE.fullmatch(name) else None


def _container(items: list[Any]) -> Any:
    mark = items[0] if items else None
    return _CONTAINERS[mark](items[1:]) if isinstance(mark, _Mark) else items


def _extension(code: int, data: bytes) -> Any:
    if code == _ARRAY:
        return _unpack_array(data)
    if code == _TENSOR:
        from disttorch.autograd.tensor import wrap

        return wrap(_unpack_array(data))
    if code in (_TUPLE, _SET, _FROZEN_SET) and not data:
        return _Mark(code)
    if code == _BIG_INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _COMPLEX and len(data) == _PAIR.size:
        return complex(*_PAIR.unpack(data))
    raise ValueError(f"malformed extension {code}")
