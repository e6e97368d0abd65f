"""Turning an object into PyTorch's pickle: tensors by PyTorch's names, their memory apart."""

from __future__ import annotations

import codecs
import pickle
import warnings
from collections import OrderedDict
from pathlib import PurePath
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.nn.parameter import Parameter
from disttorch.serialization import rebuild
from disttorch.serialization.globals import STORAGE_OF_DTYPE, known_globals, torch_names
from disttorch.serialization.memory import Memory, Placement

# The C pickler checks a name by importing it, and would import PyTorch; this one lets us write
# names ourselves.
_PICKLER: Any = pickle._Pickler

_UNCHANGED = frozenset((int, float, bool, type(None), list, dict, tuple, OrderedDict))


def dump(obj: Any, pickle_module: ModuleType | None, protocol: int) -> tuple[bytes, list[memoryview]]:
    """Return the pickle of an object and the bytes of its storages, number 0 first.

    NumPy arrays and scalars and paths become tensors, numbers and text, which any reader may load;
    except inside of other objects (a whole module, say), whose code relies on what they hold.
    """
    sink = _Sink()
    memory = Memory()
    pickler = _pickler_class(pickle_module)(sink, protocol)
    pickler.memory = memory
    try:
        pickler.dump(obj)
    except RecursionError:
        raise RecursionError(
            "the object is nested too deeply to save; flatten it, or raise sys.setrecursionlimit()"
        ) from None
    payloads = memory.settle()
    return sink.joined(), payloads


class _Later(NamedTuple):
    """A field of a placement that is written when all storages are known."""

    placement: Placement
    field: str

    def encoded(self) -> bytes:
        value = getattr(self.placement, self.field)
        if isinstance(value, str):
            return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()
        return pickle.dumps(value, 2)[2:-1]  # less PROTO and STOP


class _Sink:
    """The file that the pickler writes to."""

    def __init__(self) -> None:
        self.parts: list[bytes | _Later] = []
        self.write = self.parts.append

    def joined(self) -> bytes:
        return b"".join([p.encoded() if type(p) is _Later else p for p in self.parts])  # type: ignore[misc]


def _pickler_class(pickle_module: ModuleType | None) -> type:
    if pickle_module is None or pickle_module is pickle:
        base = _PICKLER
    else:
        base = getattr(pickle_module, "Pickler", None)
        if not (isinstance(base, type) and issubclass(base, _PICKLER)):
            raise TypeError(
                "pickle_module must be pickle, or a module such as dill whose Pickler is written "
                f"in Python; got {getattr(pickle_module, '__name__', pickle_module)!r}"
            )
    return type("TensorPickler", (_TensorPickler, base), {})


