"""PyTorch's CPU random stream at array level: the same seed gives the same numbers.

A `Stream` is a Mersenne Twister (MT19937), one kept normal number and the seed, exactly what
`torch.get_rng_state()` holds. Every draw takes the words that PyTorch's x86-64 kernels take and
turns them into the same bits; `disttorch.core.stream_kernels` has the arithmetic.

Arrays are filled in the order of memory, as PyTorch fills a contiguous tensor. A `dtype` is a
disttorch dtype or anything `np.dtype` accepts. Streams may be shared between threads: a draw takes
its words under the stream's lock.

PyTorch on Intel processors may draw `bernoulli_(p)` and `exponential_` from Intel MKL instead;
here they follow the portable kernels, which other processors use.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from disttorch.core import stream_checks as check
from disttorch.core import stream_kernels as kernels
from disttorch.core.dtypes import dtype as CoreDtype
from disttorch.core.stream_checks import Array, Shape, numpy_dtype

Convert = Callable[[kernels.Words], Array]

DEFAULT_SEED = 67280421310721
_BLOCK = 1 << 16  # elements made at a time: the temporaries stay in the cache
_WIDE_RANGE = 1 << 28  # integer ranges from here on take two words
_LARGE_PERMUTATION = (2**32 - 1) // 20  # permutations from here on take two words per element


class Stream:
    """A stream of random numbers, as the one behind `torch.Generator(device="cpu")`.

    >>> stream = Stream(0)
    >>> stream.uniform((3,), "float32")
    array([0.4962566 , 0.7682218 , 0.08847743], dtype=float32)
    >>> stream.randperm(5, "int64")
    array([0, 4, 2, 1, 3])
    """

    __slots__ = ("_bits", "_float_normal", "_kept_normal", "_lock", "_next_unused", "_seed")

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._lock = threading.Lock()
        self._bits = np.random.MT19937(0)
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Stream:
        """Restart the stream from `seed`, an integer in [-2**63, 2**64), and return the stream.

        A negative seed stands for 2**64 + seed; only the low 32 bits decide the numbers. Raises
        ValueError for an integer out of range and TypeError for anything but an integer.
        """
        value = operator.index(seed)
        if not check.INT64_MIN <= value < 2**64:
            raise ValueError(f"Overflow when unpacking long long: expected a seed in [-2**63, 2**64), got {value}")
        with self._lock:
            self._seed = value % 2**64
            np.random.RandomState(self._bits).seed(self._seed & 0xFFFFFFFF)
            self._next_unused = 0
            self._kept_normal: float | None = None
            self._float_normal: np.float32 | None = None
        return self

    def seed(self) -> int:
        """Restart the stream from 64 bits of the system's entropy and return them."""
        value = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """Return the seed that the stream was last started with, in [0, 2**64)."""
        return self._seed

    def get_state(self) -> NDArray[np.uint8]:
        """Return the state, uint8 [5056], the bytes of `torch.get_rng_state()`."""
        record = np.zeros(1, check.STATE)
        with self._lock:
            state: Any = self._bits.state["state"]
            unused = state["pos"] == check.STATE_WORDS
            record["seed"], record["seeded"] = self._seed, 1
            record["left"] = 1 if unused else check.STATE_WORDS + 1 - state["pos"]
            record["next"] = self._next_unused if unused else state["pos"]
            record["words"] = state["key"]
            if self._kept_normal is not None:
                record["normal_y"], record["normal_is_valid"] = self._kept_normal, 1
            if self._float_normal is not None:
                record["float_normal"], record["float_normal_is_valid"] = self._float_normal, 1
        return record.view(np.uint8)

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Continue from `state`, uint8 [5056], from `get_state` or `torch.get_rng_state()`.

        Raises TypeError for another dtype and RuntimeError for another size or for bytes that are
        no state of a Mersenne Twister.
        """
        record = check.parse_state(state)
        left, following = int(record["left"]), int(record["next"])
        key = (record["words"] & 0xFFFFFFFF).astype(np.uint32)
        position = check.STATE_WORDS if left == 1 else following
        with self._lock:
            self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
            self._seed = int(record["seed"])
            self._next_unused = following
            self._kept_normal = float(record["normal_y"]) if record["normal_is_valid"] else None
            valid = record["float_normal_is_valid"]
            self._float_normal = record["float_normal"] if valid else None

    def clone(self) -> Stream:
        """Return a new stream in the same state."""
        return _restore(self.get_state())

    def __reduce__(self) -> tuple[Callable[..., Stream], tuple[NDArray[np.uint8]]]:
        return _restore, (self.get_state(),)

    def random64(self) -> int:
        """Return an integer in [0, 2**64)."""
        with self._lock:
            return int(kernels.words64(self._words(2))[0])

    def uniform(self, shape: Shape, dtype: DTypeLike | CoreDtype, low: float = 0.0, high: float = 1.0) -> Array:
        """Return numbers in [low, high), as `torch.rand` and `Tensor.uniform_`.

        `dtype` is floating-point or complex (both parts in [low, high)). Raises RuntimeError for
        bounds in the wrong order or beyond what `dtype` holds.
        """
        kind = numpy_dtype(dtype)
        if kind.kind == "c":
            return _as_complex(self.uniform(_with_parts(shape), _part(kind), low, high), kind)
        check.require_floating(kind, "uniform_")
        check.uniform_bounds(kind, low, high)
        convert = _uniform_of(kind, low, high)
        return self._draw(shape, kind, _words_for(kind), convert)

    def normal(
        self,
        shape: Shape,
        dtype: DTypeLike | CoreDtype,
        mean: float = 0.0,
        std: float = 1.0,
        contiguous: bool = True,
    ) -> Array:
        """Return normal numbers, as `torch.randn` and `Tensor.normal_`.

        PyTorch fills a contiguous target of 16 or more elements in blocks. It draws the numbers of
        any other target in pairs and keeps the second of a pair for later; `contiguous=False` asks
        for that rule. `dtype` is floating-point or complex (`std` is then that of the whole
        number). Raises RuntimeError for a negative `std`.
        """
        kind = numpy_dtype(dtype)
        if not std >= 0.0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        if kind.kind == "c":
            parts, std = _with_parts(shape), std / math.sqrt(2.0)
            return _as_complex(self.normal(parts, _part(kind), mean, std, contiguous), kind)
        check.require_floating(kind, "normal_")
        result = np.empty(shape, kind)
        if contiguous and result.size >= 16:
            with self._lock:
                self._fill_normal(result.reshape(-1), mean, std)
        else:
            values = kernels.fused64(self._serial_normal(result.size), std, mean)
            result[...] = kernels.narrow(values, kind).reshape(result.shape)
        return result

    def log_normal(self, shape: Shape, dtype: DTypeLike | CoreDtype, mean: float = 1.0, std: float = 2.0) -> Array:
        """Return e to the power of normal numbers, as `Tensor.log_normal_`; `std` > 0."""
        kind = check.require_floating(numpy_dtype(dtype), "log_normal_")
        if not std > 0.0:
            raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
        result = np.empty(shape, kind)
        exponents = kernels.fused64(self._serial_normal(result.size), std, mean)
        values = kernels.exp(exponents, kind == np.float64)
        result[...] = kernels.narrow(values, kind).reshape(result.shape)
        return result

    def exponential(self, shape: Shape, dtype: DTypeLike | CoreDtype, lambd: float = 1.0) -> Array:
        """Return numbers of density lambd exp(-lambd x), as `Tensor.exponential_`; `lambd` > 0."""
        kind = check.require_continuous(numpy_dtype(dtype), "Exponential")
        if not lambd > 0.0:
            raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")

        def convert(words: kernels.Words) -> Array:
            log = kernels.libm("log1p", -kernels.uniform53(words), kind == np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                return kernels.narrow(-1.0 / lambd * log, kind)

        return self._draw(shape, kind, 2, convert)

    def cauchy(self, shape: Shape, dtype: DTypeLike | CoreDtype, median: float = 0.0, sigma: float = 1.0) -> Array:
        """Return median + sigma tan(pi (u - 1/2)), as `Tensor.cauchy_`; `sigma` > 0."""
        kind = check.require_continuous(numpy_dtype(dtype), "Cauchy")
        if not sigma > 0.0:
            raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")

        def convert(words: kernels.Words) -> Array:
            angle = math.pi * (kernels.uniform53(words) - 0.5)
            tangent = kernels.libm("tan", angle, kind == np.float64)
            return kernels.narrow(kernels.fused64(tangent, sigma, median), kind)

        return self._draw(shape, kind, 2, convert)

    def randint(self, low: int, high: int | None, shape: Shape, dtype: DTypeLike | CoreDtype = np.int64) -> Array:
        """Return integers in [low, high), as `torch.randint` and `Tensor.random_(low, high)`.

        `high=None` means up to the largest integer of `dtype` (2**significand bits for a floating
        type). Raises RuntimeError for an empty range and for bounds that `dtype` does not hold;
        warns where a floating type skips integers in the range.
        """
        kind = numpy_dtype(dtype)
        if high is None and low == check.INT64_MIN:
            check.full_range(kind)

            def convert_all(words: kernels.Words) -> Array:
                return kernels.integers_to(kernels.words64(words).view(np.int64), kind)

            return self._draw(shape, kind, 2, convert_all)
        low, last = check.integer_bounds(kind, low, high)
        span = last - low + 1
        wide = span >= _WIDE_RANGE

        def convert(words: kernels.Words) -> Array:
            words = kernels.words64(words) if wide else words
            offsets = (words % np.uint64(span)).view(np.int64)
            return kernels.integers_to(offsets + np.int64(low), kind)

        return self._draw(shape, kind, 2 if wide else 1, convert)

    def random(self, shape: Shape, dtype: DTypeLike | CoreDtype) -> Array:
        """Return integers as `Tensor.random_()` without a range.

        They are the non-negative ones of an integer type, those in [0, 2**significand bits] of a
        floating type.
        """
        kind = numpy_dtype(dtype)
        if kind.kind == "b":
            span = 2
        elif kind.kind in "iu":
            span = int(np.iinfo(kind).max) + 1
        else:
            span = 2 ** check.DIGITS[check.require_floating(kind, "random_").name] + 1
        wide = kind.itemsize == 8

        def convert(words: kernels.Words) -> Array:
            words = kernels.words64(words) if wide else words
            return kernels.integers_to((words % np.uint64(span)).view(np.int64), kind)

        return self._draw(shape, kind, 2 if wide else 1, convert)

    def randperm(self, n: int, dtype: DTypeLike | CoreDtype = np.int64) -> Array:
        """Return a random permutation of 0 ... n - 1, shape [n], as `torch.randperm`.

        Raises RuntimeError for a negative `n` or one that `dtype` does not hold.
        """
        kind = numpy_dtype(dtype)
        check.permutation(n, kind)
        if n >= _LARGE_PERMUTATION:
            with self._lock:
                return kernels.integers_to(self._inside_out(n), kind)
        with self._lock:
            words = self._words(max(n - 1, 0))
        targets = np.arange(n)
        targets[:-1] += (words % np.arange(n, 1, -1, dtype=np.uint64)).view(np.int64)
        return kernels.integers_to(kernels.shuffle(targets), kind)

    def bernoulli(self, p: float, shape: Shape, dtype: DTypeLike | CoreDtype = np.float32) -> Array:
        """Return ones with probability `p`, else zeros, as `Tensor.bernoulli_(p)` with a number."""
        kind = check.require_real(numpy_dtype(dtype), "bernoulli_")
        if not 0.0 <= p <= 1.0:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return self._draw(shape, kind, 2, lambda w: (kernels.uniform53(w) < p).astype(kind))

    def bernoulli_array(self, p: Array, dtype: DTypeLike | CoreDtype | None = None) -> Array:
        """Return a one or a zero for each probability in `p`, as `torch.bernoulli(p)`.

        `p` is floating-point; the result has its shape and, unless `dtype` is given, its dtype.
        Raises RuntimeError for a probability outside [0, 1].
        """
        check.require_floating(p.dtype, "bernoulli")
        wide = p if p.dtype == np.float64 else p.astype(np.float32)
        if not np.all((wide >= 0) & (wide <= 1)):
            raise RuntimeError(
                "Expected p_in >= 0 && p_in <= 1 to be true: bernoulli takes probabilities in "
                f"[0, 1], got values from {wide.min():g} to {wide.max():g}"
            )
        kind = p.dtype if dtype is None else check.require_real(numpy_dtype(dtype), "bernoulli_")
        return (self.uniform(p.shape, wide.dtype) < wide).astype(kind)

    def geometric(self, p: float, shape: Shape, dtype: DTypeLike | CoreDtype = np.float32) -> Array:
        """Return the number of trials to the first success, as `Tensor.geometric_`; 0 < p < 1."""
        kind = numpy_dtype(dtype)
        if kind.kind not in "iu":
            check.require_floating(kind, "geometric_")
        if not 0.0 < p < 1.0:
            raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")

        def convert(words: kernels.Words) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                trials = np.ceil(np.log(kernels.uniform53(words)) / math.log1p(-p))
                if kind.kind in "iu":
                    return trials.astype(np.int64).astype(kind)
            return kernels.narrow(trials, kind)

        return self._draw(shape, kind, 2, convert)

    def multinomial(self, p: Array, num_samples: int, replacement: bool = False) -> Array:
        """Return indices drawn with probabilities proportional to `p`, as `torch.multinomial`.

        `p` is floating-point, [categories] or [rows, categories], and need not sum to one. Returns
        int64 [num_samples] or [rows, num_samples]. Without replacement, quotients that are equal
        (likely only among zero probabilities and in half precision) come in the order of their
        indices; PyTorch leaves their order open. Raises RuntimeError for invalid arguments.
        """
        check.multinomial(p, num_samples, replacement)
        if p.shape[:-1] == (0,):
            return np.empty((0, num_samples), np.int64)
        if replacement and num_samples > 1:
            cumulative = kernels.cumulative(p)
            points = self.uniform((*p.shape[:-1], num_samples), np.float64)
            if p.ndim == 1:
                return np.searchsorted(cumulative, points)
            rows = [np.searchsorted(*row) for row in zip(cumulative, points, strict=True)]
            return np.stack(rows)
        check.weights(p)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            race = (p / self.exponential(p.shape, p.dtype)).astype(np.float64)
        if num_samples == 1:
            return np.argmax(race, axis=-1, keepdims=True)
        return np.argsort(-race, axis=-1, kind="stable")[..., :num_samples].copy()

    def _words(self, n: int) -> kernels.Words:
        if n:
            self._next_unused = check.STATE_WORDS
        return self._bits.random_raw(n)

    def _draw(self, shape: Shape, kind: np.dtype, per_element: int, convert: Convert) -> Array:
        result = np.empty(shape, kind)
        with self._lock:
            self._fill(result.reshape(-1), per_element, convert)
        return result

    def _fill(self, flat: Array, per_element: int, convert: Convert) -> None:
        for start in range(0, flat.size, _BLOCK):
            part = flat[start : start + _BLOCK]
            part[:] = convert(self._words(per_element * part.size))

    def _fill_normal(self, flat: Array, mean: float, std: float) -> None:
        kind, per = flat.dtype, _words_for(flat.dtype)
        make = kernels.normal_blocks64 if kind == np.float64 else kernels.normal_blocks32

        def convert(words: kernels.Words) -> Array:
            return kernels.narrow(make(words, mean, std), kind)

        rest = flat.size % 16
        self._fill(flat[: flat.size - rest], per, convert)
        if rest:
            if kind.itemsize >= 4:  # the wider types draw for the rest before they redo the last 16
                self._words(per * rest)
            flat[-16:] = convert(self._words(per * 16))

    def _serial_normal(self, n: int) -> kernels.Float64:
        """Return `n` standard normal numbers, the kept one first, and keep a spare one."""
        with self._lock:
            kept = [] if self._kept_normal is None or n == 0 else [self._kept_normal]
            fresh = kernels.normal_pairs(self._words((n - len(kept) + 1) // 2 * 4))
            values = np.concatenate([kept, fresh])
            if n:
                self._kept_normal = float(values[n]) if values.size > n else None
        return values[:n]

    def _inside_out(self, n: int) -> NDArray[np.int64]:
        """Return a permutation for large `n`: each i swaps in at a place in [0, i]."""
        result = np.arange(n)
        view = memoryview(result.data)
        for start in range(0, n, _BLOCK):
            bounds = np.arange(start + 1, min(start + _BLOCK, n) + 1, dtype=np.uint64)
            places = kernels.words64(self._words(2 * bounds.size)) % bounds
            for i, place in enumerate(places.tolist(), start):
                view[i] = view[place]
                view[place] = i
        return result


def _restore(state: NDArray[np.uint8]) -> Stream:
    stream = Stream()
    stream.set_state(state)
    return stream


def _words_for(kind: np.dtype) -> int:
    return 2 if kind == np.float64 else 1


def _uniform_of(kind: np.dtype, low: float, high: float) -> Convert:
    """Return what makes words into numbers of type `kind` in [low, high)."""
    unit = low == 0.0 and high == 1.0
    if unit and kind == np.float64:
        return kernels.uniform53
    if unit and kind == np.float32:
        return kernels.uniform24
    wide = np.float64 if kind == np.float64 else np.float32
    first, last = wide(low), wide(high)
    factor, addend = float(last - first), float(first)

    def convert(words: kernels.Words) -> Array:
        if kind == np.float64:
            values: Array = kernels.fused64(kernels.uniform53(words), factor, addend)
        else:
            values = kernels.fused32(kernels.uniform24(words), factor, addend)
        result = values.astype(kind, copy=False)
        # Rounding may have reached the excluded bound.
        np.copyto(result, first.astype(kind), where=result == last.astype(kind))
        return result

    return convert


def _with_parts(shape: Shape) -> tuple[int, ...]:
    return (*np.atleast_1d(shape), 2)


def _part(kind: np.dtype) -> np.dtype:
    return np.dtype(np.float64 if kind == np.complex128 else np.float32)


def _as_complex(parts: Array, kind: np.dtype) -> Array:
    return parts.view(kind)[..., 0]


default_stream = Stream()
