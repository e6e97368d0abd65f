"""What this machine has for training on several processes, and what is missing: the facts of `disttorch-run doctor`."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.metadata
import importlib.util
import mmap
import os
import platform
import re
import resource
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from disttorch_run import topology
from disttorch_run.placement import THREAD_VARIABLES, available_gpus

OK, WARNING, FAILED = "ok", "warning", "failed"
_MIB, _GIB = 1 << 20, 1 << 30
_SIOCGIFADDR = 0x8915
_INTERFACE_ADDRESS = slice(20, 24)


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, `verdict` (OK, WARNING, FAILED), and what to do about it."""

    name: str
    found: str
    verdict: str = OK
    advice: str = ""


def sections() -> Iterator[tuple[str, list[Check]]]:
    """Look at everything; yield a title and its checks."""
    for title, look in _SECTIONS.items():
        yield title, [check for one in look for check in _guarded(one)]


def _guarded(look: Callable[[], Iterator[Check]]) -> list[Check]:
    """Return the checks of one function; one that cannot be made is a failure itself, not the end of all."""
    try:
        return list(look())
    except Exception as error:
        return [Check(look.__name__.strip("_").replace("_", " "), f"{type(error).__name__}: {error}", FAILED)]


def _cores() -> Iterator[Check]:
    cores = topology.usable_cores()
    counts = [
        _count(len({(c.package, c.node, c.cache, c.physical) for c in cores}), "physical core"),
        _count(len({c.package for c in cores}), "socket"),
        _count(len({c.node for c in cores}), "NUMA node"),
    ]
    found = f"{len(cores)} of {os.cpu_count()} usable: {', '.join(counts)}"
    if len(cores) == 1:
        yield Check("cores", found, WARNING, "workers will take turns on one core; --oversubscribe allows that")
    else:
        yield Check("cores", found)
    quota = topology.cpu_quota()
    if quota is None:
        yield Check("CPU limit", "none")
    elif quota < len(cores):
        advice = f"ask for at most {max(1, int(quota))} workers (auto does); more are slowed down by the kernel"
        yield Check("CPU limit", f"the control group allows the time of {quota:g} cores", WARNING, advice)
    else:
        yield Check("CPU limit", f"the control group allows the time of {quota:g} cores")


def _load() -> Iterator[Check]:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 2:
        yield Check("load", f"{load:.1f} on average", WARNING, "other programs are running: times below will vary")
    else:
        yield Check("load", f"{load:.1f} on average")


def _memory() -> Iterator[Check]:
    text = Path("/proc/meminfo").read_text()
    total, free = (int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024 for name in _MEMORY)  # type: ignore[index]
    found = f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} GiB available"
    limit = topology.memory_limit()
    if limit is not None and limit < total:
        found += f"; the control group allows {limit / _GIB:.1f} GiB"
    if min(free, limit or free) < _GIB:
        yield Check("memory", found, WARNING, "a worker needs 0.1 GiB and what its model and data need")
    else:
        yield Check("memory", found)


_MEMORY = ("MemTotal", "MemAvailable")


def _gpus() -> Iterator[Check]:
    names = available_gpus()
    if not names:
        yield Check("GPUs", "none (NVIDIA GPUs are looked for)")
        return
    nodes = topology.gpu_nodes()
    places = [f"GPU {name} (NUMA node {nodes[name]})" if name in nodes else f"GPU {name}" for name in names]
    found = ", ".join(places)
    if importlib.util.find_spec("cupy") is None:
        yield Check("GPUs", found, WARNING, "CuPy is missing: pip install 'disttorch[cuda12]' to compute on them")
    else:
        yield Check("GPUs", found)


