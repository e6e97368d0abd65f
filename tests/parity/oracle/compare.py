"""Whether a result of disttorch is PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import disttorch

# Relative and absolute, by PyTorch's type: room for another order of summation and another library's functions.
_TOLERANCES = {
    torch.float16: (4e-3, 4e-3),
    torch.bfloat16: (2e-2, 2e-2),
    torch.float32: (2e-5, 2e-5),
    torch.complex64: (4e-5, 4e-5),
    torch.float64: (1e-7, 1e-7),
    torch.complex128: (1e-7, 1e-7),
}


def flat(result: Any) -> list[Any]:
    """Return a result's parts in order."""
    if isinstance(result, (tuple, list)) and not isinstance(result, (torch.Size, disttorch.Size)):
        return [part for item in result for part in flat(item)]
    if isinstance(result, dict):
        return [part for item in result.values() for part in flat(item)]
    return [result]


def elements(tensor: Any) -> np.ndarray:
    """Return the elements of a tensor of either library."""
    tensor = tensor.detach()
    if isinstance(tensor, torch.Tensor):
        if tensor._is_zerotensor():
            tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
        tensor = tensor.resolve_conj().resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def assert_same(ours: Any, theirs: Any, where: str, values: bool = True, layout: bool = True) -> None:
    """Compare a result: type, shape, values, and where it lies in memory if it is a view."""
    if not isinstance(theirs, torch.Tensor):
        assert not isinstance(ours, disttorch.Tensor), f"{where}: a tensor, {theirs!r} expected"
        if isinstance(theirs, float):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=where)
        else:
            assert str(ours) == str(theirs), f"{where}: {ours!r}, {theirs!r} expected"
        return
    assert isinstance(ours, disttorch.Tensor), f"{where}: {type(ours).__name__}, a tensor expected"
    assert str(ours.dtype) == str(theirs.dtype), f"{where}: {ours.dtype}, {theirs.dtype} expected"
    assert tuple(ours.shape) == tuple(theirs.shape), f"{where}: {tuple(ours.shape)}, {tuple(theirs.shape)} expected"
    if layout and theirs.numel():
        _assert_same_layout(ours, theirs, where)
    if values:
        assert_close(elements(ours), elements(theirs), theirs.dtype, where)


def assert_close(ours: np.ndarray, theirs: np.ndarray, dtype: Any, where: str, scale: float = 1.0) -> None:
    """Compare arrays with the tolerance of a type, `scale` times as wide."""
    rtol, atol = _TOLERANCES.get(dtype, (0.0, 0.0))
    finite = np.abs(theirs[np.isfinite(theirs)]) if theirs.dtype.kind in "fc" else np.zeros(0)
    atol *= max(1.0, float(finite.max(initial=0.0)) ** 0.5) if finite.size else 1.0
    np.testing.assert_allclose(ours, theirs, rtol=rtol * scale, atol=atol * scale, err_msg=where)


def _assert_same_layout(ours: Any, theirs: Any, where: str) -> None:
    if theirs.is_contiguous():
        assert ours.is_contiguous(), f"{where}: strides {ours.stride()}, contiguous in PyTorch"
    if theirs._is_view() and ours._is_view() and not theirs.is_conj() and theirs.dtype == ours.dtype:
        longer = [n > 1 for n in theirs.shape]
        mine, other = ([s for s, n in zip(t.stride(), longer) if n] for t in (ours, theirs))
        assert mine == other, f"{where}: a view of strides {ours.stride()}, {theirs.stride()} expected"
