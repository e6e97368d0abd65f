"""Short-time Fourier transforms, and the window functions that go with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import backend_of
from disttorch.core import dtypes
from disttorch.ops import fourier
from disttorch.ops.creation import DeviceLike, finish
from disttorch.ops.define import expect_tensor
from disttorch.ops.join import stack
from disttorch.ops.registry import traced
from disttorch.ops.shape import expand, squeeze, transpose, unsqueeze
from disttorch.ops.views import narrow

__all__ = [
    "bartlett_window", "blackman_window", "hamming_window", "hann_window", "istft", "kaiser_window", "stft",
]  # fmt: skip
METHODS = """
    istft stft
"""

# -- windows ------------------------------------------------------------------------------------------------------


def window_array(size: int, periodic: bool, values: Callable[[Any, float], Any], d: dtypes.dtype) -> Any:
    """Return `values(n, N)` at n = 0, ..., size - 1, where N is `size` if the window is `periodic`, else `size - 1`."""
    if size < 2:
        return np.ones(size, d.numpy)
    return values(np.arange(size, dtype=np.float64), size if periodic else size - 1).astype(d.numpy)


def bartlett_values(n: Any, span: float) -> Any:
    """Return the triangle 1 - |2n / span - 1|."""
    return 1.0 - np.abs(2.0 * n / span - 1.0)


def cosine_sum_values(coefficients: Sequence[float]) -> Callable[[Any, float], Any]:
    """Return the function of n and span that sums (-1)^i a[i] cos(2 pi i n / span)."""
    return lambda n, span: sum([(-1) ** i * a * np.cos(2.0 * np.pi * i * n / span) for i, a in enumerate(coefficients)])


def kaiser_values(beta: float) -> Callable[[Any, float], Any]:
    """Return the function of n and span that is I0(beta sqrt(1 - (2n / span - 1)^2)) / I0(beta)."""
    return lambda n, span: np.i0(beta * np.sqrt(np.maximum(0.0, 1.0 - (2.0 * n / span - 1.0) ** 2))) / np.i0(beta)


def _window(
    name: str,
    window_length: int,
    periodic: bool,
    values: Callable[[Any, float], Any],
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: DeviceLike = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    if not isinstance(window_length, int):
        raise TypeError(f"{name}(): argument 'window_length' must be int, not {type(window_length).__name__}")
    d = dtype or dtypes.get_default_dtype()
    if d.kind != "floating":
        raise RuntimeError(f"{name} expects floating point dtypes, got: {d!r}")
    if window_length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={window_length}")
    return finish(window_array(window_length, periodic, values, d), device, requires_grad)


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """Return the triangle 1 - |2n / N - 1|, where N is `window_length` if `periodic`, else one less."""
    return _window("bartlett_window", window_length, periodic, bartlett_values, **options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """Return 0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N), where N is `window_length` if `periodic`, else one less."""
    return _window("blackman_window", window_length, periodic, cosine_sum_values([0.42, 0.5, 0.08]), **options)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, **options: Any
) -> Tensor:
    """Return alpha - beta cos(2 pi n / N), where N is `window_length` if `periodic`, else one less."""
    return _window("hamming_window", window_length, periodic, cosine_sum_values([alpha, beta]), **options)


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """Return (1 - cos(2 pi n / N)) / 2, where N is `window_length` if `periodic`, else one less."""
    return _window("hann_window", window_length, periodic, cosine_sum_values([0.5, 0.5]), **options)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any) -> Tensor:
    """Return I0(beta sqrt(1 - (2n / N - 1)^2)) / I0(beta), where N is `window_length` if `periodic`, else one less."""
    return _window("kaiser_window", window_length, periodic, kaiser_values(beta), **options)


# -- short-time Fourier transforms --------------------------------------------------------------------------------


def _frame_positions(like: Any, n_frames: int, n_fft: int, hop: int) -> Any:
    """Return for each frame the positions of its samples, [n_frames, n_fft], as an array where `like` is."""
    xp = backend_of(like).namespace
    return xp.arange(n_frames)[:, None] * hop + xp.arange(n_fft)


def _positions_before_padding(positions: Any, pad: int, size: int, mode: str) -> Any:
    """Return which of `size` samples stands at each position of the signal padded by `pad` on both sides."""
    at = positions - pad
    if mode == "replicate":
        return at.clip(0, size - 1)
    if mode == "reflect":
        if pad >= size:
            raise RuntimeError(
                "Padding size should be less than the corresponding input dimension, but got: padding "
                f"({pad}, {pad}) of a signal of {size} samples"
            )
        return size - 1 - abs(size - 1 - abs(at))
    if mode == "circular":
        if pad > size:
            raise RuntimeError(f"Padding value causes wrapping around more than once: {pad} for {size} samples")
        return at % size
    raise NotImplementedError(f"Unrecognised padding mode {mode}")


def _padded(signal: Tensor, left: int, right: int) -> Tensor:
    """Return the tensor with zeros before and after its last dimension."""
    n = signal._a.shape[-1]
    chain = ((traced.slice.op, 0, ((Ellipsis, slice(left, left + n)),)),)
    zeros = traced.zeros_from(signal, (*signal._a.shape[:-1], left + n + right))
    return traced.view_scatter(zeros, signal, chain)


def _weights(input: Tensor, window: Tensor | None, win_length: int, n_fft: int) -> Tensor:
    """Return the window, ones unless given, with zeros on both sides up to `n_fft`."""
    if window is None:
        window = traced.constant(input, np.ones(win_length, input._a.real.dtype))
    if win_length == n_fft:
        return window
    left = (n_fft - win_length) // 2
    return _padded(window, left, n_fft - win_length - left)


def _lengths(function: str, n_fft: int, hop_length: int | None, win_length: int | None, window: Any) -> tuple[int, int]:
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    if hop <= 0:
        raise RuntimeError(f"{function}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"{function}: expected 0 < win_length <= n_fft, but got win_length={length}")
    if window is not None and window._a.shape != (length,):
        raise RuntimeError(
            f"{function}: expected a 1D window tensor of size equal to win_length={length}, but got window with size "
            f"{list(window._a.shape)}"
        )
    return hop, length


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Return the Fourier transforms of overlapping frames of a signal [..., L], as [..., frequencies, frames].

    Frame t has the samples from t * hop_length on (n_fft // 4 by default), times the window; with `center` it has that
    sample in its middle. `onesided`, the default for real signals, leaves out what follows from the rest.
    """
    is_complex = any(x is not None and x._a.dtype.kind == "c" for x in (expect_tensor(input, "stft"), window))
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if return_complex is None and not is_complex:
        raise RuntimeError(
            "stft requires the return_complex parameter be given for real inputs; give return_complex=True"
        )
    if onesided and is_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    half = not is_complex if onesided is None else onesided
    pad = n_fft // 2 if center else 0
    _check_signal(input, n_fft, pad)
    hop, length = _lengths("stft", n_fft, hop_length, win_length, window)
    if align_to_window:
        pad = (n_fft - length) // 2
    frames = _frames(input, n_fft, hop, pad, pad_mode)
    if window is not None or length < n_fft:
        frames = traced.mul(frames, _weights(input, window, length, n_fft))
    transform = fourier.rfft if half else fourier.fft
    found = transpose(transform(frames, norm="ortho" if normalized else None), -2, -1)
    return stack([found.real, found.imag], -1) if return_complex is False else found


