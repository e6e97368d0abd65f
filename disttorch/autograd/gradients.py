"""What the engine does with gradients: as plain arrays at first order, as tensors under `create_graph`."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.core.dtypes import from_numpy_dtype

ndarray = np.ndarray


def _extra_axes(have: tuple[int, ...], want: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes over which a gradient of shape `have` is summed to become one of shape `want`."""
    lead = len(have) - len(want)
    return (*range(lead), *(i + lead for i, n in enumerate(want) if n == 1 and have[i + lead] != 1))


class ArrayGradients:
    """First order: arrays, changed in place where nobody else can see them."""

    def fit(self, gradient: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Sum or spread a gradient to its input's shape and cast it to its type."""
        if type(gradient) is ndarray and gradient.shape == shape and gradient.dtype is dtype:
            return gradient
        if isinstance(gradient, (np.generic, int, float, complex)):
            gradient = np.asarray(gradient)
        if gradient.shape != shape:
            if gradient.ndim >= len(shape):
                axes = _extra_axes(gradient.shape, shape)
                if axes:
                    wide = np.float32 if gradient.dtype.itemsize == 2 else None
                    gradient = gradient.sum(axes, dtype=wide, keepdims=True)
                gradient = gradient.reshape(gradient.shape[gradient.ndim - len(shape) :])
            if gradient.shape != shape:
                gradient = backend_of(gradient).namespace.broadcast_to(gradient, shape)
        if gradient.dtype is not dtype and gradient.dtype != dtype:
            if gradient.dtype.kind == "c" and dtype.kind != "c":
                gradient = gradient.real
            gradient = gradient.astype(dtype)
        return gradient

    def is_fresh(self, gradient: Any, incoming: Any, saved: Any) -> bool:
        """Whether no one else holds this memory: it is not a view, what came in, or a saved value."""
        if gradient is incoming or gradient.base is not None:
            return False
        if isinstance(incoming, list) and any(gradient is g for g in incoming):
            return False
        return not any(e is not None and gradient is getattr(e[0], "_a", e[0]) for e in saved or ())

    def add(self, a: Any, b: Any) -> Any:
        total = a + b
        return np.asarray(total) if isinstance(total, np.generic) else total

    def add_into(self, a: Any, b: Any) -> Any:
        a += b
        return a

    def accumulate(self, tensor: Tensor, gradient: Any, fresh: bool) -> None:
        """Add to `.grad`, in place if it is there already."""
        held = tensor._grad
        if held is None:
            tensor._grad = wrap(gradient if fresh else gradient.copy())
        else:
            held._a += gradient
            if held._counter is not None:
                held._counter[0] += 1

    def to_tensor(self, gradient: Any) -> Tensor:
        return wrap(gradient)

    def from_tensor(self, tensor: Tensor) -> Any:
        return tensor._a

    def has_nan(self, gradient: Any) -> bool:
        return bool((gradient != gradient).any())

    def ones_like(self, tensor: Tensor) -> Tensor:
        return wrap(backend_of(tensor._a).namespace.ones_like(tensor._a))


class TensorGradients:
    """Under `create_graph`: tensors, whose operations are recorded in turn."""

    def fit(self, gradient: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
        """Sum or spread a gradient to its input's shape and cast it to its type."""
        if gradient._a.shape != shape:
            if gradient._a.ndim >= len(shape):
                axes = _extra_axes(gradient._a.shape, shape)
                if axes:
                    gradient = gradient.sum(axes, keepdim=True)
                gradient = gradient.reshape(gradient._a.shape[gradient._a.ndim - len(shape) :])
            if gradient._a.shape != shape:
                gradient = gradient.expand(shape)
        if gradient._a.dtype != dtype:
            if gradient._a.dtype.kind == "c" and dtype.kind != "c":
                gradient = gradient.real
            gradient = gradient.to(from_numpy_dtype(dtype))
        return gradient

    def is_fresh(self, gradient: Tensor, incoming: Any, saved: Any) -> bool:
        return False

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def add_into(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def accumulate(self, tensor: Tensor, gradient: Tensor, fresh: bool) -> None:
        """Put a new tensor into `.grad`: the one that was there may be part of a graph."""
        tensor._grad = gradient if tensor._grad is None else tensor._grad + gradient

    def to_tensor(self, gradient: Tensor) -> Tensor:
        return gradient

    def from_tensor(self, tensor: Tensor) -> Tensor:
        return tensor

    def has_nan(self, gradient: Tensor) -> bool:
        return bool((gradient._a != gradient._a).any())

    def ones_like(self, tensor: Tensor) -> Tensor:
        return wrap(backend_of(tensor._a).namespace.ones_like(tensor._a))

    def zeros_like(self, tensor: Tensor) -> Tensor:
        return wrap(backend_of(tensor._a).namespace.zeros_like(tensor._a))


ARRAYS, TENSORS = ArrayGradients(), TensorGradients()
