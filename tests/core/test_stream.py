"""The random stream against numbers recorded from PyTorch 2.13.0 (CPU, x86-64, AVX2)."""

from __future__ import annotations

import copy
import math
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from disttorch.core import dtypes, stream, stream_kernels
from disttorch.core.stream import Stream


def crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


SMALL: dict[str, tuple[Callable[[Stream], np.ndarray], list]] = {
    "uniform": (
        lambda s: s.uniform(4, "float32"),
        [0.49625658988952637, 0.7682217955589294, 0.08847743272781372, 0.13203048706054688],
    ),
    "randint": (lambda s: s.randint(0, 10, 10), [4, 9, 3, 0, 3, 9, 7, 3, 7, 3]),
    "randint_wide": (
        lambda s: s.randint(-5, 2**40, 3),
        [741234585336, 506077272957, 291397093751],
    ),
    "randperm": (lambda s: s.randperm(10), [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]),
    "random_uint8": (lambda s: s.random(3, "uint8"), [172, 47, 117]),
    "random_int8": (lambda s: s.random(3, "int8"), [44, 47, 117]),
    "random_int16": (lambda s: s.random(3, "int16"), [2732, 10799, 9845]),
    "random_int32": (lambda s: s.random(3, "int32"), [209652396, 398764591, 924231285]),
    "random_int64": (
        lambda s: s.random(3, "int64"),
        [900450186894289455, 3969543146641149120, 1895649597198586619],
    ),
    "random_bool": (lambda s: s.random(3, "bool"), [False, True, True]),
    "random_float16": (lambda s: s.random(3, "float16"), [1277, 1017, 1661]),
    "random_bfloat16": (lambda s: s.random(3, dtypes.bfloat16), [149, 179, 47]),
    "random_float32": (lambda s: s.random(3, "float32"), [8325664, 12888472, 1484222]),
    "random_float64": (
        lambda s: s.random(3, "float64"),
        [8737460674930124, 6375474555111176, 4137753702977065],
    ),
    "bernoulli": (lambda s: s.bernoulli(0.3, 10, "int64"), [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]),
    "bernoulli_array": (
        lambda s: s.bernoulli_array(np.linspace(0, 1, 10, dtype=np.float32)),
        [0, 0, 1, 1, 1, 0, 1, 0, 1, 1],
    ),
    "geometric": (lambda s: s.geometric(0.2, 5), [1, 2, 4, 1, 2]),
    "multinomial": (lambda s: s.multinomial(np.arange(1.0, 9.0), 6), [6, 7, 2, 4, 5, 1]),
    "multinomial_replacement": (
        lambda s: s.multinomial(np.arange(1.0, 9.0, dtype=np.float32), 6, True),
        [7, 6, 5, 7, 6, 7],
    ),
    "multinomial_one_of_each_row": (
        lambda s: s.multinomial(np.arange(1.0, 9.0).reshape(2, 4), 1),
        [[2], [2]],
    ),
    "multinomial_rows": (
        lambda s: s.multinomial(np.arange(1.0, 9.0).reshape(2, 4), 3, True),
        [[3, 3, 2], [3, 2, 3]],
    ),
}

# These depend on the C library's logarithm, sine, cosine, tangent and exponential.
CLOSE: dict[str, tuple[Callable[[Stream], np.ndarray], list[float]]] = {
    "normal_pairs": (
        lambda s: s.normal(7, "float64"),
        [
            1.5409961082440433, -0.2934289057609464, -2.1787893820745574, 0.5684312772806678,
            -1.084522342424021, -1.3985953953708767, 0.4033468476292993,
        ],
    ),
    "normal_blocks": (
        lambda s: s.normal(17, "float64")[[0, 7, 8, 15, 16]],
        [
            -2.310411800234176, -0.830510051008449, 0.23871805816817063, -0.8910030351707375,
            0.6748575435940039,
        ],
    ),
    "exponential": (
        lambda s: s.exponential(3, "float64", 1.5),
        [2.338884124471761, 0.8202565094531178, 0.41002939592934096],
    ),
    "cauchy": (
        lambda s: s.cauchy(3, "float64", 0.5, 2.0),
        [21.695458653364593, 2.0295345192117997, 0.24340131583365188],
    ),
    "log_normal": (
        lambda s: s.log_normal(3, "float64", 0.5, 0.25),
        [2.4235878553037287, 1.5321052554493706, 0.9562868625441218],
    ),
}  # fmt: skip

