"""Old spellings: a class for each element type, such as `torch.FloatTensor(2, 3)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.record import type_name
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import cuda_device_count
from disttorch.core import dtypes
from disttorch.core.device import device as device_class
from disttorch.core.size import Size
from disttorch.ops import creation

__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor",
    "LongTensor", "ShortTensor", "set_default_tensor_type", "typename",
]  # fmt: skip


def new_tensor(d: dtypes.dtype, args: tuple[Any, ...], device: Any = None, cls: type[Tensor] = Tensor) -> Tensor:
    """Make a tensor as PyTorch's first constructors did: `(2, 3)` is a shape, `([2, 3])` and `((2, 3))` are data.

    A tensor gives another one on the same memory.
    """
    if device is not None and device_class(device).type != "cpu":
        raise RuntimeError(f"legacy constructor expects device type: cpu but device type: {device} was passed")
    first: Any = args[0] if args else 0
    if isinstance(first, Tensor) and len(args) == 1 and first._a.ndim:
        return _same_memory(first, d, cls)
    if isinstance(first, Size) and len(args) == 1:
        args = tuple(first)
    if all(_is_whole(a) for a in args):
        return wrap(creation.empty(args or (0,), dtype=d)._a, cls)
    if len(args) > 1:
        raise TypeError(
            f"new() received an invalid combination of arguments: expected sizes (ints), a sequence of data or a tensor, got "
            f"({', '.join(type(a).__name__ for a in args)})"
        )
    if isinstance(first, np.ndarray):
        return wrap(first.astype(d.numpy), cls)
    if isinstance(first, str) or not hasattr(first, "__len__"):
        raise TypeError(f"new(): data must be a sequence (got {type(first).__name__})")
    return wrap(creation.tensor(list(first), dtype=d)._a, cls)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _same_memory(tensor: Tensor, d: dtypes.dtype, cls: type[Tensor]) -> Tensor:
    if tensor._a.dtype != d.numpy:
        raise TypeError(
            f"legacy constructor expects a tensor of type {d!r}, got {tensor.dtype!r}; convert it with .to()"
        )
    out = wrap(tensor._a, cls)
    out._counter = tensor._counter
    return out


class tensortype(type):
    """The class of `torch.FloatTensor` and its like: `isinstance(x, torch.FloatTensor)` asks for the element type."""

    dtype: dtypes.dtype
    is_cuda: bool

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        if not cls.is_cuda:
            return new_tensor(cls.dtype, args, device)
        if not cuda_device_count():
            raise TypeError(f"type {cls!s} not available: there is no CUDA device")
        return new_tensor(cls.dtype, args).to(device or "cuda")

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype and instance.is_cuda == cls.is_cuda

    def __repr__(cls) -> str:
        return f"<class '{cls}'>"

    def __str__(cls) -> str:
        return f"torch.{'cuda.' if cls.is_cuda else ''}{cls.__name__}"


_TYPES = {
    "BFloat16Tensor": dtypes.bfloat16, "BoolTensor": dtypes.bool_, "ByteTensor": dtypes.uint8, "CharTensor": dtypes.int8,
    "DoubleTensor": dtypes.float64, "FloatTensor": dtypes.float32, "HalfTensor": dtypes.float16,
    "IntTensor": dtypes.int32, "LongTensor": dtypes.int64, "ShortTensor": dtypes.int16,
}  # fmt: skip


def _make(name: str, is_cuda: bool) -> tensortype:
    d = _TYPES[name]
    doc = f"`{name}(2, 3)` of a shape or `{name}([1, 2])` of data: a tensor of type {d.name}."
    return tensortype(name, (), {"dtype": d, "is_cuda": is_cuda, "__doc__": doc, "__module__": __name__})


CPU_TYPES = {name: _make(name, False) for name in _TYPES}
CUDA_TYPES = {name: _make(name, True) for name in _TYPES}
(
    BFloat16Tensor, BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, HalfTensor, IntTensor, LongTensor,
    ShortTensor,
) = CPU_TYPES.values()  # fmt: skip


def type_called(name: str) -> tensortype:
    """Return the type of a name such as "torch.DoubleTensor"; TypeError for one that there is not."""
    found = {str(t): t for t in (*CPU_TYPES.values(), *CUDA_TYPES.values())}.get(name)
    if found is None:
        raise TypeError(f"invalid type: '{name}'")
    return found


def set_default_tensor_type(t: tensortype | str) -> None:
    """Set the type of tensors made from Python floats, as `set_default_dtype`, by an old name: "torch.DoubleTensor"."""
    chosen = type_called(t) if isinstance(t, str) else t
    if not isinstance(chosen, tensortype) or not chosen.dtype.is_floating_point:
        raise TypeError("invalid type object: only floating-point types are supported as the default type")
    if chosen.is_cuda and not cuda_device_count():
        raise TypeError(f"type {chosen!s} not available: there is no CUDA device")
    dtypes.set_default_dtype(chosen.dtype)


def typename(obj: Any) -> str:
    """Return a tensor's type by its old name ("torch.FloatTensor"), that of anything else with its module."""
    if isinstance(obj, Tensor):
        return type_name(obj)
    if isinstance(obj, tensortype):
        return str(obj)
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(named, "__module__", None)
    return named.__qualname__ if module in (None, "builtins") else f"{module}.{named.__qualname__}"
