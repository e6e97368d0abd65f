"""Which cores each worker gets, on machines that are written down as the kernel would."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from disttorch_run import placement, topology
from disttorch_run.options import Options
from disttorch_run.placement import Placement, PlacementError, plan
from disttorch_run.process import environment_for


class Machine:
    """Files as the kernel has them, for as many sockets, NUMA nodes, caches, cores and threads of a core as wanted.

    Logical cores are numbered as on most servers: first one thread of every physical core, then the other.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.monkeypatch = monkeypatch
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(topology.usable_cores, "__defaults__", (root,))
        of_topology = (topology.gpu_nodes, topology.cpu_quota, topology.process_limit, topology.memory_limit)
        for function in (*of_topology, placement.available_gpus):
            monkeypatch.setattr(function, "__defaults__", (root,))

    def write(self, path: str, text: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def build(self, sockets: int = 1, nodes: int = 1, caches: int = 1, cores: int = 1, threads: int = 1) -> int:
        """nodes per socket, caches per node, physical cores per cache, threads per core; return how many logical."""
        physical = sockets * nodes * caches * cores
        for one in range(physical):
            socket, node, cache = one // (nodes * caches * cores), one // (caches * cores), one // cores
            sharing = [c + t * physical for c in range(cache * cores, (cache + 1) * cores) for t in range(threads)]
            for logical in range(one, physical * threads, physical):
                folder = f"sys/devices/system/cpu/cpu{logical}"
                self.write(f"{folder}/topology/physical_package_id", socket)
                self.write(f"{folder}/topology/core_id", one % (nodes * caches * cores))
                self.write(f"{folder}/cache/index0/level", 1)
                self.write(f"{folder}/cache/index0/shared_cpu_list", logical)
                self.write(f"{folder}/cache/index3/level", 3)
                self.write(f"{folder}/cache/index3/shared_cpu_list", ",".join(map(str, sorted(sharing))))
                (self.root / folder / f"node{node}").mkdir()
        self.allow(range(physical * threads))
        return physical * threads

    def allow(self, cores: range) -> None:
        self.monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores))

    def gpu(self, minor: int, bus: str, node: int) -> None:
        self.write(
            f"proc/driver/nvidia/gpus/{bus.upper()}/information",
            f"Model:  X\nGPU UUID:  GPU-{minor}\nDevice Minor:  {minor}",
        )
        self.write(f"sys/bus/pci/devices/{bus}/numa_node", node)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def cores_of(*arguments: object, **details: object) -> list[list[int]]:
    return [sorted(place.cores) for place in plan(*arguments, **details)]


def test_siblings_of_a_core_and_sockets_stay_together(machine: Machine) -> None:
    machine.build(sockets=2, cores=2, threads=2)  # cores 0 1 | 2 3, their siblings 4 5 | 6 7
    assert cores_of("2") == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert cores_of("4") == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert cores_of("3") == [[0, 4], [1, 5], [2, 3, 6, 7]]
    assert cores_of("auto") == [[0], [4], [1], [5], [2], [6], [3], [7]]
    machine.allow(range(1, 4))
    assert cores_of("2") == [[1], [2, 3]]


