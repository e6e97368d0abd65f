"""The arguments `size_average` and `reduce` that losses had before `reduction`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any


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
