"""Batch normalization by the statistics of all ranks' batches: what `nn.SyncBatchNorm` computes."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.function import Function
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.distributed import collectives, redistribution, runtime
from disttorch.ops.join import cat
from disttorch.ops.norm import affine, check_channels, empty_affine, move_towards, narrowed, widened
from disttorch.ops.registry import traced


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    group: Any = None,
) -> Tensor:
    """Do what `F.batch_norm` does in training, as if the ranks' inputs [N, C, *] were one batch; N may differ.

    All ranks of `group` must call it, and later go back through it, together: the forward pass gathers 2 C + 1 numbers,
    the backward pass adds up 3 C. The gradients are those of the sum of the ranks' losses. A rank's input may be empty.
    Raises ValueError on every rank for one value per channel in all.
    """
    channels = input._a.shape[1]
    check_channels(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    y, mean, var, count = _StandardizeOverRanks.apply(widened(input), eps, group)
    if count == 0:
        return empty_affine(input, weight, bias)
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got one on all ranks together, of input size {input.shape}"
        )
    move_towards(running_mean, mean._a.reshape(-1), momentum)
    move_towards(running_var, var._a.reshape(-1) * (count / (count - 1)), momentum)
    shape = (1, channels, *(1 for _ in input._a.shape[2:]))
    return narrowed(affine(y, weight, bias, shape), input)


class _StandardizeOverRanks(Function):
    """(x - mean) / sqrt(var + eps), mean, var and the number of values per channel, over all but x's dimension 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, group: Any) -> Any:
        y, mean, var = _standardized_here(x._a, eps)
        count, all_mean, all_var = _merged(x._a.size // x._a.shape[1], mean, var, group)
        xp = backend_of(y).namespace
        root = xp.sqrt(all_var + eps)
        y *= (xp.sqrt(var + eps) / root).astype(y.dtype)
        y += ((mean - all_mean) / root).astype(y.dtype)
        results = wrap(y), wrap(all_mean.astype(y.dtype)), wrap(all_var.astype(y.dtype))
        ctx.eps, ctx.group, ctx.count = eps, group, count
        ctx.save_for_backward(results[0], results[2])
        ctx.mark_non_differentiable(results[1])
        return *results, count

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor, g_var: Tensor) -> Any:
        y, var = ctx.saved_tensors
        dims = (0, *range(2, y.ndim))
        here = cat([g.sum(dims, True), (g * y).sum(dims, True), g_var])
        mean, along, slope = traced.unbind(_SumOverRanks.apply(here, ctx.group) / max(ctx.count, 1), 0)
        step = traced.rsqrt(var + ctx.eps)
        return (g - mean) * step + y * (2 * slope / step - along * step), None, None


class _SumOverRanks(Function):
    """The sum of the ranks' tensors. As each rank's loss depends on it, its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone()
        collectives.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _SumOverRanks.apply(g, ctx.group), None


def _standardized_here(x: Any, eps: float) -> tuple[Any, Any, Any]:
    """Return x standardized by its own statistics, which are zero without any values, and these in float64."""
    if not x.size:
        zero = backend_of(x).namespace.zeros((1, x.shape[1], *(1 for _ in x.shape[2:])))
        return x.copy(), zero, zero
    y, mean, var = kernels_of(x).standardize(x, (0, *range(2, x.ndim)), eps)
    return y, mean.astype("float64"), var.astype("float64")


def _merged(count: int, mean: Any, var: Any, group: Any) -> tuple[int, Any, Any]:
    """Return the number of values per channel on all ranks, and their mean and biased variance.

    Squared deviations from each rank's own mean, and of the ranks' means from the common one, are added: nothing cancels.
    """
    xp, channels = backend_of(mean).namespace, mean.size
    own = xp.concatenate([mean.reshape(-1), var.reshape(-1), xp.full(1, float(count))])
    table = [xp.empty_like(own) for _ in range(runtime.get_world_size(group))]
    redistribution.all_gather([wrap(row) for row in table], wrap(own), group)
    means, variances, counts = xp.split(xp.stack(table), [channels, 2 * channels], axis=1)
    total = max(int(counts.sum()), 1)
    all_mean = (counts * means).sum(0) / total
    all_var = (counts * (variances + (means - all_mean) ** 2)).sum(0) / total
    return int(counts.sum()), all_mean.reshape(mean.shape), all_var.reshape(mean.shape)
