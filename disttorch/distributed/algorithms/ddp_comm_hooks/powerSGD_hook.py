"""Gradients compressed to matrices of low rank: PowerSGD.

    state = PowerSGDState(process_group=None, matrix_approximation_rank=2, start_powerSGD_iter=100)
    model.register_comm_hook(state, powerSGD_hook)

From T. Vogels et al., "PowerSGD: practical low-rank gradient compression for distributed optimization", 2019.
"""

# ruff: noqa: N999 - the name of the module is PyTorch's
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import address, backend_of
from disttorch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from disttorch.distributed.collectives import all_reduce
from disttorch.distributed.gradient_buckets import GradBucket
from disttorch.distributed.reduce_op import ReduceOp
from disttorch.futures import Future

__all__ = ["PowerSGDState", "powerSGD_hook"]


class PowerSGDState:
    """What `powerSGD_hook` remembers from step to step, and its options.

    process_group: None for all ranks. matrix_approximation_rank: the more, the better the approximation and
    the more is sent. start_powerSGD_iter: how many steps send everything before compression begins.
    min_compression_rate: gradients that do not become this much smaller, and vectors, are sent whole.
    use_error_feedback: add to a gradient what the last compression has lost of the one before. warm_start:
    begin with the last step's matrices. orthogonalization_epsilon: added to the length of a column before
    dividing by it. random_seed: the same on every rank. compression_stats_logging_frequency and
    batch_tensors_with_same_shape are accepted and change nothing.
    """

    def __init__(
        self,
        process_group: Any,
        matrix_approximation_rank: int = 1,
        start_powerSGD_iter: int = 1_000,
        min_compression_rate: float = 2,
        use_error_feedback: bool = True,
        warm_start: bool = True,
        orthogonalization_epsilon: float = 0,
        random_seed: int = 0,
        compression_stats_logging_frequency: int = 10_000,
        batch_tensors_with_same_shape: bool = False,
    ) -> None:
        if (use_error_feedback or warm_start) and start_powerSGD_iter <= 1:
            raise ValueError(
                "Expect `start_powerSGD_iter` > 1 if `use_error_feedback` or `warm_start` is enabled, as in PyTorch; got "
                f"{start_powerSGD_iter}"
            )
        self.process_group = process_group
        self.matrix_approximation_rank = matrix_approximation_rank
        self.start_powerSGD_iter = start_powerSGD_iter
        self.min_compression_rate = min_compression_rate
        self.use_error_feedback = use_error_feedback
        self.warm_start = warm_start
        self.orthogonalization_epsilon = orthogonalization_epsilon
        self.random_seed = random_seed
        self.compression_stats_logging_frequency = max(1, compression_stats_logging_frequency)
        self.batch_tensors_with_same_shape = batch_tensors_with_same_shape
        self.error_dict: dict[int, Tensor] = {}
        self.q_memory_dict: dict[int, list[Any]] = {}
        self.iter = 0
        self.total_numel_before_compression = 0
        self.total_numel_after_compression = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the process group, which is all ranks again in what is loaded."""
        return {**self.__dict__, "process_group": None}

    def maybe_increase_iter(self, bucket: GradBucket) -> None:
        """Count a step when its last bucket comes."""
        self.iter += bucket.is_last()

    def compression_stats(self) -> tuple[float, int, int]:
        """Return how much smaller gradients have become, and the numbers of elements before and after."""
        before, after = self.total_numel_before_compression, self.total_numel_after_compression
        return (before / after if after else 0.0), before, after


class _Matrix(NamedTuple):
    """A gradient as a matrix on the bucket's memory, and the rank of its approximation."""

    values: Any
    rank: int


