"""Tensor printing: texts recorded from PyTorch 2.13, options, and summaries of huge views."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy import inf, nan

from disttorch.core import printing
from disttorch.core.dtypes import bfloat16

PARAMETER = "Parameter containing:\ntensor("


class Case:
    """An array, how it is printed, and the text recorded from PyTorch."""

    def __init__(
        self,
        name: str,
        array: np.ndarray,
        expected: str,
        options: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.name, self.array, self.expected = name, array, expected
        self.options, self.arguments = options or {}, arguments


RECORDED = [
    Case("whole", np.array([1, 2, 3], np.float32), "tensor([1., 2., 3.])"),
    Case("fixed", np.array([1.5, -22.25, 100], np.float32), "tensor([  1.5000, -22.2500, 100.0000])"),
    Case("fraction_rounds", np.array([0.00016, 0.1], np.float32), "tensor([0.0002, 0.1000])"),
    Case(
        "scientific_by_ratio",
        np.array([0.001, 1.5], np.float32),
        "tensor([1.0000e-03, 1.5000e+00])",
    ),
    Case(
        "scientific_by_largest",
        np.array([1e8 + 8, 2e8], np.float32),
        "tensor([1.0000e+08, 2.0000e+08])",
    ),
    Case(
        "scientific_by_smallest",
        np.array([1e-5, -2e-5], np.float32),
        "tensor([ 1.0000e-05, -2.0000e-05])",
    ),
    Case(
        "whole_scientific",
        np.array([1, 5000, 0], np.float32),
        "tensor([1.0000e+00, 5.0000e+03, 0.0000e+00])",
    ),
    Case("whole_thousand", np.array([1, 1000], np.float32), "tensor([   1., 1000.])"),
    Case(
        "largest_at_limit",
        np.array([1e8, 1e5 + 0.5]),
        "tensor([100000000.0000,    100000.5000], dtype=torch.float64)",
    ),
    Case("smallest_at_limit", np.array([1e-4, 0.1]), "tensor([0.0001, 0.1000], dtype=torch.float64)"),
    Case(
        "three_digit_exponent",
        np.array([1e200, -1e-200], np.float64),
        "tensor([ 1.0000e+200, -1.0000e-200], dtype=torch.float64)",
    ),
    Case("not_finite", np.array([nan, inf, -inf], np.float32), "tensor([nan, inf, -inf])"),
    Case("whole_not_finite", np.array([1, nan, -inf], np.float32), "tensor([1., nan, -inf])"),
    Case(
        "fixed_not_finite",
        np.array([12.5, nan, -inf, 0], np.float32),
        "tensor([12.5000,     nan,    -inf,  0.0000])",
    ),
    Case(
        "scientific_not_finite",
        np.array([1e9, nan, -inf, 0], np.float32),
        "tensor([1.0000e+09,        nan,       -inf, 0.0000e+00])",
    ),
    Case("zeros", np.array([0, -0.0], np.float32), "tensor([0., -0.])"),
    Case("float64", np.array([0.1]), "tensor([0.1000], dtype=torch.float64)"),
    Case("float64_is_default", np.array([0.1]), "tensor([0.1000])", default_dtype_name="float64"),
    Case(
        "float32_not_default",
        np.array([0.1], np.float32),
        "tensor([0.1000], dtype=torch.float32)",
        default_dtype_name="float64",
    ),
    Case(
        "float16",
        np.array([0.1, 65504], np.float16),
        "tensor([9.9976e-02, 6.5504e+04], dtype=torch.float16)",
    ),
    Case(
        "bfloat16",
        np.array([0.1, 3.14], bfloat16.numpy),
        "tensor([0.1001, 3.1406], dtype=torch.bfloat16)",
    ),
    Case("int64", np.array([[1, -20], [300, 4]]), "tensor([[  1, -20],\n        [300,   4]])"),
    Case("int32", np.array([7], np.int32), "tensor([7], dtype=torch.int32)"),
    Case("uint8", np.array([7, 255], np.uint8), "tensor([  7, 255], dtype=torch.uint8)"),
    Case("bool", np.array([True, False]), "tensor([ True, False])"),
    Case(
        "complex64",
        np.array([1 + 2j, -1.5 - 22j], np.complex64),
        "tensor([ 1.0000+2.j, -1.5000-22.j])",
    ),
    Case(
        "complex_scientific",
        np.array([1e-7 + 2j, 3 - 4e9j], np.complex64),
        "tensor([1.0000e-07+2.0000e+00j, 3.0000e+00-4.0000e+09j])",
    ),
    Case(
        "complex_not_finite",
        np.array([complex(nan, -inf), complex(1, -0.0)], np.complex64),
        "tensor([nan-infj, 1.-0.j])",
    ),
    Case("complex128", np.array([0.5j]), "tensor([0.+0.5000j], dtype=torch.complex128)"),
    Case(
        "complex128_is_default",
        np.array([0.5j]),
        "tensor([0.+0.5000j])",
        default_dtype_name="float64",
    ),
    Case("scalar_float", np.array(2.5, np.float32), "tensor(2.5000)"),
    Case("scalar_int", np.array(-3), "tensor(-3)"),
    Case("scalar_bool", np.array(True), "tensor(True)"),
    Case("scalar_complex", np.array(1 - 2j, np.complex64), "tensor(1.-2.j)"),
    Case("scalar_nan", np.array(nan), "tensor(nan, dtype=torch.float64)"),
    Case("empty", np.zeros(0, np.float32), "tensor([])"),
    Case("empty_shape", np.zeros((0, 3), np.float32), "tensor([], size=(0, 3))"),
    Case("empty_int64", np.zeros(0, np.int64), "tensor([], dtype=torch.int64)"),
    Case(
        "empty_complex",
        np.zeros((2, 0), np.complex64),
        "tensor([], size=(2, 0), dtype=torch.complex64)",
    ),
    Case(
        "three_dimensions",
        np.arange(8.0, dtype=np.float32).reshape(2, 2, 2),
        "tensor([[[0., 1.],\n         [2., 3.]],\n\n        [[4., 5.],\n         [6., 7.]]])",
    ),
    Case(
        "four_dimensions",
        np.arange(4).reshape(2, 1, 2, 1),
        "tensor([[[[0],\n          [1]]],\n\n\n        [[[2],\n          [3]]]])",
    ),
    Case(
        "wrapped",
        np.arange(30),
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])",
    ),
    Case(
        "wrapped_matrix",
        np.arange(60).reshape(2, 30),
        "tensor([[ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,\n"
        "         10, 11, 12, 13, 14, 15, 16, 17, 18, 19,\n"
        "         20, 21, 22, 23, 24, 25, 26, 27, 28, 29],\n"
        "        [30, 31, 32, 33, 34, 35, 36, 37, 38, 39,\n"
        "         40, 41, 42, 43, 44, 45, 46, 47, 48, 49,\n"
        "         50, 51, 52, 53, 54, 55, 56, 57, 58, 59]])",
        options={"linewidth": 50},
    ),
    Case(
        "narrow",
        np.array([1.5, 2.5], np.float32),
        "tensor([1.5000,\n        2.5000])",
        options={"linewidth": 8},
    ),
    Case("summary", np.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    Case(
        "summary_width_from_edges",
        np.arange(2000.0, dtype=np.float32)[::-1] ** 2,
        "tensor([3996001.,  ...,       0.])",
        options={"threshold": 9, "edgeitems": 1},
    ),
    Case(
        "summary_matrix",
        np.arange(120).reshape(10, 12),
        "tensor([[  0,   1,   2,  ...,   9,  10,  11],\n"
        "        [ 12,  13,  14,  ...,  21,  22,  23],\n"
        "        [ 24,  25,  26,  ...,  33,  34,  35],\n"
        "        ...,\n"
        "        [ 84,  85,  86,  ...,  93,  94,  95],\n"
        "        [ 96,  97,  98,  ..., 105, 106, 107],\n"
        "        [108, 109, 110,  ..., 117, 118, 119]])",
        options={"threshold": 100},
    ),
    Case(
        "summary_one_side",
        np.arange(40).reshape(2, 20),
        "tensor([[ 0,  1,  ..., 18, 19],\n        [20, 21,  ..., 38, 39]])",
        options={"threshold": 20, "edgeitems": 2},
    ),
    Case(
        "summary_cube",
        np.arange(125.0).reshape(5, 5, 5),
        "tensor([[[  0.,  ...,   4.],\n"
        "         ...,\n"
        "         [ 20.,  ...,  24.]],\n"
        "\n"
        "        ...,\n"
        "\n"
        "        [[100.,  ..., 104.],\n"
        "         ...,\n"
        "         [120.,  ..., 124.]]], dtype=torch.float64)",
        options={"threshold": 1, "edgeitems": 1},
    ),
    Case(
        "threshold_reached",
        np.arange(8),
        "tensor([0, 1, 2, 3, 4, 5, 6, 7])",
        options={"threshold": 8, "edgeitems": 1},
    ),
    Case(
        "edges_meet",
        np.arange(12).reshape(2, 6),
        "tensor([[ 0,  1,  2,  3,  4,  5],\n        [ 6,  7,  8,  9, 10, 11]])",
        options={"threshold": 8},
    ),
    Case(
        "complex_wrapped",
        np.array([1.5 + 2.5j] * 4, np.complex64),
        "tensor([1.5000+2.5000j, 1.5000+2.5000j,\n        1.5000+2.5000j, 1.5000+2.5000j])",
        options={"linewidth": 50},
    ),
    Case(
        "no_edges",
        np.arange(12).reshape(3, 4),
        "tensor([...], size=(3, 4))",
        options={"threshold": 5, "edgeitems": 0},
    ),
    Case("no_edges_in_full", np.arange(3), "tensor([0, 1, 2], size=(3,))", options={"edgeitems": 0}),
    Case(
        "precision",
        np.array([1.23456789, 2]),
        "tensor([1.2345679, 2.0000000], dtype=torch.float64)",
        options={"precision": 7},
    ),
    Case(
        "precision_zero",
        np.array([1.6, 2.2]),
        "tensor([2, 2], dtype=torch.float64)",
        options={"precision": 0},
    ),
    Case(
        "short_profile",
        np.arange(1100) / 8,
        "tensor([0.00e+00, 1.25e-01,  ..., 1.37e+02, 1.37e+02], dtype=torch.float64)",
        options={"profile": "short"},
    ),
    Case(
        "scientific_forced",
        np.array([1, 20, nan]),
        "tensor([1.0000e+00, 2.0000e+01,        nan], dtype=torch.float64)",
        options={"sci_mode": True},
    ),
    Case(
        "scientific_off",
        np.array([1e-9, 1e9]),
        "tensor([         0.0000, 1000000000.0000], dtype=torch.float64)",
        options={"sci_mode": False},
    ),
    Case(
        "device",
        np.ones(2, np.int32),
        "tensor([1, 1], device='cpu', dtype=torch.int32)",
        suffixes=["device='cpu'"],
    ),
    Case(
        "requires_grad",
        np.ones(2, np.float32),
        "tensor([1., 1.], requires_grad=True)",
        suffixes=["requires_grad=True"],
    ),
    Case(
        "grad_fn",
        np.ones(2, np.float64),
        "tensor([1., 1.], dtype=torch.float64, grad_fn=<AddBackward0>)",
        suffixes=["grad_fn=<AddBackward0>"],
    ),
    Case(
        "suffix_on_new_line",
        np.arange(9, dtype=np.float64) + 0.5,
        "tensor([0.5000, 1.5000, 2.5000, 3.5000, 4.5000, 5.5000, 6.5000, 7.5000, 8.5000],\n"
        "       dtype=torch.float64, grad_fn=<AddBackward0>)",
        suffixes=["grad_fn=<AddBackward0>"],
    ),
    Case(
        "suffixes_on_two_lines",
        np.array([1.5]),
        "tensor([1.5000],\n       dtype=torch.float64,\n       grad_fn=<AddBackward0>)",
        options={"linewidth": 30},
        suffixes=["grad_fn=<AddBackward0>"],
    ),
    Case(
        "suffix_fits",
        np.array([1.5]),
        "tensor([1.5000], dtype=torch.float64)",
        options={"linewidth": 38},
    ),
    Case(
        "suffix_is_one_too_long",
        np.array([1.5]),
        "tensor([1.5000],\n       dtype=torch.float64)",
        options={"linewidth": 37},
    ),
    Case(
        "suffix_follows_on_new_line",
        np.array([0.5, 1.5, 2.5]),
        "tensor([0.5000, 1.5000, 2.5000],\n       dtype=torch.float64, requires_grad=True)",
        options={"linewidth": 46},
        suffixes=["requires_grad=True"],
    ),
    Case(
        "suffix_does_not_follow",
        np.array([0.5, 1.5, 2.5]),
        "tensor([0.5000, 1.5000, 2.5000],\n       dtype=torch.float64,\n       requires_grad=True)",
        options={"linewidth": 45},
        suffixes=["requires_grad=True"],
    ),
    Case(
        "parameter",
        np.array([[0.5, 1], [2, 3]], np.float32),
        "Parameter containing:\ntensor([[0.5000, 1.0000],\n        [2.0000, 3.0000]], requires_grad=True)",
        prefix=PARAMETER,
        suffixes=["requires_grad=True"],
    ),
    Case(
        "parameter_wrapped",
        np.linspace(0, 1, 12),
        "Parameter containing:\n"
        "tensor([0.0000, 0.0909, 0.1818, 0.2727, 0.3636, 0.4545, 0.5455, 0.6364, 0.7273,\n"
        "        0.8182, 0.9091, 1.0000], dtype=torch.float64, requires_grad=True)",
        prefix=PARAMETER,
        suffixes=["requires_grad=True"],
    ),
]

DEFAULTS = {
    "precision": 4,
    "threshold": 1000,
    "edgeitems": 3,
    "linewidth": 80,
    "sci_mode": None,
}


@pytest.fixture(autouse=True)
def default_options() -> Iterator[None]:
    printing.set_printoptions(profile="default")
    yield
    printing.set_printoptions(profile="default")


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_text_is_as_recorded(case: Case) -> None:
    with printing.printoptions(**case.options):
        assert printing.tensor_str(case.array, **case.arguments) == case.expected


def test_suffixes_are_ordered_device_size_dtype_grad() -> None:
    suffixes = ["device='cuda:0'", "requires_grad=True"]
    text = printing.tensor_str(np.zeros((0, 3)), suffixes=suffixes)
    expected = "tensor([], device='cuda:0', size=(0, 3), dtype=torch.float64,\n       requires_grad=True)"
    assert text == expected


def test_layout_in_memory_does_not_matter() -> None:
    array = np.arange(24.0).reshape(4, 6)
    for view in (array.T, array[::-1, ::2], np.broadcast_to(array[0], (3, 6))):
        assert printing.tensor_str(view) == printing.tensor_str(view.copy())


def test_full_profile_shows_every_element() -> None:
    with printing.printoptions(profile="full"):
        text = printing.tensor_str(np.arange(1500))
    assert "..." not in text
    assert [int(word) for word in text[len("tensor([") : -2].split(",")] == list(range(1500))


def test_summary_touches_only_the_elements_it_shows() -> None:
    # 80 GB if it were copied.
    huge = np.broadcast_to(np.arange(100_000.0), (100_000, 100_000))
    lines = printing.tensor_str(huge).splitlines()
    row = "[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 9.9997e+04, 9.9998e+04,"
    assert len(lines) == 2 * 6 + 1
    assert lines[0] == f"tensor([{row}"
    assert lines[6] == "        ...,"


def test_options_start_at_the_defaults() -> None:
    assert printing.get_printoptions() == DEFAULTS


def test_options_left_out_keep_their_value_except_sci_mode() -> None:
    printing.set_printoptions(precision=2, sci_mode=True)
    printing.set_printoptions(linewidth=120)
    assert printing.get_printoptions() == {**DEFAULTS, "precision": 2, "linewidth": 120}


def test_profile_is_overridden_by_options_given_with_it() -> None:
    printing.set_printoptions(profile="short", edgeitems=5)
    assert printing.get_printoptions() == {**DEFAULTS, "precision": 2, "edgeitems": 5}
    printing.set_printoptions(profile="full")
    assert printing.get_printoptions() == {**DEFAULTS, "threshold": inf}


def test_context_restores_options_after_an_error() -> None:
    printing.set_printoptions(precision=6, sci_mode=False)
    before = printing.get_printoptions()
    with pytest.raises(KeyError), printing.printoptions(precision=1, profile="short"):
        raise KeyError
    assert printing.get_printoptions() == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("profile", "long", "profile must be one of default, short, full, got 'long'"),
        ("precision", -1, "precision must be an integer of 0 or more, got -1"),
        ("precision", 2.5, "precision must be an integer of 0 or more, got 2.5"),
        ("edgeitems", -1, "edgeitems must be an integer of 0 or more, got -1"),
        ("threshold", "all", "threshold must be a number or math.inf, got 'all'"),
        ("linewidth", inf, "linewidth must be a finite number of characters, got inf"),
    ],
)
def test_bad_option_is_named_and_changes_nothing(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        printing.set_printoptions(**{"precision": 8, option: value})
    assert printing.get_printoptions() == DEFAULTS


def test_type_that_no_tensor_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="of type <U1"):
        printing.tensor_str(np.array(["a"]))
