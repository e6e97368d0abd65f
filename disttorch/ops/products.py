"""Products of vectors, matrices and tensors beyond `matmul`: added products, contractions, powers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.promotion import result_dtype
from disttorch.ops import reduce
from disttorch.ops.arithmetic import mul
from disttorch.ops.define import common_namespace, expect_tensor, operator
from disttorch.ops.linalg import bmm, dot, matmul, mm, mv, outer
from disttorch.ops.registry import traced
from disttorch.ops.shape import expand, permute, reshape, wrap_dim
from disttorch.ops.write import type_label, with_out

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "chain_matmul", "cross", "einsum", "inner", "kron", "matrix_power",
    "tensordot", "vdot",
]  # fmt: skip
METHODS = """
    addbmm addmm addmv addr baddbmm cross inner kron matrix_power vdot
"""
INPLACE = """
    addbmm addmm addmv addr baddbmm
"""


# -- added products -----------------------------------------------------------------------------------------------


def _factor(scale: Any, d: Any, name: str) -> Any:
    if d.kind in "biu" and isinstance(scale, float):
        return int(scale)
    if d.kind != "c" and isinstance(scale, complex):
        raise RuntimeError(f"For non-complex input tensors, argument {name} must not be a complex number.")
    return scale


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    return shape == target or (
        len(shape) <= len(target) and all([m in (1, n) for m, n in zip(shape[::-1], target[::-1])])
    )


def _weighted(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """Return beta * input + alpha * product in the shape of the product; a beta of 0 hides even NaN in `input`."""
    if input._a.dtype != product._a.dtype:
        raise RuntimeError(
            f"self and mat2 must have the same dtype, but got {type_label(input._a.dtype)} and {type_label(product._a.dtype)}"
        )
    alpha, beta = _factor(alpha, product._a.dtype, "alpha"), _factor(beta, product._a.dtype, "beta")
    if not _broadcasts(input._a.shape, product._a.shape):
        expand(input, product._a.shape)  # raises
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:
        input, beta = traced.where(wrap(np.zeros((), bool)), input, 0), 1
    return (input if beta == 1 else input * beta) + scaled


@with_out
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: complex = 1, alpha: complex = 1) -> Tensor:
    """Return beta * input + alpha * (mat1 @ mat2)."""
    return _weighted(input, mm(mat1, mat2), beta, alpha)


@with_out
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: complex = 1, alpha: complex = 1) -> Tensor:
    """Return beta * input + alpha * (mat @ vec)."""
    return _weighted(input, mv(mat, vec), beta, alpha)


@with_out
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: complex = 1, alpha: complex = 1) -> Tensor:
    """Return beta * input + alpha * (batch1 @ batch2), on stacks of matrices."""
    return _weighted(input, bmm(batch1, batch2), beta, alpha)


@with_out
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: complex = 1, alpha: complex = 1) -> Tensor:
    """Return beta * input + alpha * (the sum of the products of two stacks of matrices)."""
    return _weighted(input, traced.sum(bmm(batch1, batch2), (0,), False), beta, alpha)


@with_out
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: complex = 1, alpha: complex = 1) -> Tensor:
    """Return beta * input + alpha * outer(vec1, vec2)."""
    for name, vec in (("vec1", vec1), ("vec2", vec2)):
        if vec._a.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {name}, but got {vec._a.ndim}-D")
    product = outer(vec1, vec2)
    if product._a.dtype == bool and input._a.dtype == bool:
        shown = expand(input, product._a.shape) & bool(beta)
        return shown | (product & bool(alpha))
    d = result_dtype([input._a, product._a]).numpy
    input, product = (x if x._a.dtype == d else traced.cast(x, d) for x in (input, product))
    return _weighted(input, product, beta, alpha)


# -- products of tensors ------------------------------------------------------------------------------------------


@with_out
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """Return the sum of conj(input) * other over two vectors."""
    return dot(traced.conj(input), other)


@with_out
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Return the sums of products over the last dimension of both; with a number, their product."""
    if not input._a.ndim or not other._a.ndim:
        return mul(input, other)
    if input._a.shape[-1] != other._a.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input._a.shape)} and "
            f"{list(other._a.shape)}"
        )
    return tensordot(input, other, ([-1], [-1]))


