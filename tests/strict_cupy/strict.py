"""A strict double of CuPy for machines without a GPU: arrays over NumPy that refuse what `cupy.ndarray` refuses.

Nothing converts implicitly: `numpy.asarray` of such an array raises, so does an operation of one with a NumPy array, no
NumPy function accepts one, and reductions return 0-d arrays. Only names, and keywords, that CuPy has are there; they are
written down in names.json by record.py. Copies on a stream happen when somebody waits for it, as late as they could.
"""

from __future__ import annotations

import contextlib
import json
import operator
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.special

NAMES: dict[str, Any] = json.loads((Path(__file__).parent / "names.json").read_text(encoding="utf-8"))
_MEMBERS = frozenset(NAMES["ndarray"])


def unwrapped(value: Any) -> Any:
    """Return NumPy's view of an operand; TypeError for a NumPy array, which CuPy does not take."""
    if isinstance(value, ndarray):
        return value._v
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (list, tuple)):
        made = [unwrapped(item) for item in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value


def wrapped(value: Any) -> Any:
    """Return a result as the double's: arrays and NumPy scalars become arrays, also inside tuples and lists."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        with warnings.catch_warnings(action="ignore"):
            frozen = not array.flags.writeable
        if frozen:  # diagonals can be written to
            with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):
                array.flags.writeable = True
        return ndarray(array)
    if isinstance(value, (list, tuple)):
        made = [wrapped(item) for item in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value


class ndarray:
    """An array on the imaginary device 0."""

    __slots__ = ("_base", "_v")
    __array_ufunc__ = None
    __array_priority__ = 100.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray, base: ndarray | None = None) -> None:
        self._v, self._base = values, base

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called with an array of CuPy")

    device = SimpleNamespace(id=0)
    shape = property(lambda self: self._v.shape)
    dtype = property(lambda self: self._v.dtype)
    ndim = property(lambda self: self._v.ndim)
    size = property(lambda self: self._v.size)
    strides = property(lambda self: self._v.strides)
    itemsize = property(lambda self: self._v.itemsize)
    nbytes = property(lambda self: self._v.nbytes)
    T = property(lambda self: self._view(self._v.T))
    real = property(lambda self: self._view(self._v.real), lambda self, x: setattr(self._v, "real", unwrapped(x)))
    imag = property(lambda self: self._view(self._v.imag), lambda self, x: setattr(self._v, "imag", unwrapped(x)))
    base = property(lambda self: self._base)
    data = property(lambda self: SimpleNamespace(ptr=self._v.ctypes.data))
    flags = property(
        lambda self: SimpleNamespace(
            c_contiguous=self._v.flags.c_contiguous,
            f_contiguous=self._v.flags.f_contiguous,
            owndata=self._v.flags.owndata,
        )
    )

    def _view(self, values: np.ndarray) -> ndarray:
        """Return a result, which refers to the owner of the memory that it shares with this array."""
        shares = values is not self._v and np.may_share_memory(values, self._v)
        return ndarray(values, (self if self._base is None else self._base) if shares else None)

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None) -> np.ndarray:
        """Return the elements on the host."""
        host = np.empty(self.shape, self.dtype, order) if out is None else out
        if not isinstance(host, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if (host.dtype, host.shape) != (self.dtype, self.shape):
            raise TypeError(f"{host.dtype}{host.shape} cannot be obtained from {self.dtype}{self.shape}")
        if not (host.flags.c_contiguous or host.flags.f_contiguous):
            raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        _copy(host, self._v, stream)
        return host

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy from the host."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if (arr.dtype, arr.shape) != (self.dtype, self.shape):
            raise TypeError(f"{arr.dtype}{arr.shape} cannot be set to {self.dtype}{self.shape}")
        if not (self._v.flags.c_contiguous or self._v.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        _copy(self._v, arr, stream)

    def __getattr__(self, name: str) -> Any:
        if name not in _MEMBERS:
            raise AttributeError(f"'cupy.ndarray' object has no attribute '{name}'")
        method = getattr(self._v, name)
        if name in ("item", "tolist", "tobytes"):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            for keyword in ("where", "initial"):
                if keyword in kwargs:
                    raise TypeError(f"{name}() got an unexpected keyword argument '{keyword}'")
            result = wrapped(method(*unwrapped(args), **{key: unwrapped(item) for key, item in kwargs.items()}))
            return self._view(result._v) if isinstance(result, ndarray) else result

        return call

    def __getitem__(self, index: Any) -> Any:
        return self._view(np.asarray(self._v[_as_view(unwrapped(index))]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._v[unwrapped(index)] = unwrapped(value)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self._v)))

    def __len__(self) -> int:
        return len(self._v)

    def __bool__(self) -> bool:
        return bool(self._v)

    def __int__(self) -> int:
        return int(self._v)

    def __index__(self) -> int:
        return operator.index(self._v)

    def __float__(self) -> float:
        return float(self._v)

    def __complex__(self) -> complex:
        return complex(self._v)

    def __repr__(self) -> str:
        return f"strict {self._v!r}"


def _copy(target: np.ndarray, source: np.ndarray, stream: Any) -> None:
    """Copy now, or on a stream, which may be the current one, when that is waited for."""
    chosen = stream or getattr(_current, "stream", None)
    if chosen is None:
        target[...] = source
    else:
        chosen.waiting.append((target, source))


_current = threading.local()


class Event:
    """A point in what a stream has been given."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.recorded = False

    def record(self, stream: Any = None) -> None:
        self.recorded = True


class Stream:
    """Copies in their order. Kernels are not delayed: there are none on other streams than the default one."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._outer: Any = None

    def __enter__(self) -> Stream:
        self._outer, _current.stream = getattr(_current, "stream", None), self
        return self

    def __exit__(self, *exc: object) -> None:
        _current.stream = self._outer

    def wait_event(self, event: Event) -> None:
        if not event.recorded:
            raise RuntimeError("the event was not recorded")

    def synchronize(self) -> None:
        waiting, self.waiting = self.waiting, []
        for target, source in waiting:
            target[...] = source


class Device:
    """The only device; which one is current does not matter."""

    def __init__(self, device: int | None = None) -> None:
        self.id = device or 0
        if self.id != 0:
            raise runtime.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def use(self) -> Device:
        return self

    def synchronize(self) -> None: ...


class Runtime:
    """`cupy.cuda.runtime`: memory of the host that is registered, by address."""

    CUDARuntimeError = type("CUDARuntimeError", (RuntimeError,), {})

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.pinned: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()

    def pointerGetAttributes(self, ptr: int) -> Any:  # noqa: N802
        return SimpleNamespace(type=1 if ptr in self.registered or ptr in self.pinned else 0)

    def hostRegister(self, ptr: int, size: int, flags: int) -> None:  # noqa: N802
        if ptr in self.registered or not size:
            raise self.CUDARuntimeError("cudaErrorHostMemoryAlreadyRegistered")
        self.registered[ptr] = size

    def hostUnregister(self, ptr: int) -> None:  # noqa: N802
        if self.registered.pop(ptr, None) is None:
            raise self.CUDARuntimeError("cudaErrorHostMemoryNotRegistered")


runtime = Runtime()


def _as_view(index: Any) -> Any:
    """Make NumPy return a 0-d view, as CuPy does, where an index of ints names one element."""
    listed = index if isinstance(index, tuple) else (index,)
    basic = all(isinstance(i, (int, slice, type(None), type(Ellipsis))) and not isinstance(i, bool) for i in listed)
    return (*listed, Ellipsis) if basic and not any(i is Ellipsis for i in listed) else index


def _forward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: _result(function(self._v, unwrapped(other)))


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: _result(function(unwrapped(other), self._v))


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: ndarray, other: Any) -> ndarray:
        self._v = function(self._v, unwrapped(other))
        return self

    return method


def _result(value: Any) -> Any:
    return value if value is NotImplemented else ndarray(np.asarray(value))


for _name in "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift".split():
    _short = _name.rstrip("_")
    setattr(ndarray, f"__{_short}__", _forward(getattr(operator, _name)))
    setattr(ndarray, f"__r{_short}__", _reflected(getattr(operator, _name)))
    setattr(ndarray, f"__i{_short}__", _in_place(getattr(operator, f"i{_short}")))
for _name in "eq ne lt le gt ge".split():
    setattr(ndarray, f"__{_name}__", _forward(getattr(operator, _name)))
for _name in "neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", lambda self, _f=getattr(operator, _name): _result(_f(self._v)))
ndarray.__divmod__ = lambda self, other: wrapped(divmod(self._v, unwrapped(other)))  # type: ignore[attr-defined]


class Namespace:
    """A module of CuPy: the recorded names, computed by NumPy or SciPy."""

    def __init__(self, module: str, source: Any, **more: Any) -> None:
        self._module, self._source = module, source
        self.__dict__.update(more)

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES[self._module]:
            raise AttributeError(f"module '{self._module}' has no attribute '{name}'")
        member = getattr(self._source, name)
        if not callable(member) or isinstance(member, type):
            return member
        made = self._function(name, member)
        self.__dict__[name] = made
        return made

    def _function(self, name: str, member: Any) -> Callable[..., Any]:
        parameters = NAMES[self._module][name]
        checked = self._module == "cupy.linalg"
        demand = _DEMANDS.get(f"{self._module}.{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            if parameters is not None:
                unknown = kwargs.keys() - set(parameters)
                many = any(name.startswith("*") for name in parameters)
                if unknown or (len(args) > len(parameters) and not many):
                    raise TypeError(f"{self._module}.{name} takes ({', '.join(parameters)}), got {sorted(unknown)}")
            if demand is not None:
                demand(*args)
            try:
                result = wrapped(member(*unwrapped(args), **{key: unwrapped(item) for key, item in kwargs.items()}))
                if isinstance(result, ndarray) and args and isinstance(args[0], ndarray):
                    return args[0]._view(result._v)
                return result
            except np.linalg.LinAlgError as error:
                if checked and not _linalg_raises:
                    raise RuntimeError(f"{self._module}.{name} returns undefined numbers here: {error}") from None
                raise

        if isinstance(member, np.ufunc):
            for method in ("reduce", "accumulate") if name in ("add", "multiply") else ():
                setattr(call, method, _ufunc_method(getattr(member, method)))
            if name == "add":
                call.at = _add_at  # type: ignore[attr-defined]
            call.outer = _ufunc_method(member.outer)  # type: ignore[attr-defined]
        return call


def _ufunc_method(method: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: wrapped(method(*unwrapped(args), **{k: unwrapped(v) for k, v in kwargs.items()}))


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    """Copy from the host, or return the array itself: the one door for NumPy arrays."""
    if isinstance(a, ndarray):
        made = np.asarray(a._v, dtype, order=order)
        return a if made is a._v else ndarray(made)
    return ndarray(np.array(a, dtype, order=order or "K"))


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    return ndarray(np.lib.stride_tricks.as_strided(x._v, shape, strides))


def _add_at(a: ndarray, slices: Any, value: Any) -> None:
    if a.dtype.char not in "iILQefdFD":
        raise TypeError(f"cupy.add.at only supports int32, float16, ... as data type, not {a.dtype}")
    np.add.at(a._v, unwrapped(slices), unwrapped(value))


def _expect_arrays(*args: Any) -> None:
    if not all(isinstance(x, ndarray) for x in args):
        raise AttributeError("an operand that must be an array has no attribute 'astype'")


def _expect_equal_stacks(a: ndarray, b: ndarray) -> None:
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")


# What CuPy's functions ask of their operands beyond what NumPy's ask.
_DEMANDS: dict[str, Callable[..., None]] = {
    "cupy.where": lambda condition, *_: _expect_arrays(condition),
    "cupy.linalg.solve": _expect_equal_stacks,
    "cupyx.scipy.special.polygamma": _expect_arrays,
}


def _empty_like_pinned(a: np.ndarray) -> np.ndarray:
    made = np.empty_like(a)
    runtime.pinned[made.ctypes.data] = made
    return made


_linalg_raises: list[str] = []


@contextlib.contextmanager
def _errstate(linalg: str) -> Iterator[None]:
    """Make the functions of `linalg` raise, as CuPy's do where it is told to."""
    _linalg_raises.append(linalg)
    try:
        yield
    finally:
        _linalg_raises.pop()


class _Grid:
    def __getitem__(self, index: Any) -> Any:
        return wrapped(np.ogrid[index])


linalg = Namespace("cupy.linalg", np.linalg)
fft = Namespace("cupy.fft", np.fft)
stride_tricks = SimpleNamespace(as_strided=_as_strided)
cupy = Namespace(
    "cupy", np, ndarray=ndarray, linalg=linalg, fft=fft, asarray=asarray, array=asarray,
    lib=SimpleNamespace(stride_tricks=stride_tricks), newaxis=None, ogrid=_Grid(),
    cuda=SimpleNamespace(Device=Device, Stream=Stream, Event=Event, runtime=runtime),
)  # fmt: skip
cupyx = SimpleNamespace(
    empty_like_pinned=_empty_like_pinned,
    errstate=_errstate,
    scipy=SimpleNamespace(
        special=Namespace("cupyx.scipy.special", scipy.special),
        fft=Namespace("cupyx.scipy.fft", scipy.fft),
        linalg=Namespace("cupyx.scipy.linalg", scipy.linalg),
    ),
)
