"""Writing results into tensors that exist: `out=` and in-place changes, with PyTorch's checks."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from disttorch.autograd.grad_mode import mode
from disttorch.autograd.record import entry, record
from disttorch.autograd.tensor import Tensor, alias, wrap
from disttorch.autograd.views import check_inplace, written
from disttorch.backends import address, backend_of
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.core.layout import is_dense
from disttorch.core.promotion import can_cast
from disttorch.ops.registry import Operator, traced

_OLD_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int",
    "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}  # fmt: skip


def type_label(d: Any) -> str:
    """Return the name that PyTorch's messages give a NumPy type, e.g. `Float`."""
    return _OLD_NAMES[d.name]


def check_cast(have: Any, want: Any) -> None:
    """Raise PyTorch's error if a result of NumPy type `have` may not be stored as type `want`."""
    if have != want and not can_cast(from_numpy_dtype(have), from_numpy_dtype(want)):
        raise RuntimeError(
            f"result type {_OLD_NAMES[have.name]} can't be cast to the desired output type {_OLD_NAMES[want.name]}"
        )


def overlaps_itself(a: Any) -> bool:
    """Whether two elements lie at one place in memory, as after `expand`."""
    return 0 in a.strides and bool(a.size) and any(s == 0 and n > 1 for s, n in zip(a.strides, a.shape))


def check_overlap(a: Any) -> None:
    """Raise PyTorch's error for memory in which two elements lie at one place."""
    if overlaps_itself(a):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )


def check_partial_overlap(a: Any, operands: Sequence[Any]) -> None:
    """Raise PyTorch's error if an operand shares some memory with `a`, which is about to be written, but is not `a`."""
    for x in operands:
        if not isinstance(x, Tensor) or x._a is a:
            continue
        b = x._a
        if b.base is None and a.base is None:  # both own their memory
            continue
        if _partly_overlap(a, b):
            raise RuntimeError(
                "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )


def _partly_overlap(a: Any, b: Any) -> bool:
    """Whether two dense arrays share memory but are not the same view of it."""
    if type(a) is not type(b) or not (a.base is b or b.base is a or (a.base is not None and a.base is b.base)):
        return False
    if not a.size or not b.size or not (is_dense(a) and is_dense(b)):
        return False
    begin, other = address(a), address(b)
    if begin == other and a.nbytes == b.nbytes:
        return a.strides != b.strides
    return begin < other + b.nbytes and other < begin + a.nbytes


def write_out(out: Tensor, result: Tensor, function: str) -> Tensor:
    """Store `result` in `out`, as the `out=` argument does; `out` takes the result's shape."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{function}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if result._requires_grad or out.requires_grad:
        raise RuntimeError(
            f"{function}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    check_cast(result._a.dtype, out._a.dtype)
    check_overlap(out._a)
    if out._a.shape == result._a.shape:
        out._a[...] = result._a
    else:
        if out._a.size:
            warnings.warn(
                f"An output with one or more elements was resized since it had shape {list(out._a.shape)}, which does not "
                f"match the required output shape {list(result._a.shape)}. This behavior is deprecated, and in a future "
                "PyTorch release outputs will not be resized unless they have zero elements. You can explicitly reuse an "
                "out tensor t by resizing it, inplace, to zero elements with t.resize_(0).",
                UserWarning,
                stacklevel=3,
            )
        out._a = result._a.astype(out._a.dtype)
    written(out)
    return out


def with_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function of tensors the argument `out=`: a tensor, or a sequence of them for several results."""

    @functools.wraps(function)
    def with_out_argument(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if out is None:
            return result
        if isinstance(result, Tensor):
            return write_out(out, result, function.__name__)
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{function.__name__}(): argument 'out' must be a tuple of {len(result)} Tensors")
        written_to = [write_out(o, r, function.__name__) for o, r in zip(out, result)]
        return type(result)(*written_to) if hasattr(result, "_fields") else tuple(written_to)

    return with_out_argument


def store(target: Tensor, value: Tensor) -> None:
    """Replace what `target` holds by `value` (same shape, castable type) and make it the result of `value`'s operation."""
    if value._a.shape != target._a.shape:
        raise RuntimeError(
            f"output with shape {list(target._a.shape)} doesn't match the broadcast shape {list(value._a.shape)}"
        )
    check_cast(value._a.dtype, target._a.dtype)
    check_overlap(target._a)
    target._a[...] = value._a
    written(target)
    if value._requires_grad:
        if value._a.dtype != target._a.dtype:
            value = value.to(target.dtype)
        rebase(target, value)


def before_write(tensor: Tensor) -> Tensor:
    """Return the operand that a recorded in-place operation names as its input: the tensor as it was."""
    if tensor._view is not None:
        tensor._view.refresh(tensor)
    return alias(tensor)


def rebase(target: Tensor, value: Tensor) -> None:
    """Make `target`, whose memory now holds `value`, the result of the operation that made `value`."""
    view = target._view
    if view is None:
        target._edge, target._requires_grad = value._edge, value._requires_grad
        return
    base = view.base
    changed = wrap(base._a)
    record(traced.view_scatter.op, (alias(base), value), (changed,), (view.chain,))
    base._edge, base._requires_grad = changed._edge, changed._requires_grad
    view.refresh(target)


def inplace(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the in-place form of a function whose first argument is a tensor: the same, written into that tensor.

    An operator whose kernel takes `out` writes there directly; others compute first and copy.
    """
    op: Operator | None = getattr(function, "op", None)
    direct = op is not None and op.takes_out

    def function_(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(input, args)
        check_partial_overlap(input._a, args)
        if direct and not kwargs and all([_fits(input, a) for a in args]):
            return write_directly(op, input, args)
        before = before_write(input)
        if op is None and mode.enabled and _needs_grad((before, *args, *kwargs.values())):
            _detach_memory(before)
        result = function(before, *args, **kwargs)
        if op is not None and result._edge is not None:
            _keep_operand(result._edge[0], before)
        store(input, result)
        return input

    name = function.__name__ + "_"
    function_.__name__ = function_.__qualname__ = name
    function_.__doc__ = f"In-place form of `{function.__name__}`."
    return function_


def _needs_grad(values: Sequence[Any]) -> bool:
    return any([isinstance(v, Tensor) and v.requires_grad for v in values])


def _detach_memory(before: Tensor) -> None:
    before._a = before._a.copy()
    if before._counter is not None:
        before._counter = list(before._counter)


def _keep_operand(node: Any, before: Tensor) -> None:
    """Give the operand memory of its own if the derivative needs the elements that are about to be overwritten."""
    mine = [kept is not None and kept[0] is before for kept in node.saved]
    if any(mine):
        _detach_memory(before)
        node.saved = [entry(before) if m else kept for m, kept in zip(mine, node.saved)]


def _fits(input: Tensor, operand: Any) -> bool:
    if isinstance(operand, Tensor):
        a, b = input._a, operand._a
        return a.dtype is b.dtype and (b.shape == a.shape or b.ndim == 0) and type(a) is type(b)
    return type(operand) in (int, float) and input._a.dtype.kind in "fc"


def write_directly(op: Any, input: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Let the kernel of `op` write into the memory of `input`, its first operand."""
    a = input._a
    if op is not traced.fill.op:  # the same value twice does no harm
        check_overlap(a)
    out = wrap(a)
    out._counter = input._counter
    split = len(op.inputs) - 1
    before = before_write(input)
    node = record(op, (before, *args[:split]), (out,), args[split:]) if mode.enabled else None
    if node is not None:
        _keep_operand(node, before)
    op.kernel(backend_of(a).namespace, a, *[x._a if isinstance(x, Tensor) else x for x in args], a)
    written(input)
    if node is not None:  # a saved result is the one after this write, a saved input the one before
        node.saved = [e if e is None or s >= 0 else (*e[:2], e[2] + 1) for e, s in zip(node.saved, op.slots)]
        rebase(input, out)
    return input