def powerSGD_hook(state: PowerSGDState, bucket: GradBucket) -> Future[Tensor]:  # noqa: N802
    """Average the bucket's matrices M as P Q^T, where P = M Q and Q = M^T P, and the rest as it is.

    Sends (rows + columns) x rank elements for a matrix. The first reduction is waited for, the second
    goes on while backward does.
    """
    if state.iter < state.start_powerSGD_iter:
        state.maybe_increase_iter(bucket)
        return allreduce_hook(state.process_group, bucket)
    number, buffer = bucket.index(), bucket.buffer()
    if state.use_error_feedback and number in state.error_dict:
        buffer += state.error_dict[number]
    matrices, whole = _divide(state, bucket)
    before = [matrix.values.copy() for matrix in matrices] if state.use_error_feedback else []
    qs = _first_qs(state, number, matrices)
    ps = [matrix.values @ q for matrix, q in zip(matrices, qs, strict=True)]
    _average([*whole, *ps], state)
    for p in ps:
        _orthogonalize(p, state.orthogonalization_epsilon)
    qs = [matrix.values.T @ p for matrix, p in zip(matrices, ps, strict=True)]
    xp = backend_of(buffer._a).namespace
    packed = _packed(qs) if qs else xp.empty(0, buffer._a.dtype)
    work = all_reduce(wrap(packed), ReduceOp.AVG, state.process_group, async_op=True)
    assert work is not None
    state.maybe_increase_iter(bucket)

    def decompress(done: Future[Any]) -> Tensor:
        done.value()
        _unpack(packed, qs)
        for matrix, p, q in zip(matrices, ps, qs, strict=True):
            xp.matmul(p, q.T, out=matrix.values)
        state.q_memory_dict[number] = qs
        if state.use_error_feedback:
            state.error_dict[number] = _lost(bucket, matrices, before)
        return buffer

    return work.get_future().then(decompress)


def _divide(state: PowerSGDState, bucket: GradBucket) -> tuple[list[_Matrix], list[Any]]:
    """Return the gradients that are worth compressing, as matrices, and the others."""
    matrices, whole = [], []
    for gradient in bucket.gradients():
        array = gradient._a
        rows = array.shape[0] if array.ndim > 1 else 1
        columns = array.size // max(rows, 1)
        rank = min(rows, columns, state.matrix_approximation_rank)
        small = (rows + columns) * rank
        state.total_numel_before_compression += array.size
        if array.size and small * state.min_compression_rate < array.size:
            matrices.append(_Matrix(array.reshape(rows, columns), rank))
            state.total_numel_after_compression += small
        else:
            whole.append(array)
            state.total_numel_after_compression += array.size
    return matrices, whole


def _first_qs(state: PowerSGDState, number: int, matrices: list[_Matrix]) -> list[Any]:
    """Return orthonormal matrices to begin with, the same on every rank."""
    qs = state.q_memory_dict.get(number) if state.warm_start else None
    if qs is None:
        generator = np.random.default_rng([state.random_seed, state.iter, number])
        qs = []
        for values, rank in matrices:
            drawn = generator.standard_normal((values.shape[1], rank)).astype(values.dtype)
            qs.append(backend_of(values).namespace.asarray(drawn))
    for q in qs:
        _orthogonalize(q, state.orthogonalization_epsilon)
    return qs


def _orthogonalize(matrix: Any, epsilon: float) -> None:
    """Make the columns orthonormal in place: by Householder's reflections, or with an epsilon by Gram and Schmidt."""
    xp = backend_of(matrix).namespace
    if not epsilon:
        wide = matrix if matrix.dtype.itemsize > 2 else matrix.astype(np.float32)
        matrix[...] = xp.linalg.qr(wide)[0]
        return
    for i in range(matrix.shape[1]):
        column = matrix[:, i]
        column /= math.sqrt(float(xp.dot(column, column))) + epsilon
        rest = matrix[:, i + 1 :]
        rest -= xp.outer(column, column @ rest)


def _average(arrays: list[Any], state: PowerSGDState) -> None:
    if arrays:
        packed = _packed(arrays)
        all_reduce(wrap(packed), ReduceOp.AVG, state.process_group)
        _unpack(packed, arrays)


def _packed(arrays: list[Any]) -> Any:
    return backend_of(arrays[0]).namespace.concatenate([array.reshape(-1) for array in arrays])


def _unpack(packed: np.ndarray, arrays: list[Any]) -> None:
    start = 0
    for array in arrays:
        array[...] = packed[start : start + array.size].reshape(array.shape)
        start += array.size


def _lost(bucket: GradBucket, matrices: list[_Matrix], before: list[Any]) -> Tensor:
    """Return, in the bucket's form, what the compression has lost of this rank's gradients."""
    buffer = bucket.buffer()._a
    error = backend_of(buffer).namespace.zeros_like(buffer)
    for matrix, old in zip(matrices, before, strict=True):
        start = (address(matrix.values) - address(buffer)) // error.itemsize
        error[start : start + old.size] = (old - matrix.values).reshape(-1)
    return wrap(error)