def _shared_memory() -> Iterator[Check]:
    advice = "training works with DISTTORCH_SHM=0, but more slowly"
    try:
        fd = os.memfd_create("disttorch-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, _MIB)
            os.posix_fallocate(fd, 0, _MIB)
            with mmap.mmap(fd, _MIB, mmap.MAP_SHARED) as memory:
                memory[-1] = 1
        finally:
            os.close(fd)
        yield Check("shared memory", "memfd_create works; segments have no names and no limit but memory")
    except OSError as error:
        yield Check("shared memory", f"memfd_create: {error.strerror}", FAILED, advice)
    usage = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    if usage is None:
        yield Check("/dev/shm", "not there (gradients do not need it)")
    else:
        yield Check(
            "/dev/shm", f"{usage.free / _GIB:.2f} of {usage.total / _GIB:.2f} GiB free (gradients do not need it)"
        )


def _futex() -> Iterator[Check]:
    from disttorch.distributed import futex

    if not futex.available():
        advice = "messages are used instead of shared memory, which is slower"
        yield Check("futex", f"its number on {platform.machine()} is not known", WARNING, advice)
        return
    word = ctypes.c_uint32(5)
    started = time.monotonic()
    futex.wait(ctypes.addressof(word), 5)  # nobody changes it: a futex that works sleeps its full time
    slept = time.monotonic() - started
    if slept < futex.SLICE_SECONDS / 2:
        yield Check(
            "futex", "the system call is refused", FAILED, "set DISTTORCH_SHM=0, or allow futex to this process"
        )
    else:
        yield Check("futex", "works")


def _processes() -> Iterator[Check]:
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield Check("pidfd", "works")
    except OSError as error:
        yield Check(
            "pidfd", str(error.strerror), FAILED, "disttorch-run needs Linux 5.3 or later, and pidfd_open allowed"
        )
    status = Path("/proc/self/status").read_text()
    filtered = re.search(r"^Seccomp:\s+2", status, re.MULTILINE)
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    traced = f"ptrace_scope {scope.read_text().strip()}" if scope.exists() else "ptrace not restricted by Yama"
    yield Check("restrictions", f"{'a seccomp filter' if filtered else 'no seccomp filter'}; {traced}")


def _limits() -> Iterator[Check]:
    for name, number, least in _LIMITS:
        soft, hard = resource.getrlimit(number)
        found = f"{_limit(soft)} (up to {_limit(hard)})" if soft != hard else _limit(soft)
        low = least is not None and 0 <= hard < least
        advice = f"at least {least} are needed for a few workers: raise the limit (ulimit, /etc/security/limits.conf)"
        yield Check(name, found, WARNING if low else OK, advice if low else "")
    threads = topology.process_limit()
    if threads is not None:
        low = threads < 256
        yield Check(
            "threads of the group",
            f"{threads:,}",
            WARNING if low else OK,
            "a worker has about ten threads: raise the container's limit of processes" if low else "",
        )


_LIMITS = (
    ("open files", resource.RLIMIT_NOFILE, 256),
    ("processes", resource.RLIMIT_NPROC, 256),
    ("locked bytes", resource.RLIMIT_MEMLOCK, None),
)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value:,}"


def _interfaces() -> Iterator[Check]:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.settimeout(2)
        try:
            client.connect(server.getsockname())
            yield Check("loopback", "127.0.0.1 works")
        except OSError as error:
            yield Check("loopback", str(error), FAILED, "the store listens on 127.0.0.1: bring the interface lo up")
    others = [(name, _address(name)) for _, name in socket.if_nameindex() if name != "lo"]
    found = ", ".join(f"{name} {address}" for name, address in others if address)
    yield Check("interfaces", found or "no other interface has an IPv4 address")


def _address(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[_INTERFACE_ADDRESS])


def _versions() -> Iterator[Check]:
    yield Check("Python", f"{platform.python_version()} on Linux {platform.release()}, {platform.machine()}")
    names = ("disttorch", "numpy", "scipy", "numba", "pyzmq", "msgpack")
    found = [f"{name} {version}" for name in names if (version := _version(name))]
    missing = [name for name in names if not _version(name)]
    advice = f"not installed: {', '.join(missing)}" if missing else ""
    yield Check("packages", ", ".join(found), FAILED if missing else OK, advice)
    import zmq

    text = f"libzmq {zmq.zmq_version()}"
    if zmq.has("curve"):
        yield Check("encryption", f"{text} with CURVE")
    else:
        yield Check("encryption", f"{text} without CURVE", FAILED, "install pyzmq from its wheel, which has CURVE")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> Iterator[Check]:
    import numpy  # noqa: F401  loads NumPy's BLAS
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    for pool in pools:
        kind = pool.get("architecture") or "unknown architecture"
        yield Check(
            "BLAS", f"{pool['internal_api']} {pool['version']} ({kind}), {_count(pool['num_threads'], 'thread')}"
        )
    if not pools:
        yield Check(
            "BLAS", "none that threadpoolctl knows", WARNING, "workers may start more threads than they have cores"
        )
    for name in THREAD_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 1:
            advice = "it holds for every worker; unset it, and each gets as many threads as it has cores"
            yield Check(name, value, WARNING, advice)


def _environment() -> Iterator[Check]:
    shown = sorted(f"{n}={v}" for n, v in os.environ.items() if n.startswith(("PET_", "DISTTORCH_", "TORCHELASTIC_")))
    if shown:
        yield Check("environment", ", ".join(shown), WARNING, "these change what disttorch-run and its workers do")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


_SECTIONS: dict[str, list[Callable[[], Iterator[Check]]]] = {
    "Machine": [_cores, _load, _memory, _gpus],
    "Operating system": [_shared_memory, _futex, _processes, _limits, _interfaces],
    "Software": [_versions, _blas, _environment],
}
