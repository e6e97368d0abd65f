"""Samples of `disttorch.ops.spectral`: short-time Fourier transforms and the windows of `torch` itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, P, Sample, one

_WINDOWS: dict[str, Any] = {
    "bartlett_window": np.bartlett, "blackman_window": np.blackman, "hamming_window": np.hamming,
    "hann_window": np.hanning, "kaiser_window": lambda n: np.kaiser(n, 12.0),
}  # fmt: skip


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    for name, formula in _WINDOWS.items():
        yield from one(name, lambda t, f=name: getattr(t, f)(6, False, dtype=t.float64), covers="",
                       expected=lambda f=formula: f(6), differentiable=False)  # fmt: skip
        yield from one(name, lambda t, f=name: getattr(t, f)(5, dtype=t.float64), covers="",
                       expected=lambda f=formula: f(6)[:-1], differentiable=False)  # fmt: skip
    yield from _short_time()


def _short_time() -> Iterator[Sample]:
    def forward(t: Any, x: Any, w: Any, **options: Any) -> Any:
        return t.stft(x, 4, 2, 3, w, return_complex=True, **options)

    def back(t: Any, x: Any, w: Any) -> Any:
        spectrum = t.stft(x, 4, 2, window=w, return_complex=True)
        return t.istft(spectrum * spectrum, 4, 2, window=w, length=7)

    for mode in ("reflect", "constant"):
        yield from one(
            "stft", lambda t, x, w, m=mode: forward(t, x, w, pad_mode=m), A(2, 7), P(3), covers="fft_r2c index"
        )
    yield from one("stft", lambda t, x, w: forward(t, x, w, center=False, onesided=False, normalized=True), A(7), P(3),
                   covers="fft_c2c", complex=True)  # fmt: skip
    yield from one("istft", back, A(2, 8), P(4), covers="fft_c2r index_put")
