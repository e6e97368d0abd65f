"""The functions that a checkpoint calls to make tensors: PyTorch's `torch._utils._rebuild_*`.

Everything they are given comes from a file, so they check it all and raise UnpicklingError.
"""

from __future__ import annotations

import sys
from math import prod
from pickle import UnpicklingError
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.core.dtypes import dtype
from disttorch.nn.parameter import Parameter
from disttorch.serialization.storage import Storage

_MOST_DIMENSIONS = 64  # of a NumPy array


def rebuild_tensor(storage: Storage, storage_offset: int, size: Any, stride: Any) -> Tensor:
    """Return a tensor on a part of a storage; offset and strides count elements."""
    return wrap(_strided(storage, storage_offset, size, stride))


def rebuild_tensor_v2(
    storage: Storage,
    storage_offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool,
    _backward_hooks: Any,
    metadata: Any = None,
) -> Tensor:
    """Return a leaf tensor on a part of a storage, with PyTorch's lazy bits applied."""
    array = _strided(storage, storage_offset, size, stride)
    if metadata:
        array = _apply_lazy(array, storage, metadata)
    return wrap(array).requires_grad_(bool(requires_grad))


def rebuild_tensor_v3(
    storage: Storage,
    storage_offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool,
    backward_hooks: Any,
    dtype: dtype,
    metadata: Any = None,
) -> Tensor:
    """Like `rebuild_tensor_v2` for a storage of bytes and elements of `dtype`."""
    typed = _checked_storage(storage).as_type(dtype)
    return rebuild_tensor_v2(typed, storage_offset, size, stride, requires_grad, backward_hooks, metadata)


def rebuild_parameter(data: Tensor, requires_grad: bool, _backward_hooks: Any) -> Tensor:
    """Return a Parameter on the memory of `data`."""
    if not isinstance(data, Tensor):
        raise UnpicklingError(f"a Parameter needs a tensor, got {type(data).__name__}")
    return Parameter(data, bool(requires_grad))


def rebuild_parameter_with_state(data: Tensor, requires_grad: bool, backward_hooks: Any, state: Any) -> Tensor:
    """Return a Parameter that has attributes of its own."""
    return _with_attributes(rebuild_parameter(data, requires_grad, backward_hooks), state)


def rebuild_from_type_v2(function: Any, new_type: type, args: tuple[Any, ...], state: Any) -> Tensor:
    """Return `function(*args)` as a `new_type`, a class of tensors, with attributes of its own."""
    if not any(function is maker for maker in TENSOR_MAKERS) or not isinstance(args, tuple):
        raise UnpicklingError("a tensor with attributes is not made as PyTorch makes it")
    if not (isinstance(new_type, type) and issubclass(new_type, Tensor)):
        raise UnpicklingError(f"expected a class of tensors, got {new_type!r:.80}")
    tensor: Tensor = function(*args)
    if type(tensor) is not new_type:
        requires_grad = tensor.requires_grad
        tensor = wrap(tensor._a, new_type).requires_grad_(requires_grad)
    return _with_attributes(tensor, state)


TENSOR_MAKERS = (
    rebuild_tensor,
    rebuild_tensor_v2,
    rebuild_tensor_v3,
    rebuild_parameter,
    rebuild_parameter_with_state,
)


def _checked_storage(storage: Any) -> Storage:
    if not isinstance(storage, Storage):
        raise UnpicklingError(f"a tensor needs a storage, got {type(storage).__name__}")
    return storage


def _strided(storage: Any, offset: Any, size: Any, stride: Any) -> Any:
    memory = _checked_storage(storage).array
    size, stride = _whole_numbers(size), _whole_numbers(stride)
    if len(size) != len(stride) or _whole_numbers((offset,))[0] > sys.maxsize:
        raise UnpicklingError(f"a tensor of size {size} cannot have strides {stride}")
    if prod(max(n, 1) for n in size) * memory.itemsize > sys.maxsize:
        raise UnpicklingError(f"a tensor of size {size} is larger than the address space")
    if 0 in size:
        return backend_of(memory).namespace.empty(size, memory.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= memory.size:
        raise UnpicklingError(
            f"a tensor of size {size}, strides {stride} and offset {offset} does not lie within "
            f"its storage of {memory.size} elements"
        )
    steps = [step * memory.itemsize for step in stride]
    if isinstance(memory, np.ndarray):
        return np.ndarray(size, memory.dtype, memory, offset * memory.itemsize, steps)
    tricks = backend_of(memory).namespace.lib.stride_tricks
    return tricks.as_strided(memory[offset:], size, steps)


def _whole_numbers(values: Any) -> tuple[int, ...]:
    few = isinstance(values, (tuple, list)) and len(values) <= _MOST_DIMENSIONS
    if few and all(type(n) is int and 0 <= n <= sys.maxsize for n in values):
        return tuple(values)
    raise UnpicklingError(
        f"the size, strides and offset of a tensor must be whole numbers, in at most {_MOST_DIMENSIONS} dimensions"
    )


def _apply_lazy(array: Any, storage: Storage, metadata: Any) -> Any:
    if not isinstance(metadata, dict) or not set(metadata) <= {"conj", "neg"}:
        raise UnpicklingError("a tensor has metadata other than its 'conj' and 'neg' bits")
    xp = backend_of(array).namespace
    for bit, apply in (("conj", xp.conjugate), ("neg", xp.negative)):
        if metadata.get(bit):
            if array.dtype.kind not in "fc":
                raise UnpicklingError(f"a tensor of {array.dtype} cannot have a '{bit}' bit")
            storage.may_copy(array.nbytes)
            array = apply(array, out=xp.empty_like(array))
    return array


def _with_attributes(tensor: Tensor, state: Any) -> Tensor:
    """Set attributes from a dict, or a pair of dicts, but none of the class's own names."""
    for part in state if isinstance(state, tuple) else (state,):
        if part is not None and not isinstance(part, dict):
            raise UnpicklingError(f"a tensor's attributes must be a dict, got {type(part).__name__}")
        for name, value in (part or {}).items():
            if not isinstance(name, str) or hasattr(type(tensor), name) or name == "_hooks":
                raise UnpicklingError(f"a file may not set the attribute {name!r:.80} of a tensor")
            tensor.__dict__[name] = value
    return tensor