LARGE: dict[str, tuple[Callable[[Stream], np.ndarray], int]] = {
    "rand_float16": (lambda s: s.uniform(1000, "float16"), 1246593436),
    "rand_bfloat16": (lambda s: s.uniform(1000, dtypes.bfloat16), 1445740236),
    "rand_float32": (lambda s: s.uniform(1000, "float32"), 424614700),
    "rand_float64": (lambda s: s.uniform(1000, "float64"), 161633299),
    "uniform_float16": (lambda s: s.uniform(1000, "float16", -0.3, 0.71), 3493728799),
    "uniform_bfloat16": (lambda s: s.uniform(1000, dtypes.bfloat16, -0.3, 0.71), 1464211400),
    "uniform_float32": (lambda s: s.uniform(1000, "float32", -0.3, 0.71), 1469563588),
    "uniform_float64": (lambda s: s.uniform(1000, "float64", -0.3, 0.71), 2845960722),
    "randn_16_float16": (lambda s: s.normal(16, "float16"), 3779733683),
    "randn_33_float16": (lambda s: s.normal(33, "float16"), 154118434),
    "randn_33_bfloat16": (lambda s: s.normal(33, dtypes.bfloat16), 105354806),
    "randn_1000_bfloat16": (lambda s: s.normal(1000, dtypes.bfloat16), 1064892347),
    "randn_16_float32": (lambda s: s.normal(16, "float32"), 928954846),
    "randn_33_float32": (lambda s: s.normal(33, "float32"), 3132370809),
    "randn_1000_float32": (lambda s: s.normal(1000, "float32"), 682472891),
    "normal_float16": (lambda s: s.normal(1000, "float16", 3.0, 0.7), 3953858889),
    "normal_float32": (lambda s: s.normal(1000, "float32", 3.0, 0.7), 3682682982),
    "random_int32": (lambda s: s.random(1000, "int32"), 3029666676),
    "random_int64": (lambda s: s.random(1000, "int64"), 3705461758),
    "random_float32": (lambda s: s.random(1000, "float32"), 2017465553),
    "random_bool": (lambda s: s.random(1000, "bool"), 2891034214),
    "randint": (lambda s: s.randint(0, 1000, 1000), 2711642404),
    "randint_wide": (lambda s: s.randint(0, 2**40, 1000), 2867200918),
    "randperm": (lambda s: s.randperm(60_000), 2028659633),
    "randperm_int32": (lambda s: s.randperm(1000, "int32"), 734064792),
    "bernoulli": (lambda s: s.bernoulli(0.3, 1000), 2862730983),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_arrays_are_those_of_pytorch(name: str) -> None:
    draw, expected = SMALL[name]
    np.testing.assert_array_equal(draw(Stream(0)).astype(np.float64), np.array(expected, float))


@pytest.mark.parametrize("name", CLOSE)
def test_float64_transforms_are_those_of_pytorch(name: str) -> None:
    draw, expected = CLOSE[name]
    np.testing.assert_allclose(draw(Stream(0)), expected, rtol=1e-15)


@pytest.mark.parametrize("name", LARGE)
def test_large_arrays_have_the_bits_of_pytorch(name: str) -> None:
    draw, expected = LARGE[name]
    assert crc(draw(Stream(7))) == expected


def test_default_seed() -> None:
    expected = [0.267295241355896, 0.8725283145904541, 0.3352888226509094]
    assert Stream().uniform(3, "float32").tolist() == expected
    assert Stream().initial_seed() == 67280421310721


def test_negative_seed() -> None:
    source = Stream(-2)
    assert source.initial_seed() == 2**64 - 2
    assert source.uniform(2, "float32").tolist() == [0.2907348871231079, 0.07334184646606445]


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match="Overflow when unpacking long long"):
        Stream(seed)


