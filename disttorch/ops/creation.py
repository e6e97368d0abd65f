"""Making tensors from data and from nothing.

The functions that make a tensor from nothing take PyTorch's keyword arguments `out`, `dtype`, `layout`, `device`,
`pin_memory` (which has no effect) and `requires_grad`; those of a `like` tensor also `memory_format`, and no `out`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from math import ceil, isfinite
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, copied_to_gpu
from disttorch.core import dtypes, layout
from disttorch.core.device import CPU, device
from disttorch.core.dtypes import number_as
from disttorch.core.promotion import result_dtype
from disttorch.ops.define import expect_tensor
from disttorch.ops.shape import sizes_of
from disttorch.ops.write import type_label, write_out

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "empty_strided", "eye", "from_numpy", "full", "full_like",
    "linspace", "logspace", "ones", "ones_like", "result_type", "scalar_tensor", "tensor", "zeros", "zeros_like",
]  # fmt: skip
METHODS = """
    new_empty new_empty_strided new_full new_ones new_tensor new_zeros
"""

DeviceLike = device | str | int | None


_check_layout = layout.check_layout


def place(target: DeviceLike) -> device:
    """Return the device meant by a device, a string, an index or None (the CPU)."""
    return CPU if target is None else device(target)


def finish(array: Any, target: DeviceLike, requires_grad: bool) -> Tensor:
    """Return a leaf on `array`, moved to a device."""
    where = place(target)
    out = wrap(array if where.type == "cpu" else copied_to_gpu(array, where))
    return out.requires_grad_() if requires_grad else out


def _numpy_type(d: dtypes.dtype | None) -> np.dtype:
    if d is not None and not isinstance(d, dtypes.dtype):
        raise TypeError(f"dtype must be a torch.dtype such as torch.float32, not {d!r}")
    return (d or dtypes.get_default_dtype()).numpy


# -- from data ----------------------------------------------------------------------------------------------------


def tensor(
    data: Any,
    *,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
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


def creator(make: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a public function of `make(..., dtype=)`, which returns an array: the options of new tensors for free.

    `make` gets a NumPy type, or None where it is left to decide.
    """
    label = make.__name__

    def function(
        *args: Any,
        out: Tensor | None = None,
        dtype: dtypes.dtype | None = None,
        layout: Any = layout.strided,
        device: DeviceLike = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
        **named: Any,
    ) -> Tensor:
        _check_layout(layout, label)
        d = None if dtype is None else _numpy_type(dtype)
        if out is None:
            return finish(make(*args, dtype=d, **named), device, requires_grad)
        expect_tensor(out, label, "out")
        if d is not None and d != out._a.dtype:
            have, want = type_label(d), type_label(out._a.dtype)
            raise RuntimeError(f"dtype {have} does not match dtype of out parameter ({want})")
        return put(make(*args, dtype=out._a.dtype, **named), out, label)

    return _presented(function, make, "dtype")


def _presented(function: Callable[..., Tensor], make: Callable[..., Any], hidden: str) -> Callable[..., Tensor]:
    """Give `function` the name of `make`, and in help() the parameters of both, but for `hidden`."""
    inner, outer = (inspect.signature(f).parameters.values() for f in (make, function))
    functools.update_wrapper(function, make)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    shown = [p for p in outer if p.kind not in variable] + [p for p in inner if p.name != hidden]
    shown.sort(key=lambda p: p.kind)
    function.__signature__ = inspect.Signature(shown, return_annotation="Tensor")  # type: ignore[attr-defined]
    return function


def put(array: Any, out: Tensor, function: str) -> Tensor:
    """Store a new array in `out`, which takes its shape."""
    if out._a.shape != array.shape and not out.requires_grad:
        out._a = backend_of(out._a).namespace.empty(array.shape, out._a.dtype)
    return write_out(out, wrap(array), function)


