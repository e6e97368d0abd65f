"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from disttorch.autograd.tensor import Tensor
from disttorch.autograd.views import written
from disttorch.backends import kernels_of
from disttorch.optim._update import check_range, evaluate, floats, zeros_like
from disttorch.optim.optimizer import Optimizer, Params


class SGD(Optimizer):
    """Stochastic gradient descent with optional momentum, as `torch.optim.SGD`.

        g <- g + weight_decay * p
        b <- momentum * b + (1 - dampening) * g        (b = g in the first step)
        p <- p - lr * (g + momentum * b if nesterov else b)

    Nesterov's form follows Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013. `maximize` goes up along the gradient. `foreach` and `fused` choose an implementation in
    PyTorch and change nothing here. Raises ValueError for an option out of range.
    """

    _added_options: ClassVar[dict[str, Any]] = {
        "nesterov": False, "maximize": False, "foreach": None, "differentiable": False, "fused": False,
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_range("learning rate", lr)
        check_range("momentum value", momentum)
        check_range("weight_decay value", weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach, "differentiable": differentiable,
            "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients; return what `closure`, which computes them anew, returned."""
        loss = evaluate(closure)
        for group in self.param_groups:
            lr, momentum, dampening, decay = floats(group, "lr", "momentum", "dampening", "weight_decay")
            nesterov, maximize = group["nesterov"], group["maximize"]
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                buffer, first = None, False
                if momentum != 0:
                    buffer, first = self._buffer(param)
                array = param._a
                kernels_of(array).sgd(array, grad._a, buffer, lr, momentum, dampening, decay, nesterov, maximize, first)
                written(param)
        return loss

    def _buffer(self, param: Tensor) -> tuple[Any, bool]:
        """Return the momentum of a parameter, and whether it is new and empty."""
        state = self.state[param]
        buffer = state.get("momentum_buffer")
        if buffer is not None:
            return buffer._a, False
        state["momentum_buffer"] = zeros_like(param)
        return state["momentum_buffer"]._a, True
