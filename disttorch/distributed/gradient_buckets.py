"""Buckets of gradients: how parameters are packed into them, their memory, and what a comm hook sees of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.distributed.call import Call
from disttorch.distributed.device_memory import DeviceMemory, Pinned
from disttorch.distributed.transport import Bucket
from disttorch.distributed.work import Work
from disttorch.futures import Future

CommHook = Callable[[Any, "GradBucket"], "Future[Tensor]"]

# How many yes-or-no answers of every rank go along with the gradients, for whoever uses them.
NEWS = 2


class BuiltinCommHookType(Enum):
    """The comm hooks that DistributedDataParallel has by name, as `torch.distributed.BuiltinCommHookType`."""

    ALLREDUCE = "ALLREDUCE"
    FP16_COMPRESS = "FP16_COMPRESS"


def plan_buckets(sizes: Sequence[int], kinds: Sequence[str], first_bytes: int, bucket_bytes: int) -> list[list[int]]:
    """Pack parameters into buckets, last parameter first.

    sizes: bytes of each; kinds: names of dtype and device; a bucket holds one kind and is closed when it
    has reached its size: `first_bytes` for the first bucket of a kind, `bucket_bytes` for the others.
    Returns lists of indices.
    """
    plan: list[list[int]] = []
    open_bucket: dict[str, tuple[list[int], int]] = {}
    begun: set[str] = set()
    for index in reversed(range(len(sizes))):
        members, filled = open_bucket.pop(kinds[index], ([], 0))
        if not members:
            plan.append(members)
        members.append(index)
        filled += sizes[index]
        if filled < (bucket_bytes if kinds[index] in begun else first_bytes):
            open_bucket[kinds[index]] = members, filled
        else:
            begun.add(kinds[index])
    return plan


class Span:
    """One bucket: which parameters it holds, where, and how far this step has come.

    Its memory is the members' gradients one after another, then a number per member that is 1 where
    this rank had a gradient, then `NEWS` more (what else this rank has to say, yes or no) and one for the rank's
    weight: a single sum reduces all of it.
    """

    def __init__(self, number: int, members: list[int], names: tuple[str, ...], shapes: list[tuple[int, ...]]) -> None:
        self.number, self.members, self.names, self.shapes = number, members, names, shapes
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        self.missing = len(members)
        self.unused: list[int] = []
        self.launched = False
        self.work: Work | Future[Any] | None = None
        self.calls: dict[str, Call] = {}

    def take(self, memory: Bucket, like: Any) -> list[Any]:
        """Lay the bucket out in `memory` and return a view of each member's place, in the member's shape.

        like: one of the members, all of which have its type and place.
        """
        self.memory, self.dtype, self.array_type = memory, like.dtype, type(like)
        self._lay_out()
        return self._member_views()

    def _lay_out(self) -> None:
        count, end = len(self.members), sum(self.sizes)
        self.flat = self.memory.row.view(self.dtype)
        self.flat[:] = 0
        self.values: Any
        self.values, self.has_gradient, self.news, self.weight = np.split(
            self.flat, [end, end + count, end + count + NEWS]
        )
        self.all_used = np.ones(count, self.dtype).tobytes()

    def _member_views(self) -> list[Any]:
        views, start, itemsize = [], 0, self.dtype.itemsize
        for size, shape in zip(self.sizes, self.shapes, strict=True):
            place = self.memory.row.data[start * itemsize : (start + size) * itemsize]
            # A buffer of its own, so that every array on it is counted as a reference to this one.
            views.append(np.frombuffer(place, self.dtype).reshape(shape))
            start += size
        return views

    def fetch(self) -> None:
        """Bring the values to the shared memory before they are reduced: here they are there."""

    def store(self) -> None:
        """Bring the reduced values back from the shared memory."""

    def settle(self) -> None:
        """Wait for what callbacks in other threads have begun to do with the values."""

    def mark_flags(self, news: Sequence[bool]) -> None:
        """Write which members have a gradient here, and the news."""
        self.has_gradient.fill(1)
        self.news[:] = news
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


class DeviceSpan(Span):
    """A bucket of parameters on a GPU: `values` and the members' views are there, all else is as in a `Span`.

    In the thread that reduces the bucket, the values are copied to the shared memory and, reduced, back again.
    """

    def _lay_out(self) -> None:
        super()._lay_out()
        self._host = self.values

    def take(self, memory: Bucket, like: Any) -> list[Any]:
        """Lay the bucket out in `memory` and on the device of `like`."""
        self._library, self._device = backend_of(like).namespace, like.device.id
        with self._library.cuda.Device(self._device):
            return super().take(memory, like)

    def _member_views(self) -> list[Any]:
        self.values = self._library.zeros(self._host.shape, self.dtype)
        self._copies = DeviceMemory(self.values)
        self._copies.settle()
        self._pinned = Pinned(self._host, self.values)
        views, start = [], 0
        for size, shape in zip(self.sizes, self.shapes, strict=True):
            place = self.values[start : start + size].reshape(shape)
            # An array without a base, so that it is the base of, and referred to by, every array on its memory.
            views.append(self._library.lib.stride_tricks.as_strided(place, shape, place.strides))
            start += size
        return views

    def mark_flags(self, news: Sequence[bool]) -> None:
        """Write the flags; what the device has been told to do until now makes the values."""
        super().mark_flags(news)
        self._copies.mark()

    def fetch(self) -> None:
        """Copy the values from the device."""
        self._copies.fetch(self._host)

    def store(self) -> None:
        """Copy the values to the device."""
        self._copies.store(self._host)

    def settle(self) -> None:
        """Wait for the device."""
        self._copies.settle()


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


def check_comm_hook(hook: Callable[..., Any]) -> None:
    """Raise TypeError for what cannot be called, ValueError for annotations that are not those of a comm hook."""
    if not callable(hook):
        raise TypeError("Communication hook must be callable.")
    signature = inspect.signature(hook)
    bucket = signature.parameters.get("bucket")
    if bucket is not None and not _is_annotation(bucket.annotation, GradBucket):
        raise ValueError("Communication hook: bucket annotation should be dist.GradBucket.")
    if not _is_annotation(signature.return_annotation, Future[Tensor]):
        raise ValueError("Communication hook: return annotation should be torch.futures.Future[torch.Tensor].")


def _is_annotation(annotation: Any, expected: Any) -> bool:
    """Whether an annotation is what is expected, or says nothing that could be checked."""
    return annotation is inspect.Signature.empty or isinstance(annotation, str) or annotation == expected
