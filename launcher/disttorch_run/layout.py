"""How the ranks of a run reach each other: the transport, and on which host each one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from disttorch.distributed.opening import AUTO, HIERARCHICAL, SHARED_MEMORY, TRANSPORTS, UNIX

TRANSPORT_VARIABLE = "DISTTORCH_TRANSPORT"
SHM_VARIABLE = "DISTTORCH_SHM"
HOSTS_VARIABLE = "DISTTORCH_HOSTS"


class LayoutError(OSError):
    """The environment asks for a layout that cannot be."""


@dataclass(frozen=True)
class Layout:
    """The transport, one of `TRANSPORTS`, and the number of each rank's host."""

    transport: str
    hosts: tuple[int, ...]


def plan(environment: Mapping[str, str], size: int) -> Layout:
    """Return the layout of `size` ranks: what DISTTORCH_TRANSPORT, DISTTORCH_SHM and DISTTORCH_HOSTS ask for.

    DISTTORCH_HOSTS treats the ranks of this machine as if they were on several, for tests: a number of hosts, or the
    host of each rank, as in "0,0,1". Raises LayoutError for anything else.
    """
    transport = environment.get(TRANSPORT_VARIABLE) or AUTO
    if transport not in TRANSPORTS:
        raise LayoutError(f"{TRANSPORT_VARIABLE}={transport}: expected one of {', '.join(TRANSPORTS)}")
    if environment.get(SHM_VARIABLE) == "0" and transport == AUTO:
        transport = UNIX
    hosts = _hosts(environment.get(HOSTS_VARIABLE) or "1", size)
    if len(set(hosts)) > 1 and transport in (SHARED_MEMORY, UNIX):
        asked = f"{TRANSPORT_VARIABLE}={transport}" if environment.get(TRANSPORT_VARIABLE) else f"{SHM_VARIABLE}=0"
        raise LayoutError(f"{asked} reaches one host only; with several use {TRANSPORT_VARIABLE}=tcp or {HIERARCHICAL}")
    return Layout(transport, hosts)


def _hosts(text: str, size: int) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise LayoutError(f"{HOSTS_VARIABLE}={text}: expected a number of hosts, or the host of each rank as in 0,0,1")
    if len(numbers) == 1:
        count = max(1, min(int(text), size))
        return tuple(rank * count // size for rank in range(size))
    if len(numbers) != size:
        raise LayoutError(f"{HOSTS_VARIABLE}={text} names the hosts of {len(numbers)} ranks, this run has {size}")
    return tuple(int(number) for number in numbers)
