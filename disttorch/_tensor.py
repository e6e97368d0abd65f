"""`Tensor` with all its methods: one table binds the operators to the class that the engine knows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch._legacy import new_tensor, tensortype
from disttorch.autograd.record import type_name
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import address, device_of
from disttorch.core import dtypes
from disttorch.core.device import CPU
from disttorch.core.layout import contiguous_format, is_in_format, row_major_strides, strided
from disttorch.core.printing import tensor_str
from disttorch.ops import (
    MODULES,
    arithmetic,
    convert,
    elementary,
    index,
    linalg,
    logic,
    reduce,
    rounding,
    shape,
    special,
)
from disttorch.ops import complex as complex_parts
from disttorch.ops.define import expect_tensor
from disttorch.ops.registry import traced
from disttorch.ops.write import inplace

__all__ = ["Tensor"]


# -- size and memory ----------------------------------------------------------------------------------------------


def _size(self: Tensor, dim: int | None = None) -> Any:
    """Return the shape, or the length of one dimension."""
    return self.shape if dim is None else self._a.shape[shape.wrap_dim(dim, self._a.ndim)]


def _stride(self: Tensor, dim: int | None = None) -> Any:
    """Return how many elements apart neighbours along each dimension are, or along one."""
    a = self._a
    strides = tuple(s // a.itemsize for s in a.strides) if a.size else row_major_strides(a.shape)
    return strides if dim is None else strides[shape.wrap_dim(dim, self._a.ndim)]


def _memory_owner(array: Any) -> Any:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _storage_offset(self: Tensor) -> int:
    """Return how many elements the tensor starts behind the memory that it shares."""
    owner = self._base._a if self._base is not None else self._a
    return (address(self._a) - address(_memory_owner(owner))) // self._a.itemsize


def _new_legacy(cls: type[Tensor], *args: Any, device: Any = None) -> Tensor:
    """Make a tensor of the default float type: `Tensor(2, 3)` of a shape, `Tensor([1, 2])` of data."""
    if cls is Tensor and len(args) == 1 and isinstance(args[0], Tensor):
        return args[0].detach()
    return new_tensor(dtypes.get_default_dtype(), args, device, cls)


def _repr(self: Tensor, *, tensor_contents: Any = None) -> str:
    suffixes = []
    if device_of(self._a) != CPU:
        suffixes.append(f"device='{self.device}'")
    if self.grad_fn is not None:
        suffixes.append(f"grad_fn=<{self.grad_fn.name()}>")
    elif self.requires_grad:
        suffixes.append("requires_grad=True")
    prefix = "tensor(" if type(self) is Tensor else f"{type(self).__name__}("
    array = self._a.get() if self.device.type == "cuda" else self._a
    return tensor_str(array, prefix=prefix, default_dtype_name=dtypes.get_default_dtype().name, suffixes=suffixes)


def _only(self: Tensor) -> Any:
    return convert.item(self)


def _len(self: Tensor) -> int:
    if not self._a.ndim:
        raise TypeError("len() of a 0-d tensor")
    return self._a.shape[0]


def _iter(self: Tensor) -> Any:
    if not self._a.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(traced.unbind(self, 0))


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (Tensor, int, float)):
        return bool(logic.eq(self, element)._a.any())
    raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")


def _format(self: Tensor, spec: str) -> str:
    if not self._a.ndim and type(self) is Tensor:
        return convert.item(self).__format__(spec)
    return object.__format__(self, spec)


def _eq(self: Tensor, other: Any) -> Any:
    return NotImplemented if not isinstance(other, _OPERANDS) else logic.eq(self, other)


def _ne(self: Tensor, other: Any) -> Any:
    return NotImplemented if not isinstance(other, _OPERANDS) else logic.ne(self, other)


_OPERANDS = (Tensor, bool, int, float, complex, np.generic)


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Return the name of the tensor's type, or the tensor converted to a type; a type's name says where, too."""
    if dtype is None:
        return type_name(self)
    if isinstance(dtype, dtypes.dtype):
        return convert.to(self, dtype)
    if dtype is Tensor or dtype == "torch.Tensor":
        return convert.to(self, "cpu", dtypes.get_default_dtype())
    if not isinstance(dtype, (str, tensortype)):
        raise TypeError(f"dtype must be a type, str, or dtype object, got {type(dtype).__name__}")
    place, _, kind = str(dtype).rpartition(".")
    for d in dtypes.ALL:
        if place in _PLACES and type_name(wrap(np.empty(0, d.numpy))) == f"torch.{kind}":
            return convert.to(self, _PLACES[place], d)
    raise ValueError(f"invalid type: '{dtype}'")


