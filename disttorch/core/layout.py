"""How the elements of a tensor lie in memory: `torch.channels_last` and the other memory formats, `torch.strided`."""

from __future__ import annotations

from math import prod
from typing import Any


class memory_format:
    """An order of the elements in memory, as `torch.memory_format`; the objects are those of this module."""

    __slots__ = ("name", "order")

    def __init__(self, name: str, order: tuple[int, ...] | None = None) -> None:
        self.name = name
        self.order = order
        """The dimensions from the slowest to the fastest one, for a format of tensors of one rank."""

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class layout:
    """How a tensor stores its elements, as `torch.layout`; there is `torch.strided` only."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last", (0, 2, 3, 1))
channels_last_3d = memory_format("channels_last_3d", (0, 2, 3, 4, 1))
strided = layout("strided")


def check_format(form: Any, ndim: int, function: str) -> memory_format:
    """Return a memory format that fits a tensor of `ndim` dimensions; PyTorch's errors for anything else."""
    if not isinstance(form, memory_format):
        raise TypeError(
            f"{function}(): argument 'memory_format' must be torch.memory_format, not {type(form).__name__}"
        )
    if form.order is not None and ndim != len(form.order):
        raise RuntimeError(f"required rank {len(form.order)} tensor to use {form.name} format")
    return form


def check_layout(given: Any, function: str) -> None:
    """Raise unless `given` is None or `torch.strided`."""
    if given is not None and given is not strided:
        raise TypeError(f"{function}(): argument 'layout' must be torch.strided, not {given!r}")


def empty_array(xp: Any, shape: tuple[int, ...], dtype: Any, form: memory_format) -> Any:
    """Return an array whose elements are not set, in a memory format."""
    order = form.order
    if order is None:
        return xp.empty(shape, dtype)
    back = tuple(order.index(dim) for dim in range(len(order)))
    return xp.empty(tuple(shape[dim] for dim in order), dtype).transpose(back)


def copy_order(array: Any) -> Any:
    """Return the order in which a copy keeps the array's layout; an expanded array's copy is in row-major order."""
    return "C" if 0 in array.strides else "K"


def empty_like_array(xp: Any, array: Any, dtype: Any, form: memory_format) -> Any:
    """Return an array of the same shape whose elements are not set; `preserve_format` keeps the order in memory."""
    if form is preserve_format:
        return xp.empty_like(array, dtype, copy_order(array))
    return empty_array(xp, array.shape, dtype, form)


def is_in_format(array: Any, form: memory_format) -> bool:
    """Whether the elements lie without gaps in the order of a memory format."""
    order = form.order
    if order is None:
        return form is preserve_format or array.flags.c_contiguous
    if array.ndim != len(order):
        return False
    step = array.itemsize
    for dim in reversed(order):
        if array.shape[dim] != 1:
            if array.strides[dim] != step:
                return False
            step *= array.shape[dim]
    return True


def is_dense(array: Any) -> bool:
    """Whether the elements lie without gaps and without overlap, in whatever order of the dimensions."""
    if array.flags.c_contiguous:
        return True
    step = array.itemsize
    for stride, n in sorted((s, n) for s, n in zip(array.strides, array.shape) if n != 1):
        if stride != step:
            return False
        step *= n
    return True


def row_major_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a contiguous tensor."""
    return tuple(prod(max(n, 1) for n in shape[k + 1 :]) for k in range(len(shape)))