def test_seed_must_be_an_integer() -> None:
    with pytest.raises(TypeError):
        Stream(1.5)  # type: ignore[arg-type]


def test_seed_is_not_deterministic() -> None:
    source = Stream(0)
    first, second = source.seed(), source.seed()
    assert first != second
    assert source.initial_seed() == second
    assert np.array_equal(source.get_state(), Stream(second).get_state())


def test_state_has_the_bytes_of_pytorch() -> None:
    source = Stream(0)
    assert source.get_state().shape == (5056,)
    found = [crc(source.get_state())]
    for words in (3, 621, 1):
        source.uniform(words, "float32")
        found.append(crc(source.get_state()))
    assert found == [1831558866, 3358612806, 2542112144, 2316850221]


def test_state_holds_the_kept_normal() -> None:
    source = Stream(0)
    source.uniform(625, "float32")
    source.normal(3, "float32")
    data = source.get_state().tobytes()
    assert struct.unpack_from("<QiiQ", data) == (0, 616, 1, 9)
    x, kept, rho, valid = struct.unpack_from("<dddi", data, 24 + 8 * 624)
    assert (x, rho, valid) == (0.0, 0.0, 1)
    assert kept == pytest.approx(-0.2827991862827748, rel=1e-15)


@pytest.mark.parametrize("drawn", [0, 1, 623, 624, 625])
def test_state_round_trip(drawn: int) -> None:
    source = Stream(3)
    source.normal(3, "float64")
    source.uniform(drawn, "float32")
    state = source.get_state()
    for copied in (source.clone(), copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert np.array_equal(copied.get_state(), state)
        assert np.array_equal(copied.normal(3, "float64"), source.clone().normal(3, "float64"))
    other = Stream(9)
    other.set_state(state)
    assert other.initial_seed() == 3
    assert np.array_equal(other.uniform(700, "float64"), source.uniform(700, "float64"))
    assert np.array_equal(other.get_state(), source.get_state())


def test_float_normal_of_a_foreign_state_is_preserved() -> None:
    state = Stream(3).get_state()
    state[5048:5053] = [0, 0, 128, 63, 1]
    source = Stream()
    source.set_state(state)
    assert np.array_equal(source.get_state(), state)


def test_manual_seed_forgets_the_kept_normal() -> None:
    source = Stream(3)
    source.normal(3, "float64")
    assert np.array_equal(source.manual_seed(3).get_state(), Stream(3).get_state())


def broken_state(**fields: int) -> np.ndarray:
    from disttorch.core.stream_checks import STATE

    record = Stream(0).get_state().view(STATE)
    for name, value in fields.items():
        record[name] = value
    return record.view(np.uint8)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros(10, np.uint8), RuntimeError, "of size 5056 .* size to be 10"),
        (np.zeros(5056, np.int8), TypeError, "torch.ByteTensor.*got int8"),
        (bytes(5056), TypeError, "torch.ByteTensor.*got bytes"),
        (np.zeros(5056, np.uint8), RuntimeError, "Invalid mt19937 state"),
        (broken_state(left=5, next=3), RuntimeError, "Invalid mt19937 state"),
        (broken_state(next=625), RuntimeError, "Invalid mt19937 state"),
        (broken_state(left=625), RuntimeError, "Invalid mt19937 state"),
    ],
)
def test_broken_states(state: Any, error: type[Exception], message: str) -> None:
    source = Stream(4)
    with pytest.raises(error, match=message):
        source.set_state(state)
    assert np.array_equal(source.get_state(), Stream(4).get_state())


