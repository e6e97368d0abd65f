"""Views of all elements in another shape: reshape, expand, transpose, squeeze."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from operator import index as as_int
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, alias, wrap
from disttorch.autograd.views import check_inplace, written
from disttorch.core.dtypes import dtype as _dtype
from disttorch.core.layout import copy_order as copy_order
from disttorch.core.size import Size
from disttorch.ops.define import expect_tensor, view_operator
from disttorch.ops.registry import both, traced

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes", "broadcast_tensors", "broadcast_to",
    "flatten", "moveaxis", "movedim", "permute", "ravel", "reshape",
    "squeeze", "swapaxes", "swapdims", "t", "transpose", "unflatten", "unsqueeze",
]  # fmt: skip
METHODS = """
    broadcast_to expand expand_as flatten moveaxis movedim permute ravel reshape reshape_as squeeze squeeze_ swapaxes
    swapaxes_ swapdims swapdims_ t t_ transpose transpose_ unflatten unsqueeze unsqueeze_ view view_as
"""


def wrap_dim(dim: int, ndim: int) -> int:
    """Return `dim` counted from the front; IndexError when there is no such dimension."""
    size = ndim or 1
    if not -size <= dim < size:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})")
    return dim % size


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Return a shape given either as several ints or as one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]  # type: ignore[assignment]
    return tuple(map(as_int, sizes))


def infer_shape(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Replace the one -1 in `shape` by what `numel` elements leave for it."""
    unknown = [i for i, n in enumerate(shape) if n == -1]
    if any(n < -1 for n in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)}")
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    known = prod(n for n in shape if n != -1)
    if unknown and known and numel % known == 0:
        i = unknown[0]
        return (*shape[:i], numel // known, *shape[i + 1 :])
    if unknown and not known and not numel:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be "
            "any value and is ambiguous"
        )
    if unknown or known != numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def row_major(a: Any) -> Any:
    """Return the array, copied if its elements are not in row-major order, as PyTorch's kernels leave them."""
    return a if a.flags.c_contiguous else a.copy(order="C")


def whole(dim: int) -> tuple[slice, ...]:
    """Return the index of everything in the first `dim` dimensions."""
    return (slice(None),) * dim


def cut(dim: int, start: int, stop: int) -> tuple[slice, ...]:
    """Return the index of positions start..stop of one dimension."""
    return (slice(None),) * dim + (slice(start, stop),)


# -- views --------------------------------------------------------------------------------------------------------


@view_operator(name="view")
def _view(xp, x, shape):
    return x.reshape(shape)


@_view.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def _viewable(a: Any, shape: tuple[int, ...]) -> bool:
    """Whether the elements can be seen in another shape without a copy."""
    if a.flags.c_contiguous or not a.size:
        return True
    if type(a) is not np.ndarray:  # an array of NumPy with the same strides tells; its elements are not read
        a = np.lib.stride_tricks.as_strided(np.empty((), a.dtype), a.shape, a.strides)
    try:
        np.reshape(a, shape, copy=False)
    except ValueError:
        return False
    return True


def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """Return the same memory in another shape; one size may be -1. With a dtype instead: the same bytes as that type."""
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], _dtype)):
        return _view_bytes(input, dtype or shape[0])
    sizes = infer_shape(sizes_of(shape if size is None else (size,)), input._a.size)
    if not _viewable(input._a, sizes):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        )
    return _view(input, sizes)


