"""What the kernel says about cores, NUMA nodes, GPUs and the limits of control groups.

Every function reads files below `root`, "/" but for tests, and never fails for a file that is not
there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
_UNLIMITED_V1 = 1 << 60


@dataclass(frozen=True, order=True)
class Core:
    """A logical core and where it is.

    package, node, physical: numbers of the socket, NUMA node and physical core; cache: the lowest
    core that shares its last-level cache. Cores in order are neighbours: siblings of one physical
    core next to each other, then those that share a cache.
    """

    package: int
    node: int
    cache: int
    physical: int
    number: int


def usable_cores(root: Path = ROOT) -> list[Core]:
    """Return the cores that this process may use, neighbours next to each other."""
    return sorted(_core(number, root) for number in os.sched_getaffinity(0))


def _core(number: int, root: Path) -> Core:
    folder = root / f"sys/devices/system/cpu/cpu{number}"
    nodes = [int(path.name[4:]) for path in folder.glob("node[0-9]*")]
    return Core(
        package=_integer(folder / "topology/physical_package_id", 0),
        node=min(nodes, default=0),
        cache=_last_level_cache(folder),
        physical=_integer(folder / "topology/core_id", number),
        number=number,
    )


def _last_level_cache(folder: Path) -> int:
    levels = {_integer(path / "level", 0): path for path in folder.glob("cache/index[0-9]*")}
    if not levels:
        return 0
    return min(parse_list(_text(levels[max(levels)] / "shared_cpu_list")), default=0)


def parse_list(text: str) -> list[int]:
    """Return the numbers of a kernel list such as "0-3,8"."""
    numbers: list[int] = []
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def gpu_nodes(root: Path = ROOT) -> dict[str, int]:
    """Return the NUMA node of each NVIDIA GPU, by its number and by its UUID; unknown ones are left out."""
    found = {}
    for folder in (root / "proc/driver/nvidia/gpus").glob("*"):
        facts = dict(re.findall(r"^([^:\n]+):\s*(.*?)\s*$", _text(folder / "information"), re.MULTILINE))
        node = _integer(root / f"sys/bus/pci/devices/{folder.name.lower()}/numa_node", -1)
        for name in (facts.get("Device Minor"), facts.get("GPU UUID")):
            if name and node >= 0:
                found[name] = node
    return found


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return how many cores' time the control groups of this process allow, or None if they do not limit it."""
    limits = []
    for folder in _groups("", root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal():
            limits.append(int(quota) / int(period))
    for folder in _groups("cpu", root):
        quota_us, period_us = (_integer(folder / f"cpu.cfs_{name}_us", -1) for name in ("quota", "period"))
        if quota_us > 0 and period_us > 0:
            limits.append(quota_us / period_us)
    return min(limits, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Return how many bytes of memory the control groups of this process allow, or None if they do not limit it."""
    return _smallest("memory", "memory.max", "memory.limit_in_bytes", root)


def process_limit(root: Path = ROOT) -> int | None:
    """Return how many threads the control groups of this process allow, or None if they do not limit it."""
    return _smallest("pids", "pids.max", "pids.max", root)


def _smallest(controller: str, name: str, name_v1: str, root: Path) -> int | None:
    limits = [_integer(folder / name, -1) for folder in _groups("", root)]
    limits += [_integer(folder / name_v1, -1) for folder in _groups(controller, root)]
    return min((limit for limit in limits if 0 <= limit < _UNLIMITED_V1), default=None)


def _groups(controller: str, root: Path) -> list[Path]:
    """Return this process's control group and those above it: of a version-1 controller, or "" for version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(",") and bool(controller) == bool(controllers):
            base = root / "sys/fs/cgroup"
            top = base / controllers if controller else base / "unified" if (base / "unified").is_dir() else base
            group = top / path.strip("/")
            # In a container the path is often the host's, of which only the top is visible.
            return [group, *[folder for folder in group.parents if folder == top or top in folder.parents]]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _integer(path: Path, default: int) -> int:
    text = _text(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else default
