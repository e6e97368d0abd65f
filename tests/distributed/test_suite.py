"""Every collective, at every number of ranks, over every transport, against what NumPy computes; and one result for all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch.testing.distributed import run

# Transports, and layouts of the ranks on hosts.
LAYOUTS = {
    "shm": {},
    "ipc": {"DISTTORCH_TRANSPORT": "ipc"},
    "tcp": {"DISTTORCH_TRANSPORT": "tcp"},
    "two hosts": {"DISTTORCH_HOSTS": "2"},
    "a host each": {"DISTTORCH_HOSTS": "8"},
    "uneven hosts": {"DISTTORCH_HOSTS": "0,0,0,1"},
    "mixed hosts": {"DISTTORCH_HOSTS": "0,1,0,1"},
}
CASES = [
    *((n, "shm") for n in (1, 2, 3, 4, 8)),
    (2, "ipc"),
    (3, "tcp"),
    (2, "a host each"),
    (3, "two hosts"),
    (4, "two hosts"),
    (4, "uneven hosts"),
    (4, "mixed hosts"),
]
# Bytes around the borders between ways to reduce, and more than one chunk.
LENGTHS = (0, 1, 7, 1000, 16_383, 16_385, 150_001, 700_003)
DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
OPS: dict[str, Callable[..., np.ndarray]] = {
    "SUM": np.sum,
    "AVG": np.mean,
    "PRODUCT": np.prod,
    "MIN": np.min,
    "MAX": np.max,
    "BAND": np.bitwise_and.reduce,
    "BOR": np.bitwise_or.reduce,
    "BXOR": np.bitwise_xor.reduce,
}
TOLERANCE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "complex64": 1e-6}


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def sample(rank: int, length: int, name: str) -> np.ndarray:
    generator = np.random.default_rng([rank, length])
    if name == "bool":
        return generator.integers(0, 2, length).astype(bool)
    if name.startswith(("int", "uint")):
        return generator.integers(0, 4, length).astype(name)
    values = generator.uniform(0.5, 1.5, length)
    if name.startswith("complex"):
        return (values + 1j * generator.uniform(-1, 1, length)).astype(name)
    return values.astype(dtype_of(name))


def ops_for(name: str) -> list[str]:
    if name.startswith("complex"):
        return ["SUM", "AVG", "PRODUCT"]
    bits = ["BAND", "BOR", "BXOR"]
    return ["SUM", "PRODUCT", "MIN", "MAX", *(["AVG"] if "float" in name else bits)]


def expected(op: str, parts: list[np.ndarray]) -> np.ndarray:
    kind = parts[0].dtype.kind
    if op in ("BAND", "BOR", "BXOR"):
        return OPS[op](np.stack(parts), axis=0)
    wide = np.stack([part.astype(np.complex128 if kind == "c" else np.float64) for part in parts])
    want = OPS[op](wide, axis=0)
    if kind == "b":
        return want != 0
    return want.astype(np.int64).astype(parts[0].dtype) if kind in "iu" else want  # integers wrap around


def close(got: np.ndarray, want: np.ndarray, name: str, what: str) -> None:
    np.testing.assert_allclose(
        got.astype(want.dtype), want, rtol=TOLERANCE.get(name, 1e-12), atol=1e-12, err_msg=f"{what} {name} {len(got)}"
    )


def hashed(values: np.ndarray) -> str:
    return hashlib.blake2b(values.tobytes(), digest_size=8).hexdigest()


class Checks:
    """One check per collective, on this rank.

    What every rank has after an all-reduce is compared with NumPy by one of them, in turn; `bits` holds its hashes, for
    the comparison with the other ranks and transports.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.bits: dict[str, str] = {}

    def all_reduce(self) -> None:
        cases = [(name, n) for name in DTYPES for n in (LENGTHS if name in ("float32", "float16") else LENGTHS[:5])]
        for number, (name, length) in enumerate(cases):
            is_my_turn = number % self.size == self.rank
            parts = [sample(r, length, name) if r == self.rank or is_my_turn else None for r in range(self.size)]
            for op in ops_for(name):
                mine = parts[self.rank].copy()
                dist.all_reduce(mine, dist.ReduceOp(op))
                self.bits[f"{op} {name} {length}"] = hashed(mine)
                if is_my_turn:
                    close(mine, expected(op, parts), name, op)

    def reduce(self) -> None:
        for length in LENGTHS:
            parts = [sample(r, length, "float32") for r in range(self.size)]
            mine = parts[self.rank].copy()
            dist.reduce(mine, self.size - 1)
            if self.rank == self.size - 1:
                close(mine, expected("SUM", parts), "float32", "reduce")
            else:
                np.testing.assert_array_equal(mine, parts[self.rank])

    def reduce_scatter(self) -> None:
        for length in (0, 1, 1000, 300_001):
            parts = [[sample(r * 10 + k, length, "float32") for k in range(self.size)] for r in range(self.size)]
            want = expected("AVG", [part[self.rank] for part in parts])
            got = np.zeros(length, np.float32)
            dist.reduce_scatter(got, parts[self.rank], dist.ReduceOp.AVG)
            close(got, want, "float32", "reduce_scatter")
            again = np.zeros((1, length), np.float32)
            dist.reduce_scatter_tensor(again, np.stack(parts[self.rank]), dist.ReduceOp.AVG)
            np.testing.assert_array_equal(again[0], got)

    def broadcast(self) -> None:
        for length in (0, 1, 65_537, 1_500_001):
            sent = np.arange(length, dtype=np.int32) + 1
            got = sent.copy() if self.rank == self.size - 1 else np.zeros(length, np.int32)
            dist.broadcast(got, src=self.size - 1)
            np.testing.assert_array_equal(got, sent)

    def all_gather(self) -> None:
        for length in (0, 1, 65_537, 1_500_001):
            sent = np.arange(length, dtype=np.int32) + 1
            rows = [np.zeros(length, np.int32) for _ in range(self.size)]
            dist.all_gather(rows, sent * self.rank)
            whole = np.zeros((self.size, length), np.int32)
            dist.all_gather_into_tensor(whole, sent * self.rank)
            for r, row in enumerate(rows):
                np.testing.assert_array_equal(row, sent * r)
                np.testing.assert_array_equal(whole[r], sent * r)

    def gather_and_scatter(self) -> None:
        root = self.size // 2
        for length in (0, 3, 400_001):
            mine = np.full(length, self.rank, np.int64)
            rows = [np.zeros(length, np.int64) for _ in range(self.size)] if self.rank == root else None
            dist.gather(mine, rows, dst=root)
            for r, row in enumerate(rows or []):
                np.testing.assert_array_equal(row, r)
            got = np.zeros(length, np.int64)
            dist.scatter(got, rows, src=root)
            np.testing.assert_array_equal(got, self.rank)

    def all_to_all(self) -> None:
        for unit in (1, 50_001):
            given = [np.full((k + 1) * unit, 10 * self.rank + k, np.int32) for k in range(self.size)]
            taken = [np.zeros((self.rank + 1) * unit, np.int32) for _ in range(self.size)]
            dist.all_to_all(taken, given)
            for r, part in enumerate(taken):
                np.testing.assert_array_equal(part, 10 * r + self.rank)
        even = np.arange(self.size * 2, dtype=np.float32) + 100 * self.rank
        got = np.zeros_like(even)
        dist.all_to_all_single(got, even)
        want = [100 * r + 2 * self.rank + i for r in range(self.size) for i in range(2)]
        assert got.tolist() == want
        uneven = np.concatenate([np.full((k, 3), self.rank, np.int8) for k in range(self.size)])
        out = np.zeros((self.rank * self.size, 3), np.int8)
        dist.all_to_all_single(out, uneven, [self.rank] * self.size, list(range(self.size)))
        assert out[:, 0].tolist() == [r for r in range(self.size) for _ in range(self.rank)]

    def layouts_in_memory(self) -> None:
        base = np.full((5, 6), float(self.rank))
        dist.all_reduce(base.T[::2])
        assert base[0, 0] == sum(range(self.size))
        assert base[0, 1] == self.rank
        scalar = torch.tensor(2.0)
        dist.all_reduce(scalar)
        assert scalar.item() == 2 * self.size

    def objects(self) -> None:
        mine = {"rank": self.rank, (1, "a"): [None, 2**70, 1 + 2j], "x": np.full((self.rank, 3), self.rank, np.float32)}
        everybody = [None] * self.size
        dist.all_gather_object(everybody, mine)
        for r, other in enumerate(everybody):
            assert other["rank"] == r
            assert other[1, "a"] == [None, 2**70, 1 + 2j]
            assert other["x"].shape == (r, 3)
        box = [mine, self.rank] if self.rank == 0 else [None, None]
        dist.broadcast_object_list(box, src=0)
        assert box[1] == 0
        long = ["x" * 3_000_000 if self.rank == 0 else None]
        dist.broadcast_object_list(long)
        assert len(long[0]) == 3_000_000
        places = [None] * self.size if self.rank == self.size - 1 else None
        dist.gather_object("y" * self.rank, places, dst=self.size - 1)
        assert places is None or places == ["y" * r for r in range(self.size)]
        got = [None]
        dist.scatter_object_list(got, [{"for": r} for r in range(self.size)] if self.rank == 0 else None)
        assert got == [{"for": self.rank}]

    def messages(self) -> None:
        if self.size == 1:
            return
        after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        for length in (0, 5, 300_001):
            sent = torch.full((length,), float(self.rank))
            got = torch.zeros(length)
            work = dist.irecv(got, before)
            dist.send(sent, after)
            work.wait()
            assert work.source_rank() == before
            assert (got == before).all()
        both = [torch.zeros(3), torch.zeros(3)]
        works = [dist.isend(torch.ones(3) * tag, after, tag=tag) for tag in (1, 2)]
        dist.recv(both[1], before, tag=2)  # not in the order of sending
        dist.recv(both[0], before, tag=1)
        assert [row[0].item() for row in both] == [1, 2]
        for work in works:
            work.wait()
        self.from_any()
        lists = [[None, None] for _ in range(2)]
        if self.rank == 0:
            dist.send_object_list([self.rank, "x"], 1)
        elif self.rank == 1:
            assert dist.recv_object_list(lists[0], 0) == 0
            assert lists[0] == [0, "x"]

    def from_any(self) -> None:
        value = torch.tensor([self.rank])
        if self.rank:
            dist.send(value, 0)
            return
        seen = []
        for _ in range(1, self.size):
            source = dist.recv(value)
            assert value.item() == source
            seen.append(source)
        assert sorted(seen) == list(range(1, self.size))

    def groups(self) -> None:
        even = dist.new_group(list(range(0, self.size, 2)))
        pairs, every = dist.new_subgroups(2) if self.size % 2 == 0 else (dist.new_group([0]), [])
        assert len(every) == self.size // 2 * (self.size % 2 == 0)
        value = torch.tensor([float(self.rank)])
        if self.rank % 2 == 0:
            dist.all_reduce(value, group=even)
            assert value.item() == sum(range(0, self.size, 2))
            assert dist.get_process_group_ranks(even) == list(range(0, self.size, 2))
            assert dist.get_rank(even) == self.rank // 2
            last = torch.tensor([self.rank])
            root = dist.get_global_rank(even, dist.get_world_size(even) - 1)
            dist.broadcast(last, root, group=even)
            assert last.item() == root
        else:
            assert even == dist.GroupMember.NON_GROUP_MEMBER
            assert (dist.get_rank(even), dist.get_world_size(even)) == (-1, -1)
        if self.size % 2 == 0:
            other = self.rank ^ 1
            got = torch.zeros(1)
            (dist.send if self.rank < other else dist.recv)(got + self.rank if self.rank < other else got, other, pairs)
            work = dist.all_reduce(got, group=pairs, async_op=True)
            work.wait()
            assert got.item() == min(self.rank, other)
        dist.destroy_process_group(pairs) if pairs != dist.GroupMember.NON_GROUP_MEMBER else None
        dist.barrier()


def check_everything() -> dict[str, str]:
    checks = Checks()
    for name in vars(Checks):
        if not name.startswith("_") and name != "from_any":
            getattr(checks, name)()
            dist.monitored_barrier(timeout=20)
    return checks.bits


_bits: dict[int, dict[str, str]] = {}


@pytest.mark.parametrize(("n", "layout"), CASES)
def test_every_collective_is_right_and_has_one_result_on_every_rank_and_transport(n: int, layout: str) -> None:
    first, *others = run(check_everything, n, timeout=60, environment=LAYOUTS[layout])
    for rank, bits in enumerate(others, 1):
        assert bits == first, f"rank {rank} got other bits than rank 0"
    assert _bits.setdefault(n, first) == first, "the transports gave different bits"
