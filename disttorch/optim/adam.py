"""Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from disttorch.autograd.tensor import Tensor
from disttorch.autograd.views import written
from disttorch.backends import kernels_of
from disttorch.optim._update import (
    arrays,
    check_range,
    count_step,
    evaluate,
    floats,
    kept,
    new_step,
    number,
    step_as_tensor,
    zeros_like,
)
from disttorch.optim.optimizer import Optimizer, Params


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`.

        g <- g + weight_decay * p        (decoupled_weight_decay: p <- p - lr * weight_decay * p instead)
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)        in step t

    From D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015. `amsgrad` uses the largest v so
    far (S. Reddi et al., "On the convergence of Adam and beyond", 2018). `foreach`, `fused` and `capturable` choose
    an implementation in PyTorch and change nothing here. Raises ValueError for an option out of range.
    """

    _added_options: ClassVar[dict[str, Any]] = {
        "amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
        "decoupled_weight_decay": False, "fused": None,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_range("learning rate", lr)
        check_range("epsilon value", eps)
        check_range("weight_decay value", weight_decay)
        defaults = {
            "lr": lr, "betas": _checked_betas(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for one in self.state.values():
            step_as_tensor(one)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients; return what `closure`, which computes them anew, returned."""
        loss = evaluate(closure)
        for group in self.param_groups:
            lr, eps, decay = floats(group, "lr", "eps", "weight_decay")
            beta1, beta2 = (float(number(beta)) for beta in group["betas"])
            options = (lr, beta1, beta2, eps, decay, group["decoupled_weight_decay"], group["maximize"])
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, group, options)
        return loss

    def _update(self, param: Tensor, group: dict[str, Any], options: tuple[Any, ...]) -> None:
        state = self.state[param] or self._new_state(param, group)
        step = count_step(state)
        largest = kept(state, "max_exp_avg_sq", "amsgrad") if group["amsgrad"] else None
        kernels_of(param._a).adam(*arrays(param, state["exp_avg"], state["exp_avg_sq"], largest), step, *options)
        written(param)

    def _new_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[param]
        state["step"] = new_step()
        state["exp_avg"] = zeros_like(param)
        state["exp_avg_sq"] = zeros_like(param)
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(param)
        return state


def _checked_betas(betas: tuple[float | Tensor, float | Tensor]) -> tuple[float | Tensor, float | Tensor]:
    if len(betas) != 2:
        raise ValueError(f"Invalid betas: expected two numbers (beta1, beta2), got {betas}")
    for i, beta in enumerate(betas):
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{i}] must be 1-element")
        if not 0.0 <= number(beta) < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    if not (all(isinstance(b, float) for b in betas) or all(isinstance(b, Tensor) for b in betas)):
        raise ValueError("betas must be either both floats or both Tensors")
    return tuple(betas)  # type: ignore[return-value]
