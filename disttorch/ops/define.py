"""The decorators that make operators: `unary`, `binary`, `operator` and `view_operator`.

`unary` and `binary` give public functions with PyTorch's promotion, `out=` and an in-place form. `operator` gives a
primitive with fixed positional arguments; public functions with PyTorch's signatures call it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd import grad_mode
from disttorch.autograd.grad_mode import inference_threads
from disttorch.autograd.record import record, record_pointwise
from disttorch.autograd.tensor import Tensor, new, wrap
from disttorch.autograd.views import make_view
from disttorch.backends import backend_of, device_of
from disttorch.core import dtypes
from disttorch.core.device import CPU
from disttorch.core.promotion import promote_types, result_dtype
from disttorch.ops.registry import Kernel, Operator, raw, register, traced
from disttorch.ops.write import write_out

ndarray = np.ndarray
_mode = grad_mode.mode
_INT64 = np.dtype(np.int64)
_NUMBERS = (bool, int, float, complex)
Decorator = Callable[[Kernel], Any]


def expect_tensor(value: Any, function: str, argument: str = "input") -> Tensor:
    """Return `value` if it is a tensor; TypeError otherwise."""
    if isinstance(value, Tensor):
        return value
    raise TypeError(f"{function}(): argument '{argument}' must be Tensor, not {type(value).__name__}")


def _on_arrays(op: Operator) -> Callable[..., Any]:
    kernel, variadic = op.kernel, op.variadic

    @functools.wraps(kernel)
    def on_arrays(first: Any, *rest: Any) -> Any:
        one = first[0] if variadic else first
        return kernel(np if type(one) is ndarray else backend_of(one).namespace, first, *rest)

    return on_arrays


def unary(*, float_result: bool = False, name: str = "", grad_name: str = "") -> Decorator:
    """Make a pointwise function of one tensor; with `float_result`, integers are computed in the default float type."""

    def decorate(kernel: Kernel) -> Any:
        op = Operator(kernel, 1, name=name, grad_name=grad_name)
        label = op.name

        def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
            if type(input) is not Tensor:
                input = expect_tensor(input, label)
            a = input._a
            if float_result and a.dtype.kind in "biu":
                a = a.astype(dtypes.get_default_dtype().numpy)
            y = kernel(np if type(a) is ndarray else backend_of(a).namespace, a)
            result = wrap(y if type(y) is type(a) else np.asarray(y))
            if (input._requires_grad or input._view is not None) and op.rules and _mode.enabled:
                record_pointwise(op, input, None, result)
            return result if out is None else write_out(out, result, label)

        return _finish(op, function)

    return decorate


def binary(
    *,
    float_result: bool = False,
    name: str = "",
    grad_name: str = "",
    ufunc: Callable[..., Any] | None = None,
    check: Callable[[Any, Any], None] | None = None,
) -> Decorator:
    """Make a pointwise function of two tensors or numbers, with PyTorch's promotion and broadcasting.

    `ufunc` is the NumPy function where the kernel does nothing but call it: the CPU then calls it directly. `check`
    raises for operands, not yet promoted, of different types that the operator does not take.
    """

    def decorate(kernel: Kernel) -> Any:
        op = Operator(kernel, 2, name=name, grad_name=grad_name)
        label = op.name

        def function(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
            if type(input) is not Tensor:
                return promoted(input, other, out)
            a = input._a
            if type(other) is Tensor:
                b = other._a
                if a.dtype is not b.dtype or type(a) is not type(b) or (float_result and a.dtype.kind in "biu"):
                    return promoted(input, other, out)
                tracked = other._requires_grad or other._view is not None
            elif (type(other) is float or type(other) is int) and a.dtype.kind in "fc":
                b = other
                tracked = False
            else:
                return promoted(input, other, out)
            try:
                if type(a) is ndarray:
                    y = ufunc(a, b) if ufunc is not None else kernel(np, a, b)
                    if type(y) is not ndarray:
                        y = np.asarray(y)
                else:
                    y = kernel(backend_of(a).namespace, a, b)
            except ValueError:
                raise broadcast_error(a, b) from None
            result = new(Tensor)  # `wrap`, written out
            result._a = y
            result._requires_grad = False
            result._edge = result._grad = result._view = None
            result._counter = [0]
            if inference_threads and _mode.inference:
                result._counter = None
            if (tracked or input._requires_grad or input._view is not None) and op.rules and _mode.enabled:
                record_pointwise(op, input, other, result)
            return result if out is None else write_out(out, result, label)

        def promoted(input: Any, other: Any, out: Tensor | None) -> Tensor:
            if check is not None:
                check(input, other)
            xp, a, b = promote(label, input, other, float_result)
            if xp is not np:
                input, other = together((input, other))
            try:
                y = kernel(xp, a, b)
            except ValueError:
                raise broadcast_error(a, b) from None
            result = wrap(y if not isinstance(y, np.generic) else np.asarray(y))
            if op.rules and _mode.enabled:
                record(op, (input, other), (result,), ())
            return result if out is None else write_out(out, result, label)

        return _finish(op, function)

    return decorate


def promote(label: str, input: Any, other: Any, float_result: bool) -> tuple[Any, Any, Any]:
    """Return the array library and both operands as arrays of the type that the operation computes in."""
    operands = []
    for value, argument in ((input, "input"), (other, "other")):
        if isinstance(value, Tensor):
            operands.append(value._a)
        elif isinstance(value, _NUMBERS):
            operands.append(value)
        elif isinstance(value, np.generic):
            operands.append(value.item())
        else:
            raise TypeError(f"{label}(): argument '{argument}' must be Tensor or Number, not {type(value).__name__}")
    d = result_dtype(operands)
    if float_result and d.kind in ("bool", "integer"):
        d = promote_types(d, dtypes.get_default_dtype())
    xp = common_namespace(operands)
    return xp, *(_cast(a, d, xp) for a in operands)


def _cast(operand: Any, d: dtypes.dtype, xp: Any) -> Any:
    if isinstance(operand, int) and not -(2**63) <= operand < 2**63:
        raise RuntimeError("Overflow when unpacking long long")
    if isinstance(operand, _NUMBERS):
        return xp.asarray(np.asarray(operand).astype(d.numpy))
    if xp is not np and type(operand) is ndarray:
        return xp.asarray(operand.astype(d.numpy))
    return operand.astype(d.numpy, copy=False)


def together(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the operands with tensors of no dimension on the CPU moved to where the others are."""
    there = next(device_of(x._a) for x in operands if isinstance(x, Tensor) and type(x._a) is not ndarray)
    return tuple([
        traced.to_device(x, there, CPU) if isinstance(x, Tensor) and type(x._a) is ndarray else x for x in operands
    ])  # fmt: skip


