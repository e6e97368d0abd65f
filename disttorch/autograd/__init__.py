"""Recording operations and carrying gradients back through them."""

from disttorch.autograd.engine import backward, grad
from disttorch.autograd.function import Function
from disttorch.autograd.grad_mode import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from disttorch.autograd.gradcheck import gradcheck, gradgradcheck
from disttorch.autograd.variable import Variable

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]
