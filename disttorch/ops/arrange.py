"""Arrangements made of simpler ones: stacking along named dimensions, tiling, rolling, rotating, meshes and combinations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap, wrap_result
from disttorch.backends import backend_of
from disttorch.core.dtypes import number_as
from disttorch.ops.define import expect_tensor, operator, plain
from disttorch.ops.join import cat, flip, list_of_tensors, repeat, stack
from disttorch.ops.registry import traced
from disttorch.ops.scatter import index_select
from disttorch.ops.shape import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    cut,
    expand,
    flatten,
    reshape,
    row_major,
    several,
    sizes_of,
    transpose,
    wrap_dim,
)
from disttorch.ops.views import split
from disttorch.ops.write import with_out

__all__ = [
    "cartesian_prod", "column_stack", "combinations", "constant_pad_nd", "dsplit", "dstack", "fliplr",
    "flipud", "hsplit", "hstack", "meshgrid", "repeat_interleave", "roll", "rot90", "row_stack", "tensor_split", "tile",
    "unravel_index", "vsplit", "vstack",
]  # fmt: skip
METHODS = """
    dsplit fliplr flipud hsplit repeat_interleave roll rot90 tensor_split tile vsplit
"""


# -- stacking and splitting ---------------------------------------------------------------------------------------


def _stacking(name: str, prepare: Callable[..., Any], dim: Callable[[list[Tensor]], int], doc: str) -> Any:
    def function(tensors: Sequence[Tensor]) -> Tensor:
        given = list_of_tensors(tensors, name)
        if not given:
            raise RuntimeError(f"{name} expects a non-empty TensorList")
        prepared = [prepare(x) for x in given]
        return cat(prepared, dim(prepared))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return with_out(function)


def _as_columns(x: Tensor) -> Tensor:
    return reshape(x, (x._a.size, 1)) if x._a.ndim < 2 else x


hstack = _stacking("hstack", atleast_1d, lambda xs: int(xs[0]._a.ndim > 1), "Return the tensors joined side by side.")
vstack = _stacking(
    "vstack", atleast_2d, lambda xs: 0, "Return the tensors joined one below the other, vectors as rows."
)
row_stack = _stacking(
    "row_stack", atleast_2d, lambda xs: 0, "Return the tensors joined one below the other, as `vstack`."
)
dstack = _stacking("dstack", atleast_3d, lambda xs: 2, "Return the tensors joined along the third dimension.")
column_stack = _stacking(
    "column_stack", _as_columns, lambda xs: 1, "Return the tensors joined side by side, vectors as columns."
)


def tensor_split(
    input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None,
    tensor_indices_or_sections: Any = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return views of pieces along `dim`: so many (sizes differ by at most one), or cut before the given indices."""
    given = [v for v in (indices_or_sections, indices, sections, tensor_indices_or_sections) if v is not None]
    if len(given) != 1:
        raise TypeError("tensor_split(): expected either indices or a number of sections")
    where = given[0]
    if not input._a.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    if isinstance(where, Tensor):
        if where._a.dtype != np.int64:
            raise RuntimeError(
                f"tensor_split expected tensor_indices_or_sections to have dtype of long, but got {where.dtype}"
            )
        if where._a.ndim > 1:
            raise RuntimeError(
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor, but got a "
                f"tensor with {where._a.ndim} dims"
            )
        where = where.tolist()
    d = wrap_dim(dim, input._a.ndim)
    if isinstance(where, int):
        return split(input, _even_sizes(input._a.shape[d], where), d)
    ends = sizes_of((where,))
    return tuple(traced.slice(input, cut(d, a, b)) for a, b in zip((0, *ends), (*ends, input._a.shape[d])))


def _even_sizes(n: int, sections: int) -> list[int]:
    if sections <= 0:
        raise RuntimeError(f"number of sections must be larger than 0, got {sections}")
    return [n // sections + (k < n % sections) for k in range(sections)]


def _splitting(name: str, least: int, dim: Callable[[int], int], doc: str) -> Any:
    def function(input: Tensor, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None) -> Any:
        ndim = expect_tensor(input, name)._a.ndim
        if ndim < least:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {least} dimension{'s' * (least > 1)}, but got a tensor with "
                f"{ndim} dimensions!"
            )
        where = next((v for v in (indices_or_sections, indices, sections) if v is not None), None)
        d = dim(ndim)
        if isinstance(where, int) and (where <= 0 or input._a.shape[d] % where):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {input._a.shape[d]} is not "
                f"divisible by the split_size {where}!"
            )
        return tensor_split(input, where, d)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


