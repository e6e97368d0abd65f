"""Sorting, ranking, searching and distinct elements."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.reduce import spread
from disttorch.ops.registry import traced
from disttorch.ops.shape import row_major, wrap_dim
from disttorch.ops.write import type_label, with_out

__all__ = [
    "argsort", "bucketize", "isin", "kthvalue", "median", "mode", "msort", "nanmedian", "searchsorted", "sort", "topk",
    "unique", "unique_consecutive",
]  # fmt: skip
METHODS = """
    argsort kthvalue median mode msort nanmedian sort topk unique unique_consecutive
"""

# -- sorting ------------------------------------------------------------------------------------------------------


class SortResult(NamedTuple):
    values: Tensor
    indices: Tensor


def _comparable(a: Any) -> Any:
    """Return what sorting puts in PyTorch's order: bfloat16, of which NumPy does not know where NaN belongs, as float32."""
    return a.astype(np.float32) if a.dtype.kind == "V" else a


def _order(a: Any, dim: int, descending: bool) -> Any:
    """Return the positions of the elements in order along `dim`; equal ones keep theirs, NaN counts as the largest."""
    if a.dtype.kind == "c":
        raise RuntimeError("Sort does not support complex dtypes on CPU")
    xp, a = backend_of(a).namespace, _comparable(a)
    if not a.ndim:
        return xp.zeros((), xp.int64)
    if not descending:
        return row_major(xp.argsort(a, dim, kind="stable"))
    backwards = xp.argsort(xp.flip(a, dim), dim, kind="stable")
    return row_major(a.shape[dim] - 1 - xp.flip(backwards, dim))


@with_out
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> SortResult:
    """Return the elements in order along `dim`, and where each one was; equal elements keep their order."""
    d = wrap_dim(dim, expect_tensor(input, "sort")._a.ndim)
    order = _order(input._a, d, descending)
    return SortResult(traced.gather(input, d, order), wrap(order))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """Return the positions that would put the elements in order along `dim`."""
    return wrap(_order(input._a, wrap_dim(dim, input._a.ndim), descending))


@with_out
def msort(input: Tensor) -> Tensor:
    """Return the elements in order along the first dimension."""
    return sort(input, 0).values


@with_out
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> SortResult:
    """Return the `k` largest (or smallest) elements along `dim` in order, and where each one was."""
    d = wrap_dim(dim, input._a.ndim)
    if input._a.dtype == bool:
        raise RuntimeError("topk does not support bool dtypes on CPU")
    size = input._a.shape[d] if input._a.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError("selected index k out of range")
    chosen = _first(input._a, k, d, largest) if input._a.ndim else _order(input._a, d, largest)
    return SortResult(traced.gather(input, d, chosen), wrap(chosen))


def _first(a: Any, k: int, dim: int, descending: bool) -> Any:
    """Return the first `k` positions of `_order`, without putting the others in order if they are many."""
    xp, a, size = backend_of(a).namespace, _comparable(a), a.shape[dim]
    end = (slice(None),) * dim + (slice(k),)
    if not k or 8 * k > size or a.dtype.kind == "c":
        return row_major(_order(a, dim, descending)[end])
    found = xp.argpartition(a, size - k if descending else k - 1, dim)
    found = xp.sort(found[(slice(None),) * dim + (slice(-k, None),)] if descending else found[end], dim)
    return xp.take_along_axis(found, _order(xp.take_along_axis(a, found, dim), dim, descending), dim)


# -- one element of each row --------------------------------------------------------------------------------------


def _picked(input: Tensor, places: Any, dim: int, keepdim: bool) -> SortResult:
    """Return the elements at `places` (of size 1 along `dim`) and the places."""
    values, indices = traced.gather(input, dim, places), wrap(places)
    if keepdim or not input._a.ndim:
        return SortResult(values, indices)
    return SortResult(values.squeeze(dim), indices.squeeze(dim))


def _rows_with(function: str, input: Tensor, dim: int) -> int:
    """Return the dimension, counted from the front; IndexError if there is nothing along it to choose from."""
    d = wrap_dim(dim, input._a.ndim)
    if input._a.ndim and not input._a.shape[d]:
        raise IndexError(f"{function}(): Expected reduction dim {d} to have non-zero size.")
    return d


