"""Uneven inputs: ranks that have run out of data keep the others company, as `torch.distributed.algorithms.join`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from disttorch.core.device import device
from disttorch.distributed.collectives import all_reduce
from disttorch.distributed.process_group import Work
from disttorch.distributed.runtime import get_rank

__all__ = ["Join", "JoinHook", "Joinable"]

_MANY = 1000


class JoinHook:
    """What a rank does for a `Joinable` while it has no more data; subclasses override both methods."""

    def main_hook(self) -> None:
        """Take part in the collectives of one iteration of the ranks that go on."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Called once when every rank is done; `is_last_joiner` says whether this one was among the last."""


class _JoinConfig(NamedTuple):
    """What a Joinable knows of the Join that it is in."""

    enable: bool
    throw_on_early_termination: bool
    is_first_joinable: bool

    @staticmethod
    def construct_disabled_join_config() -> _JoinConfig:
        """Return what holds outside of any Join."""
        return _JoinConfig(enable=False, throw_on_early_termination=False, is_first_joinable=False)


class Joinable(ABC):
    """A class whose objects can be given to `Join`.

    They call `Join.notify_join_context(self)` before the collectives of each iteration; their `__init__` calls this one.
    """

    @abstractmethod
    def __init__(self) -> None:
        super().__init__()
        self._join_config = _JoinConfig.construct_disabled_join_config()

    @abstractmethod
    def join_hook(self, **kwargs: Any) -> JoinHook:
        """Return what to do on ranks without data; `kwargs` are those given to `Join`."""

    @property
    @abstractmethod
    def join_device(self) -> device:
        """The device of the collectives that `Join` itself needs."""

    @property
    @abstractmethod
    def join_process_group(self) -> Any:
        """The process group of the collectives that `Join` itself needs."""


class Join:
    """`with Join([model, optimizer]):` around a training loop lets ranks have different numbers of batches.

    A rank that leaves the block first runs the main hooks of `joinables`, in order, as long as other
    ranks go on, and then, when all have left, their post hooks. With `throw_on_early_termination` all
    ranks raise RuntimeError instead as soon as one has run out. `enable=False` makes the block do
    nothing. `kwargs` go to `join_hook` of every joinable. ValueError if they are of different groups.
    """

    def __init__(
        self,
        joinables: list[Joinable],
        enable: bool = True,
        throw_on_early_termination: bool = False,
        **kwargs: Any,
    ) -> None:
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable")
        self._joinables = list(joinables)
        self._join_hooks = [joinable.join_hook(**kwargs) for joinable in self._joinables]
        self._enable = enable
        self._throw_on_early_termination = throw_on_early_termination
        self._process_group = self._joinables[0].join_process_group
        if any(joinable.join_process_group is not self._process_group for joinable in self._joinables):
            raise ValueError("Using join context manager with multiple process groups")
        self._rank = get_rank(self._process_group)
        for number, joinable in enumerate(self._joinables):
            joinable._join_config = _JoinConfig(enable, throw_on_early_termination, number == 0)

    def __enter__(self) -> None: ...

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._enable and type is None:
                self._accompany_others()
        finally:
            for joinable in self._joinables:
                joinable._join_config = _JoinConfig.construct_disabled_join_config()

    def _accompany_others(self) -> None:
        """Run the main hooks until all ranks are here, then the post hooks."""
        rounds = 0
        while self._count_active():
            if self._throw_on_early_termination:
                self._notify_procs_to_terminate()
            if rounds == _MANY:
                warnings.warn(
                    f"rank {self._rank} has at least {_MANY} fewer inputs than other ranks, which slows training down; "
                    "give the ranks about the same number",
                    stacklevel=3,
                )
            for hook in self._join_hooks:
                hook.main_hook()
            rounds += 1
        for hook in self._join_hooks:
            hook.post_hook(rounds == 0)

    def _count_active(self) -> int:
        """Return how many ranks have begun another iteration."""
        return _sum(0, self._process_group)

    def _notify_procs_to_terminate(self) -> None:
        _sum(1, self._process_group)
        raise RuntimeError(f"Rank {self._rank} exhausted all inputs.")

    @staticmethod
    def notify_join_context(joinable: Joinable) -> Work | None:
        """Tell ranks without data that this one begins another iteration, for the first joinable of a Join.

        Returns the Work of that; None for the others and outside of a Join. Raises RuntimeError on
        every rank if one has run out and `throw_on_early_termination` was given.
        """
        if not hasattr(joinable, "_join_config"):
            raise AssertionError(f"{type(joinable).__name__}.__init__ has to call Joinable.__init__")
        config = joinable._join_config
        if not config.is_first_joinable or not config.enable:
            return None
        group = joinable.join_process_group
        work = all_reduce(np.ones(1, np.int64), group=group, async_op=True)
        if config.throw_on_early_termination and _sum(0, group):
            raise RuntimeError("Detected at least one rank that exhausted inputs. Throwing across all ranks.")
        return work


def _sum(value: int, group: Any) -> int:
    total = np.array([value], np.int64)
    all_reduce(total, group=group)
    return int(total[0])
