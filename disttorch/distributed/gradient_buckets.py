"""Buckets of gradients: how parameters are packed into them, their memory, and what a comm hook sees of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.distributed.call import Call
from disttorch.distributed.transport import Bucket
from disttorch.distributed.work import Work
from disttorch.futures import Future

CommHook = Callable[[Any, "GradBucket"], "Future[Tensor]"]


class BuiltinCommHookType(Enum):
    """The comm hooks that DistributedDataParallel has by name, as `torch.distributed.BuiltinCommHookType`."""

    ALLREDUCE = "ALLREDUCE"
    FP16_COMPRESS = "FP16_COMPRESS"


def plan_buckets(sizes: Sequence[int], dtypes: Sequence[str], first_bytes: int, bucket_bytes: int) -> list[list[int]]:
    """Pack parameters into buckets, last parameter first.

    sizes: bytes of each; dtypes: names; a bucket holds one dtype and is closed when it has reached
    its size: `first_bytes` for the first bucket of a dtype, `bucket_bytes` for the others. Returns
    lists of indices.
    """
    plan: list[list[int]] = []
    open_bucket: dict[str, tuple[list[int], int]] = {}
    begun: set[str] = set()
    for index in reversed(range(len(sizes))):
        members, filled = open_bucket.pop(dtypes[index], ([], 0))
        if not members:
            plan.append(members)
        members.append(index)
        filled += sizes[index]
        if filled < (bucket_bytes if dtypes[index] in begun else first_bytes):
            open_bucket[dtypes[index]] = members, filled
        else:
            begun.add(dtypes[index])
    return plan


class Span:
    """One bucket: which parameters it holds, where, and how far this step has come.

    Its memory is the members' gradients one after another, then a number per member that is 1 where
    this rank had a gradient, then one for news (whether this rank has something more to tell) and one
    for the rank's weight: a single sum reduces all of it.
    """

    def __init__(self, number: int, members: list[int], names: tuple[str, ...], shapes: list[tuple[int, ...]]) -> None:
        self.number, self.members, self.names, self.shapes = number, members, names, shapes
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        self.missing = len(members)
        self.unused: list[int] = []
        self.launched = False
        self.work: Work | Future[Any] | None = None
        self.calls: dict[str, Call] = {}

    def take(self, memory: Bucket, dtype: np.dtype) -> list[np.ndarray]:
        """Lay the bucket out in `memory` and return a view of each member's place, in the member's shape."""
        self.memory, self.dtype = memory, dtype
        count, end = len(self.members), sum(self.sizes)
        self.flat = memory.row.view(dtype)
        self.flat[:] = 0
        self.values, self.has_gradient, self.news, self.weight = np.split(
            self.flat, [end, end + count, end + count + 1]
        )
        self.all_used = np.ones(count, dtype).tobytes()
        views, start = [], 0
        for size, shape in zip(self.sizes, self.shapes, strict=True):
            place = memory.row.data[start * dtype.itemsize : (start + size) * dtype.itemsize]
            # A buffer of its own, so that every array on it is counted as a reference to this one.
            views.append(np.frombuffer(place, dtype).reshape(shape))
            start += size
        return views

    def mark_flags(self, news: bool) -> None:
        """Write which members have a gradient here, and whether there is news."""
        self.has_gradient.fill(1)
        self.news[0] = news
        for position in self.unused:
            self.has_gradient[position] = 0

    def call(self, op: str) -> Call:
        """Return what the other ranks must be doing, too."""
        found = self.calls.get(op)
        if found is None:
            found = self.calls[op] = Call(
                "bucket", self.dtype.name, self.flat.shape, op, -1, self.names, self.number, self.flat.nbytes
            )
        return found

    def begin(self) -> None:
        """Forget this step."""
        self.missing, self.work, self.launched = len(self.members), None, False
        if self.unused:
            self.unused = []


class GradBucket:
    """One bucket of gradients as a comm hook gets it, as `torch.distributed.GradBucket`."""

    def __init__(self, index: int, buffer: Tensor, parameters: list[Tensor], is_last: bool) -> None:
        self._index, self._buffer, self._parameters, self._is_last = index, buffer, parameters, is_last

    def index(self) -> int:
        """Return the bucket's number; buckets come in this order, the last parameters first."""
        return self._index

    def buffer(self) -> Tensor:
        """Return all gradients of the bucket as one 1-D tensor, the bucket's memory itself."""
        return self._buffer

    def set_buffer(self, buffer: Tensor) -> None:
        """Let `buffer` return this tensor from now on; it has as many elements."""
        if buffer.numel() != self._buffer.numel():
            raise ValueError(
                f"GradBucket.set_buffer: expected a tensor of {self._buffer.numel()} elements, got {buffer.numel()}"
            )
        self._buffer = buffer

    def gradients(self) -> list[Tensor]:
        """Return the gradients one by one, views of `buffer()` in their parameters' shapes."""
        parts, start = [], 0
        flat = self._buffer._a.reshape(-1)
        for parameter in self._parameters:
            size = parameter._a.size
            parts.append(wrap(flat[start : start + size].reshape(parameter._a.shape)))
            start += size
        return parts

    def parameters(self) -> list[Tensor]:
        """Return the parameters that the gradients belong to."""
        return list(self._parameters)

    def is_last(self) -> bool:
        """Say whether this is the last bucket of the backward pass."""
        return self._is_last

    def __repr__(self) -> str:
        return (
            f"GradBucket(index={self._index}, parameters={len(self._parameters)}, "
            f"buffer={self._buffer.dtype}[{self._buffer.numel()}], is_last={self._is_last})"
        )
