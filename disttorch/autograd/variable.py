"""`Variable`, the name that tensors with gradients once had."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core import dtypes

__all__ = ["Variable"]


class _Variable(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Variable):
    """`Variable(x)` is x outside of its graph, on the same memory; `isinstance(x, Variable)` holds for every tensor."""

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False, volatile: bool = False) -> Any:
        if data is None:
            data = wrap(np.empty(0, dtypes.get_default_dtype().numpy))
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        if volatile and requires_grad:
            raise ValueError("Variable can't be volatile and require_grad at the same time!")
        if volatile:
            warnings.warn(
                "volatile was removed and now has no effect. Use `with torch.no_grad():` instead.",
                UserWarning,
                stacklevel=2,
            )
        return data.detach().requires_grad_(bool(requires_grad))