def _view_bytes(input: Tensor, d: _dtype) -> Tensor:
    a, size = input._a, d.itemsize
    if input.requires_grad:
        raise RuntimeError("view(dtype) of a tensor that requires grad is not supported; detach it first")
    if size != a.itemsize and (not a.ndim or (a.size and a.shape[-1] > 1 and a.strides[-1] != a.itemsize)):
        raise RuntimeError(
            f"self.dim() cannot be 0, and self.stride(-1) must be 1, to view {input.dtype} as {d} (different element sizes), but "
            f"got a tensor of size {list(a.shape)}"
        )
    if a.ndim and a.shape[-1] * a.itemsize % size:
        raise RuntimeError(
            f"self.size(-1) must be divisible by {size // a.itemsize} to view {input.dtype} as {d} (different element sizes), "
            f"but got {a.shape[-1]}"
        )
    out = wrap(a.view(d.numpy))
    out._counter = input._counter
    return out


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """Return the elements in another shape (one size may be -1): a view where possible, else a copy."""
    sizes = infer_shape(sizes_of(sizes if shape is None else (shape,)), input._a.size)
    if not _viewable(input._a, sizes):
        input = traced.clone(input, True)
    return _view(input, sizes)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """Return a view with the shape of `other`."""
    return view(input, other._a.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """Return the elements in the shape of `other`."""
    return reshape(input, other._a.shape)


def ravel(input: Tensor) -> Tensor:
    """Return the elements, in row-major order, as one dimension: a view of a contiguous tensor, else a copy."""
    return _view(input if input._a.flags.c_contiguous else traced.clone(input, True), (input._a.size,))


both("reshape", lambda a, shape: a.reshape(shape), reshape)


@view_operator(name="expand")
def _expand(xp, x, shape):
    return xp.broadcast_to(x, shape) if xp is not np else np.lib.stride_tricks.as_strided(x, shape, _strides(x, shape))


@_expand.vjp
def _(F, g):
    return g


def _strides(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(shape) - x.ndim
    kept = (s if n == m else 0 for s, n, m in zip(x.strides, x.shape, shape[lead:]))
    return (0,) * lead + tuple(kept)


def expand(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """Return a view in which dimensions of size 1 are repeated without a copy; -1 keeps a size."""
    want = sizes_of(sizes if size is None else (size,))
    have = input._a.shape
    lead = len(want) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand(torch.{{{list(have)}}}, size={list(want)}): the number of sizes provided ({len(want)}) must be greater or "
            f"equal to the number of dimensions in the tensor ({len(have)})"
        )
    shape = []
    for i, n in enumerate(want):
        old = have[i - lead] if i >= lead else None
        if n == -1 and old is None:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {i}"
            )
        if old not in (None, 1, n) and n != -1:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton dimension {i}.  "
                f"Target sizes: {list(want)}.  Tensor sizes: {list(have)}"
            )
        shape.append(old if n == -1 else n)
    return _expand(input, tuple(shape))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Return `input` expanded to the shape of `other`."""
    return expand(input, other._a.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """Return `input` expanded to `size`."""
    return expand(input, tuple(size))


def broadcast_shapes(*shapes: Any) -> Size:
    """Return the shape that tensors of these shapes (an int means one dimension) have together."""
    listed = [(s,) if isinstance(s, int) else sizes_of((tuple(s),)) for s in shapes]
    if any(n < 0 for s in listed for n in s):
        raise ValueError("Attempting to broadcast a dimension with negative length!")
    result = [1] * max(map(len, listed), default=0)
    for k, s in enumerate(listed):
        for i in range(-1, -1 - len(s), -1):
            if s[i] in (1, result[i]):
                continue
            if result[i] != 1:
                raise RuntimeError(
                    f"Attempting to broadcast a dimension of length {s[i]} at {i}! Mismatching argument at index {k} had {s}; "
                    f"but expected shape should be broadcastable to {result}"
                )
            result[i] = s[i]
    return Size(result)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return the tensors expanded to the shape that they have together."""
    listed = several(tensors, "broadcast_tensors")
    shape: tuple[int, ...] = ()
    for x in listed:
        for k in range(1, min(len(shape), x._a.ndim) + 1):
            m, n = shape[-k], x._a.shape[-k]
            if m != n and 1 not in (m, n):
                raise RuntimeError(
                    f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton dimension "
                    f"{max(len(shape), x._a.ndim) - k}"
                )
        shape = np.broadcast_shapes(shape, x._a.shape)
    return tuple(expand(x, shape) for x in listed)


