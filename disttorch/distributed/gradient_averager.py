"""Between parameters and the reducer: which backward passes are averaged, and what `.grad` is afterwards.

`.grad` becomes a view of the bucket, so that nothing is copied back. Where that could be seen, because the
program gave `.grad` memory of its own or still holds an old gradient, the values are copied instead, unless
`gradient_as_bucket_view` says that views are wanted.
"""

from __future__ import annotations

import bisect
import gc
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from disttorch.autograd.engine import Sweep, outermost_pass
from disttorch.autograd.hooks import GradientMemory
from disttorch.autograd.tensor import Tensor, alias, wrap
from disttorch.backends import address, backend_of, device_of
from disttorch.distributed.errors import DistError
from disttorch.distributed.reducer import Reducer

_Range = tuple[int, int]

# The count of changes of a gradient that the engine has just made and that nobody else has.
_NEW = [0]

# A gradient of more bytes that is not in its bucket is put there at once: until the end of backward it would be twice
# in memory. A smaller one is not worth the steps in Python.
_LARGE = 64 * 1024

# Of more forward passes without a backward pass, as in an evaluation with gradients, the oldest count as one.
_MOST_FORWARDS = 16


class Owner(Protocol):
    """Who is told about averaged backward passes."""

    def _before_last_reduction(self) -> tuple[bool, ...]:
        """Return what all ranks are to know, yes or no."""

    def _after_reductions(self, news: tuple[bool, ...]) -> None:
        """Take notice: `news` says what any rank has answered with yes."""


