"""NumPy's names for arguments: `axis`, `keepdims`, `x`."""

from __future__ import annotations

import inspect

import pytest

import disttorch as torch


def test_axis_and_keepdims() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(x.sum(axis=0), x.sum(dim=0))
    assert torch.equal(torch.mean(x, axis=1, keepdims=True), torch.mean(x, dim=1, keepdim=True))
    assert torch.equal(torch.softmax(x, axis=1), torch.softmax(x, dim=1))
    assert x.max(axis=1).indices.tolist() == [2, 2]
    assert torch.linalg.norm(x, axis=1).shape == (2,)
    assert torch.sum(x=x).item() == 15.0


def test_the_signature_shown_is_the_functions_own() -> None:
    assert list(inspect.signature(torch.amax).parameters) == ["input", "dim", "keepdim"]


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(TypeError):
        torch.sum(torch.ones(2), 0, axis=0)
    with pytest.raises(TypeError, match="axes"):
        torch.sum(torch.ones(2), axes=0)
