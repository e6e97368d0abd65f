"""What is passed to a module: how many samples it holds, and moving it to the module's device."""

from __future__ import annotations

from typing import Any

from disttorch import cuda
from disttorch.autograd.tensor import Tensor
from disttorch.core.device import device


def batch_size(values: tuple[Any, ...]) -> int:
    """Return the length of the first tensor's first dimension; 0 if there is none."""
    for value in values:
        if isinstance(value, Tensor):
            return value._a.shape[0] if value._a.ndim else 1
        if isinstance(value, (list, tuple, dict)):
            found = batch_size(tuple(value.values() if isinstance(value, dict) else value))
            if found:
                return found
    return 0


def moved(value: Any, target: device) -> Any:
    """Return tensors, also in tuples, lists and dicts, on a device; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(target)
    if isinstance(value, tuple):
        items = [moved(item, target) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [moved(item, target) for item in value]
    if isinstance(value, dict):
        return type(value)((key, moved(item, target)) for key, item in value.items())
    return value


def device_index(which: Any) -> int:
    """Return the number of a GPU that is given as a number, a string or a device; the current one's if that has none."""
    where = device("cuda", which) if isinstance(which, int) else device(which)
    if where.type == "cpu":
        raise ValueError(f"Expected a cuda device, but got: {which}")
    return cuda.current_device() if where.index is None else where.index
