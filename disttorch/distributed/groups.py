"""Groups of some of the ranks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from disttorch.distributed import runtime, steps
from disttorch.distributed.call import Call
from disttorch.distributed.members import Members
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.runtime import World, default, world
from disttorch.distributed.store import seconds
from disttorch.distributed.transport import LocalTransport, Transport


class _HasWorld(type):
    @property
    def WORLD(cls) -> ProcessGroup | None:  # noqa: N802 - torch's name
        """The group of all ranks, None before `init_process_group`."""
        return world().group if runtime.is_initialized() else None


class group(metaclass=_HasWorld):
    """`group.WORLD`, the group of all ranks."""


class GroupMember(metaclass=_HasWorld):
    """`GroupMember.WORLD`; `NON_GROUP_MEMBER` is what `new_group` returns to a rank that is not in the group."""

    NON_GROUP_MEMBER = runtime.NON_MEMBER


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: float | timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
    sort_ranks: bool = True,
) -> Any:
    """Make a group of some ranks; all ranks call this, in the same order and with the same arguments.

    ranks: their numbers in the world (None: all), which are sorted unless `sort_ranks` is False; timeout: of its
    collectives, in seconds or as a timedelta (default: the world's); use_local_synchronization: only the members call. Returns
    the group, or `GroupMember.NON_GROUP_MEMBER` where this rank is not in it. `backend`, `pg_options` and `device_id`
    are accepted: every group uses this host's fastest transport. Raises ValueError for ranks that are not there, and
    CollectiveMismatch on every rank if they disagree.
    """
    made = world()
    runtime.check_backend(backend)
    chosen = _check_ranks(made, ranks, sort_ranks)
    limit = None if timeout is None else seconds(timeout)
    name = _name_of(made, chosen, use_local_synchronization)
    own = made.group.rank()
    if not use_local_synchronization:
        described = Call("barrier", names=("new_group", *map(str, chosen)))
        made.group.collective(described, steps.barrier)
    if own not in chosen:
        return GroupMember.NON_GROUP_MEMBER
    hosts = made.group.members.hosts
    members = Members(name, made.group.members.epoch, chosen, chosen.index(own), tuple(hosts[rank] for rank in chosen))
    fresh = ProcessGroup(made.group.link, _open(made, members), limit or made.group.timeout, group_desc)
    made.groups[name] = fresh
    return fresh


def new_subgroups(
    group_size: int | None = None,
    group: Any = None,
    timeout: float | timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
) -> tuple[ProcessGroup, list[Any]]:
    """Cut the world into groups of `group_size` consecutive ranks (default: those of one host).

    Returns this rank's group and the list of all. Raises ValueError unless the size divides the number of ranks.
    """
    size = default(group).size()
    if group_size is None:
        group_size = len(default(group).members.here)
    if not 0 < group_size <= size or size % group_size:
        raise ValueError(f"the world size ({size}) must be divisible by group_size, got {group_size}")
    ranks = default(group).members.ranks
    lists = [list(ranks[start : start + group_size]) for start in range(0, size, group_size)]
    return new_subgroups_by_enumeration(lists, timeout, backend, pg_options, group_desc)


def new_subgroups_by_enumeration(
    ranks_per_subgroup_list: Sequence[Sequence[int]],
    timeout: float | timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    group_desc: str | None = None,
) -> tuple[Any, list[Any]]:
    """Make one group for each list of ranks, no rank in two of them; return this rank's (or None) and all."""
    if not ranks_per_subgroup_list:
        raise ValueError("The arg 'ranks_per_subgroup_list' cannot be empty")
    flat = [rank for ranks in ranks_per_subgroup_list for rank in ranks]
    if len(set(flat)) != len(flat):
        raise ValueError("a rank may be in one subgroup only; new_group makes groups that overlap")
    groups = [
        new_group(ranks, timeout, backend, pg_options, group_desc=group_desc) for ranks in ranks_per_subgroup_list
    ]
    own = world().group.rank()
    mine = next((made for ranks, made in zip(ranks_per_subgroup_list, groups) if own in ranks), None)
    return mine, groups


def get_process_group_ranks(group: Any = None) -> list[int]:
    """Return the numbers in the world of a group's ranks, in the order of their numbers in the group."""
    return list(default(group).members.ranks)


def get_group_rank(group: Any, global_rank: int) -> int:
    """Return the number in `group` of the world's rank `global_rank`; ValueError if it is not in it."""
    ranks = default(group).members.ranks
    if global_rank not in ranks:
        raise ValueError(f"Global rank {global_rank} is not part of group {group}")
    return ranks.index(global_rank)


def get_global_rank(group: Any, group_rank: int) -> int:
    """Return the number in the world of rank `group_rank` of `group`; ValueError if there is none."""
    ranks = default(group).members.ranks
    if not 0 <= group_rank < len(ranks):
        raise ValueError(f"Group rank {group_rank} is not part of group {group}")
    return ranks[group_rank]


def get_pg_count() -> int:
    """Return how many groups this process is in."""
    return 1 + len(world().groups)


def member_of(group: Any, name: str) -> ProcessGroup | None:
    """Return the group in which collective `name` is to run; None, with a warning, if this rank is not in it."""
    if isinstance(group, int) and group == GroupMember.NON_GROUP_MEMBER:
        warnings.warn(
            f"Running {name} on global rank {world().group.rank()} which does not belong to the given group.",
            stacklevel=3,
        )
        return None
    return default(group)


def _check_ranks(made: World, ranks: Sequence[int] | None, sort: bool) -> tuple[int, ...]:
    size = made.group.size()
    chosen = tuple(range(size)) if ranks is None else tuple(int(rank) for rank in ranks)
    if sort:
        chosen = tuple(sorted(chosen))
    if not chosen:
        raise ValueError("new_group: a group needs at least one rank")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"new_group: every rank may be given once, got {list(chosen)}")
    for rank in chosen:
        if not 0 <= rank < size:
            raise ValueError(
                f"The new group's rank should be within the world_size set by init_process_group, got {rank}"
            )
    return chosen


def _name_of(made: World, ranks: tuple[int, ...], local: bool) -> str:
    """Return a name that the same call has on every rank that makes it, and no other call has."""
    stem = "group"
    if local:
        stem = "local-" + blake2b(repr(ranks).encode(), digest_size=6).hexdigest()
    made.counts[stem] = made.counts.get(stem, 0) + 1
    return f"{stem}-{made.counts[stem]}"


def _open(made: World, members: Members) -> Transport:
    if made.opener is None:
        return LocalTransport(None, members)
    return made.opener.open(members)
