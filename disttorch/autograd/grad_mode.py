"""Whether operations are recorded, per thread: no_grad, enable_grad, set_grad_enabled, inference_mode."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True
    inference = False
    anomaly = False
    check_nan = True


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether this thread records operations."""
    return mode.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return mode.inference


class _Switch:
    """A context manager that can also decorate a function; it saves and restores the thread's mode."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._stack: list[bool] = []

    def __enter__(self) -> None:
        self._stack.append(mode.enabled)
        mode.enabled = self._enabled

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        mode.enabled = self._stack.pop()

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function):
            return self._around_generator(function)  # type: ignore[return-value]

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return inner  # type: ignore[return-value]

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a generator function whose steps run in this mode, and its caller's code in the caller's."""

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            steps = function(*args, **kwargs)
            advance: Callable[[], Any] = functools.partial(next, steps)
            while True:
                try:
                    with self._again():
                        value = advance()
                except StopIteration as end:
                    return end.value
                try:
                    advance = functools.partial(steps.send, (yield value))
                except GeneratorExit:
                    with self._again():
                        steps.close()
                    raise
                except BaseException as error:
                    advance = functools.partial(steps.throw, error)

        return inner

    def _again(self) -> _Switch:
        return _Switch(self._enabled)


class no_grad(_Switch):
    """Record nothing inside: `with no_grad():` or `@no_grad()` (also `@no_grad`)."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        if function is not None:
            return cls()(function)
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_Switch):
    """Record inside, even within `no_grad`."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        if function is not None:
            return cls()(function)
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_Switch):
    """Turn recording on or off: at once when called, and back at the end when used in a `with` statement."""

    def __init__(self, mode_enabled: bool) -> None:
        super().__init__(bool(mode_enabled))
        self._before = mode.enabled
        mode.enabled = self._enabled

    def __enter__(self) -> None:
        self._stack.append(self._before)
        mode.enabled = self._enabled

    def __call__(self, function: F) -> F:
        mode.enabled = self._before
        return super().__call__(function)


class inference_mode(_Switch):
    """Record nothing, and make tensors that can never take part in a gradient."""

    def __new__(cls, mode: Callable[..., Any] | bool = True) -> Any:
        if callable(mode):
            return cls()(mode)
        return super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)
        self._inference = mode
        self._outer: list[bool] = []

    def __enter__(self) -> None:
        self._outer.append(mode.inference)
        self._stack.append(mode.enabled)
        mode.inference = self._inference
        mode.enabled = not self._inference
        inference_threads.append(self)

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        inference_threads.remove(self)
        mode.inference = self._outer.pop()
        mode.enabled = self._stack.pop()

    def _again(self) -> inference_mode:
        return inference_mode(self._inference)


# Not empty while any thread is in inference mode, or has ever been in anomaly mode: most of the time the fast path need
# not look up its own thread's mode.
inference_threads: list[inference_mode] = []
anomaly_threads: list[set_detect_anomaly] = []


class set_detect_anomaly:
    """Remember where each operation was called, and refuse NaN gradients, as a call or a context manager."""

    def __init__(self, mode_enabled: bool, check_nan: bool = True) -> None:
        self._before = (mode.anomaly, mode.check_nan)
        mode.anomaly, mode.check_nan = mode_enabled, check_nan
        if mode_enabled and not anomaly_threads:
            anomaly_threads.append(self)

    def __enter__(self) -> None:
        """Do nothing: the mode was set when the object was made."""

    def __exit__(self, *exc: object) -> None:
        mode.anomaly, mode.check_nan = self._before


class detect_anomaly(set_detect_anomaly):
    """`with detect_anomaly():` names the operation whose gradient is NaN or fails."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True, check_nan)
