"""Which cores and which GPU each worker gets."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from disttorch_run import topology
from disttorch_run.topology import Core

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# What the launcher keeps open for each worker, and besides: its socket, pidfd, stacks, two streams
# with their logs, a segment.
_DESCRIPTORS_PER_WORKER, _DESCRIPTORS, _MOST_DESCRIPTORS = 10, 64, 1 << 20
_THREADS_PER_WORKER = 4
_BYTES_PER_WORKER = 30 * 1024 * 1024


class PlacementError(ValueError):
    """The machine does not have what was asked for."""


@dataclass(frozen=True)
class Placement:
    """Cores (empty: not pinned), threads and GPU (None: not restricted) of one worker."""

    cores: tuple[int, ...]
    threads: int
    gpu: str | None = None


def plan(
    nproc: str, oversubscribe: bool = False, binding: str = "exclusive", pin: bool = True, own_gpus: bool = False
) -> list[Placement]:
    """Return one placement per worker for `--nproc-per-node nproc`: a number, "auto", "cpu" or
    "gpu".

    binding: "exclusive", cores of its own, near its GPU; or all cores of their NUMA "node" or
    "socket", or of one "core-complex" (a shared last-level cache). pin: False leaves the kernel the
    choice. own_gpus: give each of a number of workers a GPU, too, if there are any. Raises PlacementError when `nproc` is none of these or there are fewer cores or GPUs
    than that.
    """
    cores = topology.usable_cores()
    gpus: list[str] = available_gpus() if nproc in ("auto", "gpu") or own_gpus else []
    if nproc == "gpu" and not gpus:
        raise PlacementError("--nproc-per-node gpu: no NVIDIA GPU found; use a number of processes or cpu")
    count = _count(nproc, gpus)
    if gpus and count > len(gpus):
        raise PlacementError(f"--nproc-per-node {nproc}: there are {len(gpus)} GPUs for {count} processes")
    gpus = gpus[:count]
    names: list[str | None] = [*gpus] if gpus else [None] * count
    if count > capacity():
        if not oversubscribe:
            raise PlacementError(
                f"--nproc-per-node {nproc}: {count} processes need {count} cores, this machine "
                f"lets us use {capacity()}; ask for fewer, or add --oversubscribe to let them share cores"
            )
        _check_limits(nproc, count)
        return [Placement((), 1, name) for name in names]
    shares = _near_gpus(cores, gpus) or _split(cores, count)
    quota = topology.cpu_quota() or math.inf
    threads = [max(1, min(len(share), int(quota / count) if quota < len(cores) else len(share))) for share in shares]
    bound = _BINDINGS[binding](cores, shares) if pin else [() for _ in shares]
    return [Placement(tuple(c.number for c in part), n, name) for part, n, name in zip(bound, threads, names)]


def capacity() -> int:
    """Return how many workers can run at a time: the cores, or the control groups' share of them if that is less."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, math.ceil(topology.cpu_quota() or cores))


def available_gpus(root: Path = Path("/")) -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use, without starting CUDA.

    root: where the kernel's file systems are.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    return [str(i) for i, _ in enumerate((root / "dev").glob("nvidia[0-9]*"))]


def _count(nproc: str, gpus: Sequence[str]) -> int:
    if nproc == "gpu" or (nproc == "auto" and gpus):
        return len(gpus)
    return _cores_to_use() if nproc in ("auto", "cpu") else _number(nproc)


def _number(nproc: str) -> int:
    if not nproc.isascii() or not nproc.isdecimal() or len(nproc) > 9 or int(nproc) < 1:
        raise PlacementError(f"--nproc-per-node {nproc}: expected a number from 1, auto, cpu or gpu")
    return int(nproc)


def _cores_to_use() -> int:
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(topology.cpu_quota() or cores)))


def _check_limits(nproc: str, count: int) -> None:
    """Refuse so many workers that starting them cannot end well; let the launcher open what they need."""
    descriptors = _DESCRIPTORS_PER_WORKER * count + _DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    group = topology.process_limit()
    most = [
        ("open files (ulimit -n)", descriptors, hard if hard != resource.RLIM_INFINITY else None),
        ("threads (ulimit -u)", _THREADS_PER_WORKER * count, processes if processes >= 0 and os.getuid() else None),
        ("threads (of the control group)", _THREADS_PER_WORKER * count, group),
        ("bytes of memory", _BYTES_PER_WORKER * count, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    ]
    for what, needed, limit in most:
        if limit is not None and needed > limit:
            raise PlacementError(
                f"--nproc-per-node {nproc}: {count} processes need about {needed:,} {what}, there are {limit:,}"
            )
    # Who connects to the store's port without its key takes descriptors as well, for a while.
    most_descriptors = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft < most_descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_descriptors, hard))


def _near_gpus(cores: list[Core], gpus: Sequence[str]) -> list[list[Core]] | None:
    """Divide the cores of each NUMA node among its GPUs; None if a GPU's node is unknown or has too few cores."""
    nodes = topology.gpu_nodes() if gpus else {}
    ranks: dict[int, list[int]] = {}
    for rank, gpu in enumerate(gpus):
        ranks.setdefault(nodes.get(gpu, -1), []).append(rank)
    shares: list[list[Core]] = [[] for _ in gpus]
    for node, those in ranks.items():
        near = [core for core in cores if core.node == node]
        if len(near) < len(those):
            return None
        for rank, part in zip(those, _split(near, len(those))):
            shares[rank] = part
    return shares or None


def _split(cores: list[Core], count: int) -> list[list[Core]]:
    """Divide cores evenly, neighbours together; physical cores are not torn apart unless there are too few of them."""
    physical = [
        list(group) for _, group in groupby(cores, lambda core: (core.package, core.node, core.cache, core.physical))
    ]
    units = physical if count <= len(physical) else [[core] for core in cores]
    bounds = [len(units) * i // count for i in range(count + 1)]
    return [[core for unit in units[start:stop] for core in unit] for start, stop in pairwise(bounds)]


def _own(_: list[Core], shares: list[list[Core]]) -> list[list[Core]]:
    return shares


def _all_with_same(place: Callable[[Core], int]) -> Callable[[list[Core], list[list[Core]]], list[list[Core]]]:
    def bind(cores: list[Core], shares: list[list[Core]]) -> list[list[Core]]:
        wanted = [{place(core) for core in share} for share in shares]
        return [[core for core in cores if place(core) in those] for those in wanted]

    return bind


def _core_complexes(cores: list[Core], shares: list[list[Core]]) -> list[list[Core]]:
    """Give each worker one group of cores with a common cache, of its own node, different ones while there are."""
    taken: dict[int, int] = {}
    bound = []
    for share in shares:
        node = share[0].node
        complexes = [list(g) for _, g in groupby((c for c in cores if c.node == node), lambda core: core.cache)]
        bound.append(complexes[taken.get(node, 0) % len(complexes)])
        taken[node] = taken.get(node, 0) + 1
    return bound


_BINDINGS: dict[str, Callable[[list[Core], list[list[Core]]], Sequence[Sequence[Core]]]] = {
    "exclusive": _own,
    "node": _all_with_same(lambda core: core.node),
    "socket": _all_with_same(lambda core: core.package),
    "core-complex": _core_complexes,
}