def test_serial_normals_use_up_the_kept_one() -> None:
    whole = Stream(1).normal(40, "float64", contiguous=False)
    source = Stream(1)
    parts = [source.normal(n, "float64") for n in (1, 2, 0, 5, 7, 15, 10)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(source.get_state(), whole_state_after(40))


def whole_state_after(n: int) -> np.ndarray:
    source = Stream(1)
    source.normal(n, "float64", contiguous=False)
    return source.get_state()


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_normal_moments(name: str) -> None:
    values = Stream(2).normal((200, 500), name, 2.0, 3.0).astype(np.float64)
    assert values.mean() == pytest.approx(2.0, abs=0.05)
    assert values.std() == pytest.approx(3.0, abs=0.05)


def test_single_precision_normals_are_accurate() -> None:
    """The polynomials agree with Box and Muller's formula in float64."""
    words = np.random.MT19937(1).random_raw(1 << 16) & np.uint64(0xFFFFFFFF)
    u = ((words & np.uint64(0xFFFFFF)) / 2.0**24).reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2.0 * np.log(1.0 - u[:, 0])), 2.0 * np.pi * u[:, 1]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    found = stream_kernels.normal_blocks32(words, 0.0, 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), 5, (2, 3, 4), np.int64(3)])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "complex64", "complex128"])
def test_shapes_and_dtypes(shape: Any, name: str) -> None:
    kind = dtypes.BY_NAME[name]
    expected = np.empty(shape).shape
    for found in (Stream().uniform(shape, kind), Stream().normal(shape, kind)):
        assert found.shape == expected
        assert found.dtype == kind.numpy


def test_complex_numbers_are_pairs() -> None:
    found = Stream(3).uniform((4, 5), "complex64", -1.0, 2.0)
    pairs = Stream(3).uniform((4, 5, 2), "float32", -1.0, 2.0)
    assert np.array_equal(found.view(np.float32).reshape(4, 5, 2), pairs)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_excludes_the_upper_bound(name: str) -> None:
    kind = dtypes.BY_NAME[name]
    for low, high in ((0.0, 1.0), (1000.0, 1008.0)):
        found = Stream(1).uniform(20_000, kind, low, high).astype(np.float64)
        assert low <= found.min()
        assert found.max() < high


def test_equal_bounds() -> None:
    assert Stream().uniform(3, "float32", 0.1, 0.1).tolist() == [np.float32(0.1)] * 3


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257, 3000])
def test_shuffle_is_the_loop_of_swaps(n: int) -> None:
    generator = np.random.default_rng(n)
    for _ in range(20):
        targets = generator.integers(np.arange(n), n)
        expected = list(range(n))
        for i, target in enumerate(targets):
            expected[i], expected[target] = expected[target], expected[i]
        assert stream_kernels.shuffle(targets).tolist() == expected


def test_large_permutations_are_inside_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LARGE_PERMUTATION", 100)
    monkeypatch.setattr(stream, "_BLOCK", 64)
    source, expected = Stream(5), list(range(300))
    for i in range(300):
        place = source.random64() % (i + 1)
        expected[i] = expected[place]
        expected[place] = i
    other = Stream(5)
    assert other.randperm(300).tolist() == expected
    assert np.array_equal(other.get_state(), source.get_state())


@pytest.mark.parametrize("bits", [24, 53])
def test_fused_multiply_add_rounds_once(bits: int) -> None:
    generator = np.random.default_rng(bits)
    kind = np.float32 if bits == 24 else np.float64
    fused = stream_kernels.fused32 if bits == 24 else stream_kernels.fused64
    for _ in range(100):
        factor = float(kind(generator.normal() * 2.0 ** generator.integers(-20, 20)))
        addend = float(kind(generator.normal() * 2.0 ** generator.integers(-40, 40)))
        x = generator.normal(size=30).astype(kind)
        exact = [Fraction(float(v)) * Fraction(factor) + Fraction(addend) for v in x]
        assert fused(x, factor, addend).tolist() == [rounded(value, bits) for value in exact]


def rounded(value: Fraction, bits: int) -> float:
    """Return `value` to `bits` significant bits, to nearest, ties to even."""
    if value == 0:
        return 0.0
    exponent = math.frexp(float(value))[1] - bits
    return float(round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent)


@pytest.mark.filterwarnings("error")
def test_extreme_parameters_give_infinities_without_warnings() -> None:
    source = Stream(0)
    assert np.isinf(source.normal(64, "float32", 0.0, 1e300)).all()
    assert np.isinf(source.normal(64, "float16", 1e6, 1.0)).all()
    assert np.isinf(source.log_normal(100, "float64", 0.0, 1e4)).any()
    assert np.isinf(source.cauchy(1000, "float16", 0.0, 1e5)).any()
    assert (source.exponential(5, "float32", math.inf) == 0).all()
    for contiguous in (True, False):
        assert np.isinf(source.normal(200, "float64", 1.0, 1e308, contiguous)).any()