def plain(xp: Any, value: Any) -> Any:
    """Return a NumPy array of one number as that number for an array library that does not take it."""
    return value.item() if xp is not np and isinstance(value, (ndarray, np.generic)) else value


def common_namespace(arrays: list[Any]) -> Any:
    """Return the library of all arrays (0-d CPU arrays go with any); RuntimeError for arrays on different devices."""
    found = np
    for a in arrays:
        if type(a) is not ndarray and not isinstance(a, _NUMBERS):
            found = backend_of(a).namespace
    if found is not np and any(type(a) is ndarray and a.ndim for a in arrays):
        places = sorted({"cpu" if type(a) is ndarray else f"cuda:{a.device.id}" for a in arrays if hasattr(a, "ndim")})
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {' and '.join(places)}!"
        )
    return found


def broadcast_error(a: Any, b: Any) -> Exception:
    """Return PyTorch's error for shapes that do not broadcast."""
    left, right = getattr(a, "shape", ()), getattr(b, "shape", ())
    for k in range(1, min(len(left), len(right)) + 1):
        m, n = left[-k], right[-k]
        if m != n and 1 not in (m, n):
            return RuntimeError(
                f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton dimension "
                f"{max(len(left), len(right)) - k}"
            )
    return RuntimeError(f"cannot combine tensors of shapes {list(left)} and {list(right)}")