_PLACES = {"torch": "cpu", "torch.cuda": "cuda"}


# -- copying and pickling -----------------------------------------------------------------------------------------


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if self.grad_fn is not None:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you "
            "were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
            "https://github.com/pytorch/pytorch/pull/103001"
        )
    out = wrap(self._a.copy(order="K"), type(self))
    out._requires_grad = self._requires_grad
    if self._grad is not None:
        out._grad = wrap(self._grad._a.copy())
    memo[id(self)] = out
    out.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k != "_hooks"})
    return out


def _rebuild(cls: type[Tensor], array: Any, requires_grad: bool, attributes: dict[str, Any]) -> Tensor:
    out = wrap(array, cls)
    out._requires_grad = requires_grad
    out.__dict__.update(attributes)
    return out


def _reduce(self: Tensor, protocol: int) -> Any:
    if self.grad_fn is not None:
        raise RuntimeError(
            "cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support crossing "
            "process boundaries.  If you just want to transfer the data, call detach() on the tensor before serializing"
        )
    kept = {k: v for k, v in self.__dict__.items() if k != "_hooks"}
    return _rebuild, (type(self), self._a, self._requires_grad, kept)


def _all_dims_reversed(self: Tensor) -> Tensor:
    return shape.permute(self, tuple(range(self._a.ndim))[::-1])


def _matrix_transposed(self: Tensor) -> Tensor:
    return shape.transpose(self, -2, -1)


def _reflected(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, other: Any) -> Tensor:
        return function(other, expect_tensor(self, function.__name__))

    return method


PROPERTIES: dict[str, Callable[[Tensor], Any]] = {
    "T": _all_dims_reversed,
    "mT": _matrix_transposed,
    "H": complex_parts.conjugate_transposed,
    "mH": complex_parts.adjoint,
    "real": complex_parts.real,
    "imag": complex_parts.imag,
    "layout": lambda self: strided,
    "is_cuda": lambda self: self.device.type == "cuda",
    "itemsize": lambda self: self._a.itemsize,
    "nbytes": lambda self: self._a.nbytes,
    "__array_interface__": lambda self: convert.numpy(self).__array_interface__,
}

OPERATORS: dict[str, Callable[..., Any]] = {
    "__new__": _new_legacy, "__repr__": _repr, "__format__": _format, "__len__": _len, "__iter__": _iter,
    "__contains__": _contains, "__deepcopy__": _deepcopy, "__reduce_ex__": _reduce, "__array__": convert.as_array,
    "__bool__": convert.as_bool, "__index__": convert.as_index,
    "__int__": lambda self: int(_only(self)), "__float__": lambda self: float(_only(self)),
    "__complex__": lambda self: 0j + convert.item(self),
    "__getitem__": index.getitem, "__setitem__": index.setitem,
    "__add__": traced.add, "__radd__": traced.add, "__iadd__": inplace(traced.add),
    "__sub__": traced.sub, "__rsub__": _reflected(traced.sub), "__isub__": inplace(traced.sub),
    "__mul__": traced.mul, "__rmul__": traced.mul, "__imul__": inplace(traced.mul),
    "__truediv__": arithmetic.true_divide, "__rtruediv__": _reflected(arithmetic.true_divide),
    "__itruediv__": inplace(arithmetic.true_divide), "__div__": arithmetic.true_divide,
    "__rdiv__": _reflected(arithmetic.true_divide), "__idiv__": inplace(arithmetic.true_divide),
    "__floordiv__": arithmetic.floor_divide, "__rfloordiv__": _reflected(arithmetic.floor_divide),
    "__ifloordiv__": inplace(arithmetic.floor_divide),
    "__mod__": arithmetic.remainder, "__rmod__": _reflected(arithmetic.remainder),
    "__imod__": inplace(arithmetic.remainder),
    "__pow__": elementary.pow, "__rpow__": _reflected(elementary.pow), "__ipow__": inplace(elementary.pow),
    "__matmul__": linalg.matmul, "__rmatmul__": _reflected(linalg.matmul),
    "__neg__": arithmetic.neg, "__pos__": arithmetic.positive, "__abs__": rounding.abs,
    "__eq__": _eq, "__ne__": _ne, "__lt__": logic.lt, "__le__": logic.le, "__gt__": logic.gt, "__ge__": logic.ge,
    "__invert__": logic.bitwise_not, "__and__": logic.bitwise_and, "__rand__": _reflected(logic.bitwise_and),
    "__iand__": inplace(logic.bitwise_and), "__or__": logic.bitwise_or, "__ror__": _reflected(logic.bitwise_or),
    "__ior__": inplace(logic.bitwise_or), "__xor__": logic.bitwise_xor, "__rxor__": _reflected(logic.bitwise_xor),
    "__ixor__": inplace(logic.bitwise_xor),
    "__lshift__": logic.bitwise_left_shift, "__rlshift__": _reflected(logic.bitwise_left_shift),
    "__ilshift__": inplace(logic.bitwise_left_shift), "__rshift__": logic.bitwise_right_shift,
    "__rrshift__": _reflected(logic.bitwise_right_shift), "__irshift__": inplace(logic.bitwise_right_shift),
}  # fmt: skip

