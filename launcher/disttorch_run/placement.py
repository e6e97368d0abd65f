"""Which cores and which GPU each worker gets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class PlacementError(ValueError):
    """The machine does not have what was asked for."""


@dataclass(frozen=True)
class Placement:
    """Cores (empty: not pinned), threads and GPU (None: not restricted) of one worker."""

    cores: tuple[int, ...]
    threads: int
    gpu: str | None = None


def plan(nproc: str, oversubscribe: bool = False) -> list[Placement]:
    """Return one placement per worker for `--nproc-per-node nproc`: a number, "auto", "cpu" or
    "gpu".

    Raises PlacementError when `nproc` is none of these or there are fewer cores or GPUs than that.
    """
    cores = _ordered_cores()
    gpus: list[str] = available_gpus() if nproc in ("auto", "gpu") else []
    if nproc == "gpu" and not gpus:
        raise PlacementError("--nproc-per-node gpu: no NVIDIA GPU found; use a number of processes or cpu")
    count = len(gpus) if gpus else len(cores) if nproc in ("auto", "cpu") else _number(nproc)
    if count > len(cores):
        if not oversubscribe:
            raise PlacementError(
                f"--nproc-per-node {nproc}: {count} processes need {count} cores, this machine "
                "lets us use "
                f"{len(cores)}; ask for fewer, or add --oversubscribe to let them share cores"
            )
        return [Placement((), 1, gpus[i] if gpus else None) for i in range(count)]
    return [Placement(part, len(part), gpus[i] if gpus else None) for i, part in enumerate(_split(cores, count))]


def available_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use, without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    found = sorted(path.name[len("nvidia") :] for path in Path("/dev").glob("nvidia[0-9]*"))
    return [str(i) for i in range(len(found))]


def _number(nproc: str) -> int:
    if not nproc.isdecimal() or int(nproc) < 1:
        raise PlacementError(f"--nproc-per-node {nproc}: expected a number from 1, auto, cpu or gpu")
    return int(nproc)


def _ordered_cores() -> list[int]:
    """Return the usable cores with those that share a package and a physical core next to each other."""
    return sorted(os.sched_getaffinity(0), key=lambda core: (_topology(core), core))


def _topology(core: int) -> tuple[int, int]:
    folder = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        package, physical = ((folder / name).read_text() for name in ("physical_package_id", "core_id"))
        return int(package), int(physical)
    except (OSError, ValueError):
        return 0, core


def _split(cores: list[int], count: int) -> list[tuple[int, ...]]:
    bounds = [len(cores) * i // count for i in range(count + 1)]
    return [tuple(cores[start:stop]) for start, stop in pairwise(bounds)]