@with_out
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Return the Kronecker product: every product of an element of `input` with the whole of `other`."""
    ndim = max(input._a.ndim, other._a.ndim)
    m, n = ((1,) * (ndim - x._a.ndim) + x._a.shape for x in (input, other))
    left = reshape(input, tuple(k for size in m for k in (size, 1)))
    right = reshape(other, tuple(k for size in n for k in (1, size)))
    return reshape(left * right, tuple(p * q for p, q in zip(m, n)))


@operator(2, name="cross", grad_name="LinalgCrossBackward0")
def _cross(xp, x, y, dim):
    moved = xp.cross(x, y, axis=dim)
    return xp.ascontiguousarray(moved.astype(x.dtype, copy=False))


@_cross.vjp("x")
def _(F, g, y, dim):
    return F.cross(F.conj(y), g, dim)


@_cross.vjp("y")
def _(F, g, x, dim):
    return F.cross(g, F.conj(x), dim)


def cross_along(input: Tensor, other: Tensor, dim: int) -> Tensor:
    """Return the vector product along `dim`, of length 3 in both; the other dimensions are broadcast."""
    m, n = input._a, other._a
    if m.ndim != n.ndim:
        raise RuntimeError(f"linalg.cross: inputs must have the same number of dimensions. Got {m.ndim} and {n.ndim}")
    d = wrap_dim(dim, m.ndim)
    if not m.ndim or m.shape[d] != 3 or n.shape[d] != 3:
        sizes = (m.shape[d], n.shape[d]) if m.ndim else (1, 1)
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {sizes[0]} and {sizes[1]}")
    target = result_dtype([m, n]).numpy
    same = [x if x._a.dtype == target else traced.cast(x, target) for x in (input, other)]
    try:
        return _cross(*same, d - m.ndim)
    except ValueError:
        raise RuntimeError(f"linalg.cross: shapes {list(m.shape)} and {list(n.shape)} do not broadcast") from None


@with_out
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Return the vector product along `dim`; without it along the first dimension of length 3."""
    if dim is None:
        candidates = [d for d, n in enumerate(input._a.shape) if n == 3]
        if not candidates:
            raise RuntimeError("no dimension of size 3 in input")
        dim = candidates[0]
    return cross_along(input, other, dim)


def _dims_to_contract(a: Tensor, b: Tensor, dims: Any) -> tuple[list[int], list[int]]:
    if isinstance(dims, Tensor):
        dims = dims._a.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a._a.ndim, b._a.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        return list(range(a._a.ndim - dims, a._a.ndim)), list(range(dims))
    first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(first) != len(second):
        raise RuntimeError("both dimension lists should have same length")
    return [wrap_dim(d, a._a.ndim) for d in first], [wrap_dim(d, b._a.ndim) for d in second]


@with_out
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Return the sums of products over the last dimensions of `a` and the first of `b`, or over two lists of them."""
    first, second = _dims_to_contract(a, b, dims)
    labels_a: list[Any] = [("a", i) for i in range(a._a.ndim)]
    labels_b: list[Any] = [("b", i) for i in range(b._a.ndim)]
    for i, j in zip(first, second):
        m, n = a._a.shape[i], b._a.shape[j]
        if m != n and 1 not in (m, n):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {m} in dim {i} and second has size {n} in dim {j}"
            )
        labels_b[j] = labels_a[i]
    output = [x for x in labels_a if x not in labels_b] + [x for x in labels_b if x not in labels_a]
    return contract([a, b], [labels_a, labels_b], output)


# -- Einstein's sums ----------------------------------------------------------------------------------------------


def einsum(*args: Any) -> Tensor:
    """Return the sums of products that an equation names, `einsum("ij,jk->ik", a, b)`, as a chain of matrix products.

    Also as tensors and lists of subscripts in turn: `einsum(a, [0, 1], b, [1, 2], [0, 2])`. Three or more operands are
    multiplied in the order that NumPy's greedy search finds.
    """
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its subscripts list"
        )
    equation, *operands = _from_lists(args) if isinstance(args[0], Tensor) else args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    tensors = [expect_tensor(x, "einsum", "operands") for x in operands]
    if not tensors:
        raise RuntimeError("einsum(): must provide at least one operand")
    labels, output = _subscripts(equation.replace(" ", ""), tuple([x._a.ndim for x in tensors]))
    return contract(tensors, labels, output)


def _letters(subscripts: Sequence[Any]) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for s in subscripts:
        if s is not Ellipsis and not 0 <= s < len(alphabet):
            raise ValueError(f"einsum(): subscripts are numbers from 0 to {len(alphabet) - 1}, not {s}")
    return "".join("..." if s is Ellipsis else alphabet[s] for s in subscripts)


def _from_lists(args: Sequence[Any]) -> list[Any]:
    equation = ",".join(_letters(s) for s in args[1::2])
    if len(args) % 2:
        equation += "->" + _letters(args[-1])
    return [equation, *args[: len(args) // 2 * 2 : 2]]


@lru_cache(maxsize=256)
def _subscripts(equation: str, ndims: tuple[int, ...]) -> tuple[list[list[Any]], list[Any]]:
    """Return the labels of each operand's dimensions and of the result's; an ellipsis becomes numbers from its end."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        more = "more" if len(terms) < len(ndims) else "fewer"
        raise RuntimeError(f"einsum(): {more} operands were provided than specified in the equation")
    labels = [_labels_of(term, ndim, k) for k, (term, ndim) in enumerate(zip(terms, ndims))]
    counts: dict[Any, int] = {}
    for label in (x for listed in labels for x in listed):
        counts[label] = counts.get(label, 0) + 1
    dots = sorted(x for x in counts if isinstance(x, int))
    if not arrow:
        return labels, [*dots, *sorted(x for x in counts if isinstance(x, str) and counts[x] == 1)]
    output = _expand_dots(right, dots)
    for label in output:
        if label not in counts:
            raise RuntimeError(
                f"einsum(): output subscript {label} does not appear in the equation for any input operand"
            )
        if output.count(label) > 1:
            raise RuntimeError(f"einsum(): output subscript {label} appears more than once in the output")
    return labels, output


