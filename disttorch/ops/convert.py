"""Other types, other devices, and back to Python and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.core.device import device
from disttorch.core.layout import check_format, is_in_format
from disttorch.ops.define import expect_tensor
from disttorch.ops.registry import traced
from disttorch.ops.transfer import to_device

__all__ = [
    "is_floating_point", "is_nonzero", "is_signed", "is_tensor", "numel",
]  # fmt: skip
METHODS = """
    cpu cuda is_nonzero item numpy to tolist type_as
"""


def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: dtypes.dtype | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Return the tensor with another type and/or on another device: itself where nothing changes.

    `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)` or by keyword.
    """
    device, dtype = _target(args, device, dtype)
    result = input if device is None else to_device(input, device)
    if dtype is not None and dtype.numpy != input._a.dtype:
        result = traced.cast(result, dtype.numpy)
    if memory_format is not None and not is_in_format(result._a, check_format(memory_format, result._a.ndim, "to")):
        return traced.clone(result, memory_format)
    return traced.clone(result, False) if copy and result is input else result


def _target(args: tuple[Any, ...], where: Any, dtype: Any) -> tuple[device | None, dtypes.dtype | None]:
    for a in args:
        if isinstance(a, dtypes.dtype):
            dtype = a
        elif isinstance(a, Tensor):
            where, dtype = a.device, a.dtype
        elif isinstance(a, (device, str, int)) and not isinstance(a, bool):
            where = a
        elif a is not None and not isinstance(a, bool):
            raise TypeError(f"to(): expected a dtype, a device or a tensor, got {type(a).__name__}")
    if dtype is not None and not isinstance(dtype, dtypes.dtype):
        raise TypeError(f"to(): dtype must be a torch.dtype such as torch.float32, not {dtype!r}")
    return (None if where is None else device(where)), dtype


def caster(name: str, d: dtypes.dtype) -> Any:
    """Return the method that converts to type `d`, e.g. `x.float()`."""

    def function(input: Tensor, memory_format: Any = None) -> Tensor:
        return to(input, d, memory_format=memory_format)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return the tensor as {d.name}."
    return function


def cpu(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """Return the tensor in the CPU's memory: itself if it is there."""
    return to(input, device="cpu", memory_format=memory_format)


def cuda(input: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """Return the tensor in a GPU's memory; RuntimeError where there is none."""
    where = _target((), "cuda" if device is None else device, None)[0]
    if where is not None and where.type != "cuda":
        raise RuntimeError(f"Invalid device, must be cuda device, got {where}")
    return to(input, device=where, memory_format=memory_format)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """Return the tensor with the type of `other`, and on its device."""
    expect_tensor(other, "type_as", "other")
    return to(input, other)


def numpy(input: Tensor, *, force: bool = False) -> np.ndarray:
    """Return a NumPy array that shares the tensor's memory; `force` detaches and moves it first."""
    if force:
        input = input.detach().cpu()
    if input.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if input.device.type != "cpu":
        raise TypeError(
            f"can't convert {input.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )
    if input._a.dtype.name == "bfloat16":
        raise TypeError("Got unsupported ScalarType BFloat16")
    return input._a


def as_array(input: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """The `__array__` of a tensor: what NumPy makes of it."""
    array = numpy(input)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def item(input: Tensor) -> bool | int | float | complex:
    """Return the only element as a Python number."""
    if input._a.size != 1:
        raise RuntimeError(f"a Tensor with {input._a.size} elements cannot be converted to Scalar")
    value = input._a.item()
    return float(value) if input._a.dtype.name == "bfloat16" else value


def tolist(input: Tensor) -> Any:
    """Return the elements as nested lists of Python numbers; a 0-d tensor as a number."""
    if input._a.dtype.name == "bfloat16":
        return input._a.astype(np.float32).tolist()
    return input._a.tolist()


def as_bool(input: Tensor) -> bool:
    """The truth of a tensor with one element."""
    if input._a.size > 1:
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    if not input._a.size:
        raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
    return bool(input._a.item())


def as_index(input: Tensor) -> int:
    """The `__index__` of a tensor: its only element, an integer."""
    if input._a.size != 1 or input._a.dtype.kind not in "biu":
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(input._a.item())


def is_tensor(obj: object) -> bool:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return input.dtype.is_floating_point


def is_signed(input: Tensor) -> bool:
    """Whether the element type has negative numbers."""
    return input.dtype.is_signed


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is nonzero."""
    return as_bool(input)


def numel(input: Tensor) -> int:
    """Return the number of elements."""
    return input._a.size
