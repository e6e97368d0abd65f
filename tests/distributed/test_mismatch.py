"""Ranks that disagree: an error on every rank at that call, which names all sides, and nothing is written before it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch.distributed.reducer import Reducer
from disttorch.testing.distributed import launch, run

TRANSPORTS = ["shm", "ipc", "tcp", "hierarchical"]
RANKS = 3
SECONDS = 1.0

SUM, MAX = dist.ReduceOp.SUM, dist.ReduceOp.MAX
ODD = 2  # the rank that does something else


def ones(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.full(shape, dist.get_rank() + 1, dtype)


def gather_to(root: int, length: int = 4) -> None:
    targets = [ones(length) for _ in range(RANKS)] if dist.get_rank() == root else None
    dist.gather(ones(length), targets, dst=root)


def scatter_from(root: int, length: int = 4) -> None:
    parts = [ones(length) for _ in range(RANKS)] if dist.get_rank() == root else None
    dist.scatter(ones(length), parts, src=root)


def all_to_all(length: int) -> None:
    dist.all_to_all([ones(length) for _ in range(RANKS)], [ones(length) for _ in range(RANKS)])


def in_order(*calls: Callable[[], Any]) -> None:
    for call in calls:
        call()


Call = Callable[[], Any]
# What most ranks do, what the odd one does, and what the error says of each.
CASES: dict[str, tuple[Call, Call, str, str]] = {
    "operation": (lambda: dist.all_reduce(ones(4)), dist.barrier, "all_reduce(float64[4], SUM)", "barrier()"),
    "operation, same data": (
        lambda: dist.broadcast(ones(4), 0),
        lambda: dist.all_reduce(ones(4)),
        "broadcast(float64[4], root 0)",
        "all_reduce(float64[4], SUM)",
    ),
    "shape": (lambda: dist.all_reduce(ones(4)), lambda: dist.all_reduce(ones(5)), "float64[4]", "float64[5]"),
    "shape, as many elements": (
        lambda: dist.all_reduce(ones(2, 3)),
        lambda: dist.all_reduce(ones(3, 2)),
        "float64[2, 3]",
        "float64[3, 2]",
    ),
    "nothing and something": (
        lambda: dist.all_reduce(ones(0)),
        lambda: dist.all_reduce(ones(1)),
        "float64[0]",
        "float64[1]",
    ),
    "small and large": (
        lambda: dist.all_reduce(ones(4)),
        lambda: dist.all_reduce(ones(1_000_000)),
        "float64[4]",
        "float64[1000000]",
    ),
    "dtype, as many bytes": (
        lambda: dist.all_reduce(ones(4, dtype=np.float32)),
        lambda: dist.all_reduce(ones(4, dtype=np.int32)),
        "float32[4]",
        "int32[4]",
    ),
    "reduce op": (
        lambda: dist.all_reduce(ones(4), SUM),
        lambda: dist.all_reduce(ones(4), MAX),
        "float64[4], SUM",
        "float64[4], MAX",
    ),
    "root of broadcast": (
        lambda: dist.broadcast(ones(4), 0),
        lambda: dist.broadcast(ones(4), 1),
        "root 0",
        "root 1",
    ),
    "root of reduce": (lambda: dist.reduce(ones(4), 0), lambda: dist.reduce(ones(4), 2), "root 0", "root 2"),
    "root of gather": (lambda: gather_to(0), lambda: gather_to(2), "root 0", "root 2"),
    "root of scatter": (lambda: scatter_from(1), lambda: scatter_from(2), "root 1", "root 2"),
    "order": (
        lambda: in_order(lambda: dist.all_reduce(ones(4)), lambda: dist.broadcast(ones(7), 0)),
        lambda: in_order(lambda: dist.broadcast(ones(7), 0), lambda: dist.all_reduce(ones(4))),
        "all_reduce(float64[4], SUM)",
        "broadcast(float64[7], root 0)",
    ),
    "a missing call": (
        lambda: in_order(lambda: dist.all_reduce(ones(4)), lambda: dist.all_reduce(ones(7))),
        lambda: dist.all_reduce(ones(7)),
        "float64[4]",
        "float64[7]",
    ),
    "all_gather": (
        lambda: dist.all_gather([ones(4) for _ in range(RANKS)], ones(4)),
        lambda: dist.all_gather([ones(2) for _ in range(RANKS)], ones(2)),
        "all_gather(float64[4]",
        "all_gather(float64[2]",
    ),
    "reduce_scatter": (
        lambda: dist.reduce_scatter_tensor(ones(2), ones(2 * RANKS)),
        lambda: dist.reduce_scatter_tensor(ones(4), ones(4 * RANKS)),
        "reduce_scatter",
        "reduce_scatter",
    ),
    "all_to_all": (lambda: all_to_all(4), dist.barrier, "all_to_all", "barrier()"),
    "objects and tensors": (
        lambda: dist.all_gather_object([None] * RANKS, "x"),
        lambda: dist.all_gather([ones(1) for _ in range(RANKS)], ones(1)),
        "all_gather(objects",
        "all_gather(float64[1]",
    ),
    "number of objects": (
        lambda: dist.broadcast_object_list([1, 2], 0),
        lambda: dist.broadcast_object_list([1, 2, 3], 0),
        "broadcast",
        "broadcast",
    ),
    "asynchronous": (
        lambda: wait_for_both(4, 4),
        lambda: wait_for_both(4, 5),
        "float64[4]",
        "float64[5]",
    ),
    "asynchronous and not": (
        lambda: wait_for_both(4, 4),
        lambda: in_order(lambda: dist.all_reduce(ones(4)), dist.barrier),
        "float64[4]",
        "barrier()",
    ),
    "small bucket": (lambda: average(100), lambda: average(100, dist.barrier), "bucket", "barrier()"),
    "large bucket": (lambda: average(50_000), lambda: average(50_000, dist.barrier), "bucket", "barrier()"),
}


def average(length: int, instead: Callable[[], Any] | None = None) -> None:
    """Average one gradient in a bucket, or do something else when the others do."""
    gradient = np.ones(length)
    reducer = Reducer(["weight"], [gradient])
    if instead is not None:
        instead()
    reducer.mark_ready(0, gradient)
    reducer.finalize()


def wait_for_both(first: int, second: int) -> None:
    """Start two collectives; the first agrees, the second does not."""
    works = [dist.all_reduce(ones(first), async_op=True), dist.all_reduce(ones(second), async_op=True)]
    works[0].wait()
    works[1].wait()


def check_all() -> dict[str, Any]:
    """Go through all cases, with a new group for each; return what was raised, its text and the seconds it took."""
    found: dict[str, Any] = {}
    Reducer(["weight"], [np.ones(50_000)])  # loads the compiled code
    for name, (usual, odd, _, _) in CASES.items():
        dist.barrier()
        started = time.monotonic()
        try:
            (odd if dist.get_rank() == ODD else usual)()
            found[name] = ("nothing", "", 0.0)
        except dist.DistError as error:
            found[name] = (type(error).__name__, str(error), time.monotonic() - started)
        with pytest.raises(dist.DistError):
            dist.barrier()
        dist.destroy_process_group()
        dist.init_process_group()
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_rank_raises_at_once_and_names_all_sides(transport: str) -> None:
    found = run(check_all, RANKS, 120, environment=environment(transport))
    slow = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    for name, (_, _, usual, odd) in CASES.items():
        sides = [one[name] for one in found]
        said = f"{name} over {transport}: {sides}"
        assert {kind for kind, _, _ in sides} == {"CollectiveMismatch"}, said
        for _, text, seconds in sides:
            assert all(f"rank {r}: " in text for r in range(RANKS)), said
            assert text.count("test_mismatch.py:") == RANKS, said
            assert usual in text.partition("rank 1: ")[0], said
            assert odd in text.partition("rank 2: ")[2], said
            assert seconds < SECONDS * slow, said


def environment(transport: str) -> dict[str, str]:
    return {"DISTTORCH_TRANSPORT": transport, **({"DISTTORCH_HOSTS": "2"} if transport == "hierarchical" else {})}


def reduce_some(times: int) -> None:
    """Reduce large tensors, beginning with either half of the staging memory."""
    for _ in range(times):
        dist.all_reduce(ones(700_000))
        dist.all_reduce(ones(700_000))
        dist.barrier()


def check_memory() -> None:
    rank = dist.get_rank()
    for kind, agreed in (("small", 0), ("large", 0), ("large", 2), ("broadcast", 0)):
        reduce_some(agreed)  # from the second time on, compiled code compares what the ranks are about to do
        length = (5 if kind == "small" else 700_000) + (rank == ODD)
        array = np.arange(float(length)) * (rank + 1)
        before = array.copy()
        collective = partial(dist.broadcast, src=0) if kind == "broadcast" else dist.all_reduce
        with pytest.raises(dist.CollectiveMismatch):
            collective(array)
        assert np.array_equal(array, before), f"{kind}: written to before the disagreement was found"
        dist.destroy_process_group()
        dist.init_process_group()


@pytest.mark.parametrize("transport", ["shm", "ipc"])
def test_nothing_is_written_before_a_disagreement_is_found(transport: str) -> None:
    run(check_memory, RANKS, 60, environment=environment(transport))


def check_first_large() -> float:
    dist.barrier()
    started = time.monotonic()
    with pytest.raises(dist.CollectiveMismatch):
        dist.all_reduce(ones(700_000 + (dist.get_rank() == ODD)))
    return time.monotonic() - started


def test_a_disagreement_is_found_before_code_is_compiled(tmp_path: Path) -> None:
    taken = run(check_first_large, RANKS, 60, environment={"NUMBA_CACHE_DIR": str(tmp_path)})
    assert not [*tmp_path.rglob("*.nbi")], "the ranks have compiled, which may take seconds"
    assert max(taken) < SECONDS * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))), taken


def check_subgroup() -> None:
    rank = dist.get_rank()
    pair = dist.new_group([0, 2])
    if rank != 1:
        with pytest.raises(dist.CollectiveMismatch) as caught:
            dist.all_reduce(ones(4 + rank), group=pair)
        assert "rank 0: all_reduce(float64[4]" in str(caught.value)
        assert "rank 2: all_reduce(float64[6]" in str(caught.value)
    dist.all_reduce(ones(3))


def test_a_disagreement_in_a_subgroup_names_its_ranks() -> None:
    run(check_subgroup, RANKS, 60)


def check_message() -> str:
    rank = dist.get_rank()
    if rank == 2:
        return ""
    sending = [lambda: dist.send(ones(4), 1), lambda: dist.recv(ones(1), 1)]
    receiving = [lambda: dist.recv(ones(5), 0), lambda: dist.send(ones(1), 0)]
    with pytest.raises(dist.DistError) as caught:
        in_order(*(receiving if rank else sending))
    return str(caught.value)


def test_a_message_of_another_size_than_expected_names_both_sides() -> None:
    texts = run(check_message, RANKS, 60)
    assert any("float64[4]" in text and "float64[5]" in text for text in texts), texts


def one_exits(kind: str) -> None:
    dist.barrier()
    if dist.get_rank() != ODD:
        if kind == "asynchronous":
            dist.all_reduce(ones(4), async_op=True).wait()
        else:
            dist.all_reduce(ones(4))


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_a_rank_that_ends_instead_of_calling_is_named(kind: str) -> None:
    outcome = launch(one_exits, RANKS, 60, kind=kind)
    assert outcome.code != 0
    assert f"rank {ODD} finished while rank" in outcome.said
    assert "all_reduce(float64[4], SUM)" in outcome.said


def model_of(kind: str) -> Any:
    """Return rank `ODD`'s model, which differs from the others' in one thing, or the others'."""
    odd = kind if dist.get_rank() == ODD else ""
    layers = [torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)]
    if odd == "shape":
        layers[2] = torch.nn.Linear(3, 5)
    if odd == "more layers":
        layers.append(torch.nn.Linear(2, 2))
    if odd == "fewer parameters":
        layers[0] = torch.nn.Linear(4, 3, bias=False)
    if odd == "names":
        layers.insert(1, torch.nn.Tanh())
    model = torch.nn.Sequential(*layers)
    if odd == "dtype":
        model = model.double()
    if odd == "frozen":
        model[0].weight.requires_grad_(False)
    return model


MODELS = {
    "shape": "2.weight",
    "more layers": "3.",
    "fewer parameters": "0.bias",
    "names": "3.",
    "dtype": "float64",
    "frozen": "0.weight",
}


def check_models() -> dict[str, Any]:
    found = {}
    for kind in MODELS:
        started = time.monotonic()
        try:
            torch.nn.parallel.DistributedDataParallel(model_of(kind))
            found[kind] = ("nothing", "", 0.0)
        except (dist.DistError, RuntimeError, ValueError) as error:
            found[kind] = (type(error).__name__, str(error), time.monotonic() - started)
        dist.destroy_process_group()
        dist.init_process_group()
    return found


def test_different_models_are_refused_on_every_rank() -> None:
    found = run(check_models, RANKS, 60)
    for kind, part in MODELS.items():
        for rank, one in enumerate(found):
            name, text, seconds = one[kind]
            assert name != "nothing", f"{kind}: rank {rank} went on"
            assert part in text, f"{kind}: rank {rank} said {text}"
            assert "rank" in text
            assert seconds < 5 * max(1.0, os.getloadavg()[0])
