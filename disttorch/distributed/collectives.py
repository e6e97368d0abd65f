"""The collectives of `torch.distributed` on tensors and NumPy arrays.

`group=None` is the group of all ranks. With `async_op=True` a collective returns a Work at once and runs in the background;
otherwise it returns None when it is done. Tensors may have any layout; those on a GPU pass through this host's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from disttorch.distributed import steps
from disttorch.distributed.call import Call
from disttorch.distributed.errors import DistError
from disttorch.distributed.groups import get_group_rank, member_of
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.reduce_op import ReduceOp, checked
from disttorch.distributed.store import seconds
from disttorch.distributed.tensors import Operand, check_alike
from disttorch.distributed.transport import Transport
from disttorch.distributed.work import Work


def all_reduce(tensor: Any, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Combine `tensor` (any shape and dtype, the same on every rank) over all ranks, in place.

    The order of the sum is a fixed binary tree over the ranks, so every rank gets the same bits;
    float16 and bfloat16 are summed in float32 and rounded once. AVG divides the sum once. Raises TypeError where `op` is
    not defined: AVG of integers, MIN or MAX of complex numbers, BAND, BOR and BXOR of others than integers.
    """
    member = member_of(group, "all_reduce")
    if member is None:
        return None
    operand = Operand(tensor, "all_reduce")
    name = checked(op, operand.dtype, "all_reduce")

    def body(transport: Transport) -> None:
        flat = operand.flat()
        steps.all_reduce(transport, flat, name)
        operand.put(flat)

    call = Call("all_reduce", operand.dtype_name, operand.shape, name, length=operand.nbytes)
    return member.collective(call, body, async_op, [tensor])


