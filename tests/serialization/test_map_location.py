"""Where the tensors of a checkpoint go, on a machine without a GPU."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

import disttorch
from disttorch.serialization import load, save, storage


def saved_on(location: str) -> io.BytesIO:
    """Return a checkpoint of two tied tensors and one more, as if saved from another device."""
    first, out = io.BytesIO(), io.BytesIO()
    tied = disttorch.arange(4.0)
    save({"a": tied, "b": tied[:2], "c": disttorch.ones(2)}, first)
    text = location.encode()
    with zipfile.ZipFile(first) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("data.pkl"):
                changed = b"X" + len(text).to_bytes(4, "little") + text
                assert data.count(b"X\3\0\0\0cpu") == 1
                data = data.replace(b"X\3\0\0\0cpu", changed)
            new.writestr(info.filename, data)
    out.seek(0)
    return out


def check(found: dict[str, Any]) -> None:
    assert found["a"].tolist() == [0, 1, 2, 3]
    assert found["c"].tolist() == [1, 1]
    found["b"].fill_(7)
    assert found["a"].tolist() == [7, 7, 2, 3], "tied tensors came apart"


@pytest.mark.parametrize(
    "map_location",
    [
        "cpu",
        b"cpu",
        disttorch.device("cpu"),
        {"cuda:0": "cpu"},
        {"cuda:0": disttorch.device("cpu")},
        lambda memory, location: memory,
        lambda memory, location: memory.cpu() if location == "cuda:0" else None,
    ],
    ids=["str", "bytes", "device", "dict", "dict of devices", "function", "by location"],
)
@pytest.mark.parametrize("weights_only", [True, False])
def test_gpu_tensors_come_to_the_cpu(map_location: Any, weights_only: bool) -> None:
    check(load(saved_on("cuda:0"), map_location, weights_only=weights_only))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"map_location": "cuda"},
        {"map_location": disttorch.device("cuda:1")},
        {"map_location": {"cuda:1": "cpu"}},
        {"map_location": lambda memory, location: None},
        {"map_location": lambda memory, location: memory.cuda()},
        {"map_location": lambda memory, location: memory.cuda(0)},
    ],
    ids=["none", "str", "device", "dict", "function", "cuda()", "cuda(0)"],
)
@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.skipif(disttorch.cuda.is_available(), reason="the advice is for machines without CUDA")
def test_without_cuda_the_advice_is_pytorchs(options: Any, weights_only: bool) -> None:
    with pytest.raises(RuntimeError, match=r"on a CUDA device but.*map_location=torch\.device"):
        load(saved_on("cuda:0"), **options, weights_only=weights_only)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "cuda_device_count", lambda: 1)
    with pytest.raises(RuntimeError, match=r"on CUDA device 3 but torch\.cuda\.device_count\(\) is 1"):
        load(saved_on("cuda:3"))


@pytest.mark.parametrize("location", ["mps", "xla:0", "meta", "nonsense!"])
def test_devices_that_do_not_exist_here(location: str) -> None:
    with pytest.raises(RuntimeError, match="expected 'cpu' or 'cuda:N'; use map_location='cpu'"):
        load(saved_on(location))
    with pytest.raises(RuntimeError, match="expected 'cpu' or 'cuda:N'"):
        load(saved_on("cpu"), map_location=location)
    check(load(saved_on(location), map_location="cpu"))


def test_what_a_function_gets() -> None:
    seen = []

    def note(memory: Any, location: str) -> Any:
        seen.append((location, memory.nbytes(), memory.device))
        return memory

    load(saved_on("cuda:1"), map_location=note)
    cpu = disttorch.device("cpu")
    assert seen == [("cuda:1", 16, cpu), ("cuda:1", 8, cpu)]


def test_a_function_that_returns_something_else() -> None:
    with pytest.raises(TypeError, match="must return a storage or None, got str"):
        load(saved_on("cpu"), map_location=lambda memory, location: "cpu")


def test_errors_of_the_function_are_its_own() -> None:
    def broken(memory: Any, location: str) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        load(saved_on("cpu"), map_location=broken)


@pytest.mark.parametrize("wrong", [0, 1.5, ["cpu"]])
def test_wrong_kinds_of_map_location(wrong: Any) -> None:
    with pytest.raises(TypeError, match="map_location must be a device, a string"):
        load(saved_on("cpu"), map_location=wrong)
