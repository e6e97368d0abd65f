"""The names that a checkpoint may mention, what they stand for here, and which of them it may call.

A pickle names classes and functions. PyTorch's names for tensors, types and devices stand for our
own objects, in both directions, so that the two read each other's files. With `weights_only=True`
these and the ones that the user allowed are all that a file can reach: nothing is ever imported.
"""

from __future__ import annotations

import codecs
import functools
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.core.device import device
from disttorch.core.size import Size
from disttorch.nn.parameter import Parameter
from disttorch.serialization import rebuild
from disttorch.serialization.storage import StorageType

STORAGE_TYPES = {
    "FloatStorage": dtypes.float32,
    "DoubleStorage": dtypes.float64,
    "HalfStorage": dtypes.float16,
    "BFloat16Storage": dtypes.bfloat16,
    "LongStorage": dtypes.int64,
    "IntStorage": dtypes.int32,
    "ShortStorage": dtypes.int16,
    "CharStorage": dtypes.int8,
    "ByteStorage": dtypes.uint8,
    "BoolStorage": dtypes.bool_,
    "ComplexFloatStorage": dtypes.complex64,
    "ComplexDoubleStorage": dtypes.complex128,
}
STORAGES = {name: StorageType(d) for name, d in STORAGE_TYPES.items()}
STORAGE_OF_DTYPE = {storage.dtype: storage for storage in STORAGES.values()}

_BLOCKED_MODULES = ("sys", "os", "posix", "nt")
_UNSUPPORTED = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the meta device",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a wrapper class",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of a device other than CUDA",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of a device other than CUDA",
    "torch.serialization._get_layout": "a tensor layout",
}


@functools.cache
def known_globals() -> dict[str, Any]:
    """Return what each "module.name" in a file stands for."""
    known: dict[str, Any] = {
        "collections.OrderedDict": OrderedDict,
        "collections.Counter": Counter,
        "_codecs.encode": codecs.encode,
        "builtins.bytes": bytes,
        "builtins.bytearray": bytearray,
        "builtins.set": set,
        "builtins.frozenset": frozenset,
        "builtins.complex": complex,
    }
    return known | _torch_globals() | {"torch.nn.parameter.Parameter": Parameter}


def _torch_globals() -> dict[str, Any]:
    untyped = StorageType(dtypes.uint8)
    named: dict[str, Any] = {
        "torch.Size": Size,
        "torch.Tensor": Tensor,
        "torch.device": device,
        "torch.storage.UntypedStorage": untyped,
        "torch.UntypedStorage": untyped,
        "torch._utils._rebuild_tensor": rebuild.rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": rebuild.rebuild_tensor_v2,
        "torch._utils._rebuild_tensor_v3": rebuild.rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": rebuild.rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": rebuild.rebuild_parameter_with_state,
        "torch._tensor._rebuild_from_type_v2": rebuild.rebuild_from_type_v2,
    }
    named |= {f"torch.{d.name}": d for d in dtypes.ALL}
    return named | {f"torch.{name}": storage for name, storage in STORAGES.items()}


@functools.cache
def torch_names() -> dict[int, tuple[str, str]]:
    """Return PyTorch's (module, name) for each of our objects, by `id`."""
    names = {}
    for path, value in known_globals().items():
        if path.startswith("torch.") and id(value) not in names:
            module, _, name = path.rpartition(".")
            names[id(value)] = (module, name)
    return names


@functools.cache
def makers() -> dict[int, Callable[..., Any]]:
    """Return, by the `id` of a known object, the function to call where a file calls that object.

    What is not here cannot be called by a file; what is checks its arguments.
    """
    safe: list[tuple[Any, Callable[..., Any]]] = [
        (OrderedDict, _ordered_dict),
        (Counter, _counter),
        (codecs.encode, _latin_bytes),
        (bytes, _empty_bytes),
        (bytearray, _bytearray),
        (set, lambda items=(): set(_hashable_list(items))),
        (frozenset, lambda items=(): frozenset(_hashable_list(items))),
        (complex, _complex),
        (Size, _size),
        (device, _device),
        (Parameter, _parameter),
    ]
    safe += [(function, function) for function in rebuild.TENSOR_MAKERS]
    safe.append((rebuild.rebuild_from_type_v2, rebuild.rebuild_from_type_v2))
    return {id(value): function for value, function in safe}


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise UnpicklingError(f"the file calls {what} with arguments that torch.save does not write")


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    _expect(isinstance(pairs, (list, tuple)), "OrderedDict")
    _expect(all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs), "OrderedDict")
    return OrderedDict((check_key(key), value) for key, value in pairs)


def _counter(counts: Any = None) -> Counter[Any]:
    _expect(counts is None or type(counts) is dict, "Counter")
    return Counter(counts)


def _latin_bytes(text: Any, encoding: Any = None) -> bytes:
    # Any other encoding would be looked up by name, which imports a module.
    _expect(isinstance(text, str) and encoding in ("latin1", "latin-1"), "_codecs.encode")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        data = _latin_bytes(data, encoding)
    # A number would ask for that much memory.
    _expect(isinstance(data, (bytes, bytearray)), "bytearray")
    return bytearray(data)


def _hashable_list(items: Any) -> Any:
    _expect(isinstance(items, (list, tuple)), "set")
    for item in items:
        check_key(item)
    return items