def reduce(
    tensor: Any,
    dst: int | None = None,
    op: ReduceOp = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Combine `tensor` over all ranks into rank `dst`'s; the others' stay as they are. See `all_reduce`."""
    member = member_of(group, "reduce")
    if member is None:
        return None
    operand = Operand(tensor, "reduce")
    name = checked(op, operand.dtype, "reduce")
    root = root_of(member, dst, group_dst, "reduce: dst")

    def body(transport: Transport) -> None:
        flat = operand.flat()
        steps.reduce(transport, flat, name, root)
        if transport.rank == root:
            operand.put(flat)

    call = Call("reduce", operand.dtype_name, operand.shape, name, root, length=operand.nbytes)
    return member.collective(call, body, async_op, [tensor])


def broadcast(
    tensor: Any, src: int | None = None, group: Any = None, async_op: bool = False, group_src: int | None = None
) -> Work | None:
    """Copy rank `src`'s `tensor` (default 0) to every rank's, which has the same shape and dtype."""
    member = member_of(group, "broadcast")
    if member is None:
        return None
    operand = Operand(tensor, "broadcast")
    root = root_of(member, src, group_src, "broadcast: src")

    def body(transport: Transport) -> None:
        flat = operand.bytes()
        steps.broadcast(transport, flat, root)
        if transport.rank != root:
            operand.put(flat)

    call = Call("broadcast", operand.dtype_name, operand.shape, root=root, length=operand.nbytes)
    return member.collective(call, body, async_op, [tensor])


def reduce_scatter(
    output: Any, input_list: Sequence[Any], op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Combine `input_list[r]` of all ranks into rank r's `output`; all have one shape and dtype. See `all_reduce`."""
    member = member_of(group, "reduce_scatter")
    if member is None:
        return None
    target = Operand(output, "reduce_scatter")
    sources = [Operand(tensor, "reduce_scatter", output=False) for tensor in input_list]
    check_count("reduce_scatter: input_list", len(sources), member)
    check_alike("reduce_scatter", "input_list", sources, target, "the output")
    return _reduce_scatter(member, target, lambda: [source.flat() for source in sources], op, async_op)


def reduce_scatter_tensor(
    output: Any, input: Any, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Combine `input` of all ranks and give rank r its r-th part, as long as `output`.

    input: the parts one after another along the first dimension, or stacked along a new one.
    """
    member = member_of(group, "reduce_scatter_tensor")
    if member is None:
        return None
    target, source = Operand(output, "reduce_scatter_tensor"), Operand(input, "reduce_scatter_tensor", output=False)
    check_parts("reduce_scatter_tensor: input", source, target, member)
    return _reduce_scatter(member, target, lambda: np.split(source.flat(), member.size()), op, async_op)


def _reduce_scatter(member: ProcessGroup, target: Operand, parts: Any, op: ReduceOp, async_op: bool) -> Work | None:
    name = checked(op, target.dtype, "reduce_scatter")

    def body(transport: Transport) -> None:
        flat, inputs = target.flat(), parts()
        if any(np.may_share_memory(flat, part) for part in inputs):
            inputs = [part.copy() for part in inputs]  # they are still being sent while the result is written
        steps.reduce_scatter(transport, flat, inputs, name)
        target.put(flat)

    call = Call("reduce_scatter", target.dtype_name, target.shape, name, length=target.nbytes)
    return member.collective(call, body, async_op, [target.holder])


def barrier(
    group: Any = None, async_op: bool = False, device_ids: Any = None, timeout: float | timedelta | None = None
) -> Work | None:
    """Return when every rank has called this; `timeout` (seconds or a timedelta) instead of the group's."""
    member = member_of(group, "barrier")
    if member is None:
        return None
    limit = None if timeout is None else seconds(timeout)
    return member.collective(Call("barrier"), steps.barrier, async_op, timeout=limit)


def monitored_barrier(
    group: Any = None, timeout: float | timedelta | None = None, wait_all_ranks: bool = False
) -> None:
    """Return when every rank has called this; when `timeout` passes, CollectiveTimeout names those that have not.

    Every barrier here names the missing ranks, all of them, so `wait_all_ranks` makes no difference.
    """
    barrier(group, timeout=timeout)


def root_of(member: ProcessGroup, rank: int | None, group_rank: int | None, what: str) -> int:
    """Return the number in the group of a rank that is given as the world's or the group's, by default 0."""
    if rank is not None and group_rank is not None:
        raise ValueError(f"{what}: give the rank in the world or the rank in the group, not both")
    size = member.size()
    if rank is None:
        found = group_rank or 0
        if not 0 <= found < size:
            raise ValueError(f"{what} must be a rank of the group from 0 to {size - 1}, got {found}")
        return int(found)
    if member.members.number == 0:
        if not 0 <= rank < size:
            raise ValueError(f"{what} must be a rank from 0 to {size - 1}, got {rank}")
        return int(rank)
    return get_group_rank(member, int(rank))


def check_count(what: str, count: int, member: ProcessGroup) -> None:
    """Raise ValueError unless a list has one entry per rank."""
    if count != member.size():
        raise ValueError(f"{what} needs one tensor per rank ({member.size()}), got {count}")


def check_parts(what: str, whole: Operand, part: Operand, member: ProcessGroup) -> None:
    """Raise ValueError unless `whole` holds one `part` for each rank."""
    if whole.dtype != part.dtype or whole.array.size != part.array.size * member.size():
        raise ValueError(f"{what} must be {member.size()} times as long as the other tensor, {part}, got {whole}")


def check_all_to_all(matrix: np.ndarray, member: ProcessGroup) -> None:
    """Raise DistError, on every rank alike, if two ranks disagree about what one gives the other.

    matrix: int64 [ranks, 2, ranks], the bytes that each rank gives to and expects from each.
    """
    for giver in range(member.size()):
        for taker in range(member.size()):
            given, expected = int(matrix[giver, 0, taker]), int(matrix[taker, 1, giver])
            if given != expected:
                first, second = member.members.ranks[giver], member.members.ranks[taker]
                raise DistError(
                    f"all_to_all: rank {first} gives {given} bytes to rank {second}, which expects {expected}; "
                    "the split sizes of the two must agree"
                )
