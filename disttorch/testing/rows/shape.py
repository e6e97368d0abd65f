"""Samples of `disttorch.ops.shape`, `views` and `complex`: views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Sample, method, one

_BOTH: dict[str, Any] = {"complex": True}


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _reshapes()
    yield from _orders()
    yield from _sizes_of_one()
    yield from _pieces()
    yield from _slices()
    yield from _parts()


def _reshapes() -> Iterator[Sample]:
    for shape in ((4, 3), (2, -1), (12,), (1, 3, 4, 1), (3, 2, 2)):
        yield from one(
            "view", lambda t, x, s=shape: x.view(s), A(3, 4), expected=lambda x, s=shape: x.reshape(s), **_BOTH
        )
        yield from method(
            "reshape",
            lambda t, x, s=shape: t.reshape(x, s),
            A(3, 4),
            covers="view",
            expected=lambda x, s=shape: x.reshape(s),
        )
    yield from one("view", lambda t, x: x.view(2, 2, 3), A(3, 4, layout="plain"))
    yield from one("view", lambda t, x: x.view(()), A(1))
    yield from one("view", lambda t, x: x.view(3, 0), A(0, 5))
    yield from one("view", lambda t, x: x.transpose(0, 1).view(4, 3, 1), A(3, 4))
    yield from one("reshape", lambda t, x: t.reshape(x, (1, 1)), A(), covers="view")
    for start, end in ((0, -1), (1, 2), (0, 1), (1, 1)):
        yield from method(
            "flatten",
            lambda t, x, a=start, b=end: t.flatten(x, a, b),
            A(2, 3, 2),
            covers="" if start == end else "view",
        )
    yield from one("flatten", lambda t, x: t.flatten(x), A(), covers="view")
    yield from one("unflatten", lambda t, x: t.unflatten(x, 1, (2, -1)), A(2, 4), covers="view")
    for size in ((2, 3), (4, 2, 3), (-1, 3), (2, 2, 3)):
        yield from one("expand", lambda t, x, s=size: x.expand(s), A(2, 1) if len(size) == 2 else A(2, 3), **_BOTH)
    yield from one("expand", lambda t, x: x.expand(2, 3), A())
    yield from one("expand", lambda t, x: x.expand(0, 3), A(1, 3))
    yield from one("broadcast_to", lambda t, x: t.broadcast_to(x, (3, 2)), A(2), covers="expand")
    yield from one("expand_as", lambda t, x, y: x.expand_as(y.detach()), A(2), A(3, 2), covers="expand")
    for n in (1, 2, 3):
        for shape in ((), (2,), (2, 3)):
            yield from one(
                f"atleast_{n}d", lambda t, x, n=n: getattr(t, f"atleast_{n}d")(x), A(*shape),
                covers="unsqueeze" if len(shape) < n else "", expected=getattr(np, f"atleast_{n}d"),
            )  # fmt: skip
    yield from one("atleast_2d", lambda t, *xs: t.atleast_2d(xs), A(), A(2), covers="unsqueeze")
    yield from one(
        "broadcast_tensors", lambda t, *xs: t.broadcast_tensors(*xs), A(2, 1), A(3), covers="expand",
        expected=lambda *xs: tuple(np.broadcast_arrays(*xs)),
    )  # fmt: skip
    yield from method("ravel", lambda t, x: t.ravel(x), A(2, 3), covers="view", expected=np.ravel, **_BOTH)
    yield from one("view_as", lambda t, x, y: x.view_as(y.detach()), A(6), A(3, 2), covers="view")


def _orders() -> Iterator[Sample]:
    for dims in ((2, 0, 1), (0, 1, 2), (-1, 1, 0)):
        yield from method(
            "permute",
            lambda t, x, d=dims: t.permute(x, d),
            A(2, 3, 4),
            expected=lambda x, d=dims: x.transpose(d),
            **_BOTH,
        )
    yield from method(
        "transpose", lambda t, x: t.transpose(x, 0, -1), A(2, 3, 2), expected=lambda x: x.swapaxes(0, 2), **_BOTH
    )
    yield from one("transpose", lambda t, x: t.transpose(x, 0, 0), A())
    for name in ("swapaxes", "swapdims", "swapaxes_", "transpose_"):
        yield from one(
            name, lambda t, x, n=name: getattr(x * 1, n)(0, 2), A(2, 3, 2), covers="transpose",
            expected=lambda x: x.swapaxes(0, 2),
        )  # fmt: skip
    yield from one(
        "moveaxis", lambda t, x: t.moveaxis(x, 0, -1), A(2, 3, 2), covers="permute",
        expected=lambda x: np.moveaxis(x, 0, -1),
    )  # fmt: skip
    yield from one("t_", lambda t, x: (x * 1).t_() * 1, A(2, 3), covers="t", expected=np.transpose)
    yield from method("t", lambda t, x: t.t(x), A(2, 3), expected=np.transpose)
    yield from one("t", lambda t, x: t.t(x), A(3), expected=np.transpose)
    yield from one("T", lambda t, x: x.T, A(3, 2), covers="permute", expected=np.transpose)
    yield from one("mT", lambda t, x: x.mT, A(2, 3, 2), covers="transpose", expected=lambda x: x.swapaxes(1, 2))
    yield from one(
        "movedim", lambda t, x: t.movedim(x, (0, 1), (2, 0)), A(2, 3, 2), covers="permute",
        expected=lambda x: np.moveaxis(x, (0, 1), (2, 0)),
    )  # fmt: skip


def _sizes_of_one() -> Iterator[Sample]:
    for dim in (None, 0, 1, (0, 2)):
        arguments = () if dim is None else (dim,)
        yield from method("squeeze", lambda t, x, a=arguments: t.squeeze(x, *a), A(1, 3, 1), **_BOTH)
    yield from one("squeeze", lambda t, x: t.squeeze(x, 0), A())
    yield from one("squeeze_", lambda t, x: (x * 1).squeeze_(1), A(2, 1, 3), covers="squeeze", expected=np.squeeze)
    yield from one(
        "unsqueeze_", lambda t, x: (x * 1)[:2].unsqueeze_(1), A(3), covers="unsqueeze", expected=lambda x: x[:2, None]
    )
    for dim in (0, 1, -1):
        yield from method(
            "unsqueeze", lambda t, x, d=dim: t.unsqueeze(x, d), A(3, 2), expected=lambda x, d=dim: np.expand_dims(x, d)
        )
    yield from one("unsqueeze", lambda t, x: t.unsqueeze(x, 0), A())


def _pieces() -> Iterator[Sample]:
    split = {"covers": "split_with_sizes", **_BOTH}
    yield from method("split", lambda t, x: t.split(x, 2, 1), A(2, 5), **split)
    yield from one("split", lambda t, x: t.split(x, [1, 0, 4], 1), A(2, 5), **split)
    yield from one("split", lambda t, x: t.split(x, 2, 1)[1], A(2, 5), **split)
    yield from one("split", lambda t, x: t.split(x, 5, 1), A(2, 5), **split)
    yield from one("split_with_sizes", lambda t, x: t.split_with_sizes(x, [1, 4], 1), A(2, 5), **split)
    yield from method(
        "select", lambda t, x: t.select(x, 1, -1), A(2, 3), covers="slice", expected=lambda x: x[:, -1], **_BOTH
    )
    yield from one("chunk", lambda t, x: t.chunk(x, 3, 0), A(5, 2), **split)
    yield from method("unbind", lambda t, x: t.unbind(x, 1), A(2, 3), **_BOTH)
    yield from one("unbind", lambda t, x: t.unbind(x)[1], A(2, 3))
    yield from one("unbind", lambda t, x: tuple(x), A(2, 3))
    yield from method(
        "narrow", lambda t, x: t.narrow(x, 1, 1, 2), A(2, 4), covers="slice", expected=lambda x: x[:, 1:3]
    )


_INDICES: tuple[Any, ...] = (
    1, -1, slice(1, None), (slice(None), 1), (slice(None, None, 2), slice(1, 3)), (None, 0), (Ellipsis, 0),
    (0, Ellipsis, None), (slice(2, 1), slice(None)), (), Ellipsis, (slice(-2, None), None, -1),
)  # fmt: skip


def _slices() -> Iterator[Sample]:
    for index in _INDICES:
        yield from method(
            "getitem", lambda t, x, i=index: x[i], A(3, 4), covers="slice", expected=lambda x, i=index: x[i], **_BOTH
        )
    yield from one("getitem", lambda t, x: x[None], A(), covers="slice")
    yield from one(
        "view_scatter",
        lambda t, x, y: traced.view_scatter(x, y, ((traced.slice.op, 0, ((slice(1, 3), Ellipsis),)),)),
        A(4, 2),
        A(2, 2),
        internal=True,
        **_BOTH,
    )


def _parts() -> Iterator[Sample]:
    yield from one("real", lambda t, x: t.real(x * 1j + x), A(2, 3), covers="real_part", complex=True)
    yield from one("imag", lambda t, x: t.imag(x * 1j), A(2, 3), covers="imag_part", complex=True)
