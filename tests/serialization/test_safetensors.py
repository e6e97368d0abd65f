"""The safetensors format: bytes, round trips, lazy reading, and hostile headers."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn
from disttorch.core import dtypes
from disttorch.serialization import load
from disttorch.serialization.safetensors import (
    SafetensorError,
    load_file,
    safe_open,
    save_file,
)

# A file that the format's own library (safetensors 0.8) wrote, compressed by zlib and encoded.
RECORDED = """
eNqNk99KwzAUxrt/4KUXPoDkOhdtlmXZEAxTBwNhV165UTrXorAuZYvgHIM9hpe79Tl8IR/BJE11KZ3tuehpTr/fl3MS+tFw
dGyB78ehCOaBCHwf9Lcg4qs4EKAPEgF2ELwsBcGqPhebJJTlkVxCsH4O1OoRwfYUAk3zKFqHYi2LLsR0KtlowYMcPSynMYU9
ovAnHieL8M02uCk36BHoYawcwjgRG2v7Njqi3SJaohmu+5fESQN00oDoA3gPV/w0XYASCr0uUujX5wRMlv9sXUB3EfSoO01v
ze57VKFv6kLk6sFnenKPHDsMhnJdYiFxiDzye3a2QxUDj0CEqBnBxkcVcEQhwtkJUIumpTCW82Pd/GuefqhAy847+upmnC+s
kxuP70vxDpK4HHx3qcMxUTO5brL5bZ2myS2nKL6vzQtL05nJ5yZfsD/tPqdlJu9NPuS1LNWo7/obS+upT8302jA9tjKOMbZn
Wn8liYFz69wpdV0qm0pVqzeareyp4gfYzCX1
"""

STORABLE = [d for d in dtypes.ALL if d is not dtypes.complex128]


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_the_bytes_of_a_file(path: Path) -> None:
    tensors = {
        "z": disttorch.tensor([1, 2], dtype=disttorch.int32),
        "b": disttorch.tensor([[1.0, 2.0]], dtype=disttorch.float64),
        "a": disttorch.tensor([3], dtype=disttorch.int32),
        "flag": disttorch.tensor(True),
    }
    save_file(tensors, path, {"format": "pt"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header == {
        "__metadata__": {"format": "pt"},
        "b": entry("F64", [1, 2], 0, 16),
        "a": entry("I32", [1], 16, 20),
        "z": entry("I32", [2], 20, 28),
        "flag": entry("BOOL", [], 28, 29),
    }
    assert list(header) == ["__metadata__", "b", "a", "z", "flag"]
    assert data[8 + length :] == struct.pack("<2d3i?", 1, 2, 3, 1, 2, True)


def test_the_formats_own_library_writes_the_same_bytes(path: Path) -> None:
    recorded = zlib.decompress(base64.b64decode(RECORDED))
    values = np.arange(6).reshape(2, 3)
    tensors = {d.name: disttorch.tensor(values.astype(d.numpy)) for d in STORABLE}
    tensors |= {"zero": disttorch.tensor(2.0), "empty": disttorch.zeros(0, 3), 'é"\n': disttorch.ones(2)}
    save_file(tensors, path, {"format": "pt"})
    assert path.read_bytes() == recorded
    for name, tensor in load_file(path).items():
        assert tensor.dtype is tensors[name].dtype
        assert tensor.tolist() == tensors[name].tolist()


@pytest.mark.parametrize("dtype", STORABLE, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)], ids=str)
def test_round_trip(path: Path, dtype: dtypes.dtype, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype.numpy)
    save_file({"w": disttorch.tensor(values)}, path)
    for found in (load_file(path)["w"], load(path)["w"], safe_open(path).get_tensor("w")):
        assert found.dtype is dtype
        assert found.shape == shape
        assert found.tolist() == values.tolist()


def test_views_arrays_parameters_and_odd_names(path: Path) -> None:
    base = disttorch.arange(12.0).reshape(3, 4)
    tensors = {
        "t": base.t(),
        "odd": base[:, 1::2],
        'größe \n"': nn.Parameter(disttorch.ones(2)),
        "array": np.arange(3)[::-1],
        "": disttorch.ones(1),
    }
    save_file(tensors, str(path))
    found = load_file(str(path))
    assert found["t"].tolist() == base.t().tolist()
    assert found["odd"].tolist() == [[1, 3], [5, 7], [9, 11]]
    assert found['größe \n"'].tolist() == [1, 1]
    assert found["array"].tolist() == [2, 1, 0]
    assert found[""].tolist() == [1]
    assert not any(t.requires_grad for t in found.values())


def test_tied_tensors_are_stored_once_and_tied_again(path: Path) -> None:
    weight = disttorch.ones(64, 64)
    save_file({"head": weight, "embedding": weight.detach(), "other": weight.clone()}, path)
    assert path.stat().st_size < 2.5 * 64 * 64 * 4
    found = load_file(path)
    assert found["head"] is found["embedding"]
    assert found["other"] is not found["head"]
    with safe_open(path) as file:
        assert file.keys() == ["embedding", "head", "other"]
        assert file.metadata() is None
        assert file.get_tensor("embedding").shape == (64, 64)


def test_reading_single_tensors_and_parts(path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    save_file({"w": values, "v": np.arange(3)}, path, {"epoch": "3"})
    with safe_open(path, framework="pt", device="cpu") as file:
        assert file.keys() == ["v", "w"]
        assert file.metadata() == {"epoch": "3"}
        part = file.get_slice("w")
        assert part.get_shape() == [4, 6]
        assert part.get_dtype() == "F32"
        assert part[1:3, ::2].tolist() == values[1:3, ::2].tolist()
        assert part[0, 0].item() == 0.0
        kept = file.get_tensor("w")
        with pytest.raises(KeyError, match="has no tensor 'x'"):
            file.get_tensor("x")
        with pytest.raises(IndexError):
            part[9]
    kept.fill_(1)
    assert kept.tolist() == np.ones((4, 6)).tolist(), "a tensor must outlive its file"
    with pytest.raises(ValueError, match="is closed"):
        file.get_tensor("w")
    with safe_open(path, framework="np") as file:
        assert type(file.get_tensor("w")) is np.ndarray


def test_an_empty_file_of_no_tensors(path: Path) -> None:
    save_file({}, path)
    assert load_file(path) == {}
    assert safe_open(path).keys() == []


def test_files_of_other_writers(path: Path) -> None:
    """No padding, another order of keys, white space, and types that do not exist here."""
    header = b' {"v":{"data_offsets":[4,8],"shape":[2],"dtype":"U16"},'
    header += b'"w":{"shape":[1],"dtype":"F32","data_offsets":[0,4]}}  '
    write(path, header[1:], struct.pack("<f2H", 1.5, 1, 2))
    with safe_open(path) as file:
        assert file.get_tensor("w").tolist() == [1.5]
        assert file.get_slice("v").get_dtype() == "U16"
        with pytest.raises(SafetensorError, match="dtype U16, which disttorch does not have"):
            file.get_tensor("v")
    with pytest.raises(SafetensorError, match="dtype U16"):
        load_file(path)


def test_saving_replaces_in_one_step(path: Path) -> None:
    save_file({"w": np.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(SafetensorError):
        save_file({"w": np.ones(2, np.complex128)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"w": np.ones(1, np.complex128)}, None, "complex128, which safetensors cannot hold"),
        ({"w": np.array(["a"])}, None, "which safetensors cannot hold"),
        ({"w": [1, 2]}, None, "must be a tensor or a NumPy array, got list"),
        ({3: np.ones(1)}, None, "a tensor's name must be text"),
        ({"__metadata__": np.ones(1)}, None, "a tensor's name must be text"),
        ({"\ud800": np.ones(1)}, None, "not valid text"),
        ({}, {"epoch": 3}, "metadata must map text to text"),
        ({}, {"disttorch.tied": "{}"}, "metadata must map text to text"),
    ],
)
def test_what_cannot_be_saved(path: Path, tensors: Any, metadata: Any, message: str) -> None:
    with pytest.raises(SafetensorError, match=message):
        save_file(tensors, path, metadata)
    assert not path.exists()


F32 = entry("F32", [1], 0, 4)
HOSTILE: list[tuple[str, Any, bytes, str]] = [
    ("not an object", b"[1]", b"", "does not start with '{'"),
    ("leading space", b" {}", b"", "does not start with '{'"),
    ("no text", b'{"\xff": 1}', b"", "not UTF-8"),
    ("no JSON", b'{"a": ', b"", "not valid JSON"),
    ("two objects", b"{}{}", b"", "not valid JSON"),
    ("deep", b'{"a":' + b"[" * 100_000, b"", "not valid JSON"),
    ("NaN", b'{"a": NaN}', b"", "NaN is not a number"),
    ("huge number", b'{"a":' + b"9" * 10_000 + b"}", b"", "not valid JSON"),
    ("duplicate", b'{"a":{},"a":{}}', b"", "'a' occurs twice"),
    ("duplicate field", b'{"a":{"dtype":"F32","dtype":"F32"}}', b"", "'dtype' occurs twice"),
    ("metadata list", {"__metadata__": []}, b"", "must map text to text"),
    ("metadata number", {"__metadata__": {"a": 1}}, b"", "must map text to text"),
    ("entry", {"a": 1}, b"", "must have dtype, shape and data_offsets"),
    ("extra field", {"a": F32 | {"x": 1}}, bytes(4), "and nothing else"),
    ("dtype", {"a": entry("F33", [1], 0, 4)}, bytes(4), "unknown dtype 'F33'"),
    ("dtype list", {"a": entry([], [1], 0, 4)}, bytes(4), "unknown dtype"),  # type: ignore[arg-type]
    ("shape", {"a": entry("F32", [-1], 0, 4)}, bytes(4), "expected a list of counts"),
    ("shape bool", {"a": entry("F32", [True], 0, 4)}, bytes(4), "expected a list of counts"),
    ("shape float", {"a": entry("F32", [1.0], 0, 4)}, bytes(4), "expected a list of counts"),
    ("shape text", {"a": entry("F32", "1", 0, 4)}, bytes(4), "expected a list of counts"),
    ("dimensions", {"a": entry("U8", [1] * 65, 0, 1)}, bytes(1), "expected a list of counts"),
    ("overflow", {"a": entry("F32", [2**32, 2**32], 0, 0)}, b"", "does not fit"),
    ("empty overflow", {"a": entry("F32", [2**62, 4, 0], 0, 0)}, b"", "does not fit"),
    ("too large", {"a": entry("F32", [2**40], 0, 2**42)}, bytes(4), "describes 4398046511104"),
    ("size", {"a": entry("F32", [2], 0, 4)}, bytes(4), "does not fit its data_offsets"),
    ("backwards", {"a": entry("F32", [1], 4, 0)}, bytes(4), "does not fit its data_offsets"),
    ("negative", {"a": entry("F32", [1], -4, 0)}, bytes(4), r"expected \[begin, end\]"),
    ("one offset", {"a": F32 | {"data_offsets": [4]}}, bytes(4), r"expected \[begin, end\]"),
    ("overlap", {"a": F32, "b": F32}, bytes(4), "overlaps"),
    ("hole", {"a": F32, "b": entry("F32", [1], 8, 12)}, bytes(12), "leaves a hole"),
    ("late start", {"a": entry("F32", [1], 4, 8)}, bytes(8), "leaves a hole"),
    ("short data", {"a": F32}, bytes(3), "has 3 bytes of tensor data, but its header describes 4"),
    ("rest", {"a": F32}, bytes(5), "has 5 bytes of tensor data"),
    ("bools", {"a": entry("BOOL", [1], 0, 1)}, b"\2", "should hold bools"),
    ("tied", {"__metadata__": {"disttorch.tied": '{"b":"c"}'}}, b"", "does not name tensors"),
    ("tied list", {"__metadata__": {"disttorch.tied": "[1]"}}, b"", "does not name tensors"),
    ("tied kind", {"__metadata__": {"disttorch.tied": '{"b":[]}'}}, b"", "does not name tensors"),
]


@pytest.mark.parametrize(
    ("header", "data", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_hostile_headers(path: Path, header: Any, data: bytes, message: str) -> None:
    with pytest.raises(SafetensorError, match=message):
        load_file(write(path, header, data))


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (100_000_001, "its header would have 100000001 bytes"),
        (2**64 - 1, "its header would have 18446744073709551615 bytes"),
        (3, "is truncated"),
        (99_999_999, "is truncated"),
    ],
)
def test_wrong_lengths_of_the_header(path: Path, length: int, message: str) -> None:
    for opened in (load_file, safe_open):
        with pytest.raises(SafetensorError, match=message):
            opened(write(path, b"{}", length=length))


@pytest.mark.parametrize("data", [b"", b"1234567"])
def test_files_too_short(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for opened in (load_file, safe_open):
        with pytest.raises(SafetensorError, match="too short"):
            opened(path)


def test_devices_and_frameworks(path: Path) -> None:
    save_file({"w": np.ones(1)}, path)
    if not disttorch.cuda.is_available():
        with pytest.raises(RuntimeError, match="'cuda:0' was asked for"):
            load_file(path, device="cuda:0")
    with pytest.raises(ValueError, match="framework must be"):
        safe_open(path, framework="tf")
    with pytest.raises(TypeError, match="must be a device or a string"):
        load(path, map_location={"cpu": "cpu"})
    with pytest.raises(FileNotFoundError):
        load_file(path.with_name("none.safetensors"))