@with_out
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> SortResult:
    """Return the k-th smallest element along `dim` (k = 1 is the smallest), and where it was."""
    not_for("kthvalue_cpu", input._a, "bc" if input._a.ndim else "c")
    d = _rows_with("kthvalue", input, dim)
    if not 1 <= k <= (input._a.shape[d] if input._a.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    return _picked(input, _nth(input._a, k - 1, d), d, keepdim)


_FEW = 16


def _nth(a: Any, k: int, dim: int) -> Any:
    """Return where element k of the order along `dim` is, with size 1 there; of a few elements, in a stable order."""
    if not a.ndim:
        return _order(a, dim, False)
    here = (slice(None),) * dim + (slice(k, k + 1),)
    if a.shape[dim] <= _FEW:
        return row_major(_order(a, dim, False)[here])
    return row_major(backend_of(a).namespace.argpartition(_comparable(a), k, dim)[here])


def _middle(xp: Any, rows: Any, dim: int, ignore_nan: bool) -> Any:
    """Return where, along `dim`, the lower median is once rows are sorted: the first NaN if there is one that counts."""
    size = rows.shape[dim]
    numbers = (rows == rows).sum(dim, keepdims=True)
    if ignore_nan:
        return xp.maximum(numbers - 1, 0) // 2
    return xp.where(numbers < size, numbers, (size - 1) // 2)


@operator(1, name="median")
def _median(xp, x, ignore_nan):
    not_for("median_cpu", x, "bc")
    if not x.size:
        return xp.full((), float("nan") if x.dtype.kind not in "iu" else xp.iinfo(x.dtype).min, x.dtype)
    flat = _comparable(x.reshape(-1))
    middle = int(_middle(xp, flat, 0, ignore_nan)[0])
    return xp.partition(flat, middle)[middle].reshape(()).astype(x.dtype)


@_median.vjp
def _(F, g, x, out):
    dims = tuple(range(x.ndim))
    chosen = ((x == out) | ((x != x) & (out != out))) * 1.0
    return spread(F, g, dims, False) * (chosen / F.sum(chosen, dims, True))


def _median_along(input: Tensor, dim: Any, keepdim: bool, ignore_nan: bool, function: str) -> Any:
    if dim is None:
        return _median(input, ignore_nan)
    not_for("median_cpu", input._a, "bc")
    d = _rows_with(function, input, dim)
    if not input._a.ndim:
        return _picked(input, _order(input._a, d, False), d, keepdim)
    xp = backend_of(input._a).namespace
    middle = _middle(xp, input._a, d, ignore_nan)
    if middle.size and (middle == middle.reshape(-1)[0]).all():
        return _picked(input, _nth(input._a, int(middle.reshape(-1)[0]), d), d, keepdim)
    return _picked(input, xp.take_along_axis(_order(input._a, d, False), middle, d), d, keepdim)


@with_out
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median, the lower one of two; with `dim` the values and indices along it. NaN if there is a NaN."""
    return _median_along(input, dim, keepdim, False, "median")


@with_out
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median of the elements that are not NaN; with `dim` the values and indices along it."""
    return _median_along(input, dim, keepdim, True, "nanmedian")


@with_out
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> SortResult:
    """Return the commonest element along `dim`, the smallest of several, and the last place where it was."""
    not_for("mode_cpu", input._a, "c")
    d = _rows_with("mode", input, dim)
    order = _order(input._a, d, False)
    if not input._a.ndim:
        return _picked(input, order, d, keepdim)
    xp = backend_of(order).namespace
    ordered = xp.moveaxis(xp.take_along_axis(input._a, order, d), d, -1)
    places = xp.arange(ordered.shape[-1])
    begins = xp.concatenate([xp.ones_like(ordered[..., :1], bool), ordered[..., 1:] != ordered[..., :-1]], -1)
    lengths = places - kernels_of(begins).running_extreme(xp.where(begins, places, 0), -1, True)
    best = xp.moveaxis(lengths.argmax(-1)[..., None], -1, d)
    return _picked(input, xp.take_along_axis(order, best, d), d, keepdim)


# -- searching ----------------------------------------------------------------------------------------------------


def _as_values(function: str, values: Any, sequence: Tensor) -> Any:
    if not isinstance(values, Tensor):
        return np.asarray(values).astype(sequence._a.dtype if sequence._a.dtype.kind == "f" else None)
    if values._a.dtype != sequence._a.dtype:
        raise RuntimeError(
            f"torch.searchsorted(): boundary tensor and input value tensor should have same dtype, but got boundary "
            f"tensor's dtype {sequence.dtype!r} and input value tensor's dtype {values.dtype!r}"
        )
    return values._a


@with_out
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Return where each value would go into its row of `sorted_sequence` [..., n]: before equal elements, or after them.

    Values have the sequence's leading dimensions, or any shape for a sequence of one dimension. `sorter` [..., n] puts
    an unsorted sequence in order.
    """
    sequence, values = sorted_sequence._a, _as_values("searchsorted", input, sorted_sequence)
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got side of left while right"
        )
    not_for("searchsorted_out_cpu", sequence, "bc")
    if sequence.ndim != 1 and (not sequence.ndim or sequence.shape[:-1] != values.shape[:-1]):
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
            f"and input value tensor must match, but we got {list(sequence.shape)} and {list(values.shape)}"
        )
    if sorter is not None:
        if sorter._a.shape != sequence.shape:
            raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size")
        sequence = backend_of(sequence).namespace.take_along_axis(sequence, sorter._a, -1)
    found = kernels_of(sequence).searchsorted(sequence, values, right or side == "right")
    return wrap(found.astype(np.int32 if out_int32 else np.int64, copy=False))


@with_out
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Return which bucket between the sorted `boundaries` [n] each value is in: the number of boundaries below it.

    `right` says that a bucket contains its left boundary, not its right one.
    """
    if boundaries._a.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries._a.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@with_out
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each of `elements` is one of `test_elements`; with `invert`, whether it is none."""
    arrays = [x._a if isinstance(x, Tensor) else np.asarray(x) for x in (elements, test_elements)]
    for a in arrays:
        if a.dtype.kind in "bc":
            raise RuntimeError(f"Unsupported input type encountered for isin(): {type_label(a.dtype)}")
    xp = backend_of(arrays[0]).namespace
    return wrap(xp.asarray(xp.isin(*arrays, invert=invert)))


# -- distinct elements --------------------------------------------------------------------------------------------


def _distinct(input: Tensor, dim: int | None, consecutive: bool, inverse: bool, counts: bool) -> Any:
    a = input._a
    name = "unique_consecutive" if consecutive else "unique"
    not_for(name, a, "c")
    if dim is None:
        kept, places, numbers = getattr(kernels_of(a), name)(a.reshape(-1, 1))
        values, places = kept[:, 0], places.reshape(a.shape)
    else:
        if not a.ndim:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        xp, d = backend_of(a).namespace, wrap_dim(dim, a.ndim)
        if not a.size and any(n == 0 for k, n in enumerate(a.shape) if k != d):
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
        rows = xp.moveaxis(a, d, 0)
        kept, places, numbers = getattr(kernels_of(a), name)(rows.reshape(len(rows), prod(rows.shape[1:])))
        values = row_major(xp.moveaxis(kept.reshape(len(kept), *rows.shape[1:]), 0, d))
    results = [values, *([places] if inverse else []), *([numbers] if counts else [])]
    wrapped = tuple(wrap(row_major(x)) for x in results)
    return wrapped if len(wrapped) > 1 else wrapped[0]


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the distinct elements in order (the distinct slices of `dim`).

    `return_inverse` adds where in the result each element is, `return_counts` how often each occurs.
    """
    return _distinct(input, dim, False, return_inverse, return_counts)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Return the elements (the slices of `dim`) without those that equal their predecessor; see `unique`."""
    return _distinct(input, dim, True, return_inverse, return_counts)