def test_numa_nodes_and_caches_can_be_shared_on_request(machine: Machine) -> None:
    machine.build(sockets=2, nodes=2, caches=2, cores=2)  # 16 cores, 4 nodes of 4, 8 caches of 2
    assert cores_of("2", binding="exclusive") == [list(range(8)), list(range(8, 16))]
    assert cores_of("8", binding="node") == [list(range(4 * (r // 2), 4 * (r // 2) + 4)) for r in range(8)]
    assert cores_of("4", binding="socket") == [list(range(8))] * 2 + [list(range(8, 16))] * 2
    assert cores_of("8", binding="core-complex") == [[2 * r, 2 * r + 1] for r in range(8)]
    assert cores_of("4", binding="core-complex") == [[0, 1], [4, 5], [8, 9], [12, 13]]
    assert [place.threads for place in plan("8", binding="node")] == [2] * 8
    assert [(place.cores, place.threads) for place in plan("4", pin=False)] == [((), 4)] * 4


def test_workers_are_near_their_gpus(machine: Machine) -> None:
    machine.build(sockets=2, cores=4)
    for minor, (bus, node) in enumerate([("0000:41:00.0", 1), ("0000:01:00.0", 0), ("0000:42:00.0", 1)]):
        machine.gpu(minor, bus, node)
    machine.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-2")
    assert cores_of("gpu") == [[4, 5], [0, 1, 2, 3], [6, 7]]
    assert [place.gpu for place in plan("gpu")] == ["0", "1", "GPU-2"]
    two = plan("2", own_gpus=True)
    assert [(place.gpu, place.cores) for place in two] == [("0", (4, 5, 6, 7)), ("1", (0, 1, 2, 3))]
    assert [place.gpu for place in plan("2")] == [None, None]
    with pytest.raises(PlacementError, match="there are 3 GPUs for 4 processes"):
        plan("4", own_gpus=True)
    machine.gpu(2, "0000:42:00.0", -1)  # the firmware does not say
    assert cores_of("gpu") == [[0, 1], [2, 3, 4], [5, 6, 7]]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "250000 100000",
            },
            2.5,
        ),
        ({"proc/self/cgroup": "0::/only/on/the/host", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/a\n0::/",
                "sys/fs/cgroup/unified/cgroup.procs": "",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": 300000,
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": 100000,
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
            },
            None,
        ),
        ({}, None),
    ],
)
def test_a_limit_of_the_control_group_counts_as_fewer_cores(
    files: dict[str, object], quota: float | None, machine: Machine
) -> None:
    machine.build(cores=8)
    for path, text in files.items():
        machine.write(path, text)
    assert topology.cpu_quota() == quota
    assert len(plan("auto")) == int(quota or 8)
    assert placement.capacity() == {2.5: 3, 1.5: 2}.get(quota, int(quota or 8))
    if quota == 2.5:
        two = plan("2")
        assert [len(place.cores) for place in two] == [4, 4]  # where the kernel may move them
        assert [place.threads for place in two] == [1, 1]
        with pytest.raises(PlacementError, match="4 processes need 4 cores, this machine lets us use 3"):
            plan("4")
        assert plan("4", oversubscribe=True)[0].cores == ()


def test_limits_of_memory_and_threads(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "5:pids:/p\n0::/g")
    machine.write("sys/fs/cgroup/g/memory.max", 1 << 30)
    machine.write("sys/fs/cgroup/memory.max", "max")
    machine.write("sys/fs/cgroup/pids/p/pids.max", 100)
    assert topology.memory_limit() == 1 << 30
    assert topology.process_limit() == 100
    machine.build(cores=2)
    with pytest.raises(
        PlacementError, match=r"30 processes need about 120 threads \(of the control group\), there are 100"
    ):
        plan("30", oversubscribe=True)


def test_lists_of_the_kernel() -> None:
    assert topology.parse_list("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert topology.parse_list("") == []


@pytest.mark.parametrize("virtual", [False, True])
def test_a_worker_knows_its_gpu(virtual: bool) -> None:
    placements = [Placement((0,), 1, "GPU-a"), Placement((1,), 1, "GPU-b")]
    options = Options(["script", "x.py"], placements, virtual_local_rank=virtual, environment={})
    environment = environment_for(options, 1, 1234, 0)
    if virtual:
        assert (environment["CUDA_VISIBLE_DEVICES"], environment["LOCAL_RANK"]) == ("GPU-b", "0")
        assert "DISTTORCH_GPU" not in environment
    else:
        assert (environment["DISTTORCH_GPU"], environment["LOCAL_RANK"]) == ("1", "1")
        assert "CUDA_VISIBLE_DEVICES" not in environment
