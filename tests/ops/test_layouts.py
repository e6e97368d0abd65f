"""Memory formats, views by stride, another size, in-place view functions, and the options of new tensors."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import disttorch as torch


def image() -> torch.Tensor:
    return torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)


# -- memory formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.clone(memory_format=torch.channels_last),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.to(torch.float64, memory_format=torch.channels_last),
    ],
)
def test_channels_last(convert: Any) -> None:
    x = image()
    y = convert(x)
    assert y.stride() == (60, 1, 15, 3)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()
    assert not x.is_contiguous(memory_format=torch.channels_last)
    assert y.tolist() == x.tolist()
    assert not y._is_view()


def test_new_tensors_in_a_format() -> None:
    assert torch.empty(2, 3, 4, 5, memory_format=torch.channels_last).stride() == (60, 1, 15, 3)
    assert torch.empty(1, 3, 4, 4, 5, memory_format=torch.channels_last_3d).stride() == (240, 1, 60, 15, 3)
    y = image().contiguous(memory_format=torch.channels_last)
    assert torch.empty_like(y).stride() == y.stride()
    assert torch.zeros_like(y, memory_format=torch.contiguous_format).is_contiguous()
    assert torch.ones(2, 3).t().clone().stride() == (1, 3)
    assert torch.ones(2, 3).t().contiguous() is not None
    assert torch.ones(3).layout is torch.strided


def test_formats_are_objects_of_their_own() -> None:
    assert repr(torch.channels_last) == "torch.channels_last"
    assert pickle.loads(pickle.dumps(torch.preserve_format)) is torch.preserve_format
    with pytest.raises(RuntimeError, match="required rank 4 tensor to use channels_last format"):
        torch.ones(2, 3).contiguous(memory_format=torch.channels_last)
    with pytest.raises(TypeError, match=r"must be torch\.memory_format, not str"):
        torch.ones(2, 3).clone(memory_format="channels_last")


# -- views by stride ----------------------------------------------------------------------------------------------


def test_as_strided_sees_all_of_the_memory() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    row = x[1]
    assert row.as_strided((2, 2), (4, 1), 0).tolist() == [[0, 1], [4, 5]]
    assert row.as_strided((2,), (1,)).tolist() == [4, 5]
    x[2].as_strided((3,), (4,), 1).mul_(10)
    assert x[:, 1].tolist() == [10, 50, 90]
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 48"):
        x.as_strided((13,), (1,))
    with pytest.raises(RuntimeError, match="mismatch in length of strides and shape"):
        x.as_strided((2, 2), (1,))


def test_a_change_through_strides_and_windows_is_differentiated() -> None:
    for pick in (lambda y: y.as_strided((2, 2), (1, 4), 1), lambda y: y.unfold(1, 2, 2)[0], lambda y: y.select(1, 2)):
        x = torch.arange(12.0).reshape(3, 4).requires_grad_()
        y = x * 1
        pick(y).mul_(10)
        y.sum().backward()
        expected = torch.ones(3, 4)
        pick(expected).fill_(10)
        assert x.grad.tolist() == expected.tolist()


# -- another size -------------------------------------------------------------------------------------------------


def test_resize_keeps_the_memory_where_it_can() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    whole = x[:]
    assert x.t().resize_(2, 2).tolist() == [[0, 1], [2, 3]]
    assert x[1].resize_(2).tolist() == [3, 4]
    assert x.resize_((2, 2)) is x
    x.fill_(7)
    assert whole.tolist() == [[7, 7, 7], [7, 4, 5]]
    assert x.resize_(8)[:6].tolist() == [7, 7, 7, 7, 4, 5]
    assert x.resize_as_(torch.ones(3, 1)).shape == (3, 1)
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        torch.ones(2, requires_grad=True).resize_(3)


def test_resize_out_of_place_is_deprecated() -> None:
    x = torch.arange(6.0, requires_grad=True)
    with pytest.warns(UserWarning, match="non-inplace resize is deprecated"):
        y = x.resize(2, 3)
    assert y.shape == (2, 3)
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 6
    with pytest.warns(UserWarning, match="deprecated"), pytest.raises(RuntimeError, match="requested resize to 4"):
        x.resize(4)


def test_view_as_a_type_of_another_size() -> None:
    x = torch.arange(4, dtype=torch.int32).reshape(2, 2)
    assert x.view(torch.int64).shape == (2, 1)
    assert x.view(torch.int16).tolist() == [[0, 0, 1, 0], [2, 0, 3, 0]]
    with pytest.raises(RuntimeError, match=r"self.size\(-1\) must be divisible by 2"):
        torch.ones(3).view(torch.float64)
    with pytest.raises(RuntimeError, match=r"self.stride\(-1\) must be 1"):
        x.t().view(torch.int16)


def test_view_functions_in_place() -> None:
    x = torch.arange(6.0).reshape(1, 2, 3)
    assert x.squeeze_(0) is x
    assert x.t_().shape == (3, 2)
    assert x.transpose_(0, 1).unsqueeze_(-1).shape == (2, 3, 1)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        torch.ones(2, 3, requires_grad=True).t_()


# -- options of new tensors ---------------------------------------------------------------------------------------


def test_options() -> None:
    made = torch.zeros(size=(2, 1), dtype=torch.float64, layout=torch.strided, device="cpu", requires_grad=True)
    assert (made.shape, made.dtype, made.requires_grad) == ((2, 1), torch.float64, True)
    out = torch.ones(3)
    assert torch.arange(4, out=out) is out
    assert out.tolist() == [0, 1, 2, 3]
    assert torch.eye(2, out=torch.ones(1, dtype=torch.int64)).tolist() == [[1, 0], [0, 1]]
    assert torch.ones(2).new_full((2,), 3, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match=r"dtype Double does not match dtype of out parameter \(Float\)"):
        torch.zeros(2, out=out, dtype=torch.float64)
    with pytest.raises(TypeError, match="argument 'size' must be tuple of ints"):
        torch.zeros(2.5)
    with pytest.raises(TypeError, match="missing 1 required positional arguments"):
        torch.zeros()
    with pytest.raises(TypeError, match=r"must be torch\.strided"):
        torch.zeros(2, layout="strided")


def test_strides_of_a_new_tensor() -> None:
    assert torch.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    assert torch.ones(1, dtype=torch.int8).new_empty_strided((2, 2), (3, 1)).dtype is torch.int8
    with pytest.raises(RuntimeError, match="mismatch in length"):
        torch.empty_strided((2, 3), (1,))


def test_memory_is_filled_from_front_to_back() -> None:
    torch.manual_seed(3)
    rows = torch.empty(3, 4).uniform_()
    torch.manual_seed(3)
    assert torch.equal(torch.empty(3, 4).t().uniform_().t(), rows)
    torch.manual_seed(3)
    assert torch.equal(torch.rand_like(torch.empty(3, 4).t()).t(), rows)