class GradientAverager:
    """Averages the gradients of `parameters` over the ranks at the end of backward passes.

    reducer: made for these parameters; as_views: whether `.grad` is always a view of the bucket;
    static_graph: whether every pass uses the parameters as the first one does; owner: asked at the end of an
    averaged pass for what all ranks are to know, and told what they do.

    A pass is averaged if there was a forward pass that `add_forward` was told about and whose backward pass
    has not been yet, or if it goes through a forward pass that was averaged before. Hooks on the parameters
    are removed when this object goes.
    """

    def __init__(
        self,
        reducer: Reducer,
        parameters: Sequence[Tensor],
        as_views: bool,
        static_graph: bool,
        owner: Owner,
    ) -> None:
        self.reducer = reducer
        self.parameters = list(parameters)
        self._forwards: list[_Range] = []
        self._past: list[_Range] = []
        self._as_views = as_views
        self._owner = weakref.ref(owner)
        self._views = [reducer.view(index) for index in range(len(self.parameters))]
        self._owners = [view if view.base is None else view.base for view in self._views]
        self._pass: list[Any] | None = None  # the callbacks of the pass that is averaged
        self._plain_pass: list[Any] = [None]  # the same, unless it counts how often parameters are used
        self._late_pass: list[Any] = [None]  # the same, if moreover nothing is reduced before its end
        self._late = bytearray(len(self.parameters))  # gradients that `_finish` has still to put into buckets
        self._left_over = bytearray(len(self.parameters))  # used in passes that were not averaged
        self._any_left_over = False
        self._own_memory: list[int] = []
        self._uses: list[int] | None = None
        self._uses_left: list[int] = []
        if static_graph:
            self.set_static_graph()
        self._handles: list[Any] = []
        free = self._free_memory()
        for index, parameter in enumerate(self.parameters):
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._hook(index)))
            if isinstance(self._views[index], np.ndarray):
                self._handles.append(GradientMemory(parameter._own_hooks(), self._views[index], free, index))
        self._references = self._count_references()
        weakref.finalize(self, _remove, self._handles).atexit = False

    def set_static_graph(self) -> None:
        """Count in the first pass how often backward finishes each parameter, and then wait for as many."""
        self._uses = []

    def remove_hooks(self) -> None:
        """Take the hooks off the parameters."""
        _remove(self._handles)

    def fits(self) -> bool:
        """Whether the parameters have the type and the device for which the buckets were made."""
        pairs = zip(self.parameters, self._views)
        return all(p._a.dtype == view.dtype and device_of(p._a) == device_of(view) for p, view in pairs)

    @property
    def under_way(self) -> bool:
        """Whether a backward pass that is averaged has begun and not ended."""
        return self._pass is not None

    def forget_past(self) -> None:
        """Take it that backward passes of past forward passes are over."""
        if self._past:
            self._past = []

    def add_forward(self, start: int, end: int) -> None:
        """Average the backward pass of a forward pass; its operations have numbers between `start` and `end`."""
        self._forwards.append((start, end))
        if len(self._forwards) > _MOST_FORWARDS:
            self._forwards[:2] = [(self._forwards[0][0], self._forwards[1][1])]

    def _hook(self, index: int) -> Callable[[Tensor], None]:
        reference = weakref.ref(self)
        view, reducer, hooks = self._views[index], self.reducer, self.parameters[index]._own_hooks().accumulated
        plain_pass, late_pass, late = self._plain_pass, self._late_pass, self._late
        is_large = view.nbytes > _LARGE

        def gradient_is_complete(parameter: Tensor) -> None:
            # The usual cases first, in few steps: backward has just filled the caches with other things. Later, all
            # gradients are taken in one loop, if no other hook can take them away before.
            grad, running = parameter._grad, outermost_pass()
            assert grad is not None
            assert running is not None
            if (
                late_pass[0] is running.callbacks
                and (grad._a is view or not is_large)
                and not (late[index] or len(hooks) > 1)
            ):
                late[index] = 1
                return
            if (
                plain_pass[0] is running.callbacks
                and (grad._a is view or grad._counter == _NEW)
                and not (grad._requires_grad or reducer.fired[index])
            ):
                reducer.mark_ready(index, grad._a)
                grad._a = view
                return
            averager = reference()
            if averager is None:
                return
            if averager._takes_part():
                averager._complete(index, parameter)
            else:
                averager._left_over[index] = 1
                averager._any_left_over = True

        return gradient_is_complete

    def _free_memory(self) -> Callable[[], bytes | None]:
        """Return what tells the engine which gradients it may compute right in their buckets: those that are not there yet."""
        reference = weakref.ref(self)
        all_free = bytes([1]) * len(self.parameters)

        def free_memory() -> bytes | None:
            averager = reference()
            if averager is None or not averager._takes_part():
                return None
            fired, late = averager.reducer.fired, averager._late
            if 1 in fired or 1 in late:
                return bytes(not (there or noted) for there, noted in zip(fired, late))
            return all_free

        return free_memory

    def _takes_part(self) -> bool:
        """Say whether the backward pass that now runs is averaged; begin with it if it is and has just begun."""
        running = outermost_pass()
        assert running is not None
        return self._pass is running.callbacks or self._enter(running)

    def _enter(self, running: Sweep) -> bool:
        """Begin to average a backward pass, if it is one that is to be averaged."""
        if not self._forwards and not (self._past and _touched(self._past, running)):
            return False
        self._consume_forwards(running)
        self._begin(running.callbacks)
        running.callbacks.append(self._finish)
        return True

    def _complete(self, index: int, parameter: Tensor) -> None:
        if 1 in self._late:
            self._take_late()
        if self._uses is None or not self._more_to_come(index):
            self._mark(index, parameter)

    def _consume_forwards(self, running: Sweep) -> None:
        """Note which forward passes this is the backward pass of."""
        consumed = self._forwards
        if len(consumed) > 1:
            consumed = _touched(consumed, running) or consumed
        self._past += consumed
        self._forwards = [forward for forward in self._forwards if forward not in consumed]

    def _begin(self, callbacks: list[Any] | None) -> None:
        self._pass = callbacks
        self._plain_pass[0] = callbacks if self._uses is None else None
        self._late_pass[0] = callbacks if self._uses is None and self.reducer.waits else None
        self._late[:] = bytes(len(self._late))
        self.reducer.abandon()
        self._own_memory = []
        self._uses_left = list(self._uses or ())
        if not self._as_views and self._count_references() != self._references:
            escaped = self._escaped()
            if escaped:
                self._keep_old(escaped)

    def _more_to_come(self, index: int) -> bool:
        """Whether this pass will finish the parameter again; in the first pass of a static graph that is not known."""
        if not self._uses_left:
            self._uses_left = [0] * len(self.parameters)
        first = not self._uses
        self._uses_left[index] += 1 if first else -1
        return first or self._uses_left[index] > 0

    def _mark(self, index: int, parameter: Tensor, used: bool = True) -> None:
        grad = parameter._grad
        view = self._views[index]
        if grad is None:
            view.fill(0)
            self.reducer.mark_ready(index, view, used)
        elif grad._a is view:
            if not self._again(index):
                self.reducer.mark_ready(index, view, used)
        elif self._again(index):
            view[...] = grad._a
        else:
            self.reducer.mark_ready(index, grad._a, used)
            self._put_view(index, parameter, grad, view)

    def _again(self, index: int) -> bool:
        """Whether the parameter was finished before in this pass and its bucket can still take more."""
        return self.reducer.is_fired(index) and not self.reducer.is_launched(index)

    def _put_view(self, index: int, parameter: Tensor, grad: Tensor, view: Any) -> None:
        """Let `.grad` be the bucket's memory, unless somebody else may know the memory that it has."""
        if grad._edge is not None or grad._requires_grad:
            warnings.warn(
                "DistributedDataParallel averages the values of gradients made with create_graph=True, but their own "
                "graph remains this rank's: derivatives of them are not averaged",
                stacklevel=2,
            )
            parameter._grad = alias(grad)
            parameter._grad._a = view
        elif grad._counter == _NEW:
            grad._a = view
        elif self._as_views:
            parameter._grad = wrap(view)
        else:
            self._own_memory.append(index)

    def _finish(self) -> None:
        """Wait for the averages at the end of the backward pass, and give them to parameters not used here."""
        self._pass = self._plain_pass[0] = self._late_pass[0] = None
        kept: dict[int, Any] = {}
        unused: list[int] = []
        reducer = self.reducer
        if 1 in self._late:
            self._take_late()
        if self._uses == []:
            self._end_first_pass()
        if self._any_left_over or 0 in reducer.fired:
            unused = self._fill_unused(kept)
        owner = self._owner()
        if owner is not None:
            reducer.news = owner._before_last_reduction()
        used = reducer.finalize()
        for index in unused:
            if used[index]:
                self._hand_out(index)
            elif index in kept:
                self._views[index][...] = kept[index]
        for index in self._own_memory:
            self._hand_out(index)
        if owner is not None:
            owner._after_reductions(reducer.news)

    def _take_late(self) -> None:
        """Put the gradients into buckets that the hooks have only taken note of."""
        mark_ready, views = self.reducer.mark_ready, self._views
        for index in reversed(range(len(views))):  # about the order of backward
            if not self._late[index]:
                continue
            parameter, view = self.parameters[index], views[index]
            grad = parameter._grad
            if grad is None:
                raise DistError(
                    f"the gradient of parameter {self.reducer.name(index)} was taken away (`.grad = None`) during backward, "
                    "before it was averaged; do that when backward has ended, or in a post-accumulate hook of the parameter"
                )
            if grad._requires_grad or self.reducer.fired[index]:
                self._mark(index, parameter)
            elif grad._a is view:
                mark_ready(index, view)
            elif grad._counter == _NEW and not _is_shared(grad):
                mark_ready(index, grad._a)
                grad._a = view
            elif self._as_views:
                mark_ready(index, grad._a)
                parameter._grad = wrap(view)
            else:
                mark_ready(index, grad._a)
                self._own_memory.append(index)
        self._late[:] = bytes(len(self._late))

    def _end_first_pass(self) -> None:
        self._uses = list(self._uses_left)
        for index, count in enumerate(self._uses):
            if count:
                self._mark(index, self.parameters[index])

    def _fill_unused(self, kept: dict[int, Any]) -> list[int]:
        """Give the reducer what parameters not used in this pass hold; return which they are.

        Gradients from passes that were not averaged count as used. Others count without being used, and keep
        their values if no rank used them: `kept` then holds those that are in the bucket.
        """
        unused = self.reducer.unfired()
        for index in unused:
            parameter, view = self.parameters[index], self._views[index]
            waiting, held = bool(self._left_over[index]), parameter._grad
            if held is None and not waiting:
                continue  # the reducer fills in zeros
            if held is not None and held._a is view and not waiting:
                kept[index] = view.copy()
            if held is None or held._a is view:
                self._mark(index, parameter, used=waiting)
            else:
                self.reducer.mark_ready(index, held._a, used=waiting)
        self._left_over = bytearray(len(self.parameters))
        self._any_left_over = False
        return unused

    def shadow(self) -> None:
        """Take part in the reductions of a pass that this rank has no data for, and keep the averages.

        Gradients from passes that were not averaged count; others do not.
        """
        for index, parameter in enumerate(self.parameters):
            if not self._left_over[index]:
                parameter._grad = None
        self._begin(None)
        self._finish()

    def _hand_out(self, index: int) -> None:
        parameter, view = self.parameters[index], self._views[index]
        grad = parameter._grad
        if grad is None or (self._as_views and grad._a is not view):
            parameter._grad = wrap(view)
        elif grad._a is not view:
            grad._a[...] = view
            if grad._counter is not None:
                grad._counter[0] += 1

    # -- old gradients that the program still holds -----------------------------------------------

    def _count_references(self) -> list[int]:
        """Count who refers to each view and to the array that owns its memory, which arrays made of either refer to."""
        return [sys.getrefcount(view) + sys.getrefcount(owner) for view, owner in zip(self._views, self._owners)]

    def _escaped(self) -> list[int]:
        """Return the parameters whose bucket memory somebody refers to though it is not their `.grad` any more."""
        pairs = zip(self._count_references(), self._references, strict=True)
        return [index for index, (now, before) in enumerate(pairs) if now != before and not self._is_grad(index)]

    def _is_grad(self, index: int) -> bool:
        grad = self.parameters[index]._grad
        return grad is not None and grad._a is self._views[index]

    def _keep_old(self, escaped: list[int]) -> None:
        """Move tensors on memory that is about to be overwritten to copies of it."""
        tensors = [found for found in gc.get_objects() if issubclass(type(found), Tensor)]
        for index in escaped:
            _move(tensors, self._views[index], self._owners[index])
        left = self._count_references()
        for index in escaped:
            if left[index] != self._references[index]:
                self._references[index] = left[index]
                warnings.warn(
                    f"the NumPy array that was taken of the gradient of {self.reducer.name(index)} changes with the next "
                    "gradients; copy it to keep its values",
                    stacklevel=2,
                )


