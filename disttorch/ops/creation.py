"""Making tensors from data and from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import namespace_for
from disttorch.core import dtypes
from disttorch.core.device import CPU, device
from disttorch.core.promotion import result_dtype
from disttorch.ops.shape import copy_order, sizes_of

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "linspace",
    "logspace", "ones", "ones_like", "result_type", "tensor", "zeros", "zeros_like",
]  # fmt: skip

DeviceLike = device | str | int | None


def place(target: DeviceLike) -> device:
    """Return the device meant by a device, a string, an index or None (the CPU)."""
    return CPU if target is None else device(target)


def finish(array: Any, target: DeviceLike, requires_grad: bool) -> Tensor:
    """Return a leaf on `array`, moved to a device."""
    where = place(target)
    out = wrap(array if where.type == "cpu" else namespace_for(where).asarray(array))
    return out.requires_grad_() if requires_grad else out


def _numpy_type(d: dtypes.dtype | None, otherwise: dtypes.dtype | None = None) -> np.dtype:
    if d is not None and not isinstance(d, dtypes.dtype):
        raise TypeError(f"dtype must be a torch.dtype such as torch.float32, not {d!r}")
    return (d or otherwise or dtypes.get_default_dtype()).numpy


# -- from data ----------------------------------------------------------------------------------------------------


def tensor(
    data: Any, *, dtype: dtypes.dtype | None = None, device: DeviceLike = None, requires_grad: bool = False
) -> Tensor:
    """Return a new tensor with a copy of `data`: a number, nested sequences of numbers, an array or a tensor.

    Without `dtype`, Python floats become the default float type and ints int64; arrays keep their type.
    """
    return finish(_array_of(data, dtype, copy=True), device, requires_grad)


def _array_of(data: Any, d: dtypes.dtype | None, copy: bool) -> Any:
    if isinstance(data, Tensor):
        data = data._a
    if isinstance(data, np.generic):
        data = np.asarray(data)
    if isinstance(data, np.ndarray):
        dtypes.from_numpy_dtype(data.dtype)
        target = _numpy_type(d) if d else data.dtype
        return data.astype(target, order="C", copy=copy)
    array = _array_of_numbers(data)
    kind = array.dtype.kind
    if kind not in "biufc":
        raise TypeError(
            f"cannot make a tensor of {type(data).__name__}: expected numbers, nested sequences of numbers or arrays"
        )
    if d is None and not _holds_arrays(data):
        own = {"f": dtypes.get_default_dtype(), "c": dtypes.get_default_dtype().to_complex(), "b": dtypes.bool_}
        d = own.get(kind, dtypes.int64)
    target = _numpy_type(d) if d else array.dtype
    _check_range(array, target)
    return array.astype(target, order="C", copy=False)


def _check_range(array: np.ndarray, target: np.dtype) -> None:
    """Raise PyTorch's errors for numbers that an integer type does not hold, and for complex ones in a real type."""
    if array.dtype.kind == "c" and target.kind not in "cb":
        raise TypeError("'complex' object cannot be interpreted as a real number; use a complex dtype")
    if target.kind not in "iu" or not array.size or array.dtype == target:
        return
    limits = np.iinfo(target)
    if not (-int(limits.max) - 1 <= array.min() and array.max() <= limits.max):
        raise RuntimeError(f"value cannot be converted to type {target.name} without overflow")


def _array_of_numbers(data: Any) -> np.ndarray:
    try:
        array = np.asarray(_plain(data))
    except ValueError as error:
        raise ValueError(f"expected sequences of equal length at each depth: {error}") from None
    return array.astype(dtypes.get_default_dtype().numpy) if array.size == 0 and array.dtype == np.float64 else array


def _plain(data: Any) -> Any:
    """Return nested sequences with tensors replaced by arrays."""
    if isinstance(data, Tensor):
        return data._a
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    return data


def _holds_arrays(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (Tensor, np.ndarray, np.generic))


def as_tensor(data: Any, dtype: dtypes.dtype | None = None, device: DeviceLike = None) -> Tensor:
    """Return `data` as a tensor, without a copy where type and device are already right."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    return finish(_array_of(data, dtype, copy=False), device, False)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """Return a tensor that shares the memory of a NumPy array."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtypes.from_numpy_dtype(ndarray.dtype)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
            "supported. (You can probably work around this by making a copy of your array  with array.copy().) "
        )
    return wrap(ndarray)


# -- from nothing -------------------------------------------------------------------------------------------------


