"""Rows of a table by number: one-hot vectors, embeddings, and bags of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.grad_mode import no_grad
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.creation import zeros
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.index import frozen
from disttorch.ops.registry import traced

__all__ = ["embedding", "embedding_bag", "one_hot"]


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 [*, num_classes] with a one at each class number of `tensor` (int64) [*].

    -1 classes means one more than the largest number. A number out of range raises RuntimeError.
    """
    classes = expect_tensor(tensor, "one_hot", "tensor")._a
    if classes.dtype != "int64":
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not classes.size and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    if classes.size and classes.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = int(classes.max()) + 1
    elif classes.size and classes.max() >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    shape = (*classes.shape, num_classes)
    empty = zeros(shape, dtype=tensor.dtype, device=tensor.device)
    return empty.scatter(-1, tensor.detach().unsqueeze(-1), value=1) if classes.size else empty


@operator(1)
def scale_gradient(xp, x, factor):
    """Return a copy of x; its gradient is `factor` times the result's."""
    return x.copy()


@scale_gradient.vjp
def _(F, g, factor):
    return F.scale_by(g, factor)


def _row_numbers(function: str, input: Tensor, weight: Tensor) -> Any:
    """Return the numbers in `input` as an array; raise PyTorch's errors for what are no row numbers of `weight`."""
    rows = expect_tensor(input, function)._a
    if rows.dtype.kind not in "iu":
        raise RuntimeError(
            "Expected tensor for argument 'input' to have one of the following scalar types: Long, "
            f"Int; but got {input.dtype!r} instead (while checking arguments for {function})"
        )
    if expect_tensor(weight, function, "weight")._a.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, got {weight._a.ndim}-D")
    count = weight._a.shape[0]
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        raise IndexError(f"index out of range in self: {function} has {count} rows")
    return rows


def _refuse_sparse(function: str, sparse: bool) -> None:
    if sparse:
        raise NotImplementedError(f"{function}(): sparse=True: sparse tensors are not in disttorch; leave them out")


def _shared_gradient(found: Tensor, rows: Any, count: int) -> Tensor:
    """Let each of the rows [*, D] pass on its gradient divided by how often its number occurs."""
    often = backend_of(rows).namespace.bincount(rows.reshape(-1), minlength=count)[rows]
    return scale_gradient(found, (1 / often).astype(found._a.dtype)[..., None])


def _limit_rows(weight: Tensor, rows: Any, max_norm: float, norm_type: float) -> None:
    with no_grad():
        for row in sorted({int(r) for r in rows.reshape(-1)}):
            size = float(weight[row].norm(norm_type))
            if size > max_norm:
                weight[row].mul_(max_norm / (size + 1e-7))


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows of `weight` [rows, D] that `input` [*], integers, names: [*, D].

    Rows named `padding_idx` pass no gradient on. With `max_norm`, rows in use with a larger `norm_type`-norm are
    scaled to it first, in `weight` itself. `scale_grad_by_freq` divides gradients by how often a row is named. A row
    out of range raises IndexError; sparse gradients are not in disttorch.
    """
    _refuse_sparse("embedding", sparse)
    rows = _row_numbers("embedding", input, weight)
    count = weight._a.shape[0]
    if padding_idx is not None:
        if not -count <= padding_idx < count:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= count
    if max_norm is not None:
        _limit_rows(weight, rows, max_norm, norm_type)
    found = traced.index(weight, frozen((rows,), weight)) if rows.ndim else weight[int(rows)]
    if scale_grad_by_freq and rows.size:
        found = _shared_gradient(found, rows, count)
    if padding_idx is None:
        return found
    is_padding = traced.eq(input.detach(), padding_idx).unsqueeze(-1)
    return traced.where(is_padding, found.detach(), found)


# -- bags ---------------------------------------------------------------------------------------------------------


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Return the "sum", "mean" or "max" of the rows of `weight` in each bag of row numbers: [bags, D].

    `input` is [bags, size], or [n] with the place `offsets` [bags] where each bag begins (`include_last_offset`: and
    where the last one ends). `per_sample_weights`, of the shape of `input`, are factors for "sum". Rows named
    `padding_idx` do not count. An empty bag gives zeros.
    """
    _check_bags(input, weight, offsets, mode, scale_grad_by_freq, per_sample_weights)
    _refuse_sparse("embedding_bag", sparse)
    rows = _row_numbers("embedding_bag", input, weight).reshape(-1)
    bag, bags = _bags(input, offsets, include_last_offset)
    count = weight._a.shape[0]
    if max_norm is not None:
        _limit_rows(weight, rows, max_norm, norm_type)
    if padding_idx is not None and not -count <= padding_idx < count:
        raise RuntimeError(f"padding_idx must be within the number of embeddings, {count}, but got {padding_idx}")
    xp = backend_of(rows).namespace
    kept = xp.arange(rows.size) if padding_idx is None else xp.flatnonzero(rows != padding_idx % count)
    found = weight[wrap(rows[kept])]
    if scale_grad_by_freq and rows.size:
        found = scale_gradient(
            found, (1 / xp.bincount(rows, minlength=count)[rows[kept]]).astype(found._a.dtype)[:, None]
        )
    if per_sample_weights is not None:
        found = found * traced.reshape(per_sample_weights, (-1,))[wrap(kept)].unsqueeze(1)
    return _pooled(found, bag[kept], bags, mode)


