"""The collectives that move data without changing it: gather, scatter, all-gather, all-to-all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.distributed import steps
from disttorch.distributed.call import Call
from disttorch.distributed.collectives import check_all_to_all, check_count, check_parts, root_of
from disttorch.distributed.groups import member_of
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.tensors import Operand, check_alike
from disttorch.distributed.transport import Transport
from disttorch.distributed.work import Work


def all_gather(tensor_list: Sequence[Any], tensor: Any, group: Any = None, async_op: bool = False) -> Work | None:
    """Put rank r's `tensor` into `tensor_list[r]` on every rank; all have one shape and dtype."""
    member = member_of(group, "all_gather")
    if member is None:
        return None
    source = Operand(tensor, "all_gather", output=False)
    targets = [Operand(target, "all_gather") for target in tensor_list]
    check_count("all_gather: tensor_list", len(targets), member)
    check_alike("all_gather", "tensor_list", targets, source, "the tensor")

    def body(transport: Transport) -> None:
        flats = [target.bytes() for target in targets]
        steps.all_gather(transport, flats, source.bytes())
        _put_all(targets, flats)

    call = Call("all_gather", source.dtype_name, source.shape, length=source.nbytes)
    return member.collective(call, body, async_op, tensor_list)


def all_gather_into_tensor(
    output_tensor: Any, input_tensor: Any, group: Any = None, async_op: bool = False
) -> Work | None:
    """Put all ranks' `input_tensor` one after another into `output_tensor`, along its first dimension or a new one."""
    member = member_of(group, "all_gather_into_tensor")
    if member is None:
        return None
    source = Operand(input_tensor, "all_gather_into_tensor", output=False)
    target = Operand(output_tensor, "all_gather_into_tensor")
    check_parts("all_gather_into_tensor: output_tensor", target, source, member)

    def body(transport: Transport) -> None:
        flat = target.bytes()
        steps.all_gather(transport, np.split(flat, transport.size), source.bytes())
        target.put(flat)

    call = Call("all_gather", source.dtype_name, source.shape, length=source.nbytes)
    return member.collective(call, body, async_op, [output_tensor])


