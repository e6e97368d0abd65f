"""Python objects as bytes, for the object collectives: msgpack, with arrays as raw buffers. Nothing is pickled."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

_ARRAY, _TENSOR, _TUPLE, _SET, _BIG_INT, _COMPLEX = range(1, 7)


def dumps(value: Any) -> bytes:
    """Return `value` as bytes.

    None, bool, int, float, complex, str, bytes, list, tuple, set, dict, NumPy scalars and arrays
    (not of objects) and tensors, nested in any way; TypeError for anything else.
    """
    data: bytes = msgpack.packb(value, default=_default, strict_types=True, use_bin_type=True)
    return data


def loads(data: bytes | memoryview) -> Any:
    """Return the object that `dumps` made `data` of; ValueError for other data."""
    try:
        return msgpack.unpackb(data, ext_hook=_extension, raw=False, strict_map_key=False)
    except (msgpack.exceptions.UnpackException, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is no object that a rank has sent: {error}") from None


def _default(value: Any) -> msgpack.ExtType:
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        return msgpack.ExtType(_ARRAY, _pack_array(np.asarray(value), isinstance(value, np.generic)))
    if hasattr(value, "_a") and hasattr(value, "requires_grad"):
        return msgpack.ExtType(_TENSOR, _pack_array(_host_array(value._a), False))
    if type(value) is int:
        return msgpack.ExtType(_BIG_INT, str(value).encode())
    if type(value) is tuple:
        return msgpack.ExtType(_TUPLE, dumps(list(value)))
    if type(value) in (set, frozenset):
        return msgpack.ExtType(_SET, dumps(list(value)))
    if type(value) is complex:
        return msgpack.ExtType(_COMPLEX, dumps([value.real, value.imag]))
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
    head: bytes = msgpack.packb([name, list(array.shape), scalar])
    return len(head).to_bytes(4, "little") + head + array.tobytes()


def _unpack_array(data: bytes) -> Any:
    end = 4 + int.from_bytes(data[:4], "little")
    name, shape, scalar = msgpack.unpackb(data[4:end])
    if name == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(name)
    array = np.frombuffer(bytearray(data[end:]), dtype).reshape(shape)
    return array[()] if scalar else array


def _extension(code: int, data: bytes) -> Any:
    if code == _ARRAY:
        return _unpack_array(data)
    if code == _TENSOR:
        from disttorch.autograd.tensor import wrap

        return wrap(_unpack_array(data))
    if code == _TUPLE:
        return tuple(loads(data))
    if code == _SET:
        return set(loads(data))
    if code == _BIG_INT:
        return int(data)
    if code == _COMPLEX:
        return complex(*loads(data))
    raise ValueError(f"unknown extension {code}")