hsplit = _splitting("hsplit", 1, lambda n: int(n > 1), "Return views of pieces next to each other, as `tensor_split`.")
vsplit = _splitting("vsplit", 2, lambda n: 0, "Return views of pieces below each other, as `tensor_split`.")
dsplit = _splitting("dsplit", 3, lambda n: 2, "Return views of pieces of the third dimension, as `tensor_split`.")


# -- repetition ---------------------------------------------------------------------------------------------------


def tile(input: Tensor, *times: Any, dims: Any = None) -> Tensor:
    """Return the tensor repeated `dims[i]` times along each dimension; missing counts, in front, are 1."""
    counts = sizes_of(times if dims is None else (dims,))
    return repeat(input, (1,) * (input._a.ndim - len(counts)) + counts)


def repeat_interleave(
    input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Return each position of `dim` (of the flattened tensor without `dim`) repeated so many times in a row.

    Of one tensor of counts alone, the indices 0, 1, ..., each as often as its count says.
    """
    if repeats is None:
        return wrap(_repeated_indices(input._a, input._a.shape[0] if input._a.ndim == 1 else -1, output_size))
    if isinstance(repeats, (tuple, list)):
        repeats = wrap(np.asarray(repeats))
    if dim is None:
        input, dim = flatten(input), 0
    d = wrap_dim(dim, input._a.ndim)
    n = input._a.shape[d] if input._a.ndim else 1
    counts = repeats._a if isinstance(repeats, Tensor) else np.asarray(repeats, np.int64)
    return index_select(input, d, wrap(_repeated_indices(counts, n, output_size)))


def _repeated_indices(counts: Any, n: int, output_size: int | None) -> Any:
    xp = backend_of(counts).namespace
    if counts.ndim == 1 and counts.size == 1:
        counts = counts.reshape(())
    if counts.ndim > 1 or n < 0:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if counts.dtype not in (np.int64, np.int32):
        raise RuntimeError("repeats has to be Long or Int tensor")
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    if counts.ndim and counts.size != n:
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {counts.size} and input.size(0) = {n}"
        )
    if counts.ndim:  # not `repeat`: CuPy's takes no array of counts
        ends = xp.cumsum(counts)
        found = xp.searchsorted(ends, xp.arange(int(ends[-1]) if n else 0), side="right")
    else:
        found = xp.repeat(xp.arange(n), int(counts))
    if output_size is not None and output_size != found.size:
        raise RuntimeError(
            f"allocated size does not match required size: output_size is {output_size}, {found.size} needed"
        )
    return found


# -- order --------------------------------------------------------------------------------------------------------


@operator(1, name="roll")
def _roll(xp, x, shifts, dims):
    return row_major(xp.roll(x, shifts, dims))


@_roll.vjp
def _(F, g, shifts, dims):
    return F.roll(g, tuple(-s for s in shifts), dims)


def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """Return a copy with the positions of `dims` moved by `shifts`, around the end; without `dims` all elements in a row."""
    steps = (shifts,) if isinstance(shifts, int) else sizes_of((shifts,))
    axes = () if dims is None else (dims,) if isinstance(dims, int) else sizes_of((dims,))
    if not steps:
        raise RuntimeError("`shifts` required")
    if not axes and len(steps) == 1:
        return reshape(_roll(reshape(input, -1), steps, (0,)), input._a.shape)
    if len(steps) != len(axes):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(axes)}")
    return _roll(input, steps, tuple(wrap_dim(d, input._a.ndim) for d in axes))


def fliplr(input: Tensor) -> Tensor:
    """Return a copy with the second dimension in reverse order."""
    if input._a.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Return a copy with the first dimension in reverse order."""
    if input._a.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Return a copy turned k times by 90 degrees, from the first of `dims` towards the second."""
    ndim = input._a.ndim
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {ndim}")
    first, second = dims
    if first == second or abs(first - second) == ndim:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {first} and dim1 = {second}")
    for d in dims:
        if not -ndim <= d < ndim:
            raise RuntimeError(f"Rotation dim out of range, dim = {d}")
    turns = k % 4
    if turns == 0:
        return traced.clone(input, True)
    if turns == 2:
        return flip(input, first, second)
    return transpose(flip(input, second if turns == 1 else first), first, second)


# -- meshes and combinations --------------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Return the coordinates of a grid, one view for each vector, all of shape [n0, n1, ...].

    With `indexing="xy"` the first two dimensions change places; without (or "ij") they do not.
    """
    given = several(tensors, "meshgrid")
    if not given:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in given:
        if x._a.ndim > 1:
            raise RuntimeError(
                f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(x._a.shape)}"
            )
        if x._a.dtype != given[0]._a.dtype:
            raise RuntimeError("torch.meshgrid: expects all tensors to have the same dtype")
    swap = indexing == "xy" and len(given) >= 2
    if swap:
        given[:2] = given[1::-1]
    shape = tuple(x._a.size for x in given)
    grids = [
        expand(reshape(x, (1,) * k + (x._a.size,) + (1,) * (len(shape) - k - 1)), shape) for k, x in enumerate(given)
    ]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Return all combinations of an element of each vector as rows [n, vectors]; of one vector the vector itself."""
    given = several(tensors, "cartesian_prod")
    for x in given:
        if x._a.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._a.shape)}")
    if len(given) == 1:
        return given[0]
    return stack([flatten(x) for x in meshgrid(given, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Return all combinations of r elements of a vector, in the order of `itertools.combinations`, as rows [n, r]."""
    if input._a.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._a.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return wrap(input._a[:0].copy())
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input._a.size), r))
    places = backend_of(input._a).namespace.asarray(np.asarray(rows, np.int64).reshape(-1, r))
    return traced.index(input, (places,))


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Return the coordinates, one tensor for each dimension of `shape`, of positions in a flattened tensor."""
    expect_tensor(indices, "unravel_index", "indices")
    a = indices._a
    if a.dtype.kind not in "iu":
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    if isinstance(shape, Tensor):
        shape = shape.tolist()
    if not isinstance(shape, (int, tuple, list)):
        raise TypeError(f"expected shape to be int, torch.Size or sequence of ints, but got {type(shape).__name__}")
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    for n in sizes:
        if not isinstance(n, int):
            raise TypeError(
                f"expected shape to be int, torch.Size or sequence of ints, but got {type(n).__name__} in it"
            )
        if n < 0:
            raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    found, rest = [], a.astype(np.int64)
    for n in reversed(sizes):
        found.append(wrap_result(rest % n if n else rest * 0))
        rest = rest // n if n else rest
    return tuple(reversed(found))


# -- padding ------------------------------------------------------------------------------------------------------


@operator(1, name="constant_pad_nd")
def _constant_pad(xp, x, widths, value):
    """`widths` is (before, after) for each dimension; a negative one takes elements away."""
    result = xp.full(
        tuple(n + before + after for n, (before, after) in zip(x.shape, widths)), plain(xp, value), x.dtype
    )
    outer = tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(result.shape, widths))
    inner = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths))
    result[outer] = x[inner]
    return result


@_constant_pad.vjp
def _(F, g, widths):
    return F.constant_pad_nd(g, tuple((-before, -after) for before, after in widths), 0)


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: complex = 0) -> Tensor:
    """Return the tensor with `value` added at the ends of its last dimensions.

    `pad` is (before, after) of the last dimension, then of the one before it, and so on; negative numbers take away.
    """
    shape, sizes = input._a.shape, sizes_of((pad,))
    if len(sizes) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(sizes)}")
    if len(sizes) > 2 * len(shape):
        raise RuntimeError(
            f"Length of pad should be no more than twice the number of dimensions of the input. Pad length is {len(sizes)} while "
            f"the input has {len(shape)} dimensions."
        )
    ends = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)][::-1]
    widths = ((0, 0),) * (len(shape) - len(ends)) + tuple(ends)
    for k, (n, (before, after)) in enumerate(zip(shape, widths)):
        if n + before + after < 0:
            raise RuntimeError(
                f"The input size {n}, plus negative padding {before} and {after} resulted in a negative output size, which is "
                f"invalid. Check dimension {k} of your input."
            )
    return _constant_pad(input, widths, number_as(value, input._a.dtype))
