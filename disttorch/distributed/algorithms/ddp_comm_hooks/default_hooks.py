"""Plain and compressed all-reduce as communication hooks of DistributedDataParallel.

    model.register_comm_hook(None, fp16_compress_hook)

`process_group` is the hook's state: None for all ranks. The average is taken by the collective itself, which sums
16-bit numbers in 32 bits, so that nothing is lost by dividing before.
"""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import bfloat16, dtype, float16
from disttorch.distributed.collectives import ReduceOp, all_reduce
from disttorch.distributed.gradient_buckets import CommHook, GradBucket
from disttorch.futures import Future

__all__ = [
    "allreduce_hook",
    "bf16_compress_hook",
    "bf16_compress_wrapper",
    "fp16_compress_hook",
    "fp16_compress_wrapper",
]


def allreduce_hook(process_group: Any, bucket: GradBucket) -> Future[Tensor]:
    """Average the bucket over the ranks: what happens without a hook, with the same bits."""
    return _average(process_group, bucket.buffer())


def fp16_compress_hook(process_group: Any, bucket: GradBucket) -> Future[Tensor]:
    """Average the bucket in float16, which halves what is sent; beyond 65504 there are only infinities."""
    return _compressed(float16, allreduce_hook, process_group, bucket)


def bf16_compress_hook(process_group: Any, bucket: GradBucket) -> Future[Tensor]:
    """Average the bucket in bfloat16, which halves what is sent and keeps 8 bits of each number's mantissa."""
    return _compressed(bfloat16, allreduce_hook, process_group, bucket)


def fp16_compress_wrapper(hook: CommHook) -> CommHook:
    """Return `hook` on buckets in float16, its result in the gradients' own type."""

    def fp16_compress_wrapper_hook(hook_state: Any, bucket: GradBucket) -> Future[Tensor]:
        return _compressed(float16, hook, hook_state, bucket)

    return fp16_compress_wrapper_hook


def bf16_compress_wrapper(hook: CommHook) -> CommHook:
    """Return `hook` on buckets in bfloat16, its result in the gradients' own type."""

    def bf16_compress_wrapper_hook(hook_state: Any, bucket: GradBucket) -> Future[Tensor]:
        return _compressed(bfloat16, hook, hook_state, bucket)

    return bf16_compress_wrapper_hook


def _average(process_group: Any, tensor: Tensor) -> Future[Tensor]:
    work = all_reduce(tensor, ReduceOp.AVG, process_group, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def _compressed(kind: dtype, hook: CommHook, state: Any, bucket: GradBucket) -> Future[Tensor]:
    buffer = bucket.buffer()
    bucket.set_buffer(buffer.to(kind))

    def decompress(done: Future[Any]) -> Tensor:
        buffer.copy_(done.value())
        return buffer

    return hook(state, bucket).then(decompress)
