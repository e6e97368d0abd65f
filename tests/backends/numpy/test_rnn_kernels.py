"""The LSTM layer against one written step by step, its gradient against finite differences."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from scipy.special import expit

from disttorch.backends import numpy as kernels


def oracle(x, h, c, w_ih, w_hh, b_ih, b_hh, reverse):
    """Output, h_n and c_n in double precision."""
    output = np.zeros((len(x), *h.shape))
    for t in range(len(x))[:: -1 if reverse else 1]:
        i, f, g, o = np.split(x[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = output[t] = expit(o) * np.tanh(c)
    return output, h, c


def arguments(steps: int, batch: int, inputs: int, hidden: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(steps, batch, inputs), (batch, hidden), (batch, hidden)]
    shapes += [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    return [rng.standard_normal(s) * 0.7 for s in shapes]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 1e-12), (np.float32, 2e-6), (np.float16, 5e-3), (ml_dtypes.bfloat16, 4e-2)],
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(5, 3, 4, 6), (1, 1, 1, 1), (3, 20, 2, 19)])
def test_values(sizes: tuple, reverse: bool, dtype: type, tolerance: float) -> None:
    given = [a.astype(dtype) for a in arguments(*sizes)]
    *actual, _ = kernels.lstm_layer(*given, reverse=reverse)
    expected = oracle(*(a.astype(np.float64) for a in given), reverse)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float64), e, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_bias_is_a_bias_of_zero(dtype: type) -> None:
    given = [a.astype(dtype) for a in arguments(3, 2, 4, 5)]
    zero = np.zeros(20, dtype)
    with_zero = kernels.lstm_layer(*given[:5], zero, zero)
    np.testing.assert_array_equal(kernels.lstm_layer(*given[:5], None, None)[0], with_zero[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-7), (np.float32, 1e-4)])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_by_finite_differences(reverse: bool, dtype: type, tolerance: float) -> None:
    given = arguments(4, 3, 2, 5)
    rng = np.random.default_rng(1)
    g = [rng.standard_normal(a.shape) for a in oracle(*given, reverse)]
    cast = [a.astype(dtype) for a in given]
    *_, reserve = kernels.lstm_layer(*cast, reverse=reverse)
    grads = kernels.lstm_layer_grad(*(a.astype(dtype) for a in g), *cast[:5], reserve, reverse)
    for k, grad in enumerate(grads):
        along = rng.standard_normal(given[k].shape)
        values = []
        for step in (1e-6, -1e-6):
            moved = [a + step * along if k == j else a for j, a in enumerate(given)]
            results = oracle(*moved, reverse)
            values.append(sum((a * b).sum() for a, b in zip(g, results, strict=True)))
        expected = (values[0] - values[1]) / 2e-6
        np.testing.assert_allclose((grad * along).sum(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_missing_gradients_count_as_zero(dtype: type) -> None:
    given = [a.astype(dtype) for a in arguments(3, 2, 4, 5)]
    output, h, c, reserve = kernels.lstm_layer(*given)
    zeros = [np.zeros_like(output), np.zeros_like(h), np.zeros_like(c)]
    full = [np.ones_like(output), np.ones_like(h), np.ones_like(c)]
    for present in range(3):
        g = [full[k] if k == present else zeros[k] for k in range(3)]
        none = [full[k] if k == present else None for k in range(3)]
        expected = kernels.lstm_layer_grad(*g, *given[:5], reserve)
        for a, e in zip(kernels.lstm_layer_grad(*none, *given[:5], reserve), expected, strict=True):
            np.testing.assert_array_equal(a, e)


def test_input_gradient_can_be_left_out() -> None:
    given = [a.astype(np.float32) for a in arguments(3, 2, 4, 5)]
    output, _, _, reserve = kernels.lstm_layer(*given)
    grads = kernels.lstm_layer_grad(output, None, None, *given[:5], reserve, need_x=False)
    full = kernels.lstm_layer_grad(output, None, None, *given[:5], reserve)
    assert grads[0] is None
    np.testing.assert_array_equal(grads[3], full[3])


def test_views_and_saturated_gates() -> None:
    given = [a.astype(np.float32) for a in arguments(4, 6, 3, 5)]
    x = given[0].transpose(1, 0, 2).copy().transpose(1, 0, 2)[:, ::-1]
    weights = [np.asfortranarray(w) for w in given[3:5]]
    actual = kernels.lstm_layer(x, given[1][::-1], given[2], *weights, *given[5:])[0]
    expected = kernels.lstm_layer(x.copy(), given[1][::-1].copy(), given[2], *given[3:])[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    large = kernels.lstm_layer(x * np.float32(1e4), *given[1:])[0]
    assert np.isfinite(large).all()


def test_empty_batch() -> None:
    given = [a.astype(np.float32) for a in arguments(3, 0, 4, 5)]
    output, h, c, reserve = kernels.lstm_layer(*given)
    assert (output.shape, h.shape, c.shape) == ((3, 0, 5), (0, 5), (0, 5))
    grads = kernels.lstm_layer_grad(output, None, None, *given[:5], reserve)
    np.testing.assert_array_equal(grads[3], np.zeros((20, 4)))
