"""Collectives on real processes against float64 sums."""

from __future__ import annotations

import time
import weakref

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch.testing.distributed import run


def check_async() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    arrays = [np.full(1000 * (i + 1), float(rank + i)) for i in range(20)]
    works = [dist.all_reduce(array, async_op=True) for array in arrays]
    dist.barrier()
    assert all(work.is_completed() for work in works), "a synchronous collective overtook an asynchronous one"
    for i, (work, array) in enumerate(zip(works, arrays, strict=True)):
        assert work.wait(5)
        assert work.exception() is None
        assert set(array) == {sum(range(size)) + i * size}
    late = np.ones(3)
    if rank == 0:
        work = dist.all_reduce(late, async_op=True)
        with pytest.raises(dist.CollectiveTimeout, match=r"all_reduce\(float64\[3\], SUM\)"):
            work.wait(0.1)
        dist.default_store().set("go", "")
        work.wait(5)
    else:
        dist.default_store().wait(["go"])
        dist.all_reduce(late)
    assert late[0] == size


@pytest.mark.parametrize("shm", ["1", "0"])
def test_async_collectives_keep_their_order(shm: str) -> None:
    run(check_async, 2, environment={"DISTTORCH_SHM": shm})


def check_refusals() -> None:
    with pytest.raises(TypeError, match=r"AVG needs a floating-point"):
        dist.all_reduce(np.ones(2, np.int64), dist.ReduceOp.AVG)
    with pytest.raises(TypeError, match="complex numbers have no order"):
        dist.all_reduce(np.ones(2, np.complex64), dist.ReduceOp.MAX)
    with pytest.raises(TypeError, match="expected a tensor, got str"):
        dist.all_reduce("x")
    with pytest.raises(ValueError, match="cannot be written to a read-only array"):
        dist.all_reduce(np.frombuffer(bytes(400_000), np.float32))
    with pytest.raises(TypeError, match="not in this machine's order"):
        dist.all_reduce(np.ones(2, ">f4"))
    with pytest.raises(ValueError, match="a tag is a number from 0, got -1"):
        dist.send(np.ones(2), 1 - dist.get_rank(), tag=-1)
    with pytest.raises(TypeError, match="must be a ReduceOp"):
        dist.all_reduce(np.ones(2), "sum")
    with pytest.raises(ValueError, match="must be a rank from 0 to 1, got 2"):
        dist.broadcast(np.ones(2), src=2)
    with pytest.raises(ValueError, match=r"one tensor per rank \(2\), got 1"):
        dist.all_gather([np.ones(2)], np.ones(2))
    with pytest.raises(ValueError, match=r"tensor_list\[1\] is float64\[3\]"):
        dist.all_gather([np.ones(2), np.ones(3)], np.ones(2))
    with pytest.raises(TypeError, match=r"cannot send an object of type builtins\.object"):
        dist.all_gather_object([None, None], object())
    with pytest.raises(dist.DistError, match="twice"):
        dist.init_process_group()
    dist.barrier()


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    run(check_refusals, 2)


def odd_one_out(kind: str, rank: int) -> None:
    """Call a collective in which one rank does something else."""
    if kind == "shape":
        dist.all_reduce(np.ones(4 if rank == 0 else 5))
    elif kind == "dtype":
        dist.all_reduce(np.ones(4, np.float32 if rank == 1 else np.float64))
    elif kind == "op" and rank == 2:
        dist.barrier()
    elif kind == "large" and rank == 0:
        dist.all_reduce(np.ones(3_000_000))
    else:
        dist.all_reduce(np.ones(4))


def check_mismatch(kind: str) -> str:
    dist.barrier()
    with pytest.raises(dist.CollectiveMismatch) as caught:
        odd_one_out(kind, dist.get_rank())
    with pytest.raises(dist.CollectiveMismatch):
        dist.barrier()
    dist.destroy_process_group()
    return str(caught.value)


@pytest.mark.parametrize(("kind", "shm"), [("shape", "1"), ("dtype", "1"), ("op", "1"), ("large", "1"), ("op", "0")])
def test_a_mismatch_raises_on_every_rank_and_names_both_sides(kind: str, shm: str) -> None:
    texts = run(check_mismatch, 3, kind=kind, environment={"DISTTORCH_SHM": shm})
    assert len(set(texts)) == 1
    assert all(f"rank {r}: " in texts[0] for r in range(3))
    assert texts[0].count("test_collectives.py:") == 3
    assert {
        "shape": "float64[5]",
        "dtype": "float32[4]",
        "op": "barrier()",
        "large": "float64[3000000]",
    }[kind] in texts[0]


def check_new_group() -> list[float]:
    totals = []
    for round_ in range(3):
        value = np.array([float(dist.get_rank() + round_)])
        dist.all_reduce(value)
        totals.append(float(value[0]))
        dist.destroy_process_group()
        assert not dist.is_initialized()
        dist.init_process_group("gloo")
    return totals


@pytest.mark.parametrize("shm", ["1", "0"])
def test_a_group_can_be_destroyed_and_made_again(shm: str) -> None:
    assert run(check_new_group, 2, environment={"DISTTORCH_SHM": shm}) == [[1, 3, 5]] * 2


def check_uneven_hosts() -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    values = np.arange(1_500_007, dtype=np.float32) % 1000
    mine = values + rank
    dist.all_reduce(mine)
    np.testing.assert_array_equal(mine, values * size + sum(range(size)))


def test_slices_that_are_rounded_up_stay_in_their_cells() -> None:
    """Each host holds one whole subtree of ranks, and three slices of a chunk are not equally long."""
    run(check_uneven_hosts, 7, timeout=40, environment={"DISTTORCH_HOSTS": "0,0,0,0,1,1,1"})


def check_one_sender() -> None:
    value = np.array([dist.get_rank()])
    if dist.get_rank() == 2:
        dist.send(value, 0)
    elif dist.get_rank() == 0:
        assert dist.recv(value) == 2
    dist.barrier()


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_a_receive_from_any_rank_needs_one_sender_only(transport: str) -> None:
    run(check_one_sender, 3, timeout=20, environment={"DISTTORCH_TRANSPORT": transport})


def check_leaving_a_group() -> None:
    group = dist.new_group([1])
    dist.destroy_process_group(group)
    dist.barrier()


def test_every_rank_may_destroy_a_group_that_it_is_not_in() -> None:
    run(check_leaving_a_group, 2)


def check_aliased() -> list[float]:
    rank, size = dist.get_rank(), dist.get_world_size()
    both = np.repeat(np.arange(size, dtype=np.float32) + 10 * rank, 50_000)
    dist.all_to_all_single(both, both)
    return both[::50_000].tolist()


def test_what_is_sent_may_be_where_the_result_goes() -> None:
    got = run(check_aliased, 2, environment={"DISTTORCH_TRANSPORT": "tcp"})
    assert got == [[0, 10], [1, 11]]


def check_release() -> None:
    tensor = torch.ones(8)
    reference = weakref.ref(tensor)
    dist.all_reduce(tensor, async_op=True).wait()
    del tensor
    until = time.monotonic() + 5
    while reference() is not None and time.monotonic() < until:
        time.sleep(0.001)
    assert reference() is None, "the communication thread holds what it has reduced"


def test_a_tensor_is_let_go_when_its_collective_is_over() -> None:
    run(check_release, 2)
