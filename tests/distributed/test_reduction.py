"""The canonical order of sums."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from disttorch.distributed.reduction import Reduction, check_reducible, split_point
from disttorch.distributed.transport import slice_bounds


def tree(rows: list[np.ndarray]) -> np.ndarray:
    if len(rows) == 1:
        return rows[0]
    split = 1
    while split * 2 < len(rows):
        split *= 2
    return tree(rows[:split]) + tree(rows[split:])


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize("in_place", [False, True])
def test_float32_sums_follow_the_tree_bit_for_bit(count: int, in_place: bool) -> None:
    generator = np.random.default_rng(count)
    rows = [(generator.standard_normal(100_003) * 10.0 ** (r % 5)).astype(np.float32) for r in range(count)]
    want = tree([row.copy() for row in rows])
    outputs = rows if in_place else [np.empty_like(rows[0])]
    Reduction("SUM", np.dtype(np.float32), count).into(outputs, rows)
    for out in outputs:
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_narrow_floats_accumulate_in_float32_and_round_once(dtype: type, count: int) -> None:
    generator = np.random.default_rng(count)
    rows = [generator.standard_normal(1001).astype(dtype) for _ in range(count)]
    want = (tree([row.astype(np.float32) for row in rows]) / np.float32(count)).astype(dtype)
    Reduction("AVG", np.dtype(dtype), count).into(rows, rows)
    for row in rows:
        np.testing.assert_array_equal(row.astype(np.float32), want.astype(np.float32))


def test_overflow_and_nan_are_values() -> None:
    rows = [np.array([np.nan, 60000, 1], np.float16), np.array([1, 60000, np.inf], np.float16)]
    for op, want in [("SUM", [np.nan, np.inf, np.inf]), ("MAX", [np.nan, 60000, np.inf])]:
        out = np.empty(3, np.float16)
        Reduction(op, out.dtype, 2).into([out], rows)
        np.testing.assert_array_equal(out, np.array(want, np.float16))


def test_the_split_is_the_largest_power_of_two_below() -> None:
    assert [split_point(n) for n in range(2, 10)] == [1, 2, 2, 4, 4, 4, 4, 8]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_slices_cover_everything_and_begin_on_cache_lines(count: int, size: int) -> None:
    bounds = slice_bounds(count, 4, size)
    assert bounds[0] == 0
    assert bounds[-1] == count
    assert bounds == sorted(bounds)
    assert all(bound % 16 == 0 for bound in bounds[:-1] if bound < count)


def test_undefined_reductions_are_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        check_reducible("AVG", np.dtype(np.int32))
    with pytest.raises(TypeError, match="no order"):
        check_reducible("MIN", np.dtype(np.complex64))
    check_reducible("AVG", np.dtype(ml_dtypes.bfloat16))
