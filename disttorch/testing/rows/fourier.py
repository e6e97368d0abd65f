"""Samples of `disttorch.ops.fourier`: discrete Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, method, one

_OPERATOR = {"fft": "fft_c2c", "ifft": "fft_c2c", "rfft": "fft_r2c", "ihfft": "fft_r2c", "irfft": "fft_c2r",
             "hfft": "fft_c2r"}  # fmt: skip


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for kind, operator in _OPERATOR.items():
        options = {"covers": operator, "complex": operator != "fft_r2c"}
        yield from _one_dimensional(kind, options)
        yield from _several_dimensions(kind, options)
    yield from _frequencies()


def _one_dimensional(name: str, options: dict[str, Any]) -> Iterator[Sample]:
    for arguments in ((), (4, 0, "ortho"), (5, -1, "forward")):

        def call(t: Any, x: Any, given: Any = arguments) -> Any:
            return getattr(t.fft, name)(x, *given)

        def expected(x: Any, given: Any = arguments) -> Any:
            return getattr(np.fft, name)(x, *given)

        build = one if arguments else method
        yield from build(name, call, A(3, 4), expected=expected, **options)


def _several_dimensions(kind: str, options: dict[str, Any]) -> Iterator[Sample]:
    name = kind + "2"
    function = getattr(np.fft, name, None)
    yield from one(name, lambda t, x: getattr(t.fft, name)(x), A(2, 3, 2), expected=function, **options)
    every = kind + "n"
    for arguments in ((), ((2, 5), (1, 0), "ortho")):
        yield from one(every, lambda t, x, given=arguments: getattr(t.fft, every)(x, *given), A(2, 3), **options)


def _frequencies() -> Iterator[Sample]:
    for n in (4, 5):
        for name in ("fftfreq", "rfftfreq"):
            yield from one(name, lambda t, f=name, n=n: getattr(t.fft, f)(n, 0.5, dtype=t.float64), covers="",
                           expected=lambda f=name, n=n: getattr(np.fft, f)(n, 0.5), differentiable=False)  # fmt: skip
    for name in ("fftshift", "ifftshift"):
        for dims in (None, (1,)):
            yield from one(name, lambda t, x, f=name, d=dims: getattr(t.fft, f)(x, d), A(3, 4), covers="", complex=True,
                           expected=lambda x, f=name, d=dims: getattr(np.fft, f)(x, d))  # fmt: skip