def several(tensors: tuple[Any, ...], function: str) -> list[Tensor]:
    """Return tensors given either as arguments or as one sequence."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    return [expect_tensor(x, function, "tensors") for x in tensors]


@view_operator(name="permute")
def _permute(xp, x, dims):
    return x.transpose(dims)


@_permute.vjp
def _(F, g, dims):
    return F.permute(g, tuple(int(i) for i in np.argsort(dims)))


def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """Return a view with the dimensions in the order of `dims`."""
    order = sizes_of(order if dims is None else (dims,))
    ndim = input._a.ndim
    if len(order) != ndim:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering "
            f"of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}"
        )
    wrapped = tuple(wrap_dim(d, ndim) for d in order)
    if len(set(wrapped)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return _permute(input, wrapped)


@view_operator(name="transpose")
def _transpose(xp, x, dim0, dim1):
    return x.swapaxes(dim0, dim1) if x.ndim else x.reshape(())


@_transpose.vjp
def _(F, g, dim0, dim1):
    return F.transpose(g, dim0, dim1)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged."""
    ndim = input._a.ndim
    return _transpose(input, wrap_dim(dim0, ndim), wrap_dim(dim1, ndim))


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Return a view with two dimensions exchanged, as `transpose`."""
    return transpose(input, axis0, axis1)


swapdims = transpose


@view_operator(name="t")
def _t(xp, x):
    return x.transpose()


@_t.vjp
def _(F, g):
    return F.t(g)


def t(input: Tensor) -> Tensor:
    """Return the transpose of a matrix; what has fewer dimensions stays as it is."""
    if input._a.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input._a.ndim}D")
    return _t(input)


@view_operator(name="squeeze", grad_name="SqueezeBackward1")
def _squeeze(xp, x, dims):
    return x.squeeze(dims)


@_squeeze.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Return a view without dimensions of size 1: all of them, or those of `dim` that have size 1."""
    shape = input._a.shape
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    wrapped = [wrap_dim(d, len(shape)) for d in dims]
    return _squeeze(input, tuple(d for d in wrapped if shape and shape[d] == 1))


@view_operator(name="unsqueeze")
def _unsqueeze(xp, x, dim):
    return xp.expand_dims(x, dim)


@_unsqueeze.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Return a view with a new dimension of size 1 at `dim`."""
    return _unsqueeze(input, wrap_dim(dim, input._a.ndim + 1))


def _at_least(ndim: int, dims_to_add: Callable[[int], tuple[int, ...]]) -> Callable[..., Any]:
    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            x = tensors[0]
            for dim in dims_to_add(x._a.ndim):
                x = unsqueeze(x, dim)
            return x
        return tuple(function(x) for x in several(tensors, function.__name__))

    function.__name__ = function.__qualname__ = f"atleast_{ndim}d"
    function.__doc__ = f"Return a view of each tensor with at least {ndim} dimension{'s' * (ndim > 1)}."
    return function


atleast_1d = _at_least(1, lambda n: (0,) * (n < 1))
atleast_2d = _at_least(2, lambda n: ((0, 0), (0,), ())[min(n, 2)])
atleast_3d = _at_least(3, lambda n: ((0, 0, 0), (0, 2), (2,), ())[min(n, 3)])


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return the dimensions from `start_dim` to `end_dim` as one."""
    shape = input._a.shape
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return reshape(input, 1)
    if start == end:
        return input
    return reshape(input, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return dimension `dim` as several dimensions of `sizes` (one may be -1)."""
    shape = input._a.shape
    d = wrap_dim(dim, len(shape))
    return view(input, (*shape[:d], *infer_shape(tuple(sizes), shape[d]), *shape[d + 1 :]))


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Return a view with the `source` dimensions moved to the `destination` positions."""
    ndim = input._a.ndim
    sources = [wrap_dim(d, ndim) for d in ([source] if isinstance(source, int) else source)]
    targets = [wrap_dim(d, ndim) for d in ([destination] if isinstance(destination, int) else destination)]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise RuntimeError("movedim: Invalid source or destination dims: they must be unique and of the same number")
    order = [d for d in range(ndim) if d not in sources]
    for target, origin in sorted(zip(targets, sources)):
        order.insert(target, origin)
    return _permute(input, tuple(order))


moveaxis = movedim


def changed_in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form of a view function that gives the tensor itself the new shape and strides."""

    def function_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(input)
        result = function(alias(input) if input._view is None else input, *args, **kwargs)
        if input._view is not None:
            input._view = result._view
        input._a, input._edge, input._requires_grad = result._a, result._edge, result._requires_grad
        written(input)
        return input

    function_.__name__ = function_.__qualname__ = function.__name__ + "_"
    function_.__doc__ = f"In-place form of `{function.__name__}`."
    return function_


squeeze_, unsqueeze_, t_, transpose_, swapaxes_, swapdims_ = (
    changed_in_place(function) for function in (squeeze, unsqueeze, t, transpose, swapaxes, swapdims)
)
