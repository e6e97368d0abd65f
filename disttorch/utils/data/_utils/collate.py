"""From a list of samples to a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.dtypes import float64, from_numpy_dtype
from disttorch.ops.creation import as_tensor, tensor
from disttorch.ops.join import stack

Allocator = Callable[[tuple[int, ...], np.dtype], np.ndarray | None]

_allocator: Allocator | None = None


def set_allocator(allocator: Allocator | None) -> None:
    """Let batches be built in memory from `allocator(shape, dtype)`, which may return None for want of room."""
    global _allocator
    _allocator = allocator


def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return memory for one array of a batch."""
    array = None if _allocator is None else _allocator(shape, dtype)
    return np.empty(shape, dtype) if array is None else array


def default_convert(data: Any) -> Any:
    """Turn NumPy arrays and numbers inside `data`, also inside of dicts and sequences, into tensors.

    This is the default `collate_fn` of a loader with `batch_size=None`.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUOV" and data.dtype.name != "bfloat16" else as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [default_convert(value) for value in data])
    return data


def default_collate(batch: Any) -> Any:
    """Join samples into a batch: tensors, arrays and numbers are stacked, containers are joined element by element.

    Python floats become float64, ints int64; strings and bytes stay lists; a batch of tuples becomes a list.
    Raises RuntimeError for tensors or sequences of different sizes and TypeError for other objects.

    >>> default_collate([(1, 2.0), (3, 4.0)])
    [tensor([1, 3]), tensor([2., 4.], dtype=torch.float64)]
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Any, *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None) -> Any:
    """Like `default_collate`, with a table from types (or tuples of types) of samples to functions that join them.

    A function of the table is called as `function(batch, collate_fn_map=collate_fn_map)`.
    """
    first = batch[0]
    function = _function_for(first, collate_fn_map or {})
    if function is not None:
        return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return _like_mapping(
            first,
            {key: collate([d[key] for d in batch], collate_fn_map=collate_fn_map) for key in first},
        )
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        columns = [collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch)]
        return _like_sequence(first, columns)
    raise TypeError(_not_collatable(type(first)))


def _function_for(sample: Any, table: dict[Any, Callable[..., Any]]) -> Callable[..., Any] | None:
    function = table.get(type(sample))
    if function is not None:
        return function
    return next((table[kind] for kind in table if isinstance(sample, kind)), None)


def _like_mapping(original: Any, items: dict[Any, Any]) -> Any:
    """Return `items` as a mapping of the type of `original`, with what else that object knows."""
    try:
        if isinstance(original, MutableMapping):
            clone = copy.copy(original)
            clone.update(items)
            return clone
        return type(original)(items)
    except TypeError:
        return items


def _like_sequence(original: Any, items: list[Any]) -> Any:
    """Return `items` as a sequence of the type of `original`; a tuple becomes a list, as in PyTorch."""
    if isinstance(original, tuple):
        return items
    try:
        if isinstance(original, MutableSequence):
            clone = copy.copy(original)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(original)(items)
    except TypeError:
        return items


def _not_collatable(found: Any) -> str:
    return f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {found}"


def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: Any = None) -> Tensor:
    """Stack tensors along a new first dimension."""
    first = batch[0]._a
    shape, dtype = first.shape, first.dtype
    for x in batch:
        a = x._a
        if a.shape != shape or a.dtype != dtype or type(a) is not np.ndarray or x.requires_grad:
            return stack(batch)
    return wrap(_stack([x._a for x in batch], shape, dtype))


def _stack(arrays: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    arrays = list(arrays)
    out = allocate((len(arrays), *shape), dtype)
    for i, array in enumerate(arrays):
        out[i] = array
    return out


def collate_numpy_array_fn(batch: Sequence[np.ndarray], *, collate_fn_map: Any = None) -> Any:
    """Stack arrays into a tensor."""
    first = batch[0]
    if first.dtype.kind in "SUO":
        raise TypeError(_not_collatable(first.dtype))
    from_numpy_dtype(first.dtype)
    if any(a.shape != first.shape or a.dtype != first.dtype for a in batch):
        return stack([as_tensor(a) for a in batch])
    return wrap(_stack(batch, first.shape, first.dtype))


def collate_numpy_scalar_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    """Join NumPy scalars into a 1-D tensor of their type."""
    return as_tensor(np.asarray(batch))


def collate_float_fn(batch: Sequence[float], *, collate_fn_map: Any = None) -> Tensor:
    """Join Python floats into a 1-D float64 tensor."""
    return tensor(batch, dtype=float64)


def collate_int_fn(batch: Sequence[int], *, collate_fn_map: Any = None) -> Tensor:
    """Join Python ints into a 1-D int64 tensor, bools into a bool tensor."""
    return tensor(batch)


def collate_str_fn(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Leave strings and bytes as they are."""
    return batch


default_collate_fn_map: dict[Any, Callable[..., Any]] = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def map_tensors(data: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return `data` with `function` applied to its tensors, also inside of dicts and sequences.

    Any other object with a method `pin_memory` is left to that method.
    """
    if isinstance(data, Tensor):
        return function(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: map_tensors(value, function) for key, value in data.items()})
    if isinstance(data, tuple):
        items = [map_tensors(value, function) for value in data]
        return type(data)(*items) if hasattr(data, "_fields") else items
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [map_tensors(value, function) for value in data])
    return data.pin_memory() if hasattr(data, "pin_memory") else data
