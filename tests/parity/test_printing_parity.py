"""Tensor printing against PyTorch's own, for drawn values, shapes, types and options."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import disttorch  # noqa: E402
from disttorch.core import dtypes, printing  # noqa: E402

pytestmark = pytest.mark.parity

FLOATING = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
ALL = [*FLOATING, "uint8", "int8", "int16", "int32", "int64", "bool"]

# Values that share a magnitude, so that fixed notation is drawn as often as scientific.
_fractions = st.builds(
    lambda mantissa, scale: mantissa * 10.0**scale,
    st.integers(-9999, 9999),
    st.shared(st.integers(-9, 9), key="scale"),
)
_whole = st.integers(-300, 300).map(float)
_special = st.sampled_from([0.0, -0.0, float("inf"), float("-inf"), float("nan")])
_any_float = st.floats(width=32) | st.floats()
_element = st.sampled_from(
    [
        _whole,
        _fractions,
        _whole | _special,
        _fractions | _special,
        _special,
        _whole | _fractions,
        _any_float,
    ]
)
_side = st.sampled_from([1, 2, 3, 5, 6, 8, 9, 12, 25, 0])
_shape = st.lists(_side, max_size=4).map(tuple).filter(lambda s: np.prod(s) <= 800)


@st.composite
def arrays(draw: st.DrawFn, names: list[str] = ALL) -> np.ndarray:
    dtype = dtypes.BY_NAME[draw(st.sampled_from(names))]
    shape = draw(_shape)
    size = int(np.prod(shape))
    if dtype.kind == "bool":
        elements: Any = st.booleans()
    elif dtype.kind == "integer":
        limits = np.iinfo(dtype.numpy)
        elements = st.integers(-9, 99).filter(lambda v: v >= limits.min)
        elements |= st.integers(int(limits.min), int(limits.max))
    else:
        elements = draw(_element)
    # A short cycle of values fills a large array at little cost to the search.
    count = min(size, 24)
    values = np.array(draw(st.lists(elements, min_size=count, max_size=count)) or [0])
    values = np.resize(values, size)
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.is_complex:
            values = values + 0j
            values.imag = np.roll(values.real, 1) * draw(st.sampled_from([1, -1, 0.01, 7e5]))
        return values.astype(dtype.numpy).reshape(shape)


options = st.fixed_dictionaries(
    {},
    optional={
        "precision": st.integers(0, 9),
        "threshold": st.sampled_from([0, 4, 20]),
        "edgeitems": st.integers(0, 3),
        "linewidth": st.integers(1, 160),
        "profile": st.sampled_from(["default", "short", "full"]),
        "sci_mode": st.sampled_from([True, False, None]),
    },
)


def as_torch(array: np.ndarray) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(array=arrays(), chosen=options)
@example(array=np.arange(30.0).reshape(5, 6), chosen={"threshold": 10, "edgeitems": 0})
@example(array=np.array(3.5), chosen={"threshold": 0, "edgeitems": 0})
@example(array=np.array([1e308, 1e-308]), chosen={})
@example(array=np.array([1e-4, 1], np.float32), chosen={})
@example(array=np.array([1e-4, 0.1], np.float64), chosen={})
@example(array=np.array([1e8, 1e5 + 0.5]), chosen={})
def test_text_is_that_of_torch(array: np.ndarray, chosen: dict[str, Any]) -> None:
    with torch._tensor_str.printoptions(**chosen), printing.printoptions(**chosen):
        assert printing.get_printoptions() == torch._tensor_str.get_printoptions()
        assert printing.tensor_str(array) == repr(as_torch(array))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    array=arrays(FLOATING),
    chosen=options,
    default=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    kind=st.sampled_from(["leaf", "result", "parameter", "device", "subclass"]),
)
def test_suffixes_and_prefix_are_those_of_torch(
    array: np.ndarray, chosen: dict[str, Any], default: str, kind: str
) -> None:
    ours, theirs = _decorated(kind, as_torch(array))
    # A CUDA default makes PyTorch show the device of a CPU tensor, so no GPU is needed here.
    default_device = "cuda" if kind == "device" else "cpu"
    with (
        torch._tensor_str.printoptions(**chosen),
        printing.printoptions(**chosen),
        mock.patch.object(torch._C, "_get_default_device", return_value=default_device),
        mock.patch.object(torch, "get_default_dtype", return_value=getattr(torch, default)),
    ):
        assert printing.tensor_str(array, default_dtype_name=default, **ours) == repr(theirs)


# Its name takes the place of `tensor`.
Named: Any = type("Named", (torch.Tensor,), {})


def _decorated(kind: str, tensor: Any) -> tuple[dict[str, Any], Any]:
    if kind == "leaf":
        return {"suffixes": ["requires_grad=True"]}, tensor.requires_grad_()
    if kind == "result":
        moved = tensor.requires_grad_().view(tensor.shape)
        return {"suffixes": ["grad_fn=<ViewBackward0>"]}, moved
    if kind == "parameter":
        prefix = "Parameter containing:\ntensor("
        return {"prefix": prefix, "suffixes": ["requires_grad=True"]}, torch.nn.Parameter(tensor)
    if kind == "device":
        suffixes = ["device='cpu'", "requires_grad=True"]
        return {"suffixes": suffixes}, tensor.requires_grad_()
    return {"prefix": "Named("}, tensor.as_subclass(Named)


@pytest.mark.parametrize("shape", [(1001,), (40, 40), (7, 300), (2, 3, 400), (12, 1, 90), (1000,)])
@pytest.mark.parametrize("name", ALL)
def test_default_summary_is_that_of_torch(name: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(0, 40, shape)
    array = (np.abs(values) if name == "uint8" else values).astype(dtypes.BY_NAME[name].numpy)
    assert printing.tensor_str(array) == repr(as_torch(array))


# -- tensors, from the outside ------------------------------------------------------------------------------------------

# What is done to a tensor of any type, and to one that can require grad.
LOOKS: dict[str, Any] = {
    "itself": lambda t, x: x,
    "transposed": lambda t, x: x.permute(tuple(range(x.dim()))[::-1]),
    "every other": lambda t, x: x.reshape(-1)[::2],
    "expanded": lambda t, x: x.unsqueeze(0).expand(3, *x.shape),
    "list": lambda t, x: [x, {"key": x}],
    "str": lambda t, x: str(x),
    "format": lambda t, x: f"{x}",
}
GRAD_LOOKS: dict[str, Any] = {
    "leaf": lambda t, x: x.requires_grad_(),
    "product": lambda t, x: x.requires_grad_() * 2,
    "sum": lambda t, x: x.requires_grad_() + x,
    "view": lambda t, x: x.requires_grad_().view(-1),
    "exp": lambda t, x: x.requires_grad_().exp(),
    "clone": lambda t, x: x.requires_grad_().clone(),
    "data": lambda t, x: x.requires_grad_().data,
    "detached": lambda t, x: (x.requires_grad_() * 2).detach(),
    "parameter": lambda t, x: t.nn.Parameter(x),
    "frozen parameter": lambda t, x: t.nn.Parameter(x, requires_grad=False),
    "buffer": lambda t, x: t.nn.Buffer(x),
    "subclass": lambda t, x: type("Named", (t.Tensor,), {})([1.5, 2.0]),
}


def shown(t: Any, look: Any, tensor: Any, chosen: dict[str, Any]) -> str:
    with (torch._tensor_str if t is torch else printing).printoptions(**chosen), np.errstate(all="ignore"):
        return repr(look(t, tensor))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(array=arrays(), chosen=options, look=st.sampled_from(sorted(LOOKS)))
def test_tensors_are_shown_as_those_of_torch(array: np.ndarray, chosen: dict[str, Any], look: str) -> None:
    mine = shown(disttorch, LOOKS[look], disttorch.from_numpy(array), chosen)
    assert mine == shown(torch, LOOKS[look], as_torch(array), chosen)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(array=arrays(FLOATING), chosen=options, look=st.sampled_from(sorted(GRAD_LOOKS)))
def test_tensors_of_a_graph_are_shown_as_those_of_torch(array: np.ndarray, chosen: dict[str, Any], look: str) -> None:
    mine = shown(disttorch, GRAD_LOOKS[look], disttorch.from_numpy(array.copy()), chosen)
    assert mine == shown(torch, GRAD_LOOKS[look], as_torch(array), chosen)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    value=_any_float | _fractions | st.integers(-(2**62), 2**62) | st.booleans(),
    spec=st.sampled_from(["", ".3f", "e", ">9"]),
)
def test_one_number_is_formatted_as_that_of_torch(value: Any, spec: str) -> None:
    def text(t: Any) -> str:
        try:
            return format(t.tensor(value), spec)
        except Exception as error:
            return type(error).__name__

    assert text(disttorch) == text(torch)


@pytest.mark.parametrize("default", ["float16", "float64"])
def test_another_default_type(default: str) -> None:
    texts = []
    for t in (disttorch, torch):
        t.set_default_dtype(getattr(t, default))
        try:
            texts.append([repr(t.ones(2, dtype=getattr(t, name))) for name in ALL] + [repr(t.tensor([1.5, 2]))])
        finally:
            t.set_default_dtype(t.float32)
    assert texts[0] == texts[1]


def described(t: Any) -> list[str]:
    kinds = [getattr(t, name) for name in ALL]
    limits = [t.finfo(d) for d in kinds if d.is_floating_point or d.is_complex]
    limits += [t.iinfo(d) for d in kinds if not d.is_floating_point and not d.is_complex and d is not t.bool]
    sizes = [t.Size([]), t.Size([2]), t.Size([2, 3]), t.ones(2, 3).shape[1:], t.Size([2]) + (3,), (1,) + t.Size([2])]
    sizes += [t.Size([2]) * 2, 2 * t.Size([2])]
    devices = [t.device("cpu"), t.device("cuda"), t.device("cuda:1"), t.device("cpu", 0), t.ones(1).device]
    own = [*kinds, *limits, *sizes, *devices]
    return [repr(x) for x in own] + [str(x) for x in own] + [f"{x}" for x in devices]


def test_types_limits_sizes_and_devices_are_shown_as_those_of_torch() -> None:
    assert described(disttorch) == described(torch)


def test_limits_are_those_of_torch() -> None:
    fields = "bits eps max min tiny smallest_normal resolution dtype".split()
    for name in ALL:
        if name in FLOATING:
            ours, theirs = disttorch.finfo(getattr(disttorch, name)), torch.finfo(getattr(torch, name))
            assert [getattr(ours, f) for f in fields] == [getattr(theirs, f) for f in fields]


# -- names of nodes -----------------------------------------------------------------------------------------------------

GRAPHS = """
x + 1 | x - 1 | x - x | x * 2 | x / 2 | -x | x**2 | 2**x | x**x | x**0.5 | x @ x | x @ x[0] | x[0] @ x[0] | x % x | x % 2
x[0] | x[:, 0] | x[None] | x[0, 0] | x[0:1] | x[1:] | x[:] | x[..., None] | x[None, 0] | x[0:1, 1] | x[0, :] | x[:, None]
x[0, None] | x[[0, 1]] | x[x > 0] | x.exp() | x.log() | x.sqrt() | x.tanh() | x.sigmoid() | x.relu() | x.abs() | x.square()
x.clamp(0, 1) | x.clamp(min=0) | x.sum() | x.sum(0) | x.sum(1, keepdim=True) | x.mean() | x.mean(0) | x.prod() | x.prod(0)
x.max() | x.min() | x.amax(0) | x.amin(1) | x.norm() | x.view(-1) | x.reshape(-1) | x.flatten() | x.t() | x.permute(1, 0)
x.transpose(0, 1) | x.squeeze(0) | x.unsqueeze(0) | x[None].expand(3, 2, 2) | t.cat([x, x]) | t.stack([x, x]) | x.split(1)[1]
x.unbind(0)[0] | x.clone() | x.double() | x.t().contiguous() | F.softmax(x, 1) | F.log_softmax(x, 1) | x.gather(1, x.long())
F.nll_loss(x, t.tensor([0, 1])) | F.cross_entropy(x, t.tensor([0, 1])) | F.mse_loss(x, x.detach()) | F.linear(x, x)
F.linear(x, x, x[0]) | F.linear(x[None], x) | F.linear(x[None], x, x[0]) | F.leaky_relu(x) | F.conv2d(x[None, None], x[None, None])
F.max_pool2d(x[None, None], 2) | F.avg_pool2d(x[None, None], 2) | t.where(x > 0, x, x * 2) | x.cumsum(0) | (x * 1).add_(1)
(x * 1).mul_(2) | F.relu_(x * 1) | (x * 1).zero_() | (x * 1).fill_(2) | t.atan2(x, x) | t.maximum(x, x) | t.fmod(x, x)
x.narrow(0, 0, 1) | t.bmm(x[None], x[None]) | x.floor() | x.div(x, rounding_mode="floor") | (x + 0j).real | t.nn.Linear(2, 3)(x)
"""


@pytest.mark.parametrize("expression", [e.strip() for line in GRAPHS.splitlines() for e in line.split(" | ") if e])
def test_a_result_names_its_operation_as_in_torch(expression: str) -> None:
    def text(t: Any) -> str:
        with t.random.fork_rng():
            t.manual_seed(0)
            x = t.tensor([[0.5, 0.25], [1.5, 1.0]], requires_grad=True)
            return repr(eval(expression, {"t": t, "x": x, "F": t.nn.functional}))

    assert text(disttorch) == text(torch)
