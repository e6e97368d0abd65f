"""The check at the start that all ranks hold the same model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from disttorch.distributed.device_memory import kinds_of_places
from disttorch.distributed.errors import DistError
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.runtime import get_world_size

if TYPE_CHECKING:
    from disttorch.nn.modules.module import Module

Entry = list[Any]


def describe_module(module: Module, ignored: set[str]) -> list[Entry]:
    """Return kind, name, dtype, shape, requires_grad and kind of device of every parameter and buffer."""
    found = []
    arrays = []
    for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if name not in ignored:
                found.append([kind, name, tensor._a.dtype.name, list(tensor._a.shape), tensor._requires_grad])
                arrays.append(tensor._a)
    return [[*entry, place] for entry, place in zip(found, kinds_of_places(arrays))]


def check_same_model(
    mine: list[Entry], options: dict[str, Any], equal: set[str], group: ProcessGroup | None
) -> dict[str, Any]:
    """Raise DistError on every rank, naming the first difference, unless all ranks describe the same model.

    mine: what `describe_module` returned here; options: sent along, of which those named in `equal`
    must be the same everywhere. Returns rank 0's options. Every rank of the group calls.
    """
    from disttorch.distributed.object_collectives import all_gather_object

    everybody: list[Any] = [None] * get_world_size(group)
    all_gather_object(everybody, [mine, options], group)
    first_entries, first_options = everybody[0]
    for rank, (entries, others) in enumerate(everybody):
        _compare(first_entries, entries, rank)
        for name in sorted(equal):
            if first_options[name] != others[name]:
                raise DistError(
                    f"the ranks wrap their model in different ways: rank 0 has {name}={first_options[name]}, rank {rank} "
                    f"has {name}={others[name]}; pass the same arguments on every rank"
                )
    return dict(first_options)


def _compare(first: list[Entry], other: list[Entry], rank: int) -> None:
    for mine, theirs in zip(first, other, strict=False):
        if mine != theirs:
            places = [f" on the {entry[-1]}" if mine[-1] != theirs[-1] else "" for entry in (mine, theirs)]
            raise DistError(
                f"the ranks hold different models: rank 0 has {_shown(mine)}{places[0]} where rank {rank} has "
                f"{_shown(theirs)}{places[1]}; build the same model on every rank"
            )
    if len(first) != len(other):
        longer, where = (first, 0) if len(first) > len(other) else (other, rank)
        raise DistError(
            f"the ranks hold different models: rank 0 has {len(first)} parameters and buffers, rank {rank} has "
            f"{len(other)}; only rank {where} has {_shown(longer[min(len(first), len(other))])}; build the same model on "
            "every rank"
        )


def _shown(entry: Entry) -> str:
    kind, name, dtype, shape, requires_grad, _ = entry
    frozen = " without gradient" if kind == "parameter" and not requires_grad else ""
    needs = " with gradient" if kind == "buffer" and requires_grad else ""
    return f"{kind} {name} {dtype}{shape}{frozen}{needs}"
