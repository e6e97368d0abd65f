"""Functions of functions, as `torch.func`: their derivatives, and the same function for every element of a batch."""

from disttorch.func.modules import functional_call, stack_module_state
from disttorch.func.transforms import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp
from disttorch.func.vectorize import vmap

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]
