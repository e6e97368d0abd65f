"""RMSprop."""

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
    step_as_tensor,
    zeros_like,
)
from disttorch.optim.optimizer import Optimizer, Params


class RMSprop(Optimizer):
    """RMSprop, as `torch.optim.RMSprop`.

        g <- g + weight_decay * p
        v <- alpha * v + (1 - alpha) * g^2
        a <- alpha * a + (1 - alpha) * g,   s = v - a^2        (s = v unless centered)
        b <- momentum * b + g / (sqrt(s) + eps)
        p <- p - lr * b

    From G. Hinton's lecture 6 (Coursera, 2012); centered as in A. Graves, "Generating sequences with recurrent
    neural networks", 2013. `foreach` and `capturable` choose an implementation in PyTorch and change nothing here.
    Raises ValueError for an option out of range.
    """

    _added_options: ClassVar[dict[str, Any]] = {
        "momentum": 0, "centered": False, "foreach": None, "maximize": False, "differentiable": False,
        "capturable": False,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_range("learning rate", lr)
        check_range("epsilon value", eps)
        check_range("momentum value", momentum)
        check_range("weight_decay value", weight_decay)
        check_range("alpha value", alpha)
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
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
            options = floats(group, "lr", "alpha", "eps", "weight_decay", "momentum")
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, group, options)
        return loss

    def _update(self, param: Tensor, group: dict[str, Any], options: list[float]) -> None:
        state = self.state[param] or self._new_state(param, group)
        count_step(state)
        average = kept(state, "grad_avg", "centered") if group["centered"] else None
        buffer = kept(state, "momentum_buffer", "momentum") if group["momentum"] > 0 else None
        kernels_of(param._a).rmsprop(
            *arrays(param, state["square_avg"], average, buffer), *options, group["centered"], group["maximize"]
        )
        written(param)

    def _new_state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[param]
        state["step"] = new_step()
        state["square_avg"] = zeros_like(param)
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = zeros_like(param)
        return state
