"""Losses with margins: of pairs, of triplets, and of the scores of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.activation import logsigmoid
from disttorch.ops.define import expect_tensor
from disttorch.ops.reduce import sum
from disttorch.ops.reduction import accepts_legacy, check_reduction, reduced
from disttorch.ops.registry import traced
from disttorch.ops.rounding import clamp_min
from disttorch.ops.similarity import common_shape, pairwise_distance
from disttorch.ops.write import type_label

__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip

# -- pairs --------------------------------------------------------------------------------------------------------


@accepts_legacy
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return max(0, -y (x1 - x2) + margin): x1 is to be ranked higher where y is 1, x2 where it is -1."""
    check_reduction(reduction)
    shapes = [list(x._a.shape) for x in (input1, input2, target)]
    if len({len(s) for s in shapes}) > 1:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {}, input2: {}, "
            "target: {} ".format(*shapes)
        )
    return reduced(clamp_min(-target * (input1 - input2) + float(margin), 0), reduction)


@accepts_legacy
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the distance x where y is 1, and max(0, margin - x) where y is -1."""
    check_reduction(reduction)
    common_shape(target, input)
    if input._a.dtype.kind in "iu":  # the result is of the input's type, and so is the margin in PyTorch
        margin = int(margin)
    apart = traced.where(traced.ne(target, 1), clamp_min(margin - input, 0), 0)
    together = traced.where(traced.ne(target, -1), input, 0)
    return reduced(apart + together, reduction)


@accepts_legacy
def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """Return log(1 + exp(-y x)) for y of 1 or -1."""
    check_reduction(reduction)
    return reduced(traced.log1p(traced.exp(-(target * input))), reduction)


@accepts_legacy
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return 1 - cos(x1, x2) where y is 1 and max(0, cos(x1, x2) - margin) where y is -1.

    x1 and x2 [N, D] go with y [N], x1 and x2 [D] with y [].
    """
    check_reduction(reduction)
    n = target._a.ndim
    if n > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1._a.ndim != n + 1 or input2._a.ndim != n + 1:
        raise RuntimeError(
            f"{n}D target tensor expects {n + 1}D input tensors, but found inputs with sizes {list(input1._a.shape)} and "
            f"{list(input2._a.shape)}."
        )
    square1, square2 = (sum(x * x, n) + 1e-12 for x in (input1, input2))
    cosine = sum(input1 * input2, n) / traced.sqrt(square1 * square2)
    together = traced.where(traced.eq(target, 1), 1 - cosine, 0.0)
    apart = traced.where(traced.eq(target, -1), clamp_min(cosine - margin, 0), 0.0)
    return reduced(together + apart, reduction)


# -- triplets -----------------------------------------------------------------------------------------------------


@accepts_legacy
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference + eps.

    `swap` takes d(positive, negative) where it is smaller than d(anchor, negative).
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet_loss("triplet_margin_loss", (anchor, positive, negative), distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return `triplet_margin_loss` for any distance; it is `pairwise_distance` by default."""
    distance = distance_function or pairwise_distance
    triplet = (anchor, positive, negative)
    return _triplet_loss("triplet_margin_with_distance_loss", triplet, distance, margin, swap, reduction)


def _triplet_loss(
    name: str, triplet: tuple[Tensor, Tensor, Tensor], distance: Any, margin: float, swap: bool, reduction: str
) -> Tensor:
    check_reduction(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    anchor, positive, negative = triplet
    if len({x._a.ndim for x in triplet}) > 1:
        raise RuntimeError(
            f"{name}: the anchor, positive and negative tensors must have the same number of dimensions, got shapes "
            f"{', '.join(str(list(x._a.shape)) for x in triplet)}"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = traced.minimum(far, distance(positive, negative))
    return reduced(clamp_min(near - far + margin, 0), reduction)


# -- classes ------------------------------------------------------------------------------------------------------


@accepts_legacy
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the mean over the classes of -(y log sigmoid(x) + (1 - y) log sigmoid(-x)), for input and target [*, C]."""
    check_reduction(reduction)
    each = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        each = each * weight
    return reduced(sum(each, input._a.ndim - 1) / input._a.shape[-1], reduction)


def _scores(input: Tensor) -> Tensor:
    """Return class scores [C], [N, C] or [] as [N, C]."""
    x = expect_tensor(input, "margin loss")._a
    if x.ndim > 2 or 0 in x.shape[-1:]:
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(x.shape)}"
        )
    return traced.reshape(input, (1,) * (2 - x.ndim) + x.shape)


def _check_labels(target: Tensor, lowest: int, classes: int) -> None:
    labels = target._a
    if labels.dtype != "int64":
        raise RuntimeError(f"expected scalar type Long but found {type_label(labels.dtype)}: labels are class numbers")
    if labels.size and (labels.min() < lowest or labels.max() >= classes):
        raise RuntimeError(f"argument #3 'target' is out of range: it has to lie in [{lowest}, {classes})")


def _class_numbers(labels: Any, classes: int) -> Any:
    return backend_of(labels).namespace.arange(classes)


@accepts_legacy
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the sum over classes i != y of weight[y] max(0, margin - x[y] + x[i])^p, divided by their number C.

    input [N, C] goes with class numbers [N], input [C] with a class number [] or [1].
    """
    check_reduction(reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight._a.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    x = _scores(input)
    count, classes = x._a.shape
    labels = target._a
    if labels.size != count or labels.ndim > 1:
        raise RuntimeError(
            f"inconsistent target size, expected 1-D target tensor of size [{count}], but got {list(labels.shape)}"
        )
    _check_labels(target, 0, classes)
    if weight is not None and weight._a.shape != (classes,):
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(weight._a.shape)}")
    y = wrap(labels.reshape(count, 1))
    above = x - x.gather(1, y) + margin
    counts = wrap((_class_numbers(labels, classes) != y._a) & (above._a > 0))
    each = traced.where(counts, above if p == 1 else traced.square(above), 0.0)
    if weight is not None:
        each = each * weight.detach()[y]
    return reduced(traced.reshape(sum(each, 1) / classes, labels.shape if reduction == "none" else (count,)), reduction)


@accepts_legacy
def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """Return the sum of max(0, 1 - (x[y] - x[i])) over the labels y and the classes i that are none, divided by C.

    input and target have the same shape, [N, C] or [C]; the labels of a row end at its first -1.
    """
    check_reduction(reduction)
    x = _scores(input)
    if target._a.shape != input._a.shape:
        raise RuntimeError(
            f"inconsistent target size: {list(target._a.shape)} for input of size: {list(input._a.shape)}"
        )
    classes = x._a.shape[1]
    _check_labels(target, -1, classes)
    labels = target._a.reshape(x._a.shape)
    listed = (labels < 0).cumsum(1) == 0
    is_label = (listed[:, :, None] & (labels[:, :, None] == _class_numbers(labels, classes))).any(1)
    own = traced.unsqueeze(x.gather(1, wrap(labels * listed)), 2)
    short = 1 - (own - traced.unsqueeze(x, 1))
    counts = wrap(listed[:, :, None] & ~is_label[:, None, :] & (short._a > 0))
    each = sum(traced.where(counts, short, 0.0), (1, 2)) / classes
    return reduced(traced.reshape(each, input._a.shape[:-1]) if reduction == "none" else each, reduction)
