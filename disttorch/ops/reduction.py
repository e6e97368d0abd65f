"""What losses do with each element's loss: `reduction`, and `size_average` and `reduce`, which came before it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.ops.reduce import mean, sum

REDUCTIONS = ("none", "mean", "sum")


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """Return the loss itself, its mean or its sum."""
    check_reduction(reduction)
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else sum(loss)


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is "none", "mean" or "sum"."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")


def legacy_reduction(size_average: bool | None, reduce: bool | None, stacklevel: int = 3) -> str:
    """Return the `reduction` that the two old arguments mean, with PyTorch's warning."""
    if reduce is not None and not reduce:
        reduction = "none"
    else:
        reduction = "mean" if size_average is None or size_average else "sum"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
        UserWarning,
        stacklevel=stacklevel,
    )
    return reduction


def accepts_legacy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a loss with the parameters `size_average` and `reduce` obey them."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    first = names.index("size_average")

    @functools.wraps(function)
    def loss(*args: Any, **kwargs: Any) -> Any:
        if len(args) > first or "size_average" in kwargs or "reduce" in kwargs:
            kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
            args = ()
            old = kwargs.pop("size_average", None), kwargs.pop("reduce", None)
            if old != (None, None):
                kwargs["reduction"] = legacy_reduction(*old)
        return function(*args, **kwargs)

    return loss
