"""Averaging gradients over ranks while backward is still running.

Parameters are packed into buckets in reverse order of registration, about the order in which
backward finishes them. A bucket's memory is this rank's row of a shared segment; when its last
gradient is there, its all-reduce starts in the communication thread (or, see `Reducer`, waits for the end
of backward). Gradients on a GPU are in a bucket there, which that thread copies to the segment and back. After the parameters' values
a bucket holds one number per parameter, 1 where this rank had a gradient, so that one sum also
tells whether anybody had one; with `weighted`, the rank's weight is in there, too.

    reducer = Reducer(names, [p._a for p in parameters])
    # in each parameter's post-accumulate hook:  view = reducer.mark_ready(index, grad)
    # when backward ends:                        averaged = reducer.finalize()
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.distributed import steps
from disttorch.distributed.device_memory import kinds_of_places
from disttorch.distributed.errors import DistError
from disttorch.distributed.gradient_buckets import NEWS, CommHook, DeviceSpan, GradBucket, Span, plan_buckets
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.reduction import check_reducible
from disttorch.distributed.runtime import default, get_world_size
from disttorch.distributed.same_model import check_same_model
from disttorch.distributed.transport import Transport
from disttorch.futures import Future

FIRST_BUCKET_BYTES = 1024 * 1024
BUCKET_BYTES = 25 * 1024 * 1024


class Reducer:
    """Averages the gradients of one model over the ranks of a group.

    names, parameters: every trainable parameter's name and array (only shape, dtype and device are used),
    in registration order, the same on every rank: DistError on every rank, naming the first
    difference, if they are not. bucket_bytes, first_bucket_bytes: rank 0's values count for all; by default the first
    bucket is small where its reduction overlaps with backward.
    weighted: divide the sum by the sum of the ranks' weights (`set_weight`) rather than by the
    number of ranks.

    In every step call `mark_ready` once for each gradient that exists and then `finalize`; buckets
    are reduced in order, each as soon as it and those before it are full, if `overlaps`: where rank 0
    has one core and there is only memory to wait for, another thread would not save but cost time.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Sequence[Any],
        bucket_bytes: int = BUCKET_BYTES,
        first_bucket_bytes: int | None = None,
        weighted: bool = False,
        group: ProcessGroup | None = None,
    ) -> None:
        if not names or len(names) != len(parameters):
            raise ValueError(f"Reducer: expected a name per parameter, got {len(names)} and {len(parameters)}")
        self._group = default(group)
        self.weighted = weighted
        self.all_used = True
        self.news: tuple[bool, ...] = (False,) * NEWS
        self._weight = 1.0
        self._divisor: float | None = None
        self._hook: tuple[Any, CommHook, Sequence[Tensor]] | None = None
        for parameter in parameters:
            check_reducible("AVG", parameter.dtype)
        places = kinds_of_places(parameters)
        agreed = self._agree(
            names, parameters, places, [bucket_bytes, -1 if first_bucket_bytes is None else first_bucket_bytes]
        )
        # The same on every rank: there may be other collectives between a bucket's last gradient and the end of backward.
        only_memory = self._group.transport.shares_buckets and all(isinstance(p, np.ndarray) for p in parameters)
        self.overlaps = agreed["cores"] > 1 or not only_memory
        bucket_bytes, first_bucket_bytes = agreed["bucket sizes"]
        if first_bucket_bytes < 0:
            first_bucket_bytes = min(bucket_bytes, FIRST_BUCKET_BYTES) if self.overlaps else bucket_bytes
        kinds = [f"{p.dtype.name} {place}" for p, place in zip(parameters, places)]
        plan = plan_buckets([p.nbytes for p in parameters], kinds, first_bucket_bytes, bucket_bytes)
        self._views: list[Any] = [None] * len(parameters)
        self._place: list[tuple[Span, int]] = []
        self.buckets = [self._build(members, names, parameters) for members in plan]
        where = {index: (span, i) for span in self.buckets for i, index in enumerate(span.members)}
        self._place = [where[index] for index in range(len(parameters))]
        self.fired = bytearray(len(parameters))
        self._next = 0
        self._put_off: list[Span] = []

    def _agree(
        self, names: Sequence[str], parameters: Sequence[Any], places: Sequence[str], sizes: list[int]
    ) -> dict[str, Any]:
        """Check that all ranks hold the same parameters and return rank 0's bucket sizes and number of cores."""
        described = zip(names, parameters, places, strict=True)
        mine = [["parameter", n, p.dtype.name, list(p.shape), True, place] for n, p, place in described]
        options = {"weighted": self.weighted, "bucket sizes": sizes, "cores": len(os.sched_getaffinity(0))}
        return check_same_model(mine, options, {"weighted"}, self._group)

    def _build(self, members: list[int], names: Sequence[str], parameters: Sequence[Any]) -> Span:
        number = self._group.buckets
        self._group.buckets += 1
        shapes = [tuple(parameters[index].shape) for index in members]
        like = parameters[members[0]]
        kind = Span if isinstance(like, np.ndarray) else DeviceSpan
        span = kind(number, members, tuple(names[index] for index in members), shapes)
        total = (sum(span.sizes) + len(members) + NEWS + 1) * like.dtype.itemsize
        memory = self._group.transport.allocate(f"bucket{number}", total)
        views = span.take(memory, like)
        self._group.transport.prepare(memory, np.dtype(like.dtype), total, "AVG")
        for index, view in zip(members, views, strict=True):
            self._views[index] = view
        return span

    @property
    def waits(self) -> bool:
        """Whether nothing is reduced before `finalize`."""
        return not self.overlaps and self._hook is None

    def view(self, index: int) -> Any:
        """Return the memory of parameter `index`'s gradient in its bucket, in the parameter's shape."""
        return self._views[index]

    def name(self, index: int) -> str:
        """Return the name of parameter `index`."""
        span, position = self._place[index]
        return span.names[position]

    def set_weight(self, weight: float) -> None:
        """Set how much this rank's gradients count in the coming steps, such as its number of samples; 0 for none."""
        if not self.weighted:
            raise DistError("Reducer.set_weight needs Reducer(weighted=True), on every rank")
        self._weight = float(weight)

    def set_divisor(self, divisor: float | None) -> None:
        """Divide the coming sums by this number, the same on every rank; None for the number of ranks."""
        self._divisor = None if divisor == get_world_size(self._group) else divisor

    def set_hook(self, state: Any, hook: CommHook, parameters: Sequence[Tensor]) -> None:
        """Let `hook(state, GradBucket)` reduce the buckets from now on; `parameters` are those of this reducer."""
        self._hook = state, hook, parameters

    def abandon(self) -> None:
        """Forget what a step that has failed has left behind, once its reductions are over."""
        if 1 in self.fired:
            for span in self.buckets:
                if span.work is not None:
                    span.work.wait()
            self.reset()

    def reset(self) -> None:
        """Begin a step anew, forgetting gradients that were marked and not yet reduced."""
        self.fired = bytearray(len(self._views))
        self._next = 0
        self._put_off = []
        for span in self.buckets:
            span.begin()

    def is_fired(self, index: int) -> bool:
        """Say whether parameter `index` was marked in this step."""
        return bool(self.fired[index])

    def unfired(self) -> list[int]:
        """Return which parameters were not marked yet in this step."""
        return [i for i, fired in enumerate(self.fired) if not fired] if 0 in self.fired else []

    def is_launched(self, index: int) -> bool:
        """Say whether the reduction of parameter `index`'s bucket has begun."""
        return self._place[index][0].launched

    def mark_ready(self, index: int, grad: Any, used: bool = True) -> Any:
        """Take parameter `index`'s finished gradient and return its view in the bucket, to be used as `.grad`.

        Copies `grad` unless it is that view already. Starts the reduction of every bucket that is
        now due. The view holds the average once `finalize` has returned. With `used=False` the
        values count without making the parameter a used one. Raises DistError if the gradient was
        marked in this step, or has another dtype, shape or kind of device than the parameter.
        """
        if self.fired[index]:
            raise self._twice(index)
        view = self._views[index]
        span, position = self._place[index]
        if grad is not view:
            if type(grad) is not span.array_type or grad.dtype != span.dtype or grad.shape != view.shape:
                raise self._changed(index, grad)
            view[...] = grad
        self.fired[index] = 1
        if not used:
            span.unused.append(position)
        span.missing -= 1
        if not span.missing:
            self._launch_full(len(self.buckets) - 1)
        return view

    def _changed(self, index: int, grad: Any) -> DistError:
        view = self._views[index]
        now, before = ("CPU" if isinstance(array, np.ndarray) else "GPU" for array in (grad, view))
        return DistError(
            f"the gradient of parameter {self.name(index)} is {grad.dtype.name}{list(grad.shape)} on the {now}, but the "
            f"parameter was {view.dtype.name}{list(view.shape)} on the {before} when its gradients were put into buckets; change a "
            "module's type or device first and wrap it then"
        )

    def _twice(self, index: int) -> DistError:
        return DistError(
            f"the gradient of parameter {self.name(index)} was finished twice in one step, and the first one may be on "
            "its way to the other ranks already; if backward calls backward, as in checkpointing, pass "
            "static_graph=True; else call finalize() after every backward, or run the extra ones under no_sync()"
        )

    def finalize(self) -> list[bool]:
        """Reduce what is left, wait for everything, and say for each parameter whether any rank had a gradient.

        A parameter that was not marked counts as zeros here. Afterwards `view(index)` holds the
        average on every rank; `all_used` says whether the answer is True throughout, and each of `news`
        whether it was True on any rank before.
        """
        for index in self.unfired():
            self._views[index].fill(0)
            span, position = self._place[index]
            span.unused.append(position)
            span.missing -= 1
        self._launch_full(len(self.buckets))
        for span in self._put_off:
            self._launch(span, async_op=False)
        if self._hook is not None:
            self._finish_hooks()
        self._wait()
        used = [True] * len(self._views) if self.all_used else self._used()
        self.reset()
        return used

    def _wait(self) -> None:
        self.all_used = True
        for span in self.buckets:
            if span.work is not None and self._hook is None:
                span.work.wait()
            if span.has_gradient.tobytes() != span.all_used:
                self.all_used = self.all_used and bool(span.has_gradient.all())
        self.news = tuple(bool(answer) for answer in self.buckets[-1].news)

    def _used(self) -> list[bool]:
        return [bool(span.has_gradient[position]) for span, position in self._place]

    def _launch_full(self, due: int) -> None:
        """Start those of the first `due` buckets that are full, in order: every rank starts them in the same.

        The last one is due only when backward has ended: there is nothing left to overlap with, so
        it runs in the calling thread, which saves two thread switches. Without overlap all do.
        """
        buckets = self.buckets
        while self._next < due and not buckets[self._next].missing:
            span = buckets[self._next]
            self._next += 1
            span.launched = True
            span.mark_flags(self.news)
            if self._hook is not None:
                self._run_hook(span)
            elif self.waits:
                self._put_off.append(span)
            else:
                self._launch(span, async_op=span is not buckets[-1])

    def _launch(self, span: Span, async_op: bool) -> None:
        op = "AVG" if self._divisor is None and not self.weighted else "SUM"
        weight = self._weight if self.weighted else None
        divisor = self._divisor

        def body(transport: Transport) -> None:
            span.fetch()
            if weight is not None:
                span.weight[0] = 1
                np.multiply(span.flat, weight, out=span.flat)
            steps.reduce_bucket(transport, span.memory, span.flat, op)
            total = divisor if weight is None else span.weight[0]
            if total:
                np.divide(span.flat, total, out=span.flat)
            span.store()

        span.work = self._group.collective(span.call(op), body, async_op)

    # -- comm hooks -------------------------------------------------------------------------------

    def _run_hook(self, span: Span) -> None:
        assert self._hook is not None
        state, hook, parameters = self._hook
        number = self._next - 1
        bucket = GradBucket(
            number, wrap(span.values), [parameters[i] for i in span.members], number == len(self.buckets) - 1
        )
        future = hook(state, bucket)
        if not isinstance(future, Future):
            raise TypeError(f"a comm hook must return a torch.futures.Future, got {type(future).__name__}")
        span.work = future

    def _finish_hooks(self) -> None:
        """Take what the hooks have made of the buckets, and sum the flags, which hooks do not see."""
        flags = np.concatenate([span.has_gradient.real != 0 for span in self.buckets] + [self.news])
        self._sum_flags(flags)
        start = 0
        for span in self.buckets:
            assert isinstance(span.work, Future)
            result = span.work.wait()
            result = result[0] if isinstance(result, (list, tuple)) and len(result) == 1 else result
            span.settle()
            self._take_result(span, result)
            span.has_gradient[:] = flags[start : start + len(span.members)]
            start += len(span.members)
        self.buckets[-1].news[:] = flags[-NEWS:]

    def _take_result(self, span: Span, result: Any) -> None:
        array: Any = getattr(result, "_a", None)
        if type(array) is not span.array_type or array.size != span.values.size:
            place = "on the CPU" if isinstance(array, np.ndarray) else "on a GPU"
            got = type(result).__name__ if array is None else f"a tensor of {array.size} {place}"
            raise TypeError(
                f"the Future of a comm hook must hold one tensor of {span.values.size} elements, the bucket's new "
                f"values, on the bucket's device, got {got}"
            )
        if array is not span.values:
            backend_of(array).namespace.copyto(span.values, array.reshape(-1), casting="same_kind")

    def _sum_flags(self, flags: np.ndarray) -> None:
        from disttorch.distributed.collectives import ReduceOp, all_reduce

        all_reduce(flags.view(np.uint8), ReduceOp.MAX, self._group)