def _check_bags(
    input: Tensor, weight: Tensor, offsets: Tensor | None, mode: str, by_frequency: bool, factors: Tensor | None
) -> None:
    shape = expect_tensor(input, "embedding_bag")._a.shape
    if factors is not None and factors._a.shape != shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({list(factors._a.shape)}) is not None, then it must have the same shape as "
            f"the input ({list(shape)})"
        )
    if expect_tensor(weight, "embedding_bag", "weight")._a.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight._a.ndim}")
    if len(shape) == 2 and offsets is not None:
        raise ValueError("if input is 2D, then offsets has to be None, as the input's rows are the bags")
    if len(shape) == 1 and (offsets is None or offsets._a.ndim != 1):
        raise ValueError(
            f"offsets has to be a 1D Tensor but got {offsets if offsets is None else list(offsets._a.shape)}"
        )
    if len(shape) not in (1, 2):
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {len(shape)}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode has to be one of sum, mean or max, but got {mode!r}")
    if mode == "max" and by_frequency:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if factors is not None and mode != "sum":
        raise NotImplementedError(
            f"embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' (got "
            f"mode='{mode}')."
        )


def _bags(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[Any, int]:
    """Return the number of the bag that each row number is in, and how many bags there are."""
    xp = backend_of(input._a).namespace
    if offsets is None:
        bags, size = input._a.shape
        return xp.repeat(xp.arange(bags), size), bags
    starts = xp.asarray(offsets._a)
    if include_last_offset:
        if not starts.size:
            raise RuntimeError("include_last_offset: number of offsets should be at least 1")
        starts = starts[:-1]
    if starts.size and (starts[0] != 0 or starts.max() > input._a.size):
        raise RuntimeError(
            f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0, and the others "
            f"within the input of length {input._a.size}. However, got {starts.tolist()}"
        )
    return xp.searchsorted(starts, xp.arange(input._a.size), side="right") - 1, starts.size


def _pooled(found: Tensor, bag: Any, bags: int, mode: str) -> Tensor:
    """Return the rows `found` [n, D], which are in the bags `bag` [n], put together: [bags, D]."""
    xp, width = backend_of(bag).namespace, found._a.shape[1]
    often = xp.bincount(bag, minlength=bags)
    if mode == "max":
        return _largest(found, bag, bags, often)
    places = xp.broadcast_to(bag[:, None], (bag.size, width))
    total = traced.scatter_add(traced.zeros_from(found, (bags, width)), found, 0, places)
    return total / wrap(xp.maximum(often, 1).astype(found._a.dtype)[:, None]) if mode == "mean" else total


def _largest(found: Tensor, bag: Any, bags: int, often: Any) -> Tensor:
    xp, width = backend_of(bag).namespace, found._a.shape[1]
    if not bag.size:
        return traced.zeros_from(found, (bags, width))
    place = xp.arange(bag.size) - (xp.cumsum(often) - often)[bag]
    candidates = xp.zeros((bags, int(often.max())), np.int64)
    candidates[bag, place] = xp.arange(bag.size)
    absent = (xp.arange(candidates.shape[1]) >= often[:, None])[..., None]
    best = xp.where(absent, -np.inf, found._a[candidates].astype(np.float64)).argmax(1)
    chosen = xp.take_along_axis(candidates, best, 1)
    values = traced.gather(found, 0, chosen)
    return traced.where(wrap((often > 0)[:, None]), values, traced.zeros_from(found, ()))
