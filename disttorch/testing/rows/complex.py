"""Samples of `disttorch.ops.complex`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from disttorch.testing.sample import A, P, Sample, method, one


def samples() -> Iterator[Sample]:
    yield from one("angle", lambda t, x: t.angle(x), A(2, 3), expected=np.angle, complex=True)
    yield from method(
        "adjoint", lambda t, x: t.adjoint(x), A(2, 3), covers="transpose", expected=lambda x: x.conj().T, complex=True
    )
    # complex32 is not in disttorch: halves are computed as doubles
    yield from one("complex", lambda t, x, y: t.complex(x.double(), y.double()), A(2, 3), A(3),
                   expected=lambda x, y: x + 1j * y)  # fmt: skip
    yield from one("polar", lambda t, x, y: t.polar(x.double(), y.double()), P(2, 3), A(3),
                   expected=lambda x, y: x * np.exp(1j * y))  # fmt: skip
    yield from method(
        "view_as_complex", lambda t, x: t.view_as_complex(x.double().contiguous()), A(3, 2),
        covers="view_as_complex view_as_real", expected=lambda x: x[:, 0] + 1j * x[:, 1],
    )  # fmt: skip
    yield from one(
        "view_as_real", lambda t, x, y: t.view_as_real(t.complex(x.double(), y.double())), A(3), A(2, 3),
        covers="view_as_complex view_as_real complex",
        expected=lambda x, y: np.stack(np.broadcast_arrays(x, y), -1),
    )  # fmt: skip