def _complex(real: Any = 0.0, imag: Any = 0.0) -> complex:
    _expect(isinstance(real, (int, float)) and isinstance(imag, (int, float)), "complex")
    return complex(real, imag)


def _size(dimensions: Any = ()) -> Size:
    _expect(isinstance(dimensions, (list, tuple)), "torch.Size")
    _expect(all(type(n) is int for n in dimensions), "torch.Size")
    return Size(dimensions)


def _device(kind: Any, index: Any = None) -> device:
    _expect(isinstance(kind, str) and (index is None or type(index) is int), "torch.device")
    return device(kind, index)


def _parameter(data: Any, requires_grad: Any = True) -> Tensor:
    return rebuild.rebuild_parameter(data, requires_grad, None)


_MOST_IN_KEY = 1000


def check_key(key: Any) -> Any:
    """Return a key of a dict, or member of a set; UnpicklingError if hashing it could run away.

    A tuple that holds itself many times over by reference is small in a file and endless to hash.
    """
    waiting, seen = [key] if isinstance(key, tuple) else [], 0
    while waiting:
        seen += 1
        if seen > _MOST_IN_KEY:
            raise UnpicklingError("a key of a dict is a tuple with too many parts")
        item = waiting.pop()
        if isinstance(item, tuple):
            waiting.extend(item[: _MOST_IN_KEY + 1])
    return key


SafeGlobal = Callable[..., Any] | tuple[Callable[..., Any], str]
_lock = threading.Lock()
_allowed: list[SafeGlobal] = []


def add_safe_globals(safe_globals: Sequence[SafeGlobal]) -> None:
    """Let files that are loaded with `weights_only=True` use these classes and functions.

    An item is a class or function, or a pair of one and the full name that files have for it, such
    as `(scalar, "numpy.core.multiarray.scalar")`. Allow only what cannot do harm with arguments
    from a stranger.
    """
    checked = [_checked_item(item) for item in safe_globals]
    with _lock:
        _allowed.extend(item for item in checked if item not in _allowed)


def get_safe_globals() -> list[SafeGlobal]:
    """Return what `add_safe_globals` and `safe_globals` have allowed."""
    with _lock:
        return list(_allowed)


def clear_safe_globals() -> None:
    """Forget everything that was allowed."""
    with _lock:
        _allowed.clear()


class safe_globals:
    """Allow classes and functions within a `with` statement; see `add_safe_globals`."""

    def __init__(self, safe_globals: Sequence[SafeGlobal]) -> None:
        self._items = list(safe_globals)
        self._added: list[SafeGlobal] = []

    def __enter__(self) -> None:
        before = get_safe_globals()
        self._added = [item for item in self._items if item not in before]
        add_safe_globals(self._items)

    def __exit__(self, *exc: object) -> None:
        with _lock:
            _allowed[:] = [item for item in _allowed if item not in self._added]


def allowed_globals() -> dict[str, Any]:
    """Return what the user has allowed, by full name."""
    return dict(_name_and_object(item) for item in get_safe_globals())


def _checked_item(item: SafeGlobal) -> SafeGlobal:
    name, value = _name_and_object(item)
    if not callable(value):
        raise TypeError(f"expected a class or function to allow, got {value!r:.80} for '{name}'")
    return item


def _name_and_object(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple):
        if len(item) != 2 or not isinstance(item[1], str):
            raise TypeError(f"expected a pair (class or function, full name), got {item!r:.80}")
        return item[1], item[0]
    module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
    if module is None or name is None:
        raise TypeError(f"{item!r:.80} has no full name; give the pair (it, full name)")
    return f"{module}.{name}", item


def full_name(module: str, name: str) -> str:
    """Return "module.name", with Python 2's name of the built-in module replaced."""
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


def find_safe_global(module: str, name: str, allowed: dict[str, Any]) -> Any:
    """Return what a name in a file stands for; UnpicklingError if the file may not use it."""
    path = full_name(module, name)
    if module.partition(".")[0] in _BLOCKED_MODULES:
        raise UnpicklingError(f"Weights only load failed: the file names {path}, whose module is always blocked")
    for table in (known_globals(), allowed):
        if path in table:
            return table[path]
    refuse_unsupported(path)
    short = path.removeprefix("builtins.")
    raise UnpicklingError(
        f"Weights only load failed: Unsupported global: GLOBAL {path} was not an allowed global by "
        "default. If you trust the file, allow it with "
        f"disttorch.serialization.add_safe_globals([{short}]) or `with safe_globals([{short}]):`, "
        "or load with weights_only=False, which can run any code that the file contains. A whole "
        "module, saved with save(module, path), always needs weights_only=False; a state_dict does "
        "not."
    )


def refuse_unsupported(path: str) -> None:
    """Raise UnpicklingError if PyTorch's "module.name" stands for what does not exist here."""
    what = _UNSUPPORTED.get(path)
    if what is None and path.startswith("torch.") and path.endswith("Storage"):
        what = f"the unknown storage type {path}"
    if what is None and path.startswith(("torch.uint", "torch.int", "torch.float", "torch.quint")):
        what = f"the element type {path}"
    if what is not None and path not in known_globals():
        raise UnpicklingError(
            f"the file holds {what}, which disttorch does not have; convert it with PyTorch before "
            "saving, for example with .to(torch.float32), .to_dense() or .dequantize()"
        )
