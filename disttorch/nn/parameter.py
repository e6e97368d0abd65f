"""Tensors that a module owns: parameters, which are trained, and buffers, which are not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.ops.creation import empty


class Parameter(Tensor):
    """A tensor that a `Module` lists among its parameters when it is assigned to an attribute.

    Shares memory with `data`. Requires grad unless told otherwise, also within `no_grad`.
    Raises RuntimeError if an integer or boolean tensor is to require grad.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(
                f"Parameter(): argument 'data' must be Tensor, not {type(data).__name__}; "
                "convert it with torch.tensor(data)"
            )
        out = wrap(data._a, cls)
        out._counter = data._counter
        out.requires_grad_(requires_grad)
        return out  # type: ignore[return-value]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(wrap(self._a.copy(order="K")), self.requires_grad)
        return memo[id(self)]

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        plain = wrap(self._a).requires_grad_(self.requires_grad)
        return f"Parameter containing:\n{plain!r}"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


def rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    """Make a parameter again from what a pickle holds; `hooks` is always empty."""
    return Parameter(data, requires_grad)


class _MarkedAsBuffer(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.__dict__.get("_is_buffer", False)


class Buffer(metaclass=_MarkedAsBuffer):
    """Mark a tensor as a buffer: a `Module` that it is assigned to registers it as one.

    `Buffer(data)` returns a plain tensor on the memory of `data` that remembers to be a buffer; it
    is part of the module's `state_dict` if `persistent`. `isinstance(t, Buffer)` asks for the mark.
    """

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        if data is None:
            data = empty(0)
        out = data.detach().requires_grad_(data.requires_grad)
        out.__dict__.update(persistent=persistent, _is_buffer=True)
        return out