METHODS: dict[str, Callable[..., Any]] = {
    "size": _size, "stride": _stride, "storage_offset": _storage_offset, "type": _type,
    "dim": lambda self: self._a.ndim, "ndimension": lambda self: self._a.ndim,
    "numel": lambda self: self._a.size, "nelement": lambda self: self._a.size,
    "element_size": lambda self: self._a.itemsize, "data_ptr": lambda self: address(self._a),
    "is_contiguous": lambda self, memory_format=contiguous_format: is_in_format(self._a, memory_format),
    "is_floating_point": lambda self: self.dtype.is_floating_point, "is_signed": lambda self: self.dtype.is_signed,
    "is_complex": lambda self: self._a.dtype.kind == "c", "get_device": lambda self: self.device.index if self.device.type == "cuda" else -1,
    "float": convert.caster("float", dtypes.float32), "double": convert.caster("double", dtypes.float64),
    "half": convert.caster("half", dtypes.float16), "bfloat16": convert.caster("bfloat16", dtypes.bfloat16),
    "long": convert.caster("long", dtypes.int64), "int": convert.caster("int", dtypes.int32),
    "short": convert.caster("short", dtypes.int16), "char": convert.caster("char", dtypes.int8),
    "byte": convert.caster("byte", dtypes.uint8), "bool": convert.caster("bool", dtypes.bool_),
    "cfloat": convert.caster("cfloat", dtypes.complex64), "cdouble": convert.caster("cdouble", dtypes.complex128),
    "polygamma": special.polygamma_method, "polygamma_": inplace(special.polygamma_method),
    "ger": linalg.outer,
}  # fmt: skip


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """Return this tensor where the condition holds and `other` elsewhere."""
    return logic.where(condition, self, other)


def _sum_to_size(self: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """Return the sum over the dimensions in which this tensor is larger than `size`, to which it must broadcast."""
    want = shape.sizes_of(sizes if size is None else (size,))
    have = self._a.shape
    lead = len(have) - len(want)
    if lead < 0 or any(n not in (1, have[i + lead]) for i, n in enumerate(want)):
        raise RuntimeError(f"size {{{list(want)}}} is not expandable to size {{{list(have)}}}.")
    if not want:
        return reduce.sum(self)
    dims = [*range(lead), *(i + lead for i, n in enumerate(want) if n == 1 and have[i + lead] != 1)]
    summed = reduce.sum(self, dims, True) if dims else self
    return shape.reshape(summed, want)


def _scaled_inplace(name: str) -> Callable[..., Tensor]:
    """Return `add_` or `sub_`, whose `alpha` scales the operand first."""
    direct = inplace(getattr(traced, name))

    def method(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
        return direct(self, arithmetic.scaled(self, other, alpha))

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = direct.__doc__
    return method


METHODS.update({name + "_": _scaled_inplace(name[:3]) for name in ("add", "sub", "subtract")})
METHODS.update({"where": _where_method, "sum_to_size": _sum_to_size})


def _bind() -> None:
    for module in MODULES:
        for name in getattr(module, "METHODS", "").split():
            METHODS.setdefault(name, getattr(module, name))
        for name in getattr(module, "INPLACE", "").split():
            METHODS.setdefault(name + "_", inplace(METHODS[name]))
    for name, function in (*OPERATORS.items(), *METHODS.items()):
        setattr(Tensor, name, function)
    for name, getter in PROPERTIES.items():
        setattr(Tensor, name, property(getter))


_bind()
traced.mul_ = METHODS["mul_"]