def test_randint_limits() -> None:
    source = Stream(0)
    assert set(source.randint(-128, 128, 5000, "int8").tolist()) == set(range(-128, 128))
    assert source.randint(7, None, 1000, "uint8").min() == 7
    assert set(source.randint(0, 2, 50, "bool").tolist()) == {False, True}
    wide = source.randint(-(2**63), 2**63 - 1, 1000)
    assert wide.min() < -(2**60)
    assert wide.max() > 2**60
    full = source.randint(-(2**63), None, 1000)
    assert full.min() < 0 < full.max()


def test_randint_warns_where_a_float_skips_integers() -> None:
    with pytest.warns(UserWarning, match=r"to - 1 is out of bounds \[-\(2\^24\), 2\^24\]"):
        Stream(0).randint(0, 2**25, 3, "float32")


def test_bernoulli_of_certain_events() -> None:
    assert Stream().bernoulli(1.0, 100).all()
    assert not Stream().bernoulli(0.0, 100, "bool").any()


def test_multinomial_frequencies() -> None:
    weights = np.array([0.0, 1.0, 3.0, 6.0], np.float32)
    found = np.bincount(Stream(1).multinomial(weights, 50_000, True), minlength=4) / 50_000
    np.testing.assert_allclose(found, [0, 0.1, 0.3, 0.6], atol=0.01)
    first = [Stream(seed).multinomial(weights, 1)[0] for seed in range(2000)]
    np.testing.assert_allclose(np.bincount(first) / 2000, [0, 0.1, 0.3, 0.6], atol=0.04)


def test_multinomial_without_replacement_takes_each_once() -> None:
    found = Stream(1).multinomial(np.ones((50, 9)), 9)
    assert np.array_equal(np.sort(found, axis=1), np.tile(np.arange(9), (50, 1)))
    assert Stream(1).multinomial(np.ones((0, 3)), 2).shape == (0, 2)


