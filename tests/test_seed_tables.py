"""Every row of the function tables of the notes that the project starts from, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import disttorch as torch

A = np.array([[1.5, -2.0, 0.5], [3.0, 0.25, -1.0], [0.75, 2.0, 1.0]])
B = np.arange(9.0).reshape(3, 3) - 4
V = np.array([1.0, -2.0, 3.0])
P = np.abs(A) + 0.5


def t(array: Any) -> torch.Tensor:
    return torch.tensor(array)


ROWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "tensor": (lambda: torch.tensor([[1.0, 2.0]]), [[1.0, 2.0]]),
    "arange": (lambda: torch.arange(1, 9, 2), [1, 3, 5, 7]),
    "zeros": (lambda: torch.zeros(2, 3), np.zeros((2, 3))),
    "clone": (lambda: torch.clone(t(A)), A),
    "ones": (lambda: torch.ones(2, 3), np.ones((2, 3))),
    "eye": (lambda: torch.eye(2, 3), np.eye(2, 3)),
    "from_numpy": (lambda: torch.from_numpy(A), A),
    "linspace": (lambda: torch.linspace(0, 1, steps=5), [0, 0.25, 0.5, 0.75, 1]),
    "logspace": (lambda: torch.logspace(0, 2, steps=3), [1, 10, 100]),
    "view": (lambda: t(A).view(9), A.reshape(9)),
    "squeeze": (lambda: torch.squeeze(t(V[None]), 0), V),
    "unsqueeze": (lambda: torch.unsqueeze(t(V), 1), V[:, None]),
    "resize": (lambda: t(A).resize(9), A.reshape(9)),
    "None": (lambda: t(V)[:, None], V[:, None]),
    "a > 1": (lambda: t(A) > 1, A > 1),
    "gather": (lambda: torch.gather(t(A), 1, t([[2], [0], [1]])), [[0.5], [3.0], [2.0]]),
    "index_select": (lambda: torch.index_select(t(A), 0, t([2, 0])), A[[2, 0]]),
    "masked_select": (lambda: torch.masked_select(t(A), t(A) > 0), A[A > 0]),
    "nonzero": (lambda: torch.nonzero(t([0, 3, 0, 4])), [[1], [3]]),
    "abs": (lambda: torch.abs(t(A)), np.abs(A)),
    "sqrt": (lambda: torch.sqrt(t(P)), np.sqrt(P)),
    "div": (lambda: torch.div(t(A), t(P)), A / P),
    "exp": (lambda: torch.exp(t(A)), np.exp(A)),
    "fmod": (lambda: torch.fmod(t(B), 3), np.fmod(B, 3)),
    "log": (lambda: torch.log(t(P)), np.log(P)),
    "pow": (lambda: torch.pow(t(A), 2), A**2),
    "cos": (lambda: torch.cos(t(A)), np.cos(A)),
    "sin": (lambda: torch.sin(t(A)), np.sin(A)),
    "asin": (lambda: torch.asin(t(A / 4)), np.arcsin(A / 4)),
    "atan2": (lambda: torch.atan2(t(A), t(P)), np.arctan2(A, P)),
    "cosh": (lambda: torch.cosh(t(A)), np.cosh(A)),
    "ceil": (lambda: torch.ceil(t(A)), np.ceil(A)),
    "round": (lambda: torch.round(t(A)), np.round(A)),
    "floor": (lambda: torch.floor(t(A)), np.floor(A)),
    "trunc": (lambda: torch.trunc(t(A)), np.trunc(A)),
    "clamp": (lambda: torch.clamp(t(A), -1, 1), np.clip(A, -1, 1)),
    "sigmoid": (lambda: torch.sigmoid(t(A)), 1 / (1 + np.exp(-A))),
    "tanh": (lambda: torch.tanh(t(A)), np.tanh(A)),
    "lerp": (lambda: torch.lerp(t(A), t(B), 0.25), A + 0.25 * (B - A)),
    "equal": (lambda: t(torch.equal(torch.Tensor(A), torch.Tensor(A))), True),
    "max": (lambda: torch.max(t(A)), A.max()),
    "min": (lambda: torch.min(t(A)), A.min()),
    "max of two": (lambda: torch.max(t(A), t(B)), np.maximum(A, B)),
    "min of two": (lambda: torch.min(t(A), t(B)), np.minimum(A, B)),
    "mean": (lambda: torch.mean(t(A)), A.mean()),
    "sum": (lambda: torch.sum(t(A), 0), A.sum(0)),
    "median": (lambda: torch.median(t(A)), np.median(A)),
    "mode": (lambda: torch.mode(t([1, 2, 2, 3])).values, 2),
    "norm": (lambda: torch.norm(t(A)), np.linalg.norm(A)),
    "dist": (lambda: torch.dist(t(A), t(B)), np.linalg.norm(A - B)),
    "std": (lambda: torch.std(t(A)), A.std(ddof=1)),
    "var": (lambda: torch.var(t(A)), A.var(ddof=1)),
    "cumsum": (lambda: torch.cumsum(t(A), 0), A.cumsum(0)),
    "cumprod": (lambda: torch.cumprod(t(A), 1), A.cumprod(1)),
    "gt": (lambda: torch.gt(t(A), t(B)), A > B),
    "lt": (lambda: torch.lt(t(A), t(B)), A < B),
    "le": (lambda: torch.le(t(A), 1), A <= 1),
    "ge": (lambda: torch.ge(t(A), 1), A >= 1),
    "eq": (lambda: torch.eq(t(A), 2), A == 2),
    "ne": (lambda: torch.ne(t(A), 2), A != 2),
    "topk": (lambda: torch.topk(t(V), 2).values, [3.0, 1.0]),
    "sort": (lambda: torch.sort(t(V)).values, np.sort(V)),
    "trace": (lambda: torch.trace(t(A)), np.trace(A)),
    "diag": (lambda: torch.diag(t(A)), np.diag(A)),
    "triu": (lambda: torch.triu(t(A), 1), np.triu(A, 1)),
    "tril": (lambda: torch.tril(t(A), -1), np.tril(A, -1)),
    "mm": (lambda: torch.mm(t(A), t(B)), A @ B),
    "bmm": (lambda: torch.bmm(t(A[None]), t(B[None])), (A @ B)[None]),
    "addmm": (lambda: torch.addmm(t(P), t(A), t(B)), P + A @ B),
    "addbmm": (lambda: torch.addbmm(t(P), t(A[None]), t(B[None])), P + A @ B),
    "addmv": (lambda: torch.addmv(t(V), t(A), t(V)), V + A @ V),
    "addr": (lambda: torch.addr(t(P), t(V), t(V)), P + np.outer(V, V)),
    "baddbmm": (lambda: torch.baddbmm(t(P[None]), t(A[None]), t(B[None])), (P + A @ B)[None]),
    "t": (lambda: torch.t(t(A)), A.T),
    "dot": (lambda: torch.dot(t(V), t(V)), V @ V),
    "cross": (lambda: torch.cross(t(V), t(A[0]), dim=0), np.cross(V, A[0])),
    "inverse": (lambda: torch.inverse(t(A)), np.linalg.inv(A)),
    "svd": (lambda: torch.svd(t(A)).S, np.linalg.svd(A)[1]),
    "cat": (lambda: torch.cat((t(A), t(B)), 1), np.concatenate((A, B), 1)),
    "expand": (lambda: t(V).expand(2, 3), np.stack((V, V))),
    "index_add_": (lambda: t(A).index_add_(0, t([0, 0]), t(B[:2])), A + np.array([B[0] + B[1], 0 * V, 0 * V])),
    "repeat": (lambda: t(V).repeat(2, 2), np.tile(V, (2, 2))),
    "reshape": (lambda: torch.reshape(t(A), (9,)), A.reshape(9)),
    "transpose": (lambda: torch.transpose(t(A), 0, 1), A.T),
    "chunk": (lambda: torch.chunk(t(A), 2)[1], A[2:]),
    "narrow": (lambda: torch.narrow(t(A), 1, 1, 2), A[:, 1:]),
    "stack": (lambda: torch.stack((t(V), t(V)), dim=1), np.stack((V, V), 1)),
}


@pytest.mark.filterwarnings("ignore:non-inplace resize is deprecated")
@pytest.mark.parametrize("row", list(ROWS))
def test_row(row: str) -> None:
    call, expected = ROWS[row]
    np.testing.assert_allclose(call().numpy(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "draw",
    [
        lambda out: torch.rand(200, out=out),
        lambda out: torch.randn(200, out=out),
        lambda out: torch.normal(torch.zeros(200), torch.ones(200), out=out),
        lambda out: torch.zeros(200).uniform_(0, 1),
    ],
    ids=["rand", "randn", "normal", "uniform"],
)
def test_random_rows(draw: Callable[[Any], torch.Tensor]) -> None:
    torch.manual_seed(0)
    first = draw(None)
    torch.manual_seed(0)
    out = torch.empty(0)
    assert torch.equal(draw(out), first)
    assert first.std() > 0.2


def test_randperm() -> None:
    assert sorted(torch.randperm(7).tolist()) == list(range(7))
