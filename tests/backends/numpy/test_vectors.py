"""The width of the vectors of compiled loops, as seen in the machine code."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numba import njit

from disttorch.backends.numpy import _compiled_vectors as vectors

pytestmark = pytest.mark.skipif(
    not get_host_cpu_features().get("avx512f"), reason="this processor has no vectors of 512 bits"
)


def wide(a: np.ndarray, b: np.ndarray, into: np.ndarray) -> None:
    vectors.wide_vectors()
    for i in range(a.size):
        into[i] = a[i] + b[i]


def left_to_llvm(a: np.ndarray, b: np.ndarray, into: np.ndarray) -> None:
    for i in range(a.size):
        into[i] = a[i] + b[i]


def wide_instructions(loop: Callable[..., None]) -> int:
    """Compile and check a loop; return how often its machine code names a register of 512 bits."""
    compiled = njit(loop)
    a, b, into = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    compiled(a, b, into)
    np.testing.assert_array_equal(into, a + b)
    return next(iter(compiled.inspect_asm().values())).count("zmm")


def test_loops_use_512_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "get_host_cpu_name", lambda: "emeraldrapids")
    assert wide_instructions(wide) > 0


@pytest.mark.parametrize("name", ["activation.gelu", "activation.sigmoid", "softmax.softmax", "softmax.log_softmax"])
def test_kernels_use_512_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "get_host_cpu_name", lambda: "emeraldrapids")
    module, _, function = name.partition(".")
    kernel = getattr(import_module(f"disttorch.backends.numpy._compiled_{module}"), function)
    compiled = njit(kernel.py_func, error_model="numpy", fastmath=kernel.targetoptions.get("fastmath", False))
    x = np.ones((4, 64) if module == "softmax" else 256, np.float32)
    compiled(x, x.copy())
    assert next(iter(compiled.inspect_asm().values())).count("zmm") > 10


def test_but_not_where_that_lowers_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "get_host_cpu_name", lambda: "cascadelake")
    assert wide_instructions(wide) == wide_instructions(left_to_llvm)