def _filled(maker: Any, doc: str) -> Any:
    def function(
        *size: Any,
        dtype: dtypes.dtype | None = None,
        device: DeviceLike = None,
        requires_grad: bool = False,
        out: Tensor | None = None,
    ) -> Tensor:
        shape = sizes_of(size)
        if any(n < 0 for n in shape):
            raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
        if out is not None:
            out._a = maker(shape, _numpy_type(dtype, out.dtype))
            return out
        return finish(maker(shape, _numpy_type(dtype)), device, requires_grad)

    function.__doc__ = doc
    return function


zeros = _filled(np.zeros, "Return a tensor of zeros: `zeros(2, 3)` or `zeros((2, 3))`.")
ones = _filled(np.ones, "Return a tensor of ones: `ones(2, 3)` or `ones((2, 3))`.")
empty = _filled(np.empty, "Return a tensor whose elements are not set: `empty(2, 3)` or `empty((2, 3))`.")
for _function, _name in ((zeros, "zeros"), (ones, "ones"), (empty, "empty")):
    _function.__name__ = _function.__qualname__ = _name


def full(
    size: Sequence[int],
    fill_value: complex,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of one value; its type is the value's unless `dtype` is given."""
    d = _numpy_type(dtype, dtypes.of_number(fill_value))
    return finish(
        np.full(sizes_of((size,)), dtypes.number_as(fill_value, d, d.itemsize == 2), d), device, requires_grad
    )


def _like(input: Tensor, value: Any, d: dtypes.dtype | None, target: DeviceLike, requires_grad: bool) -> Tensor:
    array = np.empty_like(input._a, _numpy_type(d, input.dtype), copy_order(input._a), subok=False)
    if value is not None:
        array[...] = dtypes.number_as(value, array.dtype)
    return finish(array, target, requires_grad)


def zeros_like(
    input: Tensor, *, dtype: dtypes.dtype | None = None, device: DeviceLike = None, requires_grad: bool = False
) -> Tensor:
    """Return zeros with the shape, type and device of `input`."""
    return _like(input, 0, dtype, device or input.device, requires_grad)


def ones_like(
    input: Tensor, *, dtype: dtypes.dtype | None = None, device: DeviceLike = None, requires_grad: bool = False
) -> Tensor:
    """Return ones with the shape, type and device of `input`."""
    return _like(input, 1, dtype, device or input.device, requires_grad)


def full_like(
    input: Tensor,
    fill_value: complex,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of one value with the shape, type and device of `input`."""
    return _like(input, fill_value, dtype, device or input.device, requires_grad)


def empty_like(
    input: Tensor, *, dtype: dtypes.dtype | None = None, device: DeviceLike = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor with the shape, type and device of `input` whose elements are not set."""
    return _like(input, None, dtype, device or input.device, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return start, start + step, ... up to but without `end`: int64 for ints, the default float type otherwise."""
    if end is None:
        start, end = 0, start
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = _numpy_type(dtype, dtypes.int64 if whole else None)
    count = ceil((end - start) / step)
    steps = np.arange(count, dtype=np.int64 if whole else np.float64)
    return finish(np.add(start, np.multiply(steps, step)).astype(d), device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int = 100,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `steps` evenly spaced numbers from `start` to `end`, both included."""
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    d = _numpy_type(dtype)
    return finish(_evenly(start, end, steps, d), device, requires_grad)


def _evenly(start: float, end: float, steps: int, d: np.dtype) -> np.ndarray:
    """Count from both ends towards the middle, in the result's own precision, as PyTorch does."""
    if steps < 2:
        return np.full(steps, start, d)
    kind = d if d.kind in "fc" else np.dtype(np.float64)
    low, high = kind.type(start), kind.type(end)
    step = (high - low) / kind.type(steps - 1)
    k = np.arange(steps)
    rising = low + step * k.astype(kind)
    falling = high - step * (steps - 1 - k).astype(kind)
    return np.where(k < steps // 2, rising, falling).astype(d)


def logspace(
    start: float,
    end: float,
    steps: int = 100,
    base: float = 10.0,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `steps` numbers from base^start to base^end, evenly spaced on a logarithmic scale."""
    d = _numpy_type(dtype)
    kind = d if d.kind in "fc" else np.dtype(np.float64)
    return finish(np.power(kind.type(base), _evenly(start, end, steps, kind)).astype(d), device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a matrix [n, m] (m = n unless given) with ones on the diagonal and zeros elsewhere."""
    return finish(np.eye(n, m, dtype=_numpy_type(dtype)), device, requires_grad)


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """Return the type in which two operands, tensors or numbers, would be combined."""
    return result_dtype([v._a if isinstance(v, Tensor) else v for v in (tensor1, tensor2)])
