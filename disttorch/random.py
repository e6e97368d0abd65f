"""Seeds, generators and their state: PyTorch's random stream (see `disttorch.core.stream`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.device import device as Device
from disttorch.core.stream import Stream, default_stream


class Generator:
    """A source of random numbers with a state of its own, as `torch.Generator`.

    The same seed gives the numbers that PyTorch gives on the CPU.
    """

    __slots__ = ("_stream",)

    def __init__(self, device: Any = "cpu") -> None:
        if Device(device).type != "cpu":
            raise RuntimeError(f"a Generator on '{device}' is not in disttorch; use Generator() and move the numbers")
        self._stream = Stream()

    @property
    def device(self) -> Device:
        """The device of the generator: the CPU."""
        return Device("cpu")

    def manual_seed(self, seed: int) -> Generator:
        """Restart from `seed` and return the generator."""
        self._stream.manual_seed(seed)
        return self

    def seed(self) -> int:
        """Restart from a random seed and return it."""
        return self._stream.seed()

    def initial_seed(self) -> int:
        """Return the seed that the generator was last started from."""
        return self._stream.initial_seed()

    def get_state(self) -> Tensor:
        """Return the state, uint8 [5056], in PyTorch's format."""
        return wrap(self._stream.get_state())

    def set_state(self, new_state: Tensor) -> None:
        """Restore what `get_state` returned, here or in PyTorch."""
        self._stream.set_state(_state_array(new_state))


def _state_array(state: Any) -> Any:
    if not isinstance(state, Tensor):
        raise TypeError(f"expected a torch.ByteTensor, but got {type(state).__name__}")
    return state._a


def _around_default() -> Generator:
    generator = Generator()
    generator._stream = default_stream
    return generator


default_generator = _around_default()


def manual_seed(seed: int) -> Generator:
    """Restart the default generator from `seed` and return it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Restart the default generator from a random seed and return it."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the seed that the default generator was last started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Return the state of the default generator, uint8 [5056]."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Restore what `get_rng_state` returned, here or in PyTorch."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """Give the default generator back its state at the end of the `with` statement."""
    if not enabled:
        yield
        return
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
