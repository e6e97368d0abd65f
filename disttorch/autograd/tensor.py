"""The tensor as the engine sees it: an array, its place in the graph, its gradient and its version.

The operators are bound to this class in `disttorch._tensor`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from disttorch.autograd.grad_mode import inference_threads, mode
from disttorch.autograd.hooks import Hooks, RemovableHandle, add_hook
from disttorch.autograd.node import Node
from disttorch.backends import device_of
from disttorch.core import dtypes
from disttorch.core.device import device
from disttorch.core.size import Size

new = object.__new__


class Tensor:
    """A multi-dimensional array that remembers how it was computed.

    The memory is `_a`, a NumPy array on the CPU. `_edge` is (the node that made it, which of its outputs it is), None
    for a leaf. `_counter` is a one-element list with the number of in-place changes, shared by a tensor, its views and
    what `detach` returns; None marks an inference tensor.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_a", "_counter", "_edge", "_grad", "_requires_grad", "_view",
    )  # fmt: skip

    _a: Any
    _requires_grad: bool
    _edge: tuple[Node, int] | None
    _grad: Tensor | None
    _counter: list[int] | None
    _view: Any

    __array_priority__ = 1000
    __hash__ = object.__hash__

    if TYPE_CHECKING:  # the operators that `disttorch._tensor` binds

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Any: ...
        def __len__(self) -> int: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def __bool__(self) -> bool: ...

    @property
    def data(self) -> Tensor:
        """The same memory outside of the graph, with a version of its own."""
        return wrap(self._a)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        self._a = value._a

    @property
    def shape(self) -> Size:
        """The length of each dimension."""
        return Size(self._a.shape)

    @property
    def dtype(self) -> dtypes.dtype:
        """The element type."""
        return dtypes.from_numpy_dtype(self._a.dtype)

    @property
    def device(self) -> device:
        """Where the memory is."""
        return device_of(self._a)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._a.ndim

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than by a recorded operation."""
        return self.grad_fn is None

    @property
    def requires_grad(self) -> bool:
        """Whether operations on the tensor are recorded."""
        return self._requires_grad or (self._view is not None and self._view.base._requires_grad)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start (or stop) recording operations on this leaf; return the tensor itself."""
        if requires_grad and self._a.dtype.kind in "biu":
            raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
        if not requires_grad and self.grad_fn is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        if requires_grad and self._counter is None and not mode.inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The operation that made the tensor; None for a leaf."""
        if self._view is not None:
            self._view.refresh(self)
        return None if self._edge is None else self._edge[0]

    @property
    def output_nr(self) -> int:
        """Which output of `grad_fn` the tensor is."""
        return 0 if self._edge is None else self._edge[1]

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient; None until a backward pass has reached this leaf."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            _check_new_grad(self, value)
        self._grad = value

    @property
    def _version(self) -> int:
        if self._counter is None:
            raise RuntimeError("Inference tensors do not track version counter.")
        return self._counter[0]

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view.base

    def _is_view(self) -> bool:
        return self._view is not None

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference mode."""
        return self._counter is None

    def detach(self) -> Tensor:
        """Return the same memory outside of the graph; an in-place change is seen by both."""
        out = wrap(self._a)
        out._counter = self._counter
        return out

    def detach_(self) -> Tensor:
        """Take the tensor out of the graph that made it; it becomes a leaf."""
        if self._view is not None:
            raise RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
                "detach_() cannot be called on these gradients. To fix this error, please refer to the "
                "Optimizer.zero_grad() function in torch/optim/optimizer.py as the solution."
            )
        self._edge, self._requires_grad = None, False
        return self

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it was computed from.

        `gradient` is the gradient of this tensor itself (same shape); it may be left out for one element.
        """
        from disttorch.autograd.engine import backward

        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def _own_hooks(self) -> Hooks:
        hooks: Hooks | None = self.__dict__.get("_hooks")
        if hooks is None:
            hooks = self.__dict__["_hooks"] = Hooks()
        return hooks

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` when the gradient of this tensor is known; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        owner = self._own_hooks() if self._edge is None else self._edge[0].own_hooks()
        return add_hook(owner.on_gradient(self.output_nr), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `hook(leaf)` as soon as this leaf's `.grad` is complete, while backward goes on elsewhere."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._edge is not None:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        return add_hook(self._own_hooks().accumulated, hook)

    def retain_grad(self) -> None:
        """Keep `.grad` of this non-leaf tensor in the next backward passes."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self._edge is not None:
            node, output = self._edge
            node.own_hooks().retained[output] = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this non-leaf tensor."""
        hooks = None if self._edge is None else self._edge[0].hooks
        return hooks is not None and self.output_nr in hooks.retained


def wrap(array: Any, cls: type[Tensor] = Tensor) -> Tensor:
    """Return a new leaf tensor on `array`, which is not copied."""
    out = new(cls)
    out._a = array
    out._requires_grad = False
    out._edge = None
    out._grad = None
    out._view = None
    out._counter = [0]
    if inference_threads and mode.inference:
        out._counter = None
    return out


def wrap_result(array: Any) -> Tensor:
    """Like `wrap`, for a kernel's result: NumPy gives a scalar where a 0-d array is meant."""
    return wrap(np.asarray(array) if isinstance(array, np.generic) else array)


def alias(tensor: Tensor) -> Tensor:
    """Return another tensor object for the same memory, version and place in the graph."""
    out = wrap(tensor._a)
    out._counter = tensor._counter
    out._edge, out._requires_grad = tensor._edge, tensor._requires_grad
    return out


def _check_new_grad(tensor: Tensor, grad: Tensor) -> None:
    if not isinstance(grad, Tensor):
        raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(grad).__name__}")
    if grad is tensor:
        raise RuntimeError("can't assign Variable as its own grad")
    if grad._a.dtype != tensor._a.dtype:
        raise RuntimeError(
            f"attempting to assign a gradient with dtype '{grad.dtype!r}' to a tensor with dtype '{tensor.dtype!r}'. "
            "Please ensure that the gradient and the tensor have the same dtype"
        )
    if grad.device != tensor.device:
        raise RuntimeError(
            f"attempting to assign a gradient with device type '{grad.device.type}' to a tensor with device type "
            f"'{tensor.device.type}'. Please ensure that the gradient and the tensor are on the same device"
        )
    if grad._a.shape != tensor._a.shape:
        raise RuntimeError(
            f"attempting to assign a gradient of size '{list(grad._a.shape)}' to a tensor of size "
            f"'{list(tensor._a.shape)}'. Please ensure that the gradient and the tensor are the same size"
        )