def shape_from(function: str, sizes: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """Return the shape that was given as several ints, as one sequence, or by the keyword `size`."""
    if not sizes and size is None:
        raise TypeError(f'{function}() missing 1 required positional arguments: "size"')
    try:
        shape = sizes_of(sizes if size is None else (size,))
    except TypeError as error:
        raise TypeError(f"{function}(): argument 'size' must be tuple of ints: {error}") from None
    if any([n < 0 for n in shape]):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    return shape


@creator
def zeros(*sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Return a tensor of zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return np.zeros(shape_from("zeros", sizes, size), dtype or _numpy_type(None))


@creator
def ones(*sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Return a tensor of ones: `ones(2, 3)` or `ones((2, 3))`."""
    return np.ones(shape_from("ones", sizes, size), dtype or _numpy_type(None))


@creator
def empty(*sizes: Any, size: Any = None, memory_format: Any = layout.contiguous_format, dtype: Any = None) -> Any:
    """Return a tensor whose elements are not set: `empty(2, 3)` or `empty((2, 3))`."""
    shape = shape_from("empty", sizes, size)
    form = layout.check_format(memory_format, len(shape), "empty")
    return layout.empty_array(np, shape, dtype or _numpy_type(None), form)


@creator
def empty_strided(size: Sequence[int], stride: Sequence[int], *, dtype: Any = None) -> Any:
    """Return a tensor whose elements are not set, with neighbours `stride[i]` elements apart along dimension i."""
    shape, steps = shape_from("empty_strided", (), size), sizes_of((stride,))
    if len(shape) != len(steps):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(steps)} and {list(shape)}")
    if any(s < 0 for s in steps):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(steps)}")
    extent = sum((n - 1) * s for n, s in zip(shape, steps)) + 1 if 0 not in shape else 0
    memory = np.empty(extent, dtype or _numpy_type(None))
    return np.lib.stride_tricks.as_strided(memory, shape, tuple(s * memory.itemsize for s in steps))


def _number(value: Any, function: str) -> Any:
    """Return a number given as one, or as a tensor with no dimension."""
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError(
                f"{function} only supports 0-dimensional start and end tensors, but got one with {value._a.ndim} dimension(s)."
            )
        return value.item()
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, (bool, int, float, complex)):
        raise TypeError(f"{function}(): expected a number, got {type(value).__name__}")
    return value


@creator
def full(size: Sequence[int], fill_value: complex, *, dtype: Any = None) -> Any:
    """Return a tensor of one value; its type is the value's unless `dtype` is given."""
    if isinstance(size, int):
        raise TypeError(f"full(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    value = _number(fill_value, "full")
    d = dtype or dtypes.of_number(value).numpy
    return np.full(shape_from("full", (), size), number_as(value, d, d.itemsize == 2), d)


@creator
def scalar_tensor(s: complex, *, dtype: Any = None) -> Any:
    """Return a tensor without dimensions of one value, of the default float type unless `dtype` is given."""
    return number_as(_number(s, "scalar_tensor"), dtype or _numpy_type(None))


@creator
def eye(n: int, m: int | None = None, *, dtype: Any = None) -> Any:
    """Return a matrix [n, m] (m = n unless given) with ones on the diagonal and zeros elsewhere."""
    for name, value in (("n", n), ("m", n if m is None else m)):
        if value < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {value}")
    return np.eye(n, m, dtype=dtype or _numpy_type(None))


def like(fill: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a public function of `fill(array, ...)`: a tensor with the shape, type and device of another, filled."""
    label = fill.__name__

    def function(
        input: Tensor,
        *args: Any,
        dtype: dtypes.dtype | None = None,
        layout: Any = None,
        device: DeviceLike = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
        memory_format: Any = layout.preserve_format,
        **named: Any,
    ) -> Tensor:
        a = expect_tensor(input, label)._a
        _check_layout(layout, label)
        array = _empty_like(label, a, a.dtype if dtype is None else _numpy_type(dtype), memory_format)
        fill(array, *args, **named)
        return finish(array, device, requires_grad)

    return _presented(function, fill, "array")


def _empty_like(label: str, a: Any, d: np.dtype, memory_format: Any) -> Any:
    if memory_format is not layout.preserve_format:
        layout.check_format(memory_format, a.ndim, label)
    return layout.empty_like_array(backend_of(a).namespace, a, d, memory_format)


@like
def zeros_like(array: Any) -> None:
    """Return zeros with the shape, type and device of `input`."""
    array[...] = 0


@like
def ones_like(array: Any) -> None:
    """Return ones with the shape, type and device of `input`."""
    array[...] = 1


@like
def full_like(array: Any, fill_value: complex) -> None:
    """Return a tensor of one value with the shape, type and device of `input`."""
    array[...] = number_as(_number(fill_value, "full_like"), array.dtype)


@like
def empty_like(array: Any) -> None:
    """Return a tensor with the shape, type and device of `input` whose elements are not set."""


def _new(maker: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method that makes a tensor with the type and device of the one it is called on, unless others are given."""

    def method(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        return maker(*args, dtype=dtype or self.dtype, device=device or self.device, **options)

    method.__name__ = method.__qualname__ = "new_" + maker.__name__.removeprefix("new_")
    method.__doc__ = f"Like `{maker.__name__}`, with the type and device of this tensor unless others are given."
    return method


new_empty, new_empty_strided, new_full, new_ones, new_tensor, new_zeros = (
    _new(maker) for maker in (empty, empty_strided, full, ones, tensor, zeros)
)


# -- sequences ----------------------------------------------------------------------------------------------------


def _bounds(values: tuple[Any, ...], start: Any, end: Any, step: Any) -> tuple[Any, ...]:
    """Return start, end and step given by position (one: the end) or by name."""
    if len(values) == 1:
        start, end = (start, values[0]) if end is None else (values[0], end)
    elif values:
        start, end, step = (*values, step)[:3]
    if end is None or len(values) > 3:
        raise TypeError("arange(): expected arange(end), arange(start, end) or arange(start, end, step)")
    return tuple(_number(v, "arange") for v in (start, end, step))


@creator
def arange(*values: Any, start: Any = 0, end: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    """Return start, start + step, ... up to but without `end`: int64 for ints, the default float type otherwise.

    `arange(end)`, `arange(start, end)` or `arange(start, end, step)`.
    """
    start, end, step = _bounds(values, start, end, step)
    whole = all(isinstance(v, int) for v in (start, end, step))
    d = dtype or (np.dtype(np.int64) if whole else _numpy_type(None))
    if d.kind in "bc":
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{type_label(d)}'")
    if not (isfinite(start) and isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    count = ceil((end - start) / step) if step else 0
    if d.kind in "iu":  # PyTorch cuts off fractions first, but only for int64 before it counts
        start, end, step = int(start), int(end), int(step)
    if not step:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if d == np.int64:
        return np.arange(start, end, step, dtype=d)
    steps = np.arange(count, dtype=np.int64 if d.kind in "iu" or whole else np.float64)
    return np.add(start, np.multiply(steps, step)).astype(d)


def _ends(start: Any, end: Any, steps: int, d: Any, function: str) -> tuple[Any, Any, np.dtype]:
    start, end = _number(start, function), _number(end, function)
    if not isinstance(steps, int):
        raise TypeError(f"{function}(): argument 'steps' must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if isinstance(start, complex) or isinstance(end, complex):
        own = dtypes.get_default_dtype().to_complex()
        if d is not None and d.kind != "c":
            raise RuntimeError(
                f"{function}(): inferred dtype {type_label(own.numpy)} can't be safely cast to passed dtype {type_label(d)}"
            )
        return start, end, d or own.numpy
    return start, end, d or _numpy_type(None)


@creator
def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None) -> Any:
    """Return `steps` evenly spaced numbers from `start` to `end`, both included."""
    low, high, d = _ends(start, end, steps, dtype, "linspace")
    return _evenly(low, high, d, steps).astype(d)


def _evenly(start: Any, end: Any, d: np.dtype, steps: int) -> np.ndarray:
    """Count from both ends towards the middle as PyTorch does, in the result's own precision; integers in float64."""
    low, high = number_as(start, d, True), number_as(end, d, True)
    kind = np.dtype(np.float64) if d.kind in "biu" else d
    low, high = low.astype(kind), high.astype(kind)
    if steps < 2:
        return np.full(steps, low, kind)
    step = (high - low) / kind.type(steps - 1)
    k = np.arange(steps)
    rising = low + step * k.astype(kind)
    falling = high - step * (steps - 1 - k).astype(kind)
    return np.where(k < steps // 2, rising, falling)


@creator
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None) -> Any:
    """Return `steps` numbers from base^start to base^end, evenly spaced on a logarithmic scale."""
    low, high, d = _ends(start, end, steps, dtype, "logspace")
    if steps == 1:
        return np.power(base, np.full(1, low, np.complex128 if d.kind == "c" else np.float64)).astype(d)
    exponents = _evenly(low, high, d, steps)
    return np.power(exponents.dtype.type(base), exponents).astype(d)


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """Return the type in which two operands, tensors or numbers, would be combined."""
    return result_dtype([v._a if isinstance(v, Tensor) else v for v in (tensor1, tensor2)])