class _TensorPickler:
    """What is special about pickling tensors; mixed into a pickler written in Python."""

    memory: Memory
    memo: dict[int, tuple[int, Any]]
    write: Any
    get: Any
    memoize: Any

    def __init__(self, sink: _Sink, protocol: int) -> None:
        super().__init__(sink, protocol)  # type: ignore[call-arg]
        self._sink = sink
        self._texts: dict[str, str] = {}
        self._arrays: dict[int, Tensor] = {}
        self._foreign = 0
        self._plain = {id(value) for value in known_globals().values()}
        self._names = torch_names()
        framer = getattr(self, "framer", None)
        if framer is not None:  # frames hold byte counts, which are not known before the end
            framer.start_framing = framer.end_framing = lambda: None
        self.write = sink.write

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write one object."""
        kind = type(obj)
        if kind is str:
            obj = self._texts.setdefault(obj, obj)  # equal texts are one, whichever objects they were
        elif kind not in _UNCHANGED:
            if not self._foreign:
                obj = self._simplified(obj)
            if self._save_ours(obj):
                return
        super().save(obj, save_persistent_id)  # type: ignore[misc]

    def _save_ours(self, obj: Any) -> bool:
        """Write what Python's pickler would write otherwise than PyTorch; False for everything else."""
        kind = type(obj)
        if kind is _Later:
            self._sink.parts.append(obj)
        elif kind is Placement:
            self._save_storage(obj)
        elif id(obj) in self.memo:
            self.write(self.get(self.memo[id(obj)][0]))
        elif id(obj) in self._names:
            module, name = self._names[id(obj)]
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            self.memoize(obj)
        elif isinstance(obj, Tensor):
            self.save_reduce(*self._reduced(obj), obj=obj)
        elif kind is bytes and not obj:  # `bytes()` is a call that PyTorch does not allow
            self.save_reduce(codecs.encode, ("", "latin1"), obj=obj)
        else:
            return False
        return True

    def save_reduce(self, func: Any, *args: Any, **kwargs: Any) -> None:
        """Write a call; note whether it makes an object other than a plain container."""
        foreign = id(func) not in self._plain
        self._foreign += foreign
        try:
            super().save_reduce(func, *args, **kwargs)  # type: ignore[misc]
        finally:
            self._foreign -= foreign

    def _reduced(self, tensor: Tensor) -> tuple[Any, ...]:
        if isinstance(tensor, Parameter):
            return self._reduce_parameter(tensor)
        return self._reduce_tensor(tensor)

    def _reduce_parameter(self, parameter: Tensor) -> tuple[Any, ...]:
        args: tuple[Any, ...] = (wrap(parameter._a), parameter.requires_grad, OrderedDict())
        state = _attributes(parameter)
        if state:
            return rebuild.rebuild_parameter_with_state, (*args, state)
        return rebuild.rebuild_parameter, args

    def _reduce_tensor(self, tensor: Tensor) -> tuple[Any, ...]:
        _warn_of_hooks(tensor)
        placement = self.memory.place(tensor._a)
        args: tuple[Any, ...] = (
            placement,
            _Later(placement, "offset"),
            tuple(tensor._a.shape),
            placement.strides,
            tensor.requires_grad,
            OrderedDict(),
        )
        state = _attributes(tensor)
        if state or type(tensor) is not Tensor:
            return rebuild.rebuild_from_type_v2, (
                rebuild.rebuild_tensor_v2,
                type(tensor),
                args,
                state,
            )
        return rebuild.rebuild_tensor_v2, args

    def _save_storage(self, placement: Placement) -> None:
        key, count = _Later(placement, "key"), _Later(placement, "count")
        kind = STORAGE_OF_DTYPE[placement.dtype]
        self.save(("storage", kind, key, placement.location, count), save_persistent_id=False)
        self.write(pickle.BINPERSID)

    def _simplified(self, obj: Any) -> Any:
        if isinstance(obj, np.generic):
            return _number(obj)
        if type(obj) in (np.ndarray, np.memmap):
            return self._tensor_of(obj)
        return str(obj) if isinstance(obj, PurePath) else obj

    def _tensor_of(self, array: np.ndarray) -> Any:
        found = self._arrays.get(id(array))
        if found is None:
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            try:
                from_numpy_dtype(native.dtype)
            except TypeError:
                return array  # of text or objects, say: pickled as it is
            found = wrap(np.asarray(native))
            found.__dict__["_saved_as"] = array  # keeps the id taken
            self._arrays[id(array)] = found
        return found


def _number(scalar: np.generic) -> Any:
    """Return a NumPy scalar as Python's own kind of value, or as it is where there is none."""
    if isinstance(scalar, (np.datetime64, np.timedelta64, np.void, np.longdouble, np.clongdouble)):
        return scalar
    return scalar.item()


_OWN = frozenset(("_hooks", "_saved_as"))


def _attributes(tensor: Tensor) -> dict[str, Any]:
    return {name: value for name, value in tensor.__dict__.items() if name not in _OWN}


def _warn_of_hooks(tensor: Tensor) -> None:
    hooks = tensor.__dict__.get("_hooks")
    if hooks is not None and any(hooks.gradient.values()):
        warnings.warn(
            "a tensor with a hook is saved without it; register the hook again after loading",
            UserWarning,
            stacklevel=2,
        )
