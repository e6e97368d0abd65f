"""The random stream draws what PyTorch draws and leaves the state that PyTorch leaves."""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from disttorch.core import dtypes
from disttorch.core.stream import DEFAULT_SEED, Stream

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
        reason="the stream follows PyTorch's kernels for AVX2, with fused multiply-adds",
    ),
]

SEEDS = [0, 1, 7, 42, -1, 2**32 - 1, 2**32, 123456789012, 2**64 - 1]
SIZES = [0, 1, 2, 3, 7, 15, 16, 17, 24, 31, 32, 33, 100, 623, 624, 625, 1001]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]


class Pair:
    """A PyTorch generator and a stream that are meant to stay in step."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.stream = Stream(seed)

    def check_state(self, what: object) -> None:
        expected = self.generator.get_state().numpy()
        assert np.array_equal(self.stream.get_state(), expected), f"state differs after {what}"


def as_bits(value: Any) -> np.ndarray:
    """Return the bytes of a tensor or array, [..., itemsize]."""
    if isinstance(value, torch.Tensor):
        flat = value.clone(memory_format=torch.contiguous_format).view(-1)
        return flat.view(torch.uint8).numpy().reshape(-1, value.element_size())
    value = np.ascontiguousarray(value).reshape(-1)
    return value.view(np.uint8).reshape(-1, value.itemsize)


def assert_same(mine: np.ndarray, theirs: Any, what: object) -> None:
    assert tuple(mine.shape) == tuple(theirs.shape), what
    different = (as_bits(mine) != as_bits(theirs)).any(axis=1)
    assert not different.any(), f"{what}: {different.sum()} of {different.size} values differ"


@functools.cache
def draws_from_generator(operation: str) -> bool:
    """Whether PyTorch takes `operation` from the generator here, not from a stream of MKL."""
    generator = torch.Generator().manual_seed(0)
    target = torch.empty(8)
    if operation == "bernoulli":
        target.bernoulli_(0.5, generator=generator)
    else:
        target.exponential_(generator=generator)
    return generator.get_state()[16].item() == 16


# Each entry: what PyTorch does to an empty tensor of n elements, what the stream does, the dtypes.
def _filled(method: str, *arguments: Any) -> Callable[..., Any]:
    def draw(n: int, name: str, generator: Any) -> Any:
        target = torch.empty(n, dtype=getattr(torch, name))
        return getattr(target, method)(*arguments, generator=generator)

    return draw


OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[str]]] = {
    "rand": (
        lambda n, d, g: torch.rand(n, dtype=getattr(torch, d), generator=g),
        lambda n, d, s: s.uniform((n,), dtypes.BY_NAME[d]),
        [*FLOATS, "complex64", "complex128"],
    ),
    "uniform": (
        _filled("uniform_", -0.31, 0.72),
        lambda n, d, s: s.uniform((n,), dtypes.BY_NAME[d], -0.31, 0.72),
        FLOATS,
    ),
    "uniform_narrow": (
        _filled("uniform_", 100.0, 100.25),
        lambda n, d, s: s.uniform((n,), dtypes.BY_NAME[d], 100.0, 100.25),
        FLOATS,
    ),
    "randn": (
        lambda n, d, g: torch.randn(n, dtype=getattr(torch, d), generator=g),
        lambda n, d, s: s.normal((n,), dtypes.BY_NAME[d]),
        [*FLOATS, "complex64", "complex128"],
    ),
    "normal": (
        _filled("normal_", 3.0, 0.7),
        lambda n, d, s: s.normal((n,), dtypes.BY_NAME[d], 3.0, 0.7),
        FLOATS,
    ),
    "normal_strided": (
        lambda n, d, g: torch.empty(2 * n, dtype=getattr(torch, d))[::2].normal_(1, 2, generator=g),
        lambda n, d, s: s.normal((n,), dtypes.BY_NAME[d], 1.0, 2.0, contiguous=False),
        FLOATS,
    ),
    "log_normal": (
        _filled("log_normal_", 0.3, 0.6),
        lambda n, d, s: s.log_normal((n,), dtypes.BY_NAME[d], 0.3, 0.6),
        FLOATS,
    ),
    "cauchy": (
        _filled("cauchy_", 0.3, 0.6),
        lambda n, d, s: s.cauchy((n,), dtypes.BY_NAME[d], 0.3, 0.6),
        FLOATS,
    ),
    "geometric": (
        _filled("geometric_", 0.3),
        lambda n, d, s: s.geometric(0.3, (n,), dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS],
    ),
    "random": (
        _filled("random_"),
        lambda n, d, s: s.random((n,), dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS, "bool"],
    ),
    "randint": (
        _filled("random_", 3, 100),
        lambda n, d, s: s.randint(3, 100, (n,), dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS],
    ),
    "randint_wide": (
        _filled("random_", -(2**20), 2**40),
        lambda n, d, s: s.randint(-(2**20), 2**40, (n,), dtypes.BY_NAME[d]),
        ["int64", "float64"],
    ),
    "randint_from": (
        _filled("random_", 5, None),
        lambda n, d, s: s.randint(5, None, (n,), dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS],
    ),
    "randint_full": (
        _filled("random_", -(2**63), None),
        lambda n, d, s: s.randint(-(2**63), None, (n,), dtypes.BY_NAME[d]),
        ["int64", "float64", "float32", "bfloat16"],
    ),
    "randperm": (
        lambda n, d, g: torch.randperm(n % 128, dtype=getattr(torch, d), generator=g),
        lambda n, d, s: s.randperm(n % 128, dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS],
    ),
    "bernoulli_array": (
        lambda n, d, g: torch.bernoulli(torch.linspace(0, 1, n, dtype=getattr(torch, d)), generator=g),
        lambda n, d, s: s.bernoulli_array(linspace(n, d)),
        FLOATS,
    ),
    "multinomial_replacement": (
        lambda n, d, g: torch.multinomial(weights(n, d), 37, True, generator=g),
        lambda n, d, s: s.multinomial(to_numpy(weights(n, d)), 37, True),
        FLOATS,
    ),
}

FROM_GENERATOR = {
    "bernoulli": (
        _filled("bernoulli_", 0.3),
        lambda n, d, s: s.bernoulli(0.3, (n,), dtypes.BY_NAME[d]),
        [*FLOATS, *INTEGERS, "bool"],
    ),
    "exponential": (
        _filled("exponential_", 1.7),
        lambda n, d, s: s.exponential((n,), dtypes.BY_NAME[d], 1.7),
        FLOATS,
    ),
    "multinomial_one": (
        lambda n, d, g: torch.multinomial(weights(n, d), 1, generator=g),
        lambda n, d, s: s.multinomial(to_numpy(weights(n, d)), 1),
        FLOATS,
    ),
    "multinomial": (
        lambda n, d, g: torch.multinomial(weights(n, d), n // 2 + 1, generator=g),
        lambda n, d, s: s.multinomial(to_numpy(weights(n, d)), n // 2 + 1),
        ["float64"],
    ),
}
for _name, _entry in FROM_GENERATOR.items():
    if draws_from_generator("bernoulli" if _name == "bernoulli" else "exponential"):
        OPERATIONS[_name] = _entry


def to_numpy(tensor: Any) -> np.ndarray:
    name = str(tensor.dtype).removeprefix("torch.")
    return as_bits(tensor).reshape(-1).view(dtypes.BY_NAME[name].numpy).reshape(tensor.shape)


def linspace(n: int, name: str) -> np.ndarray:
    return to_numpy(torch.linspace(0, 1, n, dtype=getattr(torch, name)))


def weights(n: int, name: str) -> Any:
    return (torch.arange(max(n, 1)) % 7 + 1).to(getattr(torch, name))


def compare(pair: Pair, operation: str, n: int, name: str) -> None:
    theirs, mine, _ = OPERATIONS[operation]
    what = (operation, n, name)
    expected = theirs(n, name, pair.generator)
    assert_same(mine(n, name, pair.stream), expected, what)
    pair.check_state(what)


CASES = [(operation, name) for operation, entry in OPERATIONS.items() for name in entry[2]]


@pytest.mark.parametrize(("operation", "name"), CASES)
def test_every_operation(operation: str, name: str) -> None:
    for seed in SEEDS:
        pair = Pair(seed)
        for n in SIZES:
            compare(pair, operation, n, name)


@pytest.mark.parametrize("seed", range(20))
def test_chains_of_mixed_operations(seed: int) -> None:
    choose = random.Random(seed)
    pair = Pair(seed)
    for _ in range(60):
        operation, name = choose.choice(CASES)
        compare(pair, operation, choose.choice(SIZES), name)


@pytest.mark.parametrize("name", FLOATS)
def test_large_arrays(name: str) -> None:
    pair = Pair(5)
    for operation in ("rand", "uniform", "normal", "log_normal", "cauchy"):
        compare(pair, operation, 200_003, name)


def test_large_integers() -> None:
    pair = Pair(5)
    for operation in ("randint", "randint_wide", "random", "geometric"):
        compare(pair, operation, 200_003, "int64")


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 60_000, 300_000])
def test_randperm(n: int) -> None:
    pair = Pair(n)
    for _ in range(3):
        assert_same(pair.stream.randperm(n), torch.randperm(n, generator=pair.generator), n)
        pair.check_state(n)


@pytest.mark.parametrize("name", [*FLOATS, "int32", "int64"])
@pytest.mark.parametrize("span", [1, 2**27, 2**28 - 1, 2**28, 2**28 + 1, 2**31 - 1])
@pytest.mark.filterwarnings("ignore:.*is out of bounds \\[-:UserWarning")
def test_randint_around_the_wide_range(name: str, span: int) -> None:
    if name == "float16" and span > 65504:
        pytest.skip("beyond float16")
    pair = Pair(span)
    for low in (0, -3, 5):
        high = min(low + span, 2**31 - 1)
        size = {"size": (50,), "dtype": getattr(torch, name), "generator": pair.generator}
        expected = torch.randint(low, high, **size)
        assert_same(pair.stream.randint(low, high, (50,), dtypes.BY_NAME[name]), expected, low)
        pair.check_state((low, high))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.filterwarnings("ignore:.*is out of bounds \\[-:UserWarning")
def test_randint_bounds_that_a_floating_type_rounds(name: str) -> None:
    choose = random.Random(3)
    largest = 15 if name == "float16" else 62
    for _ in range(200):
        low = choose.randint(-(2 ** choose.randint(1, largest)), 2 ** choose.randint(1, largest))
        high = low + choose.randint(1, 2 ** choose.randint(1, largest))
        if max(abs(low), abs(high)) > (65504 if name == "float16" else 2**62):
            continue
        pair = Pair(low)
        try:
            expected = torch.empty(20, dtype=getattr(torch, name)).random_(low, high, generator=pair.generator)
        except RuntimeError:
            with pytest.raises(RuntimeError, match="casted to dtype"):
                pair.stream.randint(low, high, (20,), dtypes.BY_NAME[name])
            continue
        found = pair.stream.randint(low, high, (20,), dtypes.BY_NAME[name])
        assert_same(found, expected, (low, high))
        pair.check_state((low, high))


@pytest.mark.parametrize("name", FLOATS)
def test_uniform_bounds_of_every_size(name: str) -> None:
    choose = random.Random(4)
    scale = 4 if name == "float16" else 30
    for _ in range(100):
        low = choose.gauss(0, 1) * 10 ** choose.uniform(-scale, scale)
        high = low + abs(choose.gauss(0, 1)) * 10 ** choose.uniform(-scale, scale)
        if name == "float16" and max(abs(low), abs(high)) > 3e4:
            continue
        pair = Pair(1)
        target = torch.empty(300, dtype=getattr(torch, name))
        expected = target.uniform_(low, high, generator=pair.generator)
        found = pair.stream.uniform((300,), dtypes.BY_NAME[name], low, high)
        assert_same(found, expected, (low, high))


@pytest.mark.parametrize("std", [0.0, 1e-300, 1e-30, 0.3, 2.0, 1e30, 1e300, float("inf")])
@pytest.mark.parametrize("mean", [0.0, -0.1, 1e20])
@pytest.mark.parametrize("name", FLOATS)
def test_normal_of_every_size(name: str, mean: float, std: float) -> None:
    pair = Pair(2)
    for n in (5, 64):
        target = torch.empty(n, dtype=getattr(torch, name))
        expected = target.normal_(mean, std, generator=pair.generator)
        found = pair.stream.normal((n,), dtypes.BY_NAME[name], mean, std)
        same = to_numpy(expected).astype(np.float64)
        np.testing.assert_array_equal(found.astype(np.float64), same)
        pair.check_state((mean, std, n))


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_multinomial_of_rows(name: str, replacement: bool) -> None:
    if not replacement and not draws_from_generator("exponential"):
        pytest.skip("this build of PyTorch draws exponential numbers from MKL")
    p = torch.rand(6, 40, dtype=getattr(torch, name), generator=torch.Generator().manual_seed(1))
    p[:, ::5] = 0
    for seed in range(20):
        pair = Pair(seed)
        for samples in (1, 2, 9):
            expected = torch.multinomial(p, samples, replacement, generator=pair.generator)
            assert_same(pair.stream.multinomial(to_numpy(p), samples, replacement), expected, seed)
            pair.check_state((seed, samples))


def test_bernoulli_array_into_another_dtype() -> None:
    pair = Pair(0)
    p = torch.linspace(0, 1, 50)
    expected = torch.empty(50, dtype=torch.int32).bernoulli_(p, generator=pair.generator)
    assert_same(pair.stream.bernoulli_array(p.numpy(), np.int32), expected, "int32 target")


def test_states_travel_both_ways() -> None:
    for draws in (0, 1, 5, 623, 624, 625):
        pair = Pair(9)
        pair.stream.normal((3,), "float32")
        pair.stream.uniform((draws,), "float32")
        pair.generator.set_state(torch.from_numpy(pair.stream.get_state()))
        pair.check_state(draws)
        compare(pair, "normal", 5, "float64")
        compare(pair, "rand", 700, "float32")
        theirs = torch.Generator().manual_seed(draws)
        torch.randn(5, generator=theirs)
        pair.stream.set_state(theirs.get_state().numpy())
        pair.generator.set_state(theirs.get_state())
        pair.check_state("set_state")
        compare(pair, "normal", 5, "float64")


@pytest.mark.parametrize("seed", [0, 1, -1, -2, -(2**63), 2**63, 2**64 - 1, np.int64(5), True])
def test_seeds(seed: int) -> None:
    state = torch.get_rng_state()
    try:
        expected = torch.manual_seed(seed)
        stream = Stream(0).manual_seed(seed)
        assert stream.initial_seed() == expected.initial_seed()
        assert np.array_equal(stream.get_state(), expected.get_state().numpy())
    finally:
        torch.set_rng_state(state)


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64])
def test_seeds_out_of_range(seed: int) -> None:
    messages = []
    for generator in (torch.Generator(), Stream()):
        with pytest.raises(ValueError, match="Overflow when unpacking long long") as error:
            generator.manual_seed(seed)
        messages.append(type(error.value))
    assert messages[0] is messages[1]


def test_default_seed() -> None:
    assert torch.Generator().initial_seed() == DEFAULT_SEED
    assert np.array_equal(Stream().get_state(), torch.Generator().get_state().numpy())


def test_random64_is_random_() -> None:
    pair = Pair(3)
    for _ in range(10):
        expected = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=pair.generator)
        assert pair.stream.random64() == expected.item() % 2**64


def test_two_million_normals_are_equal() -> None:
    generator = torch.Generator().manual_seed(11)
    expected = torch.randn(2_000_000, generator=generator).numpy()
    assert zlib.crc32(Stream(11).normal((2_000_000,), "float32")) == zlib.crc32(expected)
