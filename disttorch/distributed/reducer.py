"""Averaging gradients over ranks while backward is still running.

Parameters are packed into buckets in reverse order of registration, about the order in which
backward finishes them. A bucket's memory is this rank's row of a shared segment; when its last
gradient is there, its all-reduce starts in the communication thread. After the parameters' values
a bucket holds one number per parameter, 1 where this rank had a gradient, so that one sum also
tells whether anybody had one; with `weighted`, one more, the rank's weight.

    reducer = Reducer(names, [p._a for p in parameters])
    # in each parameter's post-accumulate hook:  view = reducer.mark_ready(index, grad)
    # when backward ends:                        averaged = reducer.finalize()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.distributed import steps
from disttorch.distributed.call import Call
from disttorch.distributed.errors import DistError
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.reduction import check_reducible
from disttorch.distributed.runtime import default
from disttorch.distributed.transport import Bucket, Transport
from disttorch.distributed.work import Work

FIRST_BUCKET_BYTES = 1024 * 1024
BUCKET_BYTES = 25 * 1024 * 1024
_CACHE_LINE = 64


class _Span:
    """One bucket: which parameters it holds, where, and how far this step has come."""

    def __init__(self, number: int, dtype: np.dtype, members: list[int]) -> None:
        self.number, self.dtype, self.members = number, dtype, members
        self.names: tuple[str, ...] = ()
        self.memory: Bucket | None = None
        self.flat = np.empty(0, dtype)
        self.has_gradient = self.flat
        self.weight = self.flat
        self.missing = 0
        self.work: Work | None = None


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


class Reducer:
    """Averages the gradients of one model over the ranks of a group.

    names, parameters: every trainable parameter's name and array (only shape and dtype are used),
    in registration order, the same on every rank: DistError on every rank, naming the first
    difference, if they are not. bucket_bytes, first_bucket_bytes: rank 0's values count for all.
    weighted: divide the sum by the sum of the ranks' weights (`set_weight`) rather than by the
    number of ranks.

    In every step call `mark_ready` once for each gradient that exists and then `finalize`; buckets
    are reduced in order, each as soon as it and those before it are full.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Sequence[np.ndarray],
        bucket_bytes: int = BUCKET_BYTES,
        first_bucket_bytes: int = FIRST_BUCKET_BYTES,
        weighted: bool = False,
        group: ProcessGroup | None = None,
    ) -> None:
        if not names or len(names) != len(parameters):
            raise ValueError(f"Reducer: expected a name per parameter, got {len(names)} and {len(parameters)}")
        self._group = default(group)
        self.weighted = weighted
        self._weight = 1.0
        self._shapes = [tuple(p.shape) for p in parameters]
        for parameter in parameters:
            if not isinstance(parameter, np.ndarray):
                raise NotImplementedError(
                    "Reducer: parameters on a GPU are not supported yet; keep the model on the CPU"
                )
            check_reducible("AVG", parameter.dtype)
        description = [[n, list(p.shape), p.dtype.name] for n, p in zip(names, parameters, strict=True)]
        plan = self._agree(description, [bucket_bytes, first_bucket_bytes, int(weighted)], parameters)
        self.buckets = [self._build(members, names, parameters) for members in plan]
        self._views: list[np.ndarray] = [np.empty(0)] * len(parameters)
        self._place: list[tuple[_Span, int]] = [(self.buckets[0], 0)] * len(parameters)
        for span in self.buckets:
            self._lay_out(span)
        self._fired = bytearray(len(parameters))
        self._next = 0
        self.reset()

    def _agree(self, mine: list[list[Any]], options: list[int], parameters: Sequence[np.ndarray]) -> list[list[int]]:
        """Check that all ranks hold the same parameters and return rank 0's bucket plan."""
        from disttorch.distributed.object_collectives import all_gather_object

        everybody: list[list] = [[]] * self._group.size()
        all_gather_object(everybody, [mine, options], self._group)
        for rank, (theirs, _) in enumerate(everybody):
            _check_same_parameters(everybody[0][0], theirs, rank)
        bucket_bytes, first_bytes, weighted = everybody[0][1]
        if any(other[1][2] != weighted for other in everybody):
            raise DistError("Reducer: some ranks weight their gradients and some do not; pass the same `weighted`")
        return plan_buckets(
            [p.nbytes for p in parameters],
            [p.dtype.name for p in parameters],
            first_bytes,
            bucket_bytes,
        )

    def _build(self, members: list[int], names: Sequence[str], parameters: Sequence[np.ndarray]) -> _Span:
        number = self._group.buckets
        self._group.buckets += 1
        span = _Span(number, parameters[members[0]].dtype, members)
        span.names = tuple(names[index] for index in members)
        return span

    def _lay_out(self, span: _Span) -> None:
        itemsize = span.dtype.itemsize
        offsets, end = [], 0
        for index in span.members:
            offsets.append(end)
            end += -(-_size(self._shapes[index]) * itemsize // _CACHE_LINE) * _CACHE_LINE // itemsize
        total = end + len(span.members) + 1
        span.memory = self._group.transport.allocate(f"bucket{span.number}", total * itemsize)
        span.flat = span.memory.row.view(span.dtype)
        span.flat[:] = 0
        span.has_gradient, span.weight = span.flat[end : total - 1], span.flat[total - 1 :]
        for position, (index, offset) in enumerate(zip(span.members, offsets, strict=True)):
            shape = self._shapes[index]
            self._views[index] = span.flat[offset : offset + _size(shape)].reshape(shape)
            self._place[index] = span, position

    def view(self, index: int) -> np.ndarray:
        """Return the memory of parameter `index`'s gradient in its bucket, in the parameter's shape."""
        return self._views[index]

    def set_weight(self, weight: float) -> None:
        """Set how much this rank's gradients count in the coming steps, such as its number of samples; 0 for none."""
        if not self.weighted:
            raise DistError("Reducer.set_weight needs Reducer(weighted=True), on every rank")
        self._weight = float(weight)

    def reset(self) -> None:
        """Begin a step anew, forgetting gradients that were marked and not yet reduced."""
        self._fired = bytearray(len(self._views))
        self._next = 0
        for span in self.buckets:
            span.missing, span.work = len(span.members), None

    def mark_ready(self, index: int, grad: np.ndarray) -> np.ndarray:
        """Take parameter `index`'s finished gradient and return its view in the bucket, to be used as `.grad`.

        Copies `grad` unless it is that view already. Starts the reduction of every bucket that is
        now due. The view holds the average once `finalize` has returned. Raises DistError if the
        gradient was marked in this step.
        """
        if self._fired[index]:
            raise DistError(
                f"the gradient of parameter {self._name(index)} was finished twice in one "
                "step; call finalize() after "
                "every backward, or run the extra backward passes under no_sync()"
            )
        span, position = self._place[index]
        view = self._views[index]
        if grad is not view:
            np.copyto(view, grad)
        self._fired[index] = 1
        span.has_gradient[position] = 1
        span.missing -= 1
        if span.missing == 0:
            self._launch_full(self.buckets[:-1])
        return view

    def finalize(self, current: Callable[[int], np.ndarray | None] | None = None) -> list[bool]:
        """Reduce what is left, wait for everything, and say for each parameter whether any rank had a gradient.

        A parameter that was not marked counts as zeros here, or as `current(index)` if that
        returns an array (the gradient left from steps without synchronisation). Afterwards
        `view(index)` holds the average on every rank.
        """
        if 0 in self._fired:
            for index, fired in enumerate(self._fired):
                if not fired:
                    self._fill_unfired(index, None if current is None else current(index))
        self._launch_full(self.buckets)
        used = [True] * len(self._views)
        for span in self.buckets:
            if span.work is not None:
                span.work.wait()
            if self.weighted:
                _divide_by_weight(span)
            if not span.has_gradient.all():
                for index, flag in zip(span.members, span.has_gradient, strict=True):
                    used[index] = bool(flag)
        self.reset()
        return used

    def _fill_unfired(self, index: int, grad: np.ndarray | None) -> None:
        if grad is not None:
            self.mark_ready(index, grad)
            return
        span, position = self._place[index]
        self._views[index].fill(0)
        span.has_gradient[position] = 0
        span.missing -= 1

    def _launch_full(self, due: Sequence[_Span]) -> None:
        """Start the buckets of `due` that are full, in order: every rank starts them in the same.

        The last one is due only when backward has ended: there is nothing left to overlap with, so
        it runs in the calling thread, which saves two thread switches.
        """
        while self._next < len(due) and due[self._next].missing == 0:
            span = due[self._next]
            self._next += 1
            self._launch(span, async_op=span is not self.buckets[-1])

    def _launch(self, span: _Span, async_op: bool) -> None:
        op = "SUM" if self.weighted else "AVG"
        weight = self._weight if self.weighted else None
        call = Call(
            "bucket",
            span.dtype.name,
            span.flat.shape,
            op,
            -1,
            span.names,
            span.number,
            span.flat.nbytes,
        )

        def body(transport: Transport) -> None:
            assert span.memory is not None
            if weight is not None:
                span.weight[0] = 1
                np.multiply(span.flat, weight, out=span.flat)
            steps.reduce_bucket(transport, span.memory, span.flat, op)

        span.work = self._group.collective(call, body, async_op)

    def _name(self, index: int) -> str:
        span, position = self._place[index]
        return span.names[position]


def _divide_by_weight(span: _Span) -> None:
    total = span.weight[0]
    if total:
        np.divide(span.flat, total, out=span.flat)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _check_same_parameters(first: list[list], other: list[list], rank: int) -> None:
    for mine, theirs in zip(first, other, strict=False):
        if mine != theirs:
            raise DistError(
                f"the ranks hold different parameters: rank 0 has {_parameter(mine)} where "
                f"rank {rank} has "
                f"{_parameter(theirs)}; build the same model on every rank"
            )
    if len(first) != len(other):
        longer, where = (first, 0) if len(first) > len(other) else (other, rank)
        extra = _parameter(longer[min(len(first), len(other))])
        raise DistError(
            f"the ranks hold different parameters: rank 0 has {len(first)} and rank {rank} has "
            f"{len(other)}; "
            f"only rank {where} has {extra}; build the same model on every rank"
        )


def _parameter(entry: list) -> str:
    name, shape, dtype = entry
    return f"{name} {dtype}{list(shape)}"
