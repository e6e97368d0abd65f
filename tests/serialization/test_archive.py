"""The zip archive: its layout byte by byte, and what is said of archives that are wrong."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch.serialization import archive_writer, load, save
from disttorch.serialization.archive_reader import ArchiveReader
from disttorch.serialization.archive_writer import ArchiveWriter


def saved(obj: Any) -> bytes:
    buffer = io.BytesIO()
    save(obj, buffer)
    return buffer.getvalue()


def payload_offset(data: bytes, info: zipfile.ZipInfo) -> int:
    name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    return info.header_offset + 30 + name + extra


def repacked(
    data: bytes,
    change: Callable[[str, bytes], tuple[str, bytes] | None],
    method: int = zipfile.ZIP_STORED,
) -> io.BytesIO:
    """Pack an archive again with Python's zipfile, each record changed or (None) left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for info in old.infolist():
            changed = change(info.filename, old.read(info))
            if changed is not None:
                new.writestr(*changed)
    out.seek(0)
    return out


def test_layout() -> None:
    data = saved({"a": disttorch.ones(3), "b": disttorch.zeros(2, dtype=disttorch.int64)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        infos = {info.filename: info for info in archive.infolist()}
        assert list(infos) == [
            "archive/data.pkl",
            "archive/byteorder",
            "archive/data/0",
            "archive/data/1",
            "archive/version",
        ]
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        assert archive.read("archive/data/0") == np.ones(3, np.float32).tobytes()
    for name, info in infos.items():
        assert payload_offset(data, info) % 64 == 0, f"{name} is not aligned"
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("model.v2.pt", "model.v2"), ("plain", "plain"), ("größe.pt", "archive"), ("...", "archive")],
)
def test_the_folder_is_named_after_the_file(tmp_path: Path, name: str, folder: str) -> None:
    save(1, tmp_path / name)
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert archive.namelist()[0] == f"{folder}/data.pkl"
    assert load(tmp_path / name) == 1


@pytest.mark.parametrize("limit", [1, 40, 300])
def test_sizes_and_offsets_beyond_32_bits(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """With the limit lowered, small archives take the same ZIP64 fields as those over 4 GiB."""
    monkeypatch.setattr(archive_writer, "MANY_FROM", 2)
    monkeypatch.setattr(archive_writer, "WIDE_FROM", limit)
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "big")
    payloads = {"first": b"x" * 50, "second": b"", "third": bytes(range(256)) * 2}
    for name, payload in payloads.items():
        writer.add(name, payload)
    writer.close()
    with zipfile.ZipFile(io.BytesIO(out.getvalue())) as archive:
        assert {n: archive.read(f"big/{n}") for n in payloads} == payloads
        assert all(payload_offset(out.getvalue(), i) % 64 == 0 for i in archive.infolist())
    out.seek(0)
    reader = ArchiveReader(out, "it")
    assert {name: reader.read(name) for name in payloads} == payloads


def test_many_records() -> None:
    state = {str(i): disttorch.tensor(float(i)) for i in range(2000)}
    found = load(io.BytesIO(saved(state)))
    assert [t.item() for t in found.values()] == [float(i) for i in range(2000)]


def test_an_archive_packed_by_other_tools_loads(tmp_path: Path) -> None:
    data = saved({"w": disttorch.arange(5.0), "c": disttorch.ones(2, dtype=disttorch.complex128)})
    other = repacked(data, lambda name, payload: (name.replace("archive", "other"), payload))
    assert load(other)["w"].tolist() == [0, 1, 2, 3, 4]
    path = tmp_path / "unaligned.pt"
    path.write_bytes(other.getvalue())
    found = load(path, mmap=True)
    assert found["c"].tolist() == [1, 1]
    assert all(t.numpy().flags.aligned for t in found.values())


def test_a_big_endian_file_is_swapped() -> None:
    values = {
        "f": np.array([1.5, -2], np.float32),
        "c": np.array([1 + 2j], np.complex64),
        "i": np.array([1, 2, 3], np.int16),
        "b": np.array([True, False]),
    }

    def swap(name: str, payload: bytes) -> tuple[str, bytes]:
        if name.endswith("byteorder"):
            return name, b"big"
        if "/data/" not in name:
            return name, payload
        width = {"0": 4, "1": 4, "2": 2, "3": 1}[name[-1]]
        return name, np.frombuffer(payload, f"u{width}").byteswap().tobytes()

    found = load(repacked(saved({k: disttorch.from_numpy(v) for k, v in values.items()}), swap))
    for name, array in values.items():
        assert found[name].tolist() == array.tolist(), name


def test_a_missing_byte_order_means_little() -> None:
    data = saved(disttorch.arange(3))
    without = repacked(data, lambda name, p: None if name.endswith("byteorder") else (name, p))
    assert load(without).tolist() == [0, 1, 2]


def replacing(record: str, payload: bytes | None) -> Callable[[str, bytes], Any]:
    def change(name: str, old: bytes) -> tuple[str, bytes] | None:
        if name.partition("/")[2] != record:
            return name, old
        return None if payload is None else (name, payload)

    return change