ERRORS: list[tuple[Callable[[Stream], object], type[Exception], str]] = [
    (lambda s: s.uniform(3, "float32", 2, 1), RuntimeError, "found from=2 > to=1"),
    (lambda s: s.uniform(3, "float32", 0, math.inf), RuntimeError, "to is out of bounds"),
    (lambda s: s.uniform(3, "float32", math.nan, 1), RuntimeError, "from is out of bounds"),
    (lambda s: s.uniform(3, "float32", -3e38, 3e38), RuntimeError, "expects to-from <="),
    (lambda s: s.uniform(3, "int64"), NotImplementedError, "not implemented for 'int64'"),
    (lambda s: s.normal(3, "float32", 0, -1), RuntimeError, "normal expects std >= 0.0"),
    (lambda s: s.normal(3, "float32", 0, math.nan), RuntimeError, "normal expects std >= 0.0"),
    (lambda s: s.normal(3, "bool"), NotImplementedError, "not implemented for 'bool'"),
    (lambda s: s.log_normal(3, "float32", 0, 0), RuntimeError, "log_normal_ expects std > 0.0"),
    (lambda s: s.exponential(3, "float32", 0), RuntimeError, "expects lambda > 0.0"),
    (lambda s: s.exponential(3, "int64"), RuntimeError, "continuous probability distribution"),
    (lambda s: s.cauchy(3, "float32", 0, 0), RuntimeError, "cauchy_ expects sigma > 0.0"),
    (lambda s: s.cauchy(3, "int32"), RuntimeError, "continuous probability distribution"),
    (lambda s: s.geometric(1.0, 3), RuntimeError, r"geometric_ expects p to be in \(0, 1\)"),
    (lambda s: s.geometric(0.5, 3, "bool"), NotImplementedError, "not implemented for 'bool'"),
    (lambda s: s.bernoulli(1.5, 3), RuntimeError, r"expects p to be in \[0, 1\]"),
    (lambda s: s.bernoulli(math.nan, 3), RuntimeError, r"expects p to be in \[0, 1\]"),
    (lambda s: s.bernoulli(0.5, 3, "complex64"), NotImplementedError, "'complex64'"),
    (lambda s: s.bernoulli_array(np.array([0.5, 1.5])), RuntimeError, "from 0.5 to 1.5"),
    (lambda s: s.bernoulli_array(np.array([0.5, math.nan])), RuntimeError, "Expected p_in"),
    (lambda s: s.bernoulli_array(np.array([0, 1])), NotImplementedError, "'int64'"),
    (lambda s: s.randint(5, 5, 3), RuntimeError, "got from=5 >= to=5"),
    (lambda s: s.randint(-200, 20, 3, "uint8"), RuntimeError, "from is out of bounds"),
    (lambda s: s.randint(0, 300, 3, "uint8"), RuntimeError, "to - 1 is out of bounds"),
    (lambda s: s.randint(0, 65520, 3, "float16"), RuntimeError, "to - 1 is out of bounds"),
    (lambda s: s.randint(0, 2**63, 3), ValueError, "Overflow when unpacking long long"),
    (lambda s: s.randint(4097, 4098, 3, "float16"), RuntimeError, "casted to dtype"),
    (lambda s: s.randint(-(2**63), None, 3, "int32"), RuntimeError, "got int32"),
    (lambda s: s.random(3, "complex64"), NotImplementedError, "'complex64'"),
    (lambda s: s.randperm(-1), RuntimeError, "n must be non-negative, got -1"),
    (lambda s: s.randperm(257, "uint8"), RuntimeError, "n cannot be greater than 256"),
    (lambda s: s.randperm(2050, "float16"), RuntimeError, "n cannot be greater than 2049"),
    (lambda s: s.randperm(2, "bool"), NotImplementedError, "not implemented for 'bool'"),
    (lambda s: s.multinomial(np.ones(3), 4), RuntimeError, "samples without replacement"),
    (lambda s: s.multinomial(np.ones(3), 0), RuntimeError, "n_sample <= 0"),
    (lambda s: s.multinomial(np.ones((1, 1, 1)), 1), RuntimeError, "must be 1 or 2 dim"),
    (lambda s: s.multinomial(np.array([1, 2]), 1), RuntimeError, "got: int64"),
    (lambda s: s.multinomial(np.array([1.0, -2]), 1), RuntimeError, "element < 0"),
    (lambda s: s.multinomial(np.array([1.0, -2]), 2, True), RuntimeError, "entry < 0"),
    (lambda s: s.multinomial(np.array([1.0, math.inf]), 2, True), RuntimeError, "infinity"),
    (lambda s: s.multinomial(np.array([0.0, 0]), 1), RuntimeError, "sum of probabilities <= 0"),
    (lambda s: s.multinomial(np.zeros((2, 2)), 2, True), RuntimeError, "probabilities <= 0"),
    (lambda s: s.multinomial(np.zeros((2, 0)), 2, True), RuntimeError, "probabilities <= 0"),
]


@pytest.mark.parametrize(("draw", "error", "message"), ERRORS)
def test_errors_draw_nothing(draw: Callable[[Stream], object], error: type[Exception], message: str) -> None:
    source = Stream(0)
    with pytest.raises(error, match=message):
        draw(source)
    assert np.array_equal(source.get_state(), Stream(0).get_state())


def test_threads_share_a_stream_without_losing_numbers() -> None:
    source, found = Stream(0), []

    def work() -> None:
        for _ in range(200):
            found.extend(source.randint(0, 2**40, 5).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = Stream(0)
    assert sorted(found) == sorted(expected.randint(0, 2**40, 4000).tolist())
    assert np.array_equal(source.get_state(), expected.get_state())


def test_ml_dtypes_is_imported_only_for_bfloat16() -> None:
    program = (
        "import sys; from disttorch.core.stream import Stream; Stream(0).normal(64, 'float16');"
        "from disttorch.core import dtypes; print('ml_dtypes' in sys.modules);"
        "print(Stream(0).normal(64, dtypes.bfloat16).dtype)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "bfloat16"]
