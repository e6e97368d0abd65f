"""What a sample of an operator is, and the builders that `disttorch.testing.rows` makes them with.

A sample calls an operator through the library that it is given, `call(torch, *inputs)`, so that the same row runs on
disttorch and on PyTorch. An operator without a PyTorch name is called through `registry.traced` and marked `internal`.
`expected(*arrays)` is an independent formula in NumPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Input:
    """An operand: its shape, which values it holds and how they lie in memory.

    `values`: "any" (both signs, away from integers, halves and zero), "positive", "unit" (inside (-1, 1)),
    "probability" (inside (0, 1)), "zeros" (some elements are 0), "bool", or "index 5" (int64 below 5).
    `layout`: "plain", "transposed" (the dimensions lie in reverse order) or "strided" (every other element).
    """

    shape: tuple[int, ...]
    values: str = "any"
    layout: str = "plain"

    @property
    def floating(self) -> bool:
        """Whether the operand takes the type under test, and a gradient."""
        return self.values != "bool" and not self.values.startswith("index")

    def array(self, dtype: Any, seed: int) -> np.ndarray:
        """Return the operand; floating ones have NumPy type `dtype`."""
        generator = np.random.default_rng([seed, len(self.shape), *self.shape])
        shape = self.shape
        if self.layout == "transposed":
            shape = shape[::-1]
        elif self.layout == "strided":
            shape = (*shape[:-1], 2 * shape[-1])
        values = self._values(generator, shape, np.dtype(dtype))
        if self.layout == "transposed":
            return values.transpose()
        return values[..., ::2] if self.layout == "strided" else values

    def _values(self, generator: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if self.values == "bool":
            return np.asarray(generator.random(shape) < 0.5)
        if self.values.startswith("index"):
            return np.asarray(generator.integers(0, int(self.values[5:]), shape))
        real = _real_values(generator, shape, self.values)
        if dtype.kind == "c":
            return np.asarray(real + 1j * _real_values(generator, shape, self.values)).astype(dtype)
        if dtype.kind == "u":
            real = np.abs(real)
        return np.asarray(real).astype(dtype)


def _real_values(generator: Any, shape: tuple[int, ...], values: str) -> np.ndarray:
    fraction = generator.uniform(0.12, 0.42, shape) + 0.46 * (generator.random(shape) < 0.5)
    sign = np.where(generator.random(shape) < 0.5, -1.0, 1.0)
    if values == "positive":
        return fraction + 0.2 + generator.integers(0, 2, shape)
    if values == "probability":
        return fraction
    if values == "unit":
        return sign * fraction
    signed = sign * (fraction + generator.integers(0, 3, shape))
    return np.where(generator.random(shape) < 0.3, 0.0, signed) if values == "zeros" else signed


@dataclass(frozen=True)
class Sample:
    """One call of an operator; `covers` names the registered operators that the sample is there for."""

    name: str
    call: Callable[..., Any]
    inputs: tuple[Input, ...]
    covers: tuple[str, ...]
    expected: Callable[..., Any] | None = None
    differentiable: bool = True
    complex: bool = False
    internal: bool = False
    order: int = 2

    def __str__(self) -> str:
        shapes = "-".join("x".join(map(str, i.shape)) + i.layout[0].replace("p", "") for i in self.inputs)
        return f"{self.name}-{shapes}"

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """Return the operands."""
        return [x.array(dtype, seed) for seed, x in enumerate(self.inputs)]


def functional(t: Any) -> Any:
    """Return `torch.nn.functional` of a library that is used as torch."""
    return importlib.import_module(t.__name__ + ".nn.functional")


def _function(t: Any, name: str) -> Any:
    return getattr(t, name, None) or getattr(functional(t), name)


def A(*shape: int, layout: str = "plain") -> Input:  # noqa: N802
    """Return an operand with elements of both signs."""
    return Input(shape, "any", layout)


def P(*shape: int) -> Input:  # noqa: N802
    """Return an operand with positive elements."""
    return Input(shape, "positive")


def Index(n: int, *shape: int) -> Input:  # noqa: N802
    """Return an index operand with elements below n."""
    return Input(shape, f"index {n}")


def Mask(*shape: int) -> Input:  # noqa: N802
    """Return a bool operand."""
    return Input(shape, "bool")


def one(name: str, call: Any, *inputs: Input, covers: str | None = None, **options: Any) -> Iterator[Sample]:
    """Yield one sample; `covers` lists operators, the one called `name` unless given."""
    yield Sample(name, call, inputs, tuple((name if covers is None else covers).split()), **options)


def pointwise(
    name: str, expected: Any, values: str = "any", covers: str | None = None, **options: Any
) -> Iterator[Sample]:
    """Yield samples of a function of one tensor in all layouts, with no dimension and with no element."""

    def call(t: Any, x: Any) -> Any:
        return _function(t, name)(x)

    for shape, layout in (
        ((3, 4), "plain"),
        ((2, 3), "transposed"),
        ((2, 3), "strided"),
        ((), "plain"),
        ((0, 3), "plain"),
    ):
        x = Input(shape, values, layout)
        yield from one(name, call, x, covers=covers, expected=expected, **options)


def pairwise(
    name: str,
    expected: Any,
    values: tuple[str, str] = ("any", "any"),
    number: float | None = 1.5,
    **options: Any,
) -> Iterator[Sample]:
    """Yield samples of a function of two operands: equal shapes, broadcast ones, 0-d, empty, and with `number`."""

    def call(t: Any, x: Any, y: Any) -> Any:
        return _function(t, name)(x, y)

    first, second = values
    for left, right, layout in (
        ((3, 4), (3, 4), "plain"),
        ((2, 3), (3,), "transposed"),
        ((2, 1), (1, 3), "plain"),
        ((), (3,), "plain"),
        ((2, 2), (), "strided"),
        ((0, 3), (3,), "plain"),
    ):
        x, y = Input(left, first, layout), Input(right, second)
        yield from one(name, call, x, y, expected=expected, **options)
    if number is None:
        return

    def with_number(t: Any, x: Any) -> Any:
        return _function(t, name)(x, number)

    def expected_with_number(x: Any) -> Any:
        return expected(x, x.dtype.type(number))

    yield from one(name, with_number, Input((2, 3), first), expected=expected_with_number, **options)


def method(name: str, call: Any, *inputs: Input, covers: str | None = None, **options: Any) -> Iterator[Sample]:
    """Yield the sample for its first operand as it is and with its dimensions in reverse order."""
    yield from one(name, call, *inputs, covers=covers, **options)
    first = inputs[0]
    if len(first.shape) > 1:
        turned = Input(first.shape, first.values, "transposed")
        yield from one(name, call, turned, *inputs[1:], covers=covers, **options)