def _expand_dots(term: str, dots: Sequence[int]) -> list[Any]:
    before, found, after = term.partition("...")
    letters = before + after
    if not all(x.isascii() and x.isalpha() for x in letters):
        raise RuntimeError(f"einsum(): subscripts are letters and one '...', got '{term}'")
    return [*before, *(dots if found else ()), *after]


def _labels_of(term: str, ndim: int, k: int) -> list[Any]:
    named = len(term.replace("...", ""))
    if "..." not in term and named != ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({named}) does not match the number of dimensions ({ndim}) for "
            f"operand {k} and no ellipsis was given"
        )
    if named > ndim:
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({named}) is more than the number of dimensions ({ndim}) for "
            f"operand {k}"
        )
    return _expand_dots(term, list(range(named - ndim, 0)))


def contract(tensors: Sequence[Tensor], labels: Sequence[list[Any]], output: list[Any]) -> Tensor:
    """Return the sums of products over the dimensions whose labels are not in `output`."""
    common_namespace([x._a for x in tensors])
    sizes = _sizes(tensors, labels)
    terms = [_unrepeated(x, listed, sizes) for x, listed in zip(tensors, labels)]
    for chosen in _order([x for _, x in terms], output, sizes):
        pair = [terms[i] for i in chosen]
        terms = [term for i, term in enumerate(terms) if i not in chosen]
        needed = {label for _, listed in terms for label in listed}.union(output)
        terms.append(_multiply(_in_order(pair, output), needed, sizes) if len(pair) > 1 else pair[0])
    tensor, listed = terms[0]
    tensor, listed = _sum_out(tensor, listed, output)
    order = tuple(listed.index(x) for x in output)
    return permute(tensor, order) if order != tuple(range(len(order))) else tensor


def _sizes(tensors: Sequence[Tensor], labels: Sequence[list[Any]]) -> dict[Any, int]:
    sizes: dict[Any, int] = {}
    for k, (x, listed) in enumerate(zip(tensors, labels)):
        for d, (label, n) in enumerate(zip(listed, x._a.shape)):
            if label in listed[:d] and n != x._a.shape[listed.index(label)]:
                raise RuntimeError(
                    f"einsum(): subscript {label} is repeated for operand {k} but the sizes don't match, {n} != "
                    f"{x._a.shape[listed.index(label)]}"
                )
            seen = sizes.setdefault(label, n)
            if n != seen and 1 not in (n, seen):
                raise RuntimeError(
                    f"einsum(): subscript {label} has size {n} for operand {k} which does not broadcast with previously seen "
                    f"size {seen}"
                )
            sizes[label] = n if seen == 1 else seen
    return sizes


def _unrepeated(x: Tensor, labels: list[Any], sizes: dict[Any, int]) -> tuple[Tensor, list[Any]]:
    """Return the operand with repeated labels replaced by diagonals; a size of 1 that is broadcast is left out."""
    labels = list(labels)
    for label in [x for k, x in enumerate(labels) if x in labels[:k]]:
        first = labels.index(label)
        second = labels.index(label, first + 1)
        x = traced.diagonal(x, 0, first, second)
        labels = [name for d, name in enumerate(labels) if d not in (first, second)] + [label]
    gone = tuple(d for d, label in enumerate(labels) if x._a.shape[d] != sizes[label])
    return (traced.squeeze(x, gone) if gone else x), [label for d, label in enumerate(labels) if d not in gone]


