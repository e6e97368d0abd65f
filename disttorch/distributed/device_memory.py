"""Memory of GPUs that takes part in collectives: it is copied to the host's memory and back, in the right order."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from disttorch.backends import backend_of, device_of
from disttorch.core.device import CPU, device
from disttorch.distributed.work import THREAD_NAME


class DeviceMemory:
    """An array on a GPU that any thread can copy to the host and back.

    What the current stream has been given before `mark` (or before this object was made) comes before
    the copies, which have a stream of their own, so that they go on beside the backward pass.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self._library = backend_of(array).namespace
        self._number = array.device.id
        with self._library.cuda.Device(self._number):
            self._marked = self._library.cuda.Event(disable_timing=True)
            self._marked.record()

    def mark(self) -> None:
        """Let copies wait for all that the current stream has been given until now."""
        with self._library.cuda.Device(self._number):
            self._marked.record()

    def fetch(self, host: np.ndarray) -> None:
        """Copy the array to `host`, C-contiguous, of the same shape and type."""
        with self._on_side_stream():
            self.array.get(out=host)

    def store(self, host: np.ndarray) -> None:
        """Copy `host` to the array."""
        with self._on_side_stream():
            if self.array.flags.c_contiguous:
                self.array.set(host)
            else:
                self.array[...] = self._library.asarray(host)

    def settle(self) -> None:
        """Wait for all that any thread has given to the device."""
        self._library.cuda.Device(self._number).synchronize()

    @contextmanager
    def _on_side_stream(self) -> Iterator[None]:
        """Make device and stream those of this thread, after what was marked, and wait at the end."""
        gpu = self._library.cuda.Device(self._number)
        if threading.current_thread().name == THREAD_NAME:
            gpu.use()  # also for the callbacks of the collective's future
        with gpu, _side_stream(self._library, self._number) as stream:
            stream.wait_event(self._marked)
            yield
            stream.synchronize()


@functools.cache
def _side_stream(library: Any, number: int) -> Any:
    """Return the stream of the copies from and to a device, which is current; kernels do not wait for it."""
    return library.cuda.Stream(non_blocking=True)


class Pinned:
    """Locks memory of the host in place while this object lives, so that GPUs reach it without copying it first.

    Where the system does not allow that, copies are slower and nothing else changes.
    """

    def __init__(self, memory: np.ndarray, like: Any) -> None:
        runtime = backend_of(like).namespace.cuda.runtime
        if memory.nbytes:
            try:
                runtime.hostRegister(memory.ctypes.data, memory.nbytes, 0)
            except runtime.CUDARuntimeError:
                return
            weakref.finalize(self, _unregister, runtime, memory).atexit = False


def _unregister(runtime: Any, memory: np.ndarray) -> None:
    runtime.hostUnregister(memory.ctypes.data)


def kinds_of_places(arrays: Iterable[Any]) -> list[str]:
    """Return for each array where it is, in words that are the same on ranks with different GPUs.

    "CPU", or "GPU", with a number if there are several, in the order in which they come.
    """
    gpus: dict[device, int] = {}
    found = []
    for where in map(device_of, arrays):
        number = 0 if where == CPU else gpus.setdefault(where, len(gpus) + 1)
        found.append("CPU" if not number else "GPU" if number == 1 else f"GPU {number}")
    return found