def operator(
    inputs: int | None, *, name: str = "", grad_name: str = "", differentiable: int | None = None
) -> Decorator:
    """Make a primitive of `inputs` tensors (None: one sequence of tensors) followed by its attributes, by position.

    An input may be None where the kernel allows it. The kernel returns an array, or a tuple for several outputs, of
    which only the first `differentiable` carry gradients.
    """

    def decorate(kernel: Kernel) -> Any:
        op = Operator(kernel, inputs, name=name, grad_name=grad_name, differentiable=differentiable)

        def function(*arguments: Any) -> Any:
            tensors = tuple(arguments[0]) if inputs is None else arguments[:inputs]
            attrs = arguments[1:] if inputs is None else arguments[inputs:]
            on_cpu, tracked = True, False
            arrays: list[Any] = []
            for t in tensors:
                if t is None:
                    arrays.append(None)
                    continue
                a = t._a
                arrays.append(a)
                tracked = tracked or t._requires_grad or t._view is not None
                on_cpu = on_cpu and type(a) is ndarray
            xp = np
            if not on_cpu:
                xp = common_namespace([a for a in arrays if a is not None])
                if xp is not np:
                    tensors = together(tensors)
                    arrays = [None if t is None else t._a for t in tensors]
            result = kernel(xp, arrays, *attrs) if inputs is None else kernel(xp, *arrays, *attrs)
            if type(result) is not tuple:
                out = wrap(result if type(result) is ndarray else _as_array(result))
                if tracked and _mode.enabled:
                    record(op, tensors, (out,), attrs)
                return out
            outs = tuple([wrap(_as_array(y)) for y in result])
            if tracked and _mode.enabled:
                record(op, tensors, outs, attrs)
            return outs

        return _finish(op, function)

    return decorate


def _as_array(result: Any) -> Any:
    """Return a kernel's result as an array: NumPy gives a scalar where a 0-d array is meant."""
    return np.asarray(result) if isinstance(result, np.generic) else result


def view_operator(*, name: str = "", grad_name: str = "") -> Decorator:
    """Make a primitive whose result shares the input's memory (several results: a kernel that returns a tuple)."""

    def decorate(kernel: Kernel) -> Any:
        op = Operator(kernel, 1, name=name, grad_name=grad_name)

        def function(input: Tensor, *attrs: Any) -> Any:
            a = input._a
            result = kernel(np if type(a) is ndarray else backend_of(a).namespace, a, *attrs)
            tracked = (input._requires_grad or input._view is not None) and _mode.enabled
            if type(result) is not tuple:
                out = make_view(input, result, op, attrs)
                if tracked:
                    record(op, (input,), (out,), attrs)
                return out
            outs = tuple([make_view(input, y, op, attrs, k, True) for k, y in enumerate(result)])
            if tracked:
                record(op, (input,), outs, attrs)
            return outs

        return _finish(op, function)

    return decorate


def for_both(name: str) -> Decorator:
    """Put a function `(F, ...)` made of other operators into both namespaces; return it as it is on tensors."""

    def decorate(function: Callable[..., Any]) -> Any:
        setattr(raw, name, functools.wraps(function)(functools.partial(function, raw)))
        on_tensors = functools.wraps(function)(functools.partial(function, traced))
        setattr(traced, name, on_tensors)
        return on_tensors

    return decorate


def _finish(op: Operator, function: Any) -> Any:
    kernel = op.kernel
    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = kernel.__doc__
    function.__module__ = kernel.__module__
    register(op, _on_arrays(op), function)
    return function