def _order(labels: Sequence[list[Any]], output: list[Any], sizes: dict[Any, int]) -> list[Any]:
    """Return which operands to multiply, step by step; the product goes to the end."""
    if len(labels) < 3:
        return [tuple(range(len(labels)))]
    number = {label: k for k, label in enumerate(sizes)}
    operands: list[Any] = []
    for listed in labels:
        operands += [np.broadcast_to(0, tuple(sizes[x] for x in listed)), [number[x] for x in listed]]
    return [tuple(step) for step in np.einsum_path(*operands, [number[x] for x in output], optimize="greedy")[0][1:]]


def _sum_out(x: Tensor, labels: list[Any], needed: Any) -> tuple[Tensor, list[Any]]:
    gone = tuple(d for d, label in enumerate(labels) if label not in needed)
    kept = [label for label in labels if label in needed]
    return (reduce.sum(x, gone) if gone else x), kept


def _multiply(pair: Any, needed: set[Any], sizes: dict[Any, int]) -> tuple[Tensor, list[Any]]:
    """Return the product of two operands as one product of stacks of matrices."""
    (x, labels_x), (y, labels_y) = pair
    x, labels_x = _sum_out(x, labels_x, needed.union(labels_y))
    y, labels_y = _sum_out(y, labels_y, needed.union(labels_x))
    shared = [label for label in labels_x if label in labels_y]
    stack, summed = [label for label in shared if label in needed], [label for label in shared if label not in needed]
    rows = [label for label in labels_x if label not in shared]
    columns = [label for label in labels_y if label not in shared]
    left = _arranged(x, labels_x, (stack, rows, summed) if stack else (rows, summed), sizes)
    right = _arranged(y, labels_y, (stack, summed, columns) if stack else (summed, columns), sizes)
    product = matmul(left, right) if summed else left * right
    result = [*stack, *rows, *columns]
    shape = tuple([sizes[label] for label in result])
    return (product if product._a.shape == shape else reshape(product, shape)), result


def _in_order(pair: Any, output: list[Any]) -> Any:
    """Return the operands so that the one whose own labels come first in the result is on the left."""
    (_, first), (_, second) = pair
    places = [
        min([output.index(x) for x in mine if x in output and x not in others], default=len(output))
        for mine, others in ((first, second), (second, first))
    ]
    return pair if places[0] <= places[1] else pair[::-1]


def _arranged(x: Tensor, labels: list[Any], groups: Any, sizes: dict[Any, int]) -> Tensor:
    """Return the operand with its dimensions in groups, one dimension for each group."""
    order = [labels.index(label) for group in groups for label in group]
    if order != sorted(order):
        x = permute(x, order)
    shape = tuple([prod([sizes[label] for label in group]) for group in groups])
    return x if x._a.shape == shape else reshape(x, shape)


# -- chains and powers --------------------------------------------------------------------------------------------


def chain_matmul(*matrices: Any, out: Tensor | None = None) -> Tensor:
    """Return the product of all matrices, in the order of multiplication that costs least."""
    listed = list(matrices[0]) if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)) else list(matrices)
    if not listed:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    return _chain(listed, out=out)


@with_out
def _chain(matrices: list[Tensor]) -> Tensor:
    return matrices[0] if len(matrices) == 1 else multiply_chain(matrices)


def multiply_chain(matrices: Sequence[Tensor]) -> Tensor:
    """Return the product of two or more matrices by the cheapest order (Cormen et al., Introduction to Algorithms)."""
    sizes = [m._a.shape[0] for m in matrices] + [matrices[-1]._a.shape[1]]
    n = len(matrices)
    cost, split = np.zeros((n, n)), np.zeros((n, n), int)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            costs = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i, j], split[i, j] = min(costs), i + int(np.argmin(costs))

    def product(i: int, j: int) -> Tensor:
        return matrices[i] if i == j else mm(product(i, split[i, j]), product(split[i, j] + 1, j))

    return product(0, n - 1)


@with_out
def matrix_power(input: Tensor, n: int) -> Tensor:
    """Return the n-th power of square matrices by repeated squaring; a negative power is one of the inverse."""
    shape = input._a.shape
    if len(shape) < 2:
        raise RuntimeError("linalg.matrix_power: The input tensor A must have at least 2 dimensions.")
    if shape[-1] != shape[-2]:
        raise RuntimeError(
            f"linalg.matrix_power: A must be batches of square matrices, but they are {shape[-2]} by {shape[-1]} matrices"
        )
    if n == 0:
        return traced.identity_like(input)
    square = traced.inverse(input) if n < 0 else input
    powers = [square]
    for _ in range(abs(n).bit_length() - 1):
        powers.append(matmul(powers[-1], powers[-1]))
    result, *others = [power for k, power in enumerate(powers) if abs(n) >> k & 1]
    for power in others:
        result = matmul(result, power)
    return traced.clone(result, True) if n == 1 else result
