"""What the optimizers' steps are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd.grad_mode import enable_grad
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.core.dtypes import float64, get_default_dtype


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """Return what `closure` returns, called with recording on; None without one."""
    if closure is None:
        return None
    with enable_grad():
        return closure()


def number(value: Any) -> Any:
    """Return an option as a Python number; it may be a tensor of one element."""
    return value.item() if isinstance(value, Tensor) else value


def floats(group: dict[str, Any], *options: str) -> list[float]:
    """Return options of a group as floats: each other type would have the compiled kernels compiled again."""
    return [float(number(group[option])) for option in options]


def zeros_like(param: Tensor) -> Tensor:
    """Return new state for a parameter: zeros of its shape, type and device."""
    return wrap(backend_of(param._a).namespace.zeros_like(param._a))


def new_step() -> Tensor:
    """Return the count of a parameter's steps, 0, as a tensor on the CPU."""
    kind = np.float64 if get_default_dtype() is float64 else np.float32
    return wrap(np.zeros((), kind))


def count_step(state: dict[str, Any]) -> int:
    """Add one to the count of steps in a parameter's state and return it."""
    step = state["step"]._a
    step += 1
    return int(step)


def step_as_tensor(state: Any) -> None:
    """Turn a count of steps that an old checkpoint holds as a number into a tensor."""
    if isinstance(state, dict) and "step" in state and not isinstance(state["step"], Tensor):
        count = new_step()
        count._a[...] = state["step"]
        state["step"] = count


def arrays(param: Tensor, *state: Tensor | None) -> list[Any]:
    """Return the arrays of a parameter, its gradient and its state, those of complex tensors as real views."""
    found = [None if tensor is None else tensor._a for tensor in (param, param._grad, *state)]
    if param._a.dtype.kind == "c":
        return [None if array is None else _real_view(array) for array in found]
    return found


def _real_view(array: Any) -> Any:
    """Return a complex array as a real one with a last dimension of 2 on the same memory."""
    return array[..., None].view(array.real.dtype)


def kept(state: dict[str, Any], key: str, option: str) -> Tensor:
    """Return what a parameter's state holds for an option; KeyError if the option was off in the first step."""
    if key not in state:
        raise KeyError(
            f"the optimizer's state has no {key!r}, since {option} was off when the parameter was first updated; make a "
            f"new optimizer with {option}, or load a state that was saved with it"
        )
    tensor: Tensor = state[key]
    return tensor


def check_range(name: str, value: Any) -> None:
    """Raise ValueError, as PyTorch does, for a negative option or one that is a tensor of several elements."""
    if isinstance(value, Tensor) and value.numel() != 1:
        short = "lr" if name == "learning rate" else name.removesuffix(" value")
        raise ValueError(f"Tensor {short} must be 1-element")
    if not number(value) >= 0:
        raise ValueError(f"Invalid {name}: {value}")
