"""Data-parallel classes beside PyTorch's: the same names, arguments and defaults, and futures that do the same."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import disttorch
import disttorch.distributed.algorithms.ddp_comm_hooks.default_hooks as our_hooks
import disttorch.distributed.algorithms.join as our_join
import disttorch.distributed.optim as our_optim
import disttorch.nn.parallel as our_parallel

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Methods of DistributedDataParallel that are not here, and why.
_ABSENT = {
    "scatter", "gather", "to_kwargs",  # they split a batch over the GPUs of one process
}  # fmt: skip


def arguments(function: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found if p.name != "self"]


def test_arguments_are_pytorchs() -> None:
    from torch.distributed.algorithms import join

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses PyTorch's own deprecated compiler
        from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    ours = our_parallel.DistributedDataParallel
    assert arguments(ours.__init__) == arguments(DistributedDataParallel.__init__)
    for name in ("join", "no_sync", "join_hook", "will_sync_module_buffers", "register_comm_hook"):
        assert arguments(getattr(ours, name)) == arguments(getattr(DistributedDataParallel, name)), name
    for name in ("__init__", "step", "consolidate_state_dict", "load_state_dict", "add_param_group"):
        theirs = getattr(ZeroRedundancyOptimizer, name)
        assert arguments(getattr(our_optim.ZeroRedundancyOptimizer, name)) == arguments(theirs), name
    for name in join.__all__:
        assert arguments(getattr(our_join, name).__init__) == arguments(getattr(join, name).__init__), name


def test_nothing_public_is_missing() -> None:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.nn.parallel import DistributedDataParallel

    theirs = {name for name in vars(DistributedDataParallel) if not name.startswith("_")}
    ours = dir(our_parallel.DistributedDataParallel)
    assert theirs - set(ours) == _ABSENT
    assert set(default_hooks.__all__) == set(our_hooks.__all__)
    for name in default_hooks.__all__:
        assert [a[0] for a in arguments(getattr(our_hooks, name))] == [
            a[0] for a in arguments(getattr(default_hooks, name))
        ]
    for name in ("ALLREDUCE", "FP16_COMPRESS"):
        assert hasattr(disttorch.distributed.BuiltinCommHookType, name)
    assert set(torch.futures.__all__) == set(disttorch.futures.__all__)


def outcome(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except Exception as error:
        return type(error).__name__


def future_story(library: Any) -> list[Any]:
    """Do the same with futures of either library and say what happened."""
    Future = library.futures.Future
    future, failed = Future(), Future()
    seen: list[Any] = [outcome(future.value), future.done()]
    chain = future.then(lambda done: done.value() + 1).then(lambda done: [done.wait()])
    future.add_done_callback(lambda done: seen.append(done.value()))
    future.set_result(1)
    seen += [chain.wait(), future.done(), future.wait(), outcome(lambda: future.set_result(2))]
    failed_chain = failed.then(lambda done: done.value())
    failed.set_exception(KeyError("x"))
    seen += [failed.done(), outcome(failed.wait), failed_chain.done()]
    seen += [library.futures.collect_all([future, chain]).wait()[1].value(), library.futures.wait_all([future, future])]
    return [*seen, outcome(lambda: Future().set_exception(3))]


def test_futures_do_what_pytorchs_do() -> None:
    assert future_story(disttorch) == future_story(torch)
