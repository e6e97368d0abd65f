"""Convolution against SciPy and its gradients against sums over kernel positions, in float64."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from scipy.signal import correlate

from disttorch.backends import numpy as kernels
from disttorch.backends.numpy import _compiled_conv as compiled_conv
from disttorch.backends.numpy._compiled_tiles import LANES, PLACES
from disttorch.backends.numpy.conv import run_length


def oracle(x: np.ndarray, w: np.ndarray, stride: tuple, padding: tuple, dilation: tuple, groups: int) -> np.ndarray:
    """Convolution channel by channel with scipy.signal.correlate on a dilated kernel."""
    kind = np.result_type(x, np.float64)
    x, w = x.astype(kind), w.astype(kind)
    widened = np.zeros((*w.shape[:2], *((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True))), kind)
    widened[(..., *(slice(None, None, d) for d in dilation))] = w
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    per_group, outputs = w.shape[1], w.shape[0] // groups
    every = tuple(slice(None, None, s) for s in stride)
    return np.array(
        [
            [
                sum(
                    correlate(image[o // outputs * per_group + c], widened[o, c].conj(), "valid", "direct")
                    for c in range(per_group)
                )[every]
                for o in range(w.shape[0])
            ]
            for image in x
        ]
    )


def close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert actual.shape == expected.shape
    scale = max(1e-30, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual.astype(expected.dtype), expected, rtol=0, atol=tolerance * scale)


def normal(rng: np.random.Generator, shape: tuple, dtype: type = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


# (N, C, O, spatial, kernel, stride, padding, dilation, groups)
CASES = [
    (3, 1, 6, (12, 12), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (5, 6, 16, (14, 14), (5, 5), (1, 1), (0, 0), (1, 1), 1),
    (2, 3, 10, (28, 28), (5, 5), (1, 1), (2, 2), (1, 1), 1),
    (3, 8, 33, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 3, 4, (9, 8), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (2, 3, 4, (9, 10), (1, 1), (2, 3), (0, 0), (1, 1), 1),
    (2, 3, 5, (11, 9), (3, 2), (3, 2), (2, 1), (2, 3), 1),
    (2, 2, 3, (6, 6), (3, 3), (1, 1), (4, 3), (1, 1), 1),
    (1, 2, 3, (5, 4), (5, 4), (1, 1), (0, 0), (1, 1), 1),
    (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 2, 3, (70, 65), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 4, 6, (9, 11), (3, 2), (2, 3), (2, 1), (2, 1), 2),
    (2, 4, 4, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), 4),
    (3, 4, 5, (20,), (5,), (1,), (2,), (1,), 1),
    (3, 4, 6, (21,), (4,), (3,), (1,), (2,), 2),
    (2, 3, 4, (5, 6, 7), (3, 2, 3), (1, 2, 2), (1, 0, 2), (1, 1, 2), 1),
    # rows and kernels of many widths, for as many channels as a vector has
    *((2, 3, 16, (5, width), (3, 3), (1, 1), (1, 1), (1, 1), 1) for width in (7, 8, 9, 10, 12)),
    *((2, 3, 16, (6, 15), (2, columns), (1, 1), (0, 0), (1, 1), 1) for columns in (1, 2, 4, 8)),
    (2, 3, 16, (6, 16), (3, 3), (1, 1), (2, 2), (1, 2), 1),
    # several bands of rows, the last one smaller; weights whose taps come in runs of two and of three
    (2, 8, 32, (50, 42), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 8, 48, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (3, 12, 48, (9, 9), (2, 2), (1, 1), (0, 0), (1, 1), 1),
]


# Whole runs make up a tile, whose size is the processor's.
RUNS = [run for run in (1, 2, 3, 4, 8) if PLACES % run == 0]
COLUMNS = {1: 7, 2: 14, 3: 9, 4: 28, 8: 32}


@pytest.mark.parametrize(("columns", "run"), [(COLUMNS[run], run) for run in RUNS])
def test_neighbouring_outputs_are_computed_together(columns: int, run: int) -> None:
    rows = np.arange(3)[:, None] * (columns + 2)  # as in planes that are padded by a column on each side
    assert run_length((rows + np.arange(columns)).reshape(-1)) == run


@pytest.mark.parametrize("run", RUNS)
def test_tiles_of_runs(run: int) -> None:
    rng = np.random.default_rng(run)
    tiles, terms = 2, 7
    begins = rng.choice(200, tiles * PLACES // run, replace=False)
    places = (begins[:, None] + np.arange(run)).reshape(-1)
    offsets = rng.integers(0, 50, terms)
    buffer, weight = normal(rng, (300,)), normal(rng, (terms, LANES))
    start, out = normal(rng, (tiles * PLACES, LANES)), np.zeros((tiles * PLACES, LANES), np.float32)
    flat = weight.reshape(-1), 0, start.reshape(-1), 0, LANES, out.reshape(-1), 0
    compiled_conv._by_channels(buffer, places, run, places.size, offsets, terms, *flat)
    reads = buffer.astype(np.float64)[places[:, None] + offsets]
    close(out, start + reads @ weight.astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: tuple, dtype: type) -> None:
    n, c, o, spatial, kernel, *how, groups = case
    rng = np.random.default_rng(0)
    x, w, b = (normal(rng, s, dtype) for s in [(n, c, *spatial), (o, c // groups, *kernel), (o,)])
    expected = oracle(x, w, *how, groups)
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    close(kernels.convolution(x, w, None, *how, groups), expected, tolerance)
    column = b.astype(np.float64).reshape(-1, *(1 for _ in spatial))
    close(kernels.convolution(x, w, b, *how, groups), expected + column, tolerance)
    g = normal(rng, expected.shape, dtype)
    dx = kernels.convolution_input_grad(g, w, x.shape, *how, groups)
    dw = kernels.convolution_weight_grad(g, x, w.shape, *how, groups)
    assert dx.dtype == dw.dtype == dtype
    expected_dx, expected_dw = gradient_oracle(g, x, w, *how, groups)
    close(dx, expected_dx, tolerance)
    close(dw, expected_dw, tolerance)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.complex64, np.int64])
def test_other_dtypes(dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-3, 4, (2, 3, 6, 7)).astype(dtype), rng.integers(-2, 3, (4, 3, 3, 2))
    w, how = w.astype(dtype), ((1, 2), (1, 0), (1, 1))
    if np.dtype(dtype).kind == "c":
        x, w = x + x[::-1] * 1j, w * dtype(1 - 2j)
    y = kernels.convolution(x, w, None, *how, 1)
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    assert y.dtype == dtype
    close(y, oracle(x.astype(wide), w.astype(wide), *how, 1), 1e-2)
    expected_dx, expected_dw = gradient_oracle(y, x, w, *how, 1)
    close(kernels.convolution_input_grad(y, w.conj(), x.shape, *how, 1), expected_dx, 1e-2)
    close(kernels.convolution_weight_grad(y, x.conj(), w.shape, *how, 1), expected_dw, 1e-2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_contiguous_operands(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x = normal(rng, (9, 10, 3, 8), dtype).transpose(3, 2, 0, 1)[::2]
    w = normal(rng, (3, 3, 4, 3), dtype).transpose(2, 3, 0, 1)[:, ::-1]
    b = normal(rng, (8,), dtype)[::2]
    how = ((1, 1), (1, 1), (1, 1), 1)
    y = kernels.convolution(x, w, b, *how)
    np.testing.assert_array_equal(y, kernels.convolution(x.copy(), w.copy(), b.copy(), *how))
    g = normal(rng, (10, 9, 4, 4), dtype).transpose(3, 2, 1, 0)[:, ::-1]
    assert g.shape == y.shape
    assert not g.flags.c_contiguous
    np.testing.assert_array_equal(
        kernels.convolution_input_grad(g, w, x.shape, *how),
        kernels.convolution_input_grad(g.copy(), w.copy(), x.shape, *how),
    )
    np.testing.assert_array_equal(
        kernels.convolution_weight_grad(g, x, w.shape, *how),
        kernels.convolution_weight_grad(g.copy(), x.copy(), w.shape, *how),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_batch(dtype: type) -> None:
    x, w, g = (
        np.empty((0, 3, 8, 8), dtype),
        np.ones((4, 3, 3, 3), dtype),
        np.empty((0, 4, 6, 6), dtype),
    )
    how = ((1, 1), (0, 0), (1, 1), 1)
    assert kernels.convolution(x, w, np.ones(4, dtype), *how).shape == (0, 4, 6, 6)
    assert kernels.convolution_input_grad(g, w, x.shape, *how).shape == x.shape
    np.testing.assert_array_equal(kernels.convolution_weight_grad(g, x, w.shape, *how), w * 0)


@pytest.mark.parametrize("images", [1, 7, 64])
def test_batches_that_do_not_fill_the_last_group(images: int) -> None:
    rng = np.random.default_rng(3)
    x, w = normal(rng, (images, 16, 10, 10)), normal(rng, (24, 16, 3, 3))
    how = ((1, 1), (1, 1), (1, 1))
    y = kernels.convolution(x, w, None, *how, 1)
    dx, dw = gradient_oracle(y, x, w, *how, 1)
    close(y, oracle(x, w, *how, 1))
    close(kernels.convolution_input_grad(y, w, x.shape, *how, 1), dx)
    close(kernels.convolution_weight_grad(y, x, w.shape, *how, 1), dw)


def test_nan_reaches_exactly_the_outputs_that_read_it() -> None:
    x, w = np.ones((1, 1, 6, 20), np.float32), np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 2, 3] = np.nan
    y = kernels.convolution(x, w, None, (1, 1), (1, 1), (1, 1), 1)[0, 0]
    expected = np.zeros((6, 20), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_kernel_larger_than_the_padded_input_is_refused() -> None:
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 5, 5), np.float32)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        kernels.convolution(x, w, None, (1, 1), (0, 0), (1, 1), 1)


def gradient_oracle(
    g: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    stride: tuple,
    padding: tuple,
    dilation: tuple,
    groups: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Both gradients in double precision, summed over kernel positions and groups."""
    kind = np.complex128 if np.iscomplexobj(x) else np.float64
    g, x, w = g.astype(kind), x.astype(kind), w.astype(kind)
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for group, *offset in product(range(groups), *(range(k) for k in w.shape[2:])):
        o = slice(group * outputs, (group + 1) * outputs)
        c = slice(group * inputs, (group + 1) * inputs)
        window = tuple(
            slice(k * d, k * d + (size - 1) * s + 1, s)
            for k, d, s, size in zip(offset, dilation, stride, g.shape[2:], strict=True)
        )
        here = (slice(None), c, *window)
        tap = w[(o, slice(None), *offset)].conj()
        dx[here] += np.einsum("no...,oc->nc...", g[:, o], tap)
        read = padded[here].conj().reshape(len(x), inputs, -1)
        dw[(o, slice(None), *offset)] = np.einsum("nop,ncp->oc", g[:, o].reshape(len(x), outputs, -1), read)
    inner = tuple(slice(p, p + s) for p, s in zip(padding, x.shape[2:], strict=True))
    return dx[(slice(None), slice(None), *inner)], dw
