"""Front-ends of `nn.functional`: padding, one-hot, embedding, activations in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.nn import functional as F


@pytest.mark.parametrize("sizes", [(1, 2), (0, 3, 2, 0), (1, 1, 0, 0, 2, 1), ()])
def test_constant_padding(sizes: tuple[int, ...]) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    ends = [(0, 0)] * (3 - len(sizes) // 2)
    ends += [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)][::-1]
    result = F.pad(torch.tensor(x), sizes, value=9.0).numpy()
    np.testing.assert_array_equal(result, np.pad(x, ends, constant_values=9.0))


def test_negative_padding_takes_away() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    padded = F.pad(x, (-1, 1, 0, -1))
    assert padded.tolist() == [[2.0, 3.0, 0.0]]
    padded.sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]


def test_padding_copies_and_keeps_the_type() -> None:
    x = torch.tensor([True, False])
    assert F.pad(x, (1, 0), value=1).tolist() == [True, True, False]
    assert F.pad(x, (0, 0)) is not x


@pytest.mark.parametrize(
    ("sizes", "mode", "value", "error", "message"),
    [
        ((1,), "constant", None, RuntimeError, "must be divisible by 2"),
        ((1,) * 8, "constant", None, RuntimeError, "got padding length 8 and input of dimension 3"),
        ((1, 1), "mirror", None, NotImplementedError, "Unrecognised padding mode mirror"),
        ((-3, -2), "constant", None, RuntimeError, "resulted in a negative output size"),
        ((1, 1), "reflect", 2.0, ValueError, 'Padding mode "reflect" doesn\'t take in value'),
        ((4, 1), "reflect", None, RuntimeError, "too large for a dimension of size 4: at most 3"),
        ((1, 5), "circular", None, RuntimeError, "too large for a dimension of size 4: at most 4"),
        ((1,) * 6, "replicate", None, NotImplementedError, "Only 2D, 3D, 4D, 5D padding"),
    ],
)
def test_padding_errors(sizes: tuple[int, ...], mode: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        F.pad(torch.zeros(2, 3, 4), sizes, mode, value)


def test_one_hot() -> None:
    classes = np.array([[2, 0], [1, 1]])
    result = F.one_hot(torch.tensor(classes), 4)
    assert result.dtype is torch.int64
    np.testing.assert_array_equal(result.numpy(), np.eye(4, dtype=np.int64)[classes])
    assert F.one_hot(torch.tensor(1)).tolist() == [0, 1]
    assert F.one_hot(torch.zeros(0, dtype=torch.int64), 3).shape == (0, 3)
    with pytest.raises(RuntimeError, match="only applicable to index tensor of type LongTensor"):
        F.one_hot(torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="Can not infer total number of classes"):
        F.one_hot(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="Class values must be non-negative"):
        F.one_hot(torch.tensor([-1]))
    with pytest.raises(RuntimeError, match="Class values must be smaller than num_classes"):
        F.one_hot(torch.tensor([4]), 4)


def test_embedding_limits_rows_in_use() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    found = F.embedding(torch.tensor([0, 1]), weight, max_norm=1.0)
    np.testing.assert_allclose(found.numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    assert weight[2].tolist() == [6.0, 8.0], "a row that is not in use was changed"
    with pytest.raises(AssertionError, match="Padding_idx must be within num_embeddings"):
        F.embedding(torch.tensor([0]), weight, padding_idx=3)


def test_activations_in_place() -> None:
    x = torch.tensor([-2.0, 8.0])
    assert F.relu(x, inplace=True) is x
    assert x.tolist() == [0.0, 8.0]
    assert F.relu6(x, inplace=True).tolist() == [0.0, 6.0]
    assert F.hardtanh(x, -1.0, 2.0, inplace=True).tolist() == [0.0, 2.0]
    assert F.relu_(x) is x
    y = torch.tensor([-2.0, 8.0])
    assert F.leaky_relu(y, 0.5, inplace=True) is y
    assert y.tolist() == [-1.0, 8.0]
    assert F.elu(y, inplace=True).tolist() == [pytest.approx(np.expm1(-1.0)), 8.0]
    assert F.silu(y, inplace=True) is y
    leaf = torch.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        F.relu(leaf, inplace=True)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
def test_softmax_without_a_dimension_warns(function: Any) -> None:
    for shape, dim in (((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((1, 2, 3, 4), 1)):
        x = torch.randn(*shape)
        with pytest.warns(UserWarning, match="Implicit dimension choice for"):
            implicit = function(x)
        assert torch.equal(implicit, function(x, dim=dim))
    assert function(x, 0, dtype=torch.float64).dtype is torch.float64
