"""Tensors as the collectives see them: elements in order, in memory that the ranks can exchange."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from disttorch.distributed.device_memory import DeviceMemory
from disttorch.distributed.headers import DTYPES


@cache
def name_of(dtype: np.dtype) -> str:
    """Return the name of a dtype, which NumPy takes microseconds to put together."""
    return dtype.name


class Operand:
    """A tensor or NumPy array that takes part in a collective.

    holder: what the user gave; array: its elements (NumPy, or CuPy on a GPU); name: the collective's, for errors.
    output: whether the collective writes to it. Raises TypeError for what cannot be sent, ValueError for an output that
    is read-only.
    """

    def __init__(self, holder: Any, name: str, output: bool = True) -> None:
        array = holder if isinstance(holder, np.ndarray) else getattr(holder, "_a", None)
        if array is None:
            raise TypeError(f"{name}: expected a tensor, got {type(holder).__name__}")
        self.dtype_name = name_of(array.dtype)
        if self.dtype_name not in DTYPES:
            raise TypeError(f"{name}: tensors of {self.dtype_name} cannot be sent to other ranks")
        if not array.dtype.isnative:
            raise TypeError(f"{name}: the bytes of {array.dtype!r} are not in this machine's order; convert it first")
        if output and isinstance(array, np.ndarray) and not array.flags.writeable:
            raise ValueError(f"{name}: the result cannot be written to a read-only array; pass a copy")
        self.holder, self.array = holder, array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype
        self.nbytes: int = array.nbytes
        self._copies = None if isinstance(array, np.ndarray) else DeviceMemory(array)

    def __str__(self) -> str:
        return f"{self.dtype_name}{list(self.shape)}"

    def flat(self) -> np.ndarray:
        """Return the elements in order, 1-D: the array's own memory if that is possible, else a copy."""
        if self._copies is not None:
            host = np.empty(self.shape, self.dtype)
            self._copies.fetch(host)
            return host.reshape(-1)
        return self.array.reshape(-1) if self.array.flags.c_contiguous else self.array.flatten()

    def bytes(self) -> np.ndarray:
        """Return `flat` as uint8."""
        return self.flat().view(np.uint8)

    def put(self, flat: np.ndarray) -> None:
        """Take over what the collective has written to `flat` (of any type), which `flat()` or `bytes()` has returned."""
        if self._copies is not None:
            self._copies.store(flat.view(self.dtype).reshape(self.shape))
        elif not self.array.flags.c_contiguous:
            self.array[...] = flat.view(self.dtype).reshape(self.shape)
        counter = getattr(self.holder, "_counter", None)
        if counter is not None:  # autograd notices if the old value was saved
            counter[0] += 1


def check_alike(name: str, what: str, operands: list[Operand], like: Operand, of: str) -> None:
    """Raise ValueError unless all `operands` have the shape and type of `like`."""
    for r, operand in enumerate(operands):
        if (operand.shape, operand.dtype) != (like.shape, like.dtype):
            raise ValueError(f"{name}: {what}[{r}] is {operand}, {of} is {like}; they must be alike")