def _references(grad: Tensor) -> tuple[int, int]:
    """Count who refers to the array of a gradient and to what owns its memory, where that is another array."""
    array = grad._a
    return sys.getrefcount(array), sys.getrefcount(array.base)


# What that is for a tensor that nobody else shares anything with; versions of Python count themselves differently.
_ALONE = _references(wrap(np.empty(2)[:1]))


def _is_shared(grad: Tensor) -> bool:
    """Say whether somebody else knows the memory of a gradient."""
    references, references_to_owner = _references(grad)
    return references > _ALONE[0] or (grad._a.base is not None and references_to_owner > _ALONE[1])


def _touched(forwards: list[_Range], running: Sweep) -> list[_Range]:
    """Return those forward passes whose operations a backward pass goes through."""
    nodes = running.nodes  # the last made first
    found = []
    for start, end in forwards:
        first_before = bisect.bisect_right(nodes, -end, key=lambda node: -node.seq)
        if first_before < len(nodes) and nodes[first_before].seq > start:
            found.append((start, end))
    return found


def _move(tensors: list[Tensor], view: Any, owner: Any) -> None:
    """Give those tensors that are on the memory of `view` the same place on a copy of it."""
    copied = view.copy().reshape(-1).view(np.uint8)
    as_strided = backend_of(view).namespace.lib.stride_tricks.as_strided
    for tensor in tensors:
        array = getattr(tensor, "_a", None)
        if array is view or (array is not None and getattr(array, "base", None) is owner):
            offset = address(array) - address(view)
            first = copied[offset : offset + array.itemsize].view(array.dtype)
            tensor._a = as_strided(first, array.shape, array.strides)


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
