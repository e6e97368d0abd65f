"""torch.device."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import disttorch as torch


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("cpu",), "cpu"),
        (("cuda",), "cuda"),
        (("cuda:1",), "cuda:1"),
        (("cuda", 2), "cuda:2"),
        ((3,), "cuda:3"),
        (("cpu", 0), "cpu:0"),
    ],
)
def test_spellings(arguments: Any, text: str) -> None:
    d = torch.device(*arguments)
    assert str(d) == text
    assert torch.device(d) == d
    assert torch.device(text) == d
    assert hash(torch.device(text)) == hash(d)
    assert pickle.loads(pickle.dumps(d)) == copy.deepcopy(d) == d


def test_attributes_and_repr() -> None:
    d = torch.device("cuda:1")
    assert (d.type, d.index) == ("cuda", 1)
    assert repr(d) == "device(type='cuda', index=1)"
    assert repr(torch.device("cpu")) == "device(type='cpu')"
    assert torch.device("cpu") != torch.device("cuda")
    assert torch.device("cpu") != "cpu"


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cuda:-1", "", "cpu:0:1"])
def test_what_names_no_device(text: str) -> None:
    with pytest.raises(
        RuntimeError, match=r"(Invalid device string|Expected one of .* device type at start of device string)"
    ):
        torch.device(text)


def test_an_index_twice() -> None:
    with pytest.raises(RuntimeError, match="must not include an index because index was passed explicitly"):
        torch.device("cuda:1", 1)


def test_tensors_are_on_the_cpu() -> None:
    x = torch.zeros(2)
    assert x.device == torch.device("cpu")
    assert x.to("cpu") is x
    assert not x.is_cuda
    assert x.get_device() == -1


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_folder_called_cupy_is_not_cupy(tmp_path: Path) -> None:
    (tmp_path / "cupy").mkdir()
    command = "import disttorch; print(disttorch.cuda.is_available())"
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_page_locked_memory_needs_a_gpu() -> None:
    assert not torch.ones(2).is_pinned()
    with pytest.raises(RuntimeError, match="device 'cuda' was asked for, but CuPy"):
        torch.ones(2).pin_memory()
