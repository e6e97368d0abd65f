"""Instance normalization."""

from __future__ import annotations

import warnings
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn.modules.batchnorm import _NormBase


class _InstanceNorm(_NormBase):
    unbatched = 0  # the number of dimensions of an input without N

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize [N, C, *S], or [C, *S]."""
        self._check_input_dim(input)
        self._check_channels(input)
        if input.ndim == self.unbatched:
            return self._normalize(input.unsqueeze(0)).squeeze(0)
        return self._normalize(input)

    def _normalize(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum or 0.0,
            self.eps,
        )

    def _check_input_dim(self, input: Tensor) -> None:
        without = self.unbatched
        if input.ndim not in (without, without + 1):
            raise ValueError(f"expected {without}D or {without + 1}D input (got {input.ndim}D input)")

    def _check_channels(self, input: Tensor) -> None:
        dim = input.ndim - self.unbatched
        channels = input.shape[dim]
        if channels == self.num_features:
            return
        if self.affine:
            raise ValueError(
                f"expected input's size at dim={dim} to match num_features ({self.num_features}), but got: {channels}."
            )
        warnings.warn(
            f"input's size at dim={dim} does not match num_features. "
            "You can silence this warning by not passing in num_features, which is not used because affine=False",
            stacklevel=4,
        )

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if local_metadata.get("version") is None and not self.track_running_stats:
            stale = [name for name in ("running_mean", "running_var") if prefix + name in state_dict]
            if stale:
                kind = type(self).__name__
                quoted = " and ".join(f'"{prefix}{name}"' for name in stale)
                error_msgs.append(
                    f"Unexpected running stats buffer(s) {quoted} for {kind} with track_running_stats=False. {kind} tracks "
                    "them only with track_running_stats=True: take these keys out of the state_dict, or turn that on."
                )
            for name in stale:
                del state_dict[prefix + name]
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


_INSTANCE = """

    Ulyanov et al., arXiv:1607.08022: y = (x - mean) / sqrt(var + eps), each mean and variance over one channel of one
    sample. With `affine` then times `weight` plus `bias` [num_features]. With `track_running_stats` the averages over
    the samples are kept as for batch normalization, and used in evaluation.
    """


class InstanceNorm1d(_InstanceNorm):
    __doc__ = "Normalize each channel of each sample of [N, C, L], or [C, L], by itself." + _INSTANCE
    unbatched = 2


class InstanceNorm2d(_InstanceNorm):
    __doc__ = "Normalize each channel of each sample of [N, C, H, W], or [C, H, W], by itself." + _INSTANCE
    unbatched = 3


class InstanceNorm3d(_InstanceNorm):
    __doc__ = "Normalize each channel of each sample of [N, C, D, H, W], or [C, D, H, W], by itself." + _INSTANCE
    unbatched = 4