@pytest.mark.parametrize(
    ("record", "payload", "message"),
    [
        ("data.pkl", None, "has no record 'data.pkl'; expected a checkpoint"),
        ("version", None, "has no record 'version'"),
        ("version", b"99", "format version is b'99'"),
        ("version", b"new", "format version is b'new'"),
        ("byteorder", b"middle", "byte order is 'middle'"),
        ("data/0", None, "has no record 'data/0'"),
    ],
)
def test_missing_and_wrong_records(record: str, payload: bytes | None, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        load(repacked(saved(disttorch.ones(3)), replacing(record, payload)))


def test_a_storage_smaller_than_its_tensor() -> None:
    short = repacked(saved(disttorch.ones(3)), replacing("data/0", b"1234"))
    with pytest.raises(pickle.UnpicklingError, match=r"3 elements of .*float32.* has 4 bytes"):
        load(short)


def test_bools_other_than_0_and_1() -> None:
    wrong = repacked(saved(disttorch.tensor([True, False])), replacing("data/0", b"\2\0"))
    with pytest.raises(pickle.UnpicklingError, match="storage of bools has bytes other than 0 and 1"):
        load(wrong)


def test_compressed_records_are_refused() -> None:
    packed = repacked(saved(disttorch.ones(3)), lambda n, p: (n, p), zipfile.ZIP_DEFLATED)
    with pytest.raises(RuntimeError, match=r"is compressed; expected .*zip -0"):
        load(packed)


def test_a_torchscript_program_is_named() -> None:
    program = repacked(saved(1), replacing("byteorder", b"little"))
    with zipfile.ZipFile(program, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    program.seek(0)
    with pytest.raises(RuntimeError, match="TorchScript program"):
        load(program)


NOT_ARCHIVES = [
    (b"", "is empty"),
    (b"epoch,loss\n1,0.5\n", r"is not a checkpoint: expected a zip archive.*b'epoch,loss"),
    (b"<!DOCTYPE html><html>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    (b"\x1f\x8b\x08\x00rest", "is compressed by gzip"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    (b"\x93NUMPY\x01\x00", r"is a NumPy file; read it with numpy\.load"),
    (pickle.dumps({"a": 1}), "is a plain pickle"),
    (b"PK\x03\x04", "is truncated"),
    (b"PK\x05\x06" + bytes(18), "is not a checkpoint"),
]


@pytest.mark.parametrize(("data", "message"), NOT_ARCHIVES, ids=[m for _, m in NOT_ARCHIVES])
def test_files_that_are_not_archives(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "some.pt"
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=f"^the file '.*some.pt' {message}"):
        load(path)


def test_every_truncation_is_an_error() -> None:
    data = saved({"w": disttorch.arange(20.0)})
    for length in range(len(data)):
        with pytest.raises(RuntimeError):
            load(io.BytesIO(data[:length]))


def test_a_flipped_bit_in_a_payload_is_noticed() -> None:
    data = bytearray(saved(disttorch.arange(20.0)))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        offset = payload_offset(bytes(data), archive.getinfo("archive/data/0"))
    data[offset + 5] ^= 1
    with pytest.raises(RuntimeError, match="checksum of record 'data/0' is wrong"):
        load(io.BytesIO(bytes(data)))


def test_two_archives_in_one_file_are_not_confused() -> None:
    with pytest.raises(RuntimeError, match="directory is not where its end says"):
        load(io.BytesIO(saved(1) + saved(2)))


def test_records_that_lie_over_each_other() -> None:
    """Many records over the same bytes would let a small file ask for much memory."""
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "archive")
    writer.add("data.pkl", b"x" * 100)
    writer._entries.append(writer._entries[0]._replace(name=b"archive/version"))
    writer.close()
    reader = ArchiveReader(io.BytesIO(out.getvalue()), "it")
    with pytest.raises(RuntimeError, match=r"header of record 'data\.pkl' is wrong"):
        reader.read("data.pkl")


def test_a_record_that_occurs_twice() -> None:
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "archive")
    writer.add("version", b"3")
    writer.add("version", b"4")
    writer.close()
    with pytest.raises(RuntimeError, match="record 'version' occurs twice"):
        ArchiveReader(io.BytesIO(out.getvalue()), "it")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (8, b"\1\0", "is encrypted"),
        (20, b"\7\0\0\0", "the sizes of a record differ"),
        (28, b"\xff\xff", "directory has an entry that is not one"),
        (42, b"\xff\xff\xff\xff", "a ZIP64 field is missing"),
        (46, b"\xff", "the name of a record is not text"),
    ],
)
def test_wrong_fields_of_the_directory(field: int, value: bytes, message: str) -> None:
    data = bytearray(saved(1))
    entry = data.index(b"PK\1\2")
    data[entry + field : entry + field + len(value)] = value
    with pytest.raises(RuntimeError, match=message):
        load(io.BytesIO(bytes(data)))


def test_a_wrong_number_of_records() -> None:
    data = bytearray(saved(1))
    end = data.rindex(b"PK\5\6")
    data[end + 10] += 1
    with pytest.raises(RuntimeError, match="directory has 3 records, not 4"):
        load(io.BytesIO(bytes(data)))


def test_a_file_that_takes_nothing_is_an_error_and_no_endless_loop() -> None:
    writer = ArchiveWriter(lambda data: 0, "archive")
    with pytest.raises(OSError, match="took no more data"):
        writer.add("data.pkl", b"abc")