def _check_signal(input: Tensor, n_fft: int, pad: int) -> None:
    if input._a.dtype.kind in "biu":
        raise RuntimeError(f"stft expected a tensor of floating point or complex values, got {input.dtype!r}")
    if input._a.ndim not in (1, 2):
        raise RuntimeError(f"stft expected a 1D or 2D tensor, got shape {list(input._a.shape)}")
    size = input._a.shape[-1] + 2 * pad
    if not 0 < n_fft <= size:
        raise RuntimeError(f"stft expected 0 < n_fft <= {size}, but got n_fft={n_fft}")


def _frames(signal: Tensor, n_fft: int, hop: int, pad: int, mode: str) -> Tensor:
    """Return overlapping frames of the padded signal, [..., n_frames, n_fft]."""
    n = signal._a.shape[-1]
    positions = _frame_positions(signal._a, 1 + (n + 2 * pad - n_fft) // hop, n_fft, hop)
    if mode == "constant":
        signal = _padded(signal, pad, pad)
    else:
        positions = _positions_before_padding(positions, pad, n, mode)
    return traced.index(signal, (*(slice(None),) * (signal._a.ndim - 1), positions))


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """Return the signal of which `stft` with the same arguments makes `input` [..., frequencies, frames].

    The frames are transformed back, windowed again and added; then divided by the sum of the squared windows (Griffin
    and Lim 1984). RuntimeError where that sum is zero.
    """
    _check_spectrum(input, n_fft, onesided)
    hop, win_length = _lengths("istft", n_fft, hop_length, win_length, window)
    if hop > win_length:
        raise RuntimeError(f"istft expected 0 < hop_length <= win_length, got {hop} and {win_length}")
    half = input._a.shape[-2] != n_fft if onesided is None else onesided
    if return_complex and half:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if not return_complex and window is not None and window._a.dtype.kind == "c":
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    spectra = transpose(input if input._a.ndim == 3 else unsqueeze(input, 0), -2, -1)
    norm = "ortho" if normalized else None
    if return_complex:
        frames = fourier.ifft(spectra, norm=norm)
    else:
        frames = fourier.irfft(narrow(spectra, -1, 0, n_fft // 2 + 1), n_fft, norm=norm)
    weights = _weights(input, window, win_length, n_fft)
    signal = _added(traced.mul(frames, weights), hop)
    squares = expand(traced.mul(weights, weights), (1, *frames._a.shape[-2:]))
    signal = _divided(signal, _added(squares, hop), n_fft // 2 if center else 0, center, length)
    return signal if input._a.ndim == 3 else squeeze(signal, 0)


def _check_spectrum(input: Tensor, n_fft: int, onesided: bool | None) -> None:
    a = expect_tensor(input, "istft")._a
    if a.dtype.kind != "c":
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with return_complex=True."
        )
    if not a.size:
        raise RuntimeError("istft: input tensor cannot be empty.")
    if a.ndim not in (2, 3):
        raise RuntimeError(f"istft expected a tensor with 2 or 3 dimensions, but got {a.ndim}")
    half = a.shape[-2] != n_fft if onesided is None else onesided
    wanted = n_fft // 2 + 1 if half else n_fft
    if a.shape[-2] != wanted:
        raise RuntimeError(
            f"istft expected the frequency dimension of the input tensor to have size {wanted} for n_fft={n_fft} and "
            f"onesided={half}, but got {a.shape[-2]}"
        )


def _added(frames: Tensor, hop: int) -> Tensor:
    """Return the signals [B, L] that frames [B, n_frames, n_fft] overlap to."""
    batch, n_frames, n_fft = frames._a.shape
    signal = traced.zeros_from(frames, (batch, n_fft + hop * (n_frames - 1)))
    return traced.index_put(signal, frames, (slice(None), _frame_positions(frames._a, n_frames, n_fft, hop)), True)


def _divided(signal: Tensor, envelope: Tensor, start: int, center: bool, length: int | None) -> Tensor:
    """Return signal / envelope from `start` on, `length` samples or what there is."""
    total = signal._a.shape[-1]
    end = (total - start if center else total) if length is None else start + length
    part = (slice(None), slice(start, end))
    signal, envelope = traced.slice(signal, part), traced.slice(envelope, part)
    if envelope._a.size and abs(envelope._a).min() < 1e-11:
        raise RuntimeError("istft: window overlap add min: 1; the windows leave gaps, so the signal cannot be restored")
    signal = traced.true_divide(signal, envelope)
    if end <= total:
        return signal
    warnings.warn(
        "The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. Please "
        "check your center and hop_length settings.",
        UserWarning,
        stacklevel=3,
    )
    return _padded(signal, 0, end - total)
