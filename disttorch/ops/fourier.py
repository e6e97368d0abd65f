"""Discrete Fourier transforms.

Three operators do the work, each the derivative of another: with e = exp(-2 pi i / n),

    fft_c2c   X[k] = sum_j x[j] e^(jk), or e^(-jk) where not `forward`
    fft_r2c   the same for real x, and only for k up to n // 2: X[n - k] is the conjugate of X[k]
    fft_c2r   x[j] = sum_k X[k] e^(-jk) over all k, given those up to n // 2

over all of `dims`. `scale` says what the result is divided by: "none", "root" (of the number of points) or "full".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.core import dtypes
from disttorch.ops.creation import DeviceLike, finish
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.join import cat
from disttorch.ops.registry import traced
from disttorch.ops.shape import row_major, wrap_dim
from disttorch.ops.views import narrow
from disttorch.ops.write import with_out, write_out

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift",
    "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

Dims = int | Sequence[int] | None

# -- the operators ------------------------------------------------------------------------------------------------


@operator(1, name="fft_c2c", grad_name="FftC2CBackward0")
def _c2c(xp, x, dims, forward, scale):
    return row_major(kernels_of(x).fft_c2c(x, dims, forward, scale))


@_c2c.vjp
def _(F, g, dims, forward, scale):
    return F.fft_c2c(g, dims, not forward, scale)


@operator(1, name="fft_r2c", grad_name="FftR2CBackward0")
def _r2c(xp, x, dims, scale):
    return row_major(kernels_of(x).fft_r2c(x, dims, scale))


@_r2c.vjp
def _(F, g, x_shape, dims, scale):
    last = x_shape[dims[-1]]
    return F.fft_c2r(g * _weights(F, g, dims[-1], last, 0.5), dims, last, scale)


@operator(1, name="fft_c2r", grad_name="FftC2RBackward0")
def _c2r(xp, x, dims, last, scale):
    return row_major(kernels_of(x).fft_c2r(x, dims, last, scale))


@_c2r.vjp
def _(F, g, dims, last, scale):
    half = F.fft_r2c(g, dims, scale)
    return half * _weights(F, half, dims[-1], last, 2.0)


def _weights(F: Any, half: Any, dim: int, last: int, twin: float) -> Any:
    """Return `twin` for the elements of a half spectrum that stand for two, and 1 for the others, along `dim`."""
    weights = np.full(last // 2 + 1, twin, np.float32 if half.dtype.itemsize == 8 else np.float64)
    weights[0] = 1.0
    if last % 2 == 0:
        weights[-1] = 1.0
    return F.constant(half, weights.reshape(-1, *(1,) * (half.ndim - 1 - dim)))


# -- arguments ----------------------------------------------------------------------------------------------------


def _scale(norm: str | None, forward: bool) -> str:
    if norm not in (None, "backward", "ortho", "forward"):
        raise RuntimeError(f'Invalid normalization mode: "{norm}"; expected "backward", "ortho" or "forward"')
    if norm == "ortho":
        return "root"
    return "full" if (norm == "forward") == forward else "none"


def _floating(function: str, input: Tensor, real: bool) -> Tensor:
    a = expect_tensor(input, function)._a
    if real and a.dtype.kind == "c":
        raise RuntimeError(f"{function} expects a real input tensor, but got {input.dtype!r}")
    if a.dtype.kind in "biu":
        return traced.cast(input, dtypes.get_default_dtype().numpy)
    if a.dtype.itemsize == 2:
        raise RuntimeError(f"{function}: unsupported dtype {input.dtype!r}; use float32 or float64")
    return input


def _dims_and_sizes(function: str, input: Tensor, s: Any, dim: Dims) -> tuple[tuple[int, ...], list[int | None]]:
    """Return the dimensions to transform, from the front, and the wanted size of each (None: as it is)."""
    ndim = input._a.ndim
    sizes = None if s is None else [int(n) for n in ([s] if isinstance(s, int) else s)]
    if dim is not None:
        listed = [dim] if isinstance(dim, int) else list(dim)
        if not ndim and listed:
            raise IndexError(f"Dimension specified as {listed[0]} but tensor has no dimensions")
        if sizes is not None and len(sizes) != len(listed):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif sizes is not None:
        if len(sizes) > ndim:
            raise RuntimeError(f"Got shape with {len(sizes)} values but input tensor only has {ndim} dimensions.")
        listed = list(range(ndim - len(sizes), ndim))
    else:
        listed = list(range(ndim))
    dims = tuple([wrap_dim(d, ndim) for d in listed])
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"{function}: FFT dims must be unique, got {listed}")
    wanted: list[int | None] = [None] * len(dims) if sizes is None else [None if n == -1 else n for n in sizes]
    for n, d in zip(wanted, dims):
        _check_points(input._a.shape[d] if n is None else n)
    return dims, wanted


def _check_points(n: int) -> int:
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def _resized(input: Tensor, dims: Sequence[int], sizes: Sequence[int | None]) -> Tensor:
    """Return the tensor cut, or continued with zeros, to the given sizes."""
    shape = list(input._a.shape)
    for d, n in zip(dims, sizes):
        shape[d] = shape[d] if n is None else n
    corner = tuple([slice(min(m, n)) for m, n in zip(input._a.shape, shape)])
    if any(m > n for m, n in zip(input._a.shape, shape)):
        input = traced.slice(input, corner)
    if input._a.shape == tuple(shape):
        return input
    return traced.view_scatter(traced.zeros_from(input, shape), input, ((traced.slice.op, 0, (corner,)),))


# -- transforms ---------------------------------------------------------------------------------------------------


def _complex_transform(function: str, forward: bool, input: Tensor, s: Any, dim: Dims, norm: str | None) -> Tensor:
    input = _floating(function, input, False)
    dims, sizes = _dims_and_sizes(function, input, s, dim)
    return _c2c(_resized(input, dims, sizes), dims, forward, _scale(norm, forward))


def _to_half(function: str, forward: bool, input: Tensor, s: Any, dim: Dims, norm: str | None) -> Tensor:
    input = _floating(function, input, True)
    dims, sizes = _dims_and_sizes(function, input, s, dim)
    if not dims:
        raise RuntimeError(f"{function} must transform at least one axis")
    half = _r2c(_resized(input, dims, sizes), dims, _scale(norm, forward))
    return half if forward else traced.conj(half)


def _from_half(function: str, forward: bool, input: Tensor, s: Any, dim: Dims, norm: str | None) -> Tensor:
    input = _floating(function, input, False)
    dims, sizes = _dims_and_sizes(function, input, s, dim)
    if not dims:
        raise RuntimeError(f"{function} must transform at least one axis")
    given = sizes[-1]
    last = _check_points(2 * (input._a.shape[dims[-1]] - 1) if given is None else given)
    half = _resized(input, dims, [*sizes[:-1], last // 2 + 1])
    if half._a.dtype.kind != "c":
        half = traced.cast(half, np.result_type(half._a.dtype, np.complex64))
    return _c2r(traced.conj(half) if forward else half, dims, last, _scale(norm, forward))


_KINDS = {
    "fft": (_complex_transform, True, "the discrete Fourier transform"),
    "ifft": (_complex_transform, False, "the inverse of `fft{}`"),
    "rfft": (_to_half, True, "the half of the Fourier transform of real numbers that determines the rest"),
    "irfft": (_from_half, False, "the inverse of `rfft{}`"),
    "hfft": (_from_half, True, "the real Fourier transform of the Hermitian signal of which `input` is a half"),
    "ihfft": (_to_half, False, "the inverse of `hfft{}`"),
}


def _one_dimensional(name: str) -> Any:
    transform, forward, what = _KINDS[name]

    def function(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        return transform(name, forward, input, n, dim, norm)

    return _named(function, name, f"Return {what.format('')}, over `dim`, of `n` points.")


def _two_dimensional(name: str) -> Any:
    transform, forward, what = _KINDS[name]

    def function(
        input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> Tensor:
        return transform(name + "2", forward, input, s, dim, norm)

    return _named(function, name + "2", f"Return {what.format('2')}, over the two `dim`, of `s` points.")


def _of_all_dimensions(name: str) -> Any:
    transform, forward, what = _KINDS[name]

    def function(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
        return transform(name + "n", forward, input, s, dim, norm)

    return _named(function, name + "n", f"Return {what.format('n')}, over `dim` (all by default), of `s` points.")


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return with_out(function)


fft, ifft, rfft, irfft, hfft, ihfft = [_one_dimensional(name) for name in _KINDS]
fft2, ifft2, rfft2, irfft2, hfft2, ihfft2 = [_two_dimensional(name) for name in _KINDS]
fftn, ifftn, rfftn, irfftn, hfftn, ihfftn = [_of_all_dimensions(name) for name in _KINDS]

# -- frequencies --------------------------------------------------------------------------------------------------


def _frequencies(
    name: str, numbers: Any, n: int, d: float, out: Tensor | None, dtype: Any, device: DeviceLike, requires_grad: bool
) -> Tensor:
    target = dtype or dtypes.get_default_dtype()
    if target.kind not in ("floating", "complex"):
        raise RuntimeError(f"{name} requires a floating point or complex dtype, got {target!r}")
    with np.errstate(all="ignore"):
        values = np.asarray(numbers, target.numpy) * np.asarray(np.divide(1.0, n * d), target.numpy)
    result = finish(values, device, requires_grad and out is None)
    return result if out is None else write_out(out, result, name)


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Tensor | None = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the frequency of each element of an `fft` of `n` points that lie `d` apart: 0, 1, ..., -2, -1 over n * d."""
    numbers = [*range((n + 1) // 2), *range(-(n // 2), 0)]
    return _frequencies("fftfreq", numbers, n, d, out, dtype, device, requires_grad)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    out: Tensor | None = None,
    dtype: dtypes.dtype | None = None,
    layout: Any = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the frequency of each element of an `rfft` of `n` points that lie `d` apart: 0, 1, ..., n // 2 over n * d."""
    return _frequencies("rfftfreq", range(n // 2 + 1), n, d, out, dtype, device, requires_grad)


def fftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """Return a spectrum with the frequency zero moved from the front to the middle of each dimension of `dim`."""
    return _turned(input, dim, lambda n: n - n // 2)


def ifftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """Return what `fftshift` makes its argument of."""
    return _turned(input, dim, lambda n: n // 2)


def _turned(input: Tensor, dim: Dims, first: Any) -> Tensor:
    """Return the tensor with element `first(n)` of each dimension at the front, and those before it at the end."""
    ndim = expect_tensor(input, "fftshift")._a.ndim
    dims = range(ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    for d in [wrap_dim(d, ndim) for d in dims]:
        n = input._a.shape[d]
        k = first(n)
        input = cat([narrow(input, d, k, n - k), narrow(input, d, 0, k)], d)
    return input if dims else traced.clone(input, False)
