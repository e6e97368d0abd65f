"""Derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd import grad_mode
from disttorch.autograd.engine import grad
from disttorch.autograd.tensor import Tensor, wrap


class GradcheckError(RuntimeError):
    """A derivative that differs from the finite difference."""


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [v for v in value if isinstance(v, Tensor)]


def _outputs(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    return [y for y in _tensors(function(*inputs)) if y._a.dtype.kind in "fcV"]


def _numerical(function: Callable[..., Any], inputs: Sequence[Any], x: Tensor, eps: float) -> list[list[np.ndarray]]:
    """Return, for each axis of x (real, and imaginary if x is complex) and each output, d output / d x.

    The derivatives are central differences, as matrices [x.numel, output.numel].
    """
    axes: tuple[complex, ...] = (1, 1j) if x._a.dtype.kind == "c" else (1,)
    return [_slopes(function, inputs, x, axis, eps) for axis in axes]


def _slopes(
    function: Callable[..., Any], inputs: Sequence[Any], x: Tensor, axis: complex, eps: float
) -> list[np.ndarray]:
    rows: list[list[np.ndarray]] = []
    for place in np.ndindex(*x._a.shape):
        kept = x._a[place].copy()
        x._a[place] = kept + axis * eps
        above = [y._a.copy() for y in _outputs(function, inputs)]
        x._a[place] = kept - axis * eps
        below = [y._a.copy() for y in _outputs(function, inputs)]
        x._a[place] = kept
        rows.append([((p - m) / (2 * eps)).reshape(-1) for p, m in zip(above, below)])
    if not rows:
        return [np.zeros((0, y._a.size)) for y in _outputs(function, inputs)]
    return [np.stack(column) for column in zip(*rows)]


def _analytical(outputs: list[Tensor], xs: list[Tensor], k: int, seed: np.ndarray) -> list[np.ndarray]:
    found = grad(outputs[k], xs, wrap(seed), retain_graph=True, allow_unused=True)
    return [np.zeros(x._a.size, x._a.dtype) if g is None else g._a.reshape(-1) for g, x in zip(found, xs)]


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of `func` agree with central differences, for inputs that require grad (float64).

    Raises GradcheckError naming input and output where they do not, or returns False without `raise_exception`.
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    xs = [x for x in _tensors(given) if x.requires_grad]
    if not xs:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True."
        )
    for x in xs:
        if x._a.dtype not in (np.float64, np.complex128):
            raise ValueError(
                f"gradcheck needs inputs of type float64 or complex128 to be exact enough, got {x.dtype!r}"
            )
    outputs = [y for y in _outputs(func, given) if y.requires_grad]
    every = _outputs(func, given)
    kept = [k for k, y in enumerate(every) if y.requires_grad]
    try:
        for i, x in enumerate(xs):
            with grad_mode.no_grad():
                numerical = _numerical(func, given, x, eps)
            for number, k in enumerate(kept):
                _compare(outputs, xs, i, number, [axis[k] for axis in numerical], atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _compare(
    outputs: list[Tensor], xs: list[Tensor], i: int, k: int, slopes: list[np.ndarray], atol: float, rtol: float
) -> None:
    """Compare with the gradient of L = Re(conj(v) y), which is dL/da + i dL/db for x = a + ib, for v = 1 and v = i."""
    x, y = xs[i], outputs[k]
    for v in (1, 1j) if y._a.dtype.kind == "c" else (1,):
        parts = [np.real(np.conj(v) * s) for s in slopes]
        numerical = parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]
        analytical = np.zeros((x._a.size, y._a.size), x._a.dtype)
        for j in range(y._a.size):
            seed = np.zeros(y._a.size, y._a.dtype)
            seed[j] = v
            analytical[:, j] = _analytical(outputs, xs, k, seed.reshape(y._a.shape))[i]
        if not np.allclose(analytical, numerical, rtol, atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {k} with respect to input {i},\nnumerical:{numerical}\nanalytical:{analytical}\n"
            )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the second derivatives of `func` agree with central differences of its first derivatives."""
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    outputs = [y for y in _outputs(func, given) if y.requires_grad]
    if grad_outputs is None:
        generator = np.random.default_rng(0)
        seeds = [wrap(generator.standard_normal(y._a.shape).astype(y._a.dtype)) for y in outputs]
        for seed in seeds:
            seed.requires_grad_()
    else:
        seeds = _tensors(grad_outputs)

    def first_derivatives(*arguments: Any) -> tuple[Tensor, ...]:
        called, weights = arguments[: len(given)], arguments[len(given) :]
        with grad_mode.enable_grad():
            ys = [y for y in _outputs(func, called) if y.requires_grad]
            targets = [called[k] for k, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
            found = grad(ys, targets, weights, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        first_derivatives, (*given, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception
    )
