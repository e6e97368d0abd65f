"""The names of nodes whose operator has several in PyTorch: `SumBackward0` of a whole sum, `SumBackward1` of one along a dim.

PyTorch numbers the overloads of a function. Here one operator serves them all, so the name is found from what the node
remembers when it is shown. Where it does not remember enough (`x.sum()` of one dimension and `x.sum(0)`), the name is that of
the commoner call.
"""

from __future__ import annotations

from collections.abc import Callable

from disttorch.autograd.node import Node
from disttorch.autograd.tensor import Tensor
from disttorch.ops.registry import OPERATORS

Namer = Callable[[Node], str]


def _reduction(name: str) -> Namer:
    return lambda node: f"{name}Backward{0 if _is_whole(node) else 1}"


def _is_whole(node: Node) -> bool:
    """Whether a reduction has left no dimension."""
    return node.meta[0] == () and not node.attrs[-1]


def _extreme(node: Node) -> str:
    name = "Max" if node.attrs[0] else "Min"
    return f"{name}Backward1" if _is_whole(node) else f"A{name.lower()}Backward0"


def _power(node: Node) -> str:
    base, exponent = node.edges
    if base is None:
        return "PowBackward2"
    saved_tensors = [s for s in node.saved or () if s is not None and isinstance(s[0], Tensor)]
    return "PowBackward1" if exponent is not None or len(saved_tensors) > 1 else "PowBackward0"


def _two_tensors(name: str) -> Namer:
    return lambda node: f"{name}Backward{0 if node.edges[1] is None else 1}"


def _slice(node: Node) -> str:
    """Return the name of the last of the steps that PyTorch takes for an index."""
    name = "SliceBackward0"
    for part in node.attrs[0]:
        if part is None:
            name = "UnsqueezeBackward0"
        elif isinstance(part, int):
            name = "SelectBackward0"
        elif isinstance(part, slice) and part != slice(None):
            name = "SliceBackward0"
    return name


def _linear(node: Node) -> str:
    has_bias, dims = node.edges[2] is not None, len(node.meta[0])
    if dims > 2:
        return "ViewBackward0" if has_bias else "UnsafeViewBackward0"
    return "AddmmBackward0" if has_bias else "MmBackward0"


def _fill(node: Node) -> str:
    return "ZeroBackward0" if isinstance(node.attrs[0], int) else "FillBackward2"


_NAMES: dict[str, str | Namer] = {
    "sum": _reduction("Sum"), "mean": _reduction("Mean"), "prod": _reduction("Prod"), "extreme": _extreme, "pow": _power,
    "fmod": _two_tensors("Fmod"), "remainder": _two_tensors("Remainder"), "slice": _slice, "linear": _linear, "fill": _fill,
    "square": "PowBackward0", "floor_divide": "DivBackward2", "clamp_min": "ClampBackward1", "clamp_max": "ClampBackward1",
    "real_part": "SelectBackward0", "imag_part": "SelectBackward0",
}  # fmt: skip


def name_nodes() -> None:
    """Give the operators of the table their names."""
    for operator, name in _NAMES.items():
        if isinstance(name, str):
            OPERATORS[operator].grad_name = name
        else:
            OPERATORS[operator].namer = name


name_nodes()