def gather(
    tensor: Any,
    gather_list: Sequence[Any] | None = None,
    dst: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Put rank r's `tensor` into `gather_list[r]` on rank `dst` (default 0); elsewhere `gather_list` is None."""
    member = member_of(group, "gather")
    if member is None:
        return None
    root = root_of(member, dst, group_dst, "gather: dst")
    source = Operand(tensor, "gather", output=False)
    targets = _at_root(member, root, gather_list, source, "gather", "gather_list")

    def body(transport: Transport) -> None:
        flats = [target.bytes() for target in targets]
        steps.gather(transport, flats, source.bytes(), root, source.nbytes)
        _put_all(targets, flats)

    call = Call("gather", source.dtype_name, source.shape, root=root, length=source.nbytes)
    return member.collective(call, body, async_op, gather_list or ())


def scatter(
    tensor: Any,
    scatter_list: Sequence[Any] | None = None,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Put `scatter_list[r]` of rank `src` (default 0) into rank r's `tensor`; elsewhere `scatter_list` is None."""
    member = member_of(group, "scatter")
    if member is None:
        return None
    root = root_of(member, src, group_src, "scatter: src")
    target = Operand(tensor, "scatter")
    sources = _at_root(member, root, scatter_list, target, "scatter", "scatter_list")

    def body(transport: Transport) -> None:
        flat = target.bytes()
        steps.scatter(transport, flat, [source.bytes() for source in sources], root, target.nbytes)
        target.put(flat)

    call = Call("scatter", target.dtype_name, target.shape, root=root, length=target.nbytes)
    return member.collective(call, body, async_op, [tensor])


def all_to_all(
    output_tensor_list: Sequence[Any], input_tensor_list: Sequence[Any], group: Any = None, async_op: bool = False
) -> Work | None:
    """Put `input_tensor_list[r]` of every rank into rank r's `output_tensor_list`, at the place of the rank it is from.

    All tensors have one dtype; what one rank gives another may have any length, on which the two agree (DistError on
    every rank if not).
    """
    member = member_of(group, "all_to_all")
    if member is None:
        return None
    targets = [Operand(tensor, "all_to_all") for tensor in output_tensor_list]
    sources = [Operand(tensor, "all_to_all", output=False) for tensor in input_tensor_list]
    check_count("all_to_all: output_tensor_list", len(targets), member)
    check_count("all_to_all: input_tensor_list", len(sources), member)
    for operand in [*targets, *sources]:
        if operand.dtype != sources[0].dtype:
            raise ValueError(f"all_to_all: all tensors have one dtype, got {sources[0]} and {operand}")

    def body(transport: Transport) -> None:
        flats = [target.bytes() for target in targets]
        _all_to_all(member, transport, flats, [source.bytes() for source in sources])
        _put_all(targets, flats)

    return member.collective(Call("all_to_all", sources[0].dtype_name), body, async_op, output_tensor_list)


def all_to_all_single(
    output: Any,
    input: Any,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Cut `input` along its first dimension, give each rank a piece, and join what they give in `output`.

    The split sizes are lengths along the first dimension, by default equal ones.
    """
    member = member_of(group, "all_to_all_single")
    if member is None:
        return None
    target, source = Operand(output, "all_to_all_single"), Operand(input, "all_to_all_single", output=False)
    if target.dtype != source.dtype:
        raise ValueError(f"all_to_all_single: output and input have one dtype, got {target} and {source}")
    taken = _borders("output", target, output_split_sizes, member)
    given = _borders("input", source, input_split_sizes, member)

    def body(transport: Transport) -> None:
        flat = target.bytes()
        _all_to_all(member, transport, np.split(flat, taken), np.split(source.bytes(), given))
        target.put(flat)

    return member.collective(Call("all_to_all", source.dtype_name), body, async_op, [output])


def _all_to_all(
    member: ProcessGroup, transport: Transport, outputs: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
) -> None:
    sizes = [part.size for part in inputs] + [part.size for part in outputs]
    matrix = steps.gather_lengths(transport, sizes).reshape(transport.size, 2, transport.size)
    check_all_to_all(matrix, member)
    if any(np.may_share_memory(out, part) for out in outputs for part in inputs):
        inputs = [part.copy() for part in inputs]  # they are still being sent while others arrive
    steps.all_to_all(transport, outputs, inputs, int(matrix[:, 0].max()))


def _borders(what: str, operand: Operand, sizes: Sequence[int] | None, member: ProcessGroup) -> list[int]:
    """Return the bytes at which a tensor is cut."""
    length = operand.shape[0] if operand.shape else 0
    if sizes is None or len(sizes) == 0:
        if length % member.size():
            raise ValueError(
                f"all_to_all_single: the first dimension of the {what} ({length}) must be divisible by the number of "
                f"ranks ({member.size()}), or give {what}_split_sizes"
            )
        sizes = [length // member.size()] * member.size()
    if len(sizes) != member.size() or sum(sizes) != length or min(sizes) < 0:
        raise ValueError(
            f"all_to_all_single: {what}_split_sizes must be {member.size()} lengths that add up to {length}, "
            f"got {list(sizes)}"
        )
    row = operand.nbytes // length if length else 0
    return [int(border) * row for border in np.cumsum(sizes)[:-1]]


def _at_root(
    member: ProcessGroup, root: int, tensors: Sequence[Any] | None, like: Operand, name: str, what: str
) -> list[Operand]:
    """Return the operands of a list that only the root has; ValueError if it is there and should not be, or the reverse."""
    if member.rank() != root:
        if tensors:
            raise ValueError(f"Argument ``{what}`` must NOT be specified on non-{_END[name]} ranks.")
        return []
    if not tensors:
        raise ValueError(f"Argument ``{what}`` must be specified on {_END[name]} rank.")
    operands = [Operand(tensor, name, output=name == "gather") for tensor in tensors]
    check_count(f"{name}: {what}", len(operands), member)
    check_alike(name, what, operands, like, "the tensor")
    return operands


_END = {"gather": "destination", "scatter": "source"}


def _put_all(operands: Sequence[Operand], flats: Sequence[np.ndarray]) -> None:
    for operand, flat in zip(operands, flats):
        operand.put(flat)
