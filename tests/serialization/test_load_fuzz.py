"""Thousands of damaged files: only the documented errors come out, in bounded memory."""

from __future__ import annotations

import io
import pickle
import resource
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn
from disttorch.serialization import load, save
from disttorch.serialization.archive_reader import ArchiveReader
from disttorch.serialization.archive_writer import ArchiveWriter
from disttorch.serialization.safetensors import SafetensorError, load_file, save_file

DOCUMENTED = (RuntimeError, pickle.UnpicklingError)
MOST_MEMORY = 256 << 10  # KiB

Mutation = Callable[[np.random.Generator, bytearray], None]


def checkpoint() -> bytes:
    noted = disttorch.ones(2)
    noted.note = "x"
    state = nn.Linear(2, 2).state_dict()
    objects = [b"ab", bytearray(b"c"), {1}, Counter("a"), OrderedDict(a=1), 1j, disttorch.Size([2])]
    whole = {"state": state, "tied": [state["weight"], state["weight"].t()], "objects": objects}
    whole |= {"p": nn.Parameter(noted), "noted": noted, "d": disttorch.device("cpu"), "n": 2**70}
    buffer = io.BytesIO()
    save(whole, buffer)
    return buffer.getvalue()


def flip(random: np.random.Generator, data: bytearray) -> None:
    for at in random.integers(0, len(data), random.integers(1, 4)):
        data[at] = random.integers(0, 256)


def cut(random: np.random.Generator, data: bytearray) -> None:
    begin, end = sorted(random.integers(0, len(data) + 1, 2))
    del data[begin : min(end, begin + 20)]


def insert(random: np.random.Generator, data: bytearray) -> None:
    at = int(random.integers(0, len(data)))
    data[at:at] = random.bytes(int(random.integers(1, 9)))


def repeat(random: np.random.Generator, data: bytearray) -> None:
    begin, at = (int(n) for n in random.integers(0, len(data), 2))
    data[at:at] = data[begin : begin + int(random.integers(1, 40))]


def interesting(random: np.random.Generator, data: bytearray) -> None:
    at = int(random.integers(0, len(data)))
    values = [b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8]
    value = values[int(random.integers(0, len(values)))]
    data[at : at + len(value)] = value


MUTATIONS: list[Mutation] = [flip, cut, insert, repeat, interesting]


def survives(open_it: Callable[[bytes], Any], documented: Any, data: bytes, count: int) -> int:
    """Open `count` mutations; return how many still opened. Fails for an undocumented error."""
    random = np.random.default_rng(0)
    opened = 0
    before = most_memory_so_far()
    for i in range(count):
        mutated = bytearray(data)
        mutation = MUTATIONS[i % len(MUTATIONS)]
        mutation(random, mutated)
        try:
            open_it(bytes(mutated))
            opened += 1
        except documented:
            pass
        except Exception as error:
            pytest.fail(f"mutation {i} ({mutation.__name__}) raised {error!r}")
    growth = most_memory_so_far() - before
    assert growth < MOST_MEMORY, f"a small file made loading take {growth >> 10} MiB"
    return opened


def most_memory_so_far() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_damaged_archives() -> None:
    survives(lambda data: load(io.BytesIO(data)), DOCUMENTED, checkpoint(), 2000)


def test_damaged_pickles_in_whole_archives() -> None:
    """The checksums of the archive are right, so that every mutation reaches the unpickler."""
    reader = ArchiveReader(io.BytesIO(checkpoint()), "it")
    records = {name: reader.read(name) for name in reader.records}

    def open_it(pickled: bytes) -> None:
        out = io.BytesIO()
        writer = ArchiveWriter(out.write, "archive")
        for name, payload in (records | {"data.pkl": pickled}).items():
            writer.add(name, payload)
        writer.close()
        out.seek(0)
        load(out)

    opened = survives(open_it, DOCUMENTED, records["data.pkl"], 3000)
    assert opened > 30, "the mutations are too coarse to test anything"


@pytest.mark.filterwarnings("ignore")
def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True]), "c": np.arange(3)}
    save_file({**tensors, "tied": tensors["a"]}, path, {"format": "pt"})

    def open_it(data: bytes) -> None:
        path.unlink()  # writing over a file makes some file systems wait for the disk
        path.write_bytes(data)
        load_file(path)

    survives(open_it, SafetensorError, path.read_bytes(), 2000)
