"""The tensor: making, converting, indexing, copying, memory, and the errors that users meet."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import disttorch as torch


def counted(*shape: int) -> Any:
    return torch.arange(math.prod(shape)).reshape(shape)


# -- making -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, "int64", ()), (1.5, "float32", ()), (True, "bool", ()), (1j, "complex64", ()), ([], "float32", (0,)),
        ([[]], "float32", (1, 0)), ([1, 2.5], "float32", (2,)), ([True, 2], "int64", (2,)), ([[1], [2]], "int64", (2, 1)),
        ((1.0, 2.0), "float32", (2,)), (range(3), "int64", (3,)), (np.float64(1.5), "float64", ()), (np.int32(3), "int32", ()),
        (np.ones((2, 1), np.float16), "float16", (2, 1)), ([np.float32(1.5), np.float32(2)], "float32", (2,)),
        ([np.array([1, 2]), np.array([3, 4])], "int64", (2, 2)),
    ],
)  # fmt: skip
def test_tensor_of_data(data: Any, dtype: str, shape: tuple[int, ...]) -> None:
    x = torch.tensor(data)
    assert (x.dtype.name, tuple(x.shape)) == (dtype, shape)


def test_tensor_copies_and_as_tensor_shares() -> None:
    a = np.zeros(3)
    copied, shared, also = torch.tensor(a), torch.as_tensor(a), torch.from_numpy(a)
    a[0] = 5
    assert (copied[0].item(), shared[0].item(), also[0].item()) == (0.0, 5.0, 5.0)
    assert torch.as_tensor(shared) is shared
    assert torch.as_tensor(a, dtype=torch.float32).dtype is torch.float32
    assert torch.as_tensor([1, 2]).tolist() == [1, 2]


def test_tensor_of_tensors() -> None:
    x = torch.tensor([torch.tensor(1.5), torch.tensor(2.5)])
    assert x.tolist() == [1.5, 2.5]


def test_tensor_with_type_and_grad() -> None:
    x = torch.tensor([1, 2], dtype=torch.float64, requires_grad=True)
    assert x.dtype is torch.float64
    assert x.is_leaf
    assert x.requires_grad
    with pytest.raises(RuntimeError, match=r"[Oo]nly Tensors of floating point"):
        torch.tensor([1, 2], requires_grad=True)


def test_ragged_and_foreign_data() -> None:
    with pytest.raises(ValueError, match="expected sequence"):
        torch.tensor([[1, 2], [3]])
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        torch.tensor(["a"])
    with pytest.raises(TypeError, match=r"expected np.ndarray \(got list\)"):
        torch.from_numpy([1])
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(np.arange(4)[::-1])
    with pytest.raises(TypeError, match=r"can't convert np.ndarray of type"):
        torch.from_numpy(np.array(["a"]))


def test_constructors() -> None:
    assert torch.zeros(2, 3).tolist() == [[0.0] * 3] * 2
    assert torch.ones((2,), dtype=torch.int64).tolist() == [1, 1]
    assert torch.zeros([]).shape == ()
    assert torch.empty(2, 0).shape == (2, 0)
    assert torch.full((2,), 7).dtype is torch.int64
    assert torch.full((2,), 7.0).dtype is torch.float32
    assert torch.full((2,), True).dtype is torch.bool
    assert torch.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert torch.arange(5).tolist() == [0, 1, 2, 3, 4]
    assert torch.arange(1, 2, 0.25).tolist() == [1.0, 1.25, 1.5, 1.75]
    assert torch.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert torch.arange(0).shape == (0,)
    assert torch.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert torch.logspace(0, 2, 3).tolist() == [1.0, 10.0, 100.0]
    assert torch.linspace(3, 4, 1).tolist() == [3.0]
    with pytest.raises(RuntimeError, match="Trying to create tensor with negative dimension -1"):
        torch.zeros(-1)
    with pytest.raises(RuntimeError, match="step must be nonzero"):
        torch.arange(0, 1, 0)
    with pytest.raises(RuntimeError, match=r"upper bound and .*lower bound inconsistent with step sign"):
        torch.arange(0, 5, -1)


def test_like_and_new() -> None:
    x = torch.ones(2, 3, dtype=torch.float64).t()
    for made in (torch.zeros_like(x), torch.ones_like(x), torch.full_like(x, 2), torch.empty_like(x)):
        assert made.shape == (3, 2)
        assert made.dtype is torch.float64
    assert torch.zeros_like(x, dtype=torch.int32).dtype is torch.int32
    assert x.new_zeros(2).dtype is torch.float64
    assert x.new_ones((2, 1)).tolist() == [[1.0], [1.0]]
    assert x.new_empty(2, dtype=torch.bool).dtype is torch.bool
    assert x.new_full((2,), 3).tolist() == [3.0, 3.0]
    made = x.new_tensor([1, 2])
    assert (made.dtype, made.tolist()) == (torch.float64, [1.0, 2.0])


def test_legacy_constructor() -> None:
    assert torch.Tensor(2, 3).shape == (2, 3)
    assert torch.Tensor([1, 2]).tolist() == [1.0, 2.0]
    assert torch.Tensor().shape == (0,)
    with pytest.raises(TypeError):
        torch.Tensor("a", 2)


# -- to Python and NumPy ------------------------------------------------------------------------------------------


def test_numpy_shares_memory() -> None:
    x = torch.zeros(2, 3)
    a = x.t().numpy()
    a[1, 0] = 7
    assert x[0, 1].item() == 7
    assert np.asarray(x) is not None
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.array(x, dtype=np.int64).dtype == np.int64
    assert np.add(x, 1).shape == (2, 3)


def test_numpy_is_refused_where_it_would_lose_the_graph() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(
        RuntimeError,
        match=r"Can't call numpy\(\) on Tensor that requires grad. Use tensor.detach\(\).numpy\(\) instead",
    ):
        x.numpy()
    assert x.numpy(force=True).tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()


def test_item_and_tolist() -> None:
    assert torch.tensor([[3]]).item() == 3
    assert type(torch.tensor(True).item()) is bool
    assert type(torch.tensor(2.5).item()) is float
    assert type(torch.tensor(2.5, dtype=torch.bfloat16).item()) is float
    assert torch.tensor(2.5, dtype=torch.bfloat16).tolist() == 2.5
    assert torch.tensor(1 + 2j).item() == 1 + 2j
    assert torch.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert torch.tensor(5).tolist() == 5
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted to Scalar"):
        torch.ones(2).item()


def test_numbers() -> None:
    x = torch.tensor(2.75)
    assert (int(x), float(x), bool(x), complex(x), round(float(x))) == (2, 2.75, True, 2.75 + 0j, 3)
    assert math.sqrt(torch.tensor(4.0)) == 2.0
    assert [10, 20, 30][torch.tensor(1)] == 20
    assert list(range(torch.tensor(3))) == [0, 1, 2]
    assert not torch.tensor([[0]])
    with pytest.raises(TypeError, match="only integer tensors of a single element can be converted to an index"):
        [1, 2][torch.tensor(1.0)]


def test_truth_of_many() -> None:
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"):
        bool(torch.ones(2))
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with no values is ambiguous"):
        bool(torch.ones(0))


def test_len_iter_contains() -> None:
    x = counted(3, 2)
    assert len(x) == 3
    assert [row.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]
    *_, last = x
    assert last.tolist() == [4, 5]
    assert 4 in x
    assert 9 not in x
    for fails in (len, iter):
        with pytest.raises(TypeError, match="0-d tensor"):
            fails(torch.tensor(1))


def test_reversed_and_hash() -> None:
    x = torch.tensor([1, 2, 3])
    assert [v.item() for v in reversed(x)] == [3, 2, 1]
    assert {x: "a"}[x] == "a"
    assert len({x, torch.tensor([1, 2, 3])}) == 2


def test_format() -> None:
    assert f"{torch.tensor(2.5):.2f}" == "2.50"
    assert f"{torch.tensor(3):03d}" == "003"
    assert f"{torch.tensor([1.0])}" == "tensor([1.])"
    assert "grad_fn=<MulBackward0>" in repr(torch.ones(1, requires_grad=True) * 2)
    assert "requires_grad=True" in repr(torch.ones(1, requires_grad=True))
    with pytest.raises(TypeError):
        f"{torch.ones(2):.2f}"


# -- copies -------------------------------------------------------------------------------------------------------


def test_deepcopy() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    x.sum().backward()
    x.note = [1]
    y = copy.deepcopy(x)
    assert y is not x
    assert y.requires_grad
    assert y.grad.tolist() == x.grad.tolist()
    assert not np.shares_memory(x.detach().numpy(), y.detach().numpy())
    assert not np.shares_memory(x.grad.numpy(), y.grad.numpy())
    assert y.note == [1]
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]
    with pytest.raises(
        RuntimeError, match=r"Only Tensors created explicitly by the user .* support the deepcopy protocol"
    ):
        copy.deepcopy(x * 2)


def test_deepcopied_attributes_are_copies() -> None:
    x = torch.ones(1)
    x.note = [1]
    copy.deepcopy(x).note.append(2)
    assert x.note == [1]


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickle(protocol: int) -> None:
    x = torch.ones(2, 3, requires_grad=True)
    x.note = "n"
    y = pickle.loads(pickle.dumps(x, protocol))
    assert (y.tolist(), y.requires_grad, y.note, y.dtype) == (x.tolist(), True, "n", torch.float32)
    half = torch.ones(2, dtype=torch.bfloat16)
    assert pickle.loads(pickle.dumps(half, protocol)).dtype is torch.bfloat16
    with pytest.raises(RuntimeError, match="cowardly refusing to serialize non-leaf tensor"):
        pickle.dumps(x * 2)


def test_copy_copy_shares_memory() -> None:
    x = torch.zeros(2)
    y = copy.copy(x)
    y[0] = 1
    assert x.tolist() == [1.0, 0.0]


# -- memory -------------------------------------------------------------------------------------------------------


def test_strides_and_offsets() -> None:
    x = counted(3, 4)
    assert (x.stride(), x.stride(0), x.stride(-1)) == ((4, 1), 4, 1)
    v = x[1:, ::2]
    assert (v.stride(), v.storage_offset()) == ((4, 2), 4)
    assert v.t().stride() == (2, 4)
    assert x[2, 3].storage_offset() == 11
    assert v.data_ptr() == x.data_ptr() + 4 * 8
    assert x.expand(2, 3, 4).stride() == (0, 4, 1)
    assert (x.is_contiguous(), v.is_contiguous(), x.t().is_contiguous()) == (True, False, False)
    assert v.contiguous().stride() == (2, 1)
    assert x.contiguous() is x
    assert (x.element_size(), x.itemsize, x.nbytes, x.numel(), x.nelement()) == (8, 8, 96, 12, 12)
    with pytest.raises(IndexError, match=r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)"):
        x.stride(2)


def test_sizes() -> None:
    x = torch.zeros(2, 3)
    assert x.size() == x.shape == torch.Size([2, 3])
    assert (x.size(0), x.size(-1), x.dim(), x.ndim, x.ndimension()) == (2, 3, 2, 2, 2)
    assert (x.T.shape, x.mT.shape) == ((3, 2), (3, 2))


def test_views_share_and_copies_do_not() -> None:
    x = torch.zeros(2, 3)
    shared = [x[0], x[:, 1], x.t(), x.view(-1), x.reshape(3, 2), x.expand(1, 2, 3), x.unsqueeze(0), x.detach(), x.data]
    owned = [
        x.clone(),
        x[[0]],
        x[x == 0],
        x + 0,
        x.t().reshape(-1),
        x.repeat(1, 1),
        torch.cat([x]),
        x.to(torch.float64),
    ]
    assert all(np.shares_memory(v.numpy(), x.numpy()) for v in shared)
    assert not any(np.shares_memory(v.numpy(), x.numpy()) for v in owned)
    assert x[0]._is_view()
    assert x[0]._base is x
    assert x[0][1]._base is x


def test_view_needs_fitting_strides() -> None:
    x = torch.zeros(2, 3).t()
    with pytest.raises(
        RuntimeError,
        match=r"view size is not compatible with input tensor's size and stride .* Use .reshape\(...\) instead",
    ):
        x.view(6)
    with pytest.raises(RuntimeError, match=r"shape '\[4\]' is invalid for input of size 6"):
        x.reshape(4)
    with pytest.raises(RuntimeError, match="only one dimension can be inferred"):
        x.reshape(-1, -1)


def test_view_as_another_type_of_the_same_size() -> None:
    x = torch.tensor([1.0, -2.0])
    y = x.view(torch.int32)
    assert y.tolist() == np.array([1.0, -2.0], np.float32).view(np.int32).tolist()
    y[0] = 0
    assert x[0].item() == 0.0


def test_data_takes_other_memory() -> None:
    x = torch.zeros(2, requires_grad=True)
    x.data = torch.ones(3)
    assert x.tolist() == [1.0, 1.0, 1.0]
    assert x.requires_grad
    x.data[0] = 9
    assert x[0].item() == 9


# -- types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("float", "float32"), ("double", "float64"), ("half", "float16"), ("bfloat16", "bfloat16"), ("long", "int64"),
        ("int", "int32"), ("short", "int16"), ("char", "int8"), ("byte", "uint8"), ("bool", "bool"),
    ],
)  # fmt: skip
def test_conversion_methods(method: str, name: str) -> None:
    x = torch.tensor([0.0, 1.5])
    y = getattr(x, method)()
    assert y.dtype.name == name
    assert getattr(y, method)() is y


def test_to() -> None:
    x = torch.zeros(2)
    assert x.to(torch.float32) is x
    assert x.to("cpu") is x
    assert x.to(torch.float32, copy=True) is not x
    assert x.to("cpu", torch.float64).dtype is torch.float64
    assert x.to(torch.zeros(1, dtype=torch.int32)).dtype is torch.int32
    assert x.to(device="cpu", dtype=torch.int8, non_blocking=True).dtype is torch.int8
    assert x.type_as(torch.zeros(1, dtype=torch.float64)).dtype is torch.float64
    assert x.type() == "torch.FloatTensor"
    assert x.type("torch.LongTensor").dtype is torch.int64
    assert x.type(torch.float64).dtype is torch.float64
    with pytest.raises(TypeError):
        x.to(3.5)


def test_a_gradient_goes_through_a_conversion() -> None:
    x = torch.ones(2, requires_grad=True)
    (x.double() * 3).sum().backward()
    assert x.grad.dtype is torch.float32
    assert x.grad.tolist() == [3.0, 3.0]


def test_mistaken_dtype() -> None:
    with pytest.raises(TypeError):
        torch.zeros(2, dtype=np.float32)
    with pytest.raises(TypeError):
        torch.tensor(1, dtype="float32")


# -- out= and operators -------------------------------------------------------------------------------------------


def test_out() -> None:
    x, out = torch.ones(2), torch.zeros(2)
    assert torch.add(x, 1, out=out) is out
    assert out.tolist() == [2.0, 2.0]
    assert out._version == 1
    assert torch.exp(x, out=torch.empty(0)).shape == (2,)
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        torch.add(x, 1, out=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match=r"functions with out=... arguments don't support automatic differentiation"):
        torch.mul(torch.ones(2, requires_grad=True), 2, out=out)
    with pytest.warns(UserWarning, match="An output with one or more elements was resized since it had shape"):
        torch.add(torch.ones(3), 1, out=out)
    assert out.shape == (3,)


def test_out_writes_through_views() -> None:
    x = torch.zeros(2, 3)
    torch.mul(torch.ones(3), 4, out=x[1])
    assert x.tolist() == [[0.0] * 3, [4.0] * 3]


def test_operators_with_numpy_and_numbers() -> None:
    x = torch.tensor([1.0, 2.0])
    assert isinstance(np.float32(2) * x, torch.Tensor)
    assert (np.float64(2) * x).dtype is torch.float32
    assert (x * np.float64(2)).dtype is torch.float32
    assert (3 - x).tolist() == [2.0, 1.0]
    assert (3 / x).tolist() == [3.0, 1.5]
    assert (2**x).tolist() == [2.0, 4.0]
    assert (5 // x).tolist() == [5.0, 2.0]
    assert (5 % x).tolist() == [0.0, 1.0]
    assert (~torch.tensor([True])).tolist() == [False]
    assert (x.long() & 1).tolist() == [1, 0]
    assert (+x) is not None
    assert abs(-x).tolist() == [1.0, 2.0]


def test_comparisons_with_foreign_objects() -> None:
    x = torch.tensor([1.0])
    assert (x == "a") is False
    assert (x != None) is True  # noqa: E711
    assert [torch.tensor(1.0)] != [None]
    with pytest.raises(TypeError):
        _ = x < "a"


def test_operands_that_are_no_operands() -> None:
    x = torch.ones(2)
    for operation in (lambda: x + "a", lambda: x * None, lambda: x - [1]):
        with pytest.raises(TypeError):
            operation()


def test_broadcast_errors() -> None:
    with pytest.raises(
        RuntimeError,
        match=r"The size of tensor a \(3\) must match the size of tensor b \(4\) at non-singleton dimension 1",
    ):
        torch.zeros(2, 3) + torch.zeros(4)


# -- subclasses ---------------------------------------------------------------------------------------------------


class Named(torch.Tensor):
    """A tensor with a name."""

    label = "none"


def test_a_subclass_computes_and_keeps_its_attributes() -> None:
    x = (
        torch.Tensor._make_subclass(Named, torch.ones(2), True)
        if hasattr(torch.Tensor, "_make_subclass")
        else Named([1.0, 1.0])
    )
    x.label = "w"
    x.requires_grad_()
    y = x * 2 + torch.ones(2)
    y.sum().backward()
    assert isinstance(x, Named)
    assert x.label == "w"
    assert x.grad.tolist() == [2.0, 2.0]
    same = copy.deepcopy(x)
    assert type(same) is Named
    assert same.label == "w"
    assert type(pickle.loads(pickle.dumps(x))) is Named
    with torch.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0, 2.0]
    assert "Named" in repr(x)


def test_attributes() -> None:
    x = torch.ones(1)
    x.anything = 3
    assert x.anything == 3
    with pytest.raises(AttributeError):
        _ = x.something_else


def test_grad_attribute_checks() -> None:
    x = torch.ones(2, requires_grad=True)
    x.grad = torch.zeros(2)
    x.grad = None
    with pytest.raises(TypeError, match="assigned grad expected to be a Tensor or None but got grad of type"):
        x.grad = 1
    with pytest.raises(RuntimeError, match=r"assign a gradient of size '\[3\]' to a tensor of size '\[2\]'"):
        x.grad = torch.zeros(3)
    with pytest.raises(
        RuntimeError,
        match=r"gradient with dtype 'torch.float64' to a tensor with dtype 'torch.float32'|gradient.*dtype",
    ):
        x.grad = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="can't assign Variable as its own grad"):
        x.grad = x
