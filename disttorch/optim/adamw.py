"""AdamW."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.optim.adam import Adam
from disttorch.optim.optimizer import Params


class AdamW(Adam):
    """Adam whose weight decay acts on the parameter and not through the gradient, as `torch.optim.AdamW`.

    From I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019. See `Adam` for the formula.
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
