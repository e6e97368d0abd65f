"""The arguments of `Module.to`."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.core.device import device as Device
from disttorch.core.dtypes import dtype as DType


def parse_to(
    *args: Any,
    device: Device | str | int | None = None,
    dtype: DType | None = None,
    non_blocking: bool = False,
    tensor: Tensor | None = None,
) -> tuple[Device | None, DType | None, bool]:
    """Return the device, type and `non_blocking` meant by the arguments of `to`.

    Positional arguments are a device, a type, a device and a type, or a tensor that has both, and
    then `non_blocking`.
    """
    given = list(args)
    if given and isinstance(given[0], Tensor):
        tensor = given.pop(0)
    elif given and not isinstance(given[0], DType):
        device = given.pop(0)
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    elif given and (given[0] is None or isinstance(given[0], DType)):
        dtype = given.pop(0)
    if given:
        non_blocking = given.pop(0)
    if given or not isinstance(non_blocking, bool):
        raise TypeError(
            "to() received an invalid combination of arguments; expected to(device, dtype, "
            f"non_blocking), to(dtype, non_blocking) or to(tensor, non_blocking), got {args}"
        )
    return None if device is None else Device(device), dtype, non_blocking
