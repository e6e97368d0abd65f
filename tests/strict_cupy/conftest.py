"""The strict double of CuPy as the only CUDA device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import strict

from disttorch import backends
from disttorch.backends import cupy as kernels
from disttorch.serialization import storage

collect_ignore = ["strict.py", "strict_exceptions.py", "record.py"]


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    backends.register(strict.ndarray, strict.cupy, kernels, strict.cupyx)
    monkeypatch.setattr(backends, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(storage, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(backends, "_cupy", lambda: strict.cupy)
    with np.errstate(all="ignore"):  # CuPy does not warn
        yield
    del backends._backends[strict.ndarray]
