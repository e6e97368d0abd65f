"""`Future`: a value that another thread will set, as `torch.futures`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

__all__ = ["Future", "collect_all", "wait_all"]

T = TypeVar("T")
S = TypeVar("S")


class Future(Generic[T]):
    """A value that is not there yet, as `torch.futures.Future`.

    `devices` is accepted: a value on a GPU is usable when the future is done.

    >>> future: Future[int] = Future()
    >>> doubled = future.then(lambda done: 2 * done.value())
    >>> future.set_result(21)
    >>> doubled.wait()
    42
    """

    def __init__(self, *, devices: Sequence[Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: list[Callable[[Future[T]], Any]] = []
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Say whether there is a result or an exception."""
        return self._event.is_set()

    def wait(self) -> T:
        """Wait for the value and return it; raise the exception if there is one instead."""
        self._event.wait()
        return self.value()

    def value(self) -> T:
        """Return the value, which must be there; raise the exception if there is one instead."""
        if not self._event.is_set():
            raise RuntimeError("Future.value(): the future has no value yet; call wait() first")
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result

    def then(self, callback: Callable[[Future[T]], S]) -> Future[S]:
        """Call `callback(self)` when this is done; return the future of what it returns or raises.

        It runs in the thread that sets the value, or here and now if the value is there already.
        """
        following: Future[S] = type(self)()  # type: ignore[assignment]

        def run(done: Future[T]) -> None:
            try:
                result = callback(done)
            except Exception as error:
                following.set_exception(error)
            else:
                following.set_result(result)

        self.add_done_callback(run)
        return following

    def add_done_callback(self, callback: Callable[[Future[T]], Any]) -> None:
        """Call `callback(self)` when this is done, like `then` without a future of its own.

        What it raises is raised by `set_result`, or here if the value is there already.
        """
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def set_result(self, result: T) -> None:
        """Set the value and run the callbacks; RuntimeError if there is a value or an exception already."""
        self._finish(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Set what `wait` and `value` will raise, and run the callbacks."""
        if not isinstance(result, BaseException):
            raise AssertionError(f"set_exception: expected an exception, got {result!r} of {type(result)}")
        self._finish(None, result)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._event.is_set():
                raise RuntimeError("a Future can be completed only once")
            self._result, self._error = result, error
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def collect_all(futures: Sequence[Future[Any]]) -> Future[list[Future[Any]]]:
    """Return a future of the list of `futures`, done when all of them are, well or not."""
    listed = list(futures)
    collected: Future[list[Future[Any]]] = Future()
    lock = threading.Lock()
    left = len(listed)
    if not left:
        collected.set_result([])

    def count(_: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            collected.set_result(listed)

    for future in listed:
        future.add_done_callback(count)
    return collected


def wait_all(futures: Sequence[Future[Any]]) -> list[Any]:
    """Wait for all `futures` and return their values; raise the first exception in their order."""
    return [future.wait() for future in collect_all(futures).wait()]
