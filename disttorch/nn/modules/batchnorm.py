"""Batch normalization, and what instance normalization shares with it: affine parameters and running statistics."""

from __future__ import annotations

import sys
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn import init
from disttorch.nn.modules.module import Module
from disttorch.nn.parameter import Parameter
from disttorch.ops.creation import empty, ones, tensor, zeros


def register_affine(
    module: Module, shape: int | tuple[int, ...], weight: bool, bias: bool | None = None, **options: Any
) -> None:
    """Give a module `weight` and `bias` of one shape, not filled yet; for False the name alone, for None not even that."""
    for name, wanted in (("weight", weight), ("bias", bias)):
        if wanted is not None:
            module.register_parameter(name, Parameter(empty(shape, **options)) if wanted else None)


def reset_affine(weight: Tensor | None, bias: Tensor | None) -> None:
    """Set the factors to one and the summands to zero."""
    if weight is not None:
        init.ones_(weight)
    if bias is not None:
        init.zeros_(bias)


class _NormBase(Module):
    """Affine parameters and running statistics, one number per channel each."""

    _version = 2  # 1 had no num_batches_tracked
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        register_affine(self, num_features, affine, affine and bias, device=device, dtype=dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0, device=device) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the number of batches to 0."""
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set the running statistics back, the factors to one and the summands to zero."""
        self.reset_running_stats()
        reset_affine(self.weight, self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *report: Any, **named: Any
    ) -> None:
        if (local_metadata.get("version") or 0) < 2 and self.track_running_stats:
            state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *report, **named)


class _BatchNorm(_NormBase):
    def forward(self, input: Tensor) -> Tensor:
        """Normalize [N, C, *]."""
        self._check_input_dim(input)
        momentum = self._count_batch()
        tracked = self.track_running_stats or not self.training
        return F.batch_norm(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            self._uses_batch_statistics(),
            momentum,
            self.eps,
        )

    def _count_batch(self) -> float:
        """Count a batch in training; return the share of this batch in the running statistics."""
        if not (self.training and self.track_running_stats and self.num_batches_tracked is not None):
            return self.momentum or 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _uses_batch_statistics(self) -> bool:
        return self.training or (self.running_mean is None and self.running_var is None)


_BATCH = """

    Ioffe and Szegedy, arXiv:1502.03167: y = (x - mean) / sqrt(var + eps) * weight + bias for each channel. In training
    mean and variance (biased) are the batch's, and the buffers `running_mean` and `running_var` (unbiased) move towards
    them by `momentum`, or hold the plain average over all batches with `momentum=None`; in evaluation they are the
    running ones. `track_running_stats=False` always uses the batch's. `weight` starts as one, `bias` as zero; they are
    None without `affine`, and `bias` also with `bias=False`.
    """


class BatchNorm1d(_BatchNorm):
    __doc__ = "Normalize each channel of [N, num_features] or [N, num_features, L] over the batch." + _BATCH

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(f"expected 2D or 3D input (got {input.ndim}D input)")


class BatchNorm2d(_BatchNorm):
    __doc__ = "Normalize each channel of [N, num_features, H, W] over the batch." + _BATCH

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected 4D input (got {input.ndim}D input)")


class BatchNorm3d(_BatchNorm):
    __doc__ = "Normalize each channel of [N, num_features, D, H, W] over the batch." + _BATCH

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 5:
            raise ValueError(f"expected 5D input (got {input.ndim}D input)")


class SyncBatchNorm(_BatchNorm):
    __doc__ = (
        ("Normalize each channel of [N, num_features, *] over the batches of all ranks, as if they were one." + _BATCH)
        + """
    `process_group` says which ranks; all of them unless given. All must take each training step together; N may differ.
    In evaluation, with one rank, and without a process group this is a batch normalization of its own input.
    """
    )

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")
        if input.shape[1] == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [N, C, *]."""
        if not (self.training and _has_several_ranks(self.process_group)):
            return super().forward(input)
        from disttorch.distributed import sync_batch_norm

        self._check_input_dim(input)
        momentum = self._count_batch()
        mean, var = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return sync_batch_norm.batch_norm(
            input, mean, var, self.weight, self.bias, momentum, self.eps, self.process_group
        )

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """Return `module` with every batch normalization in it, or itself, replaced by one over all ranks.

        The new layers hold the old ones' parameters and buffers.
        """
        converted = cls._converted(module, process_group) if isinstance(module, _BatchNorm) else module
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted

    @classmethod
    def _converted(cls, old: _BatchNorm, process_group: Any) -> SyncBatchNorm:
        new = SyncBatchNorm(
            old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, process_group,
            bias=old.bias is not None,
        )  # fmt: skip
        new.weight, new.bias = old.weight, old.bias
        for name, buffer in old._buffers.items():
            setattr(new, name, buffer)
        return new.train(old.training)


def _has_several_ranks(process_group: Any) -> bool:
    """Say so without importing what a process that has no group does not need."""
    runtime = sys.modules.get("disttorch.distributed.runtime")
    return runtime is not None and runtime.is_initialized() and runtime.get_world_size(process_group) > 1
