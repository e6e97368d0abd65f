"""Reading a pickle that nobody vouches for: an interpreter of the opcodes that plain data needs.

Python's own unpickler sets attributes of whatever a file names, calls whatever it gets hold of, and
allocates a memo as large as a file says. This one knows lists, dicts, numbers, text and the calls
in `globals.makers`.
"""

from __future__ import annotations

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

from disttorch.serialization.globals import (
    allowed_globals,
    check_key,
    find_safe_global,
    makers,
)

_DICTS = (dict, OrderedDict, Counter)
_BUDGET = 1 << 26  # bytes that calls may make of what the file repeats by reference
_PER_ITEM = 64  # bytes that an item of a container costs, about
_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    UnicodeError,
    ValueError,
    struct.error,
)


class WeightsUnpickler:
    """Reads one object from a pickle; `load_storage` is called with the persistent ids.

    Raises UnpicklingError for a damaged pickle, and for one that uses what it may not.
    """

    def __init__(self, data: bytes, load_storage: Callable[[Any], Any]) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.load_storage = load_storage
        self.allowed = allowed_globals()
        self.allowed_ids = {id(value) for value in self.allowed.values()}
        self._outside = False  # whether other people's code runs, whose errors are its own
        self._budget = _BUDGET + _PER_ITEM * len(data)

    def load(self) -> Any:
        """Return the object."""
        try:
            while self.data[self.at] != pickle.STOP[0]:
                handler = _HANDLERS.get(self.data[self.at])
                if handler is None:
                    raise UnpicklingError(
                        f"the pickle uses opcode {self.data[self.at]}, which weights_only=True does not read"
                    )
                self.at += 1
                handler(self)
            return self.stack.pop()
        except _DAMAGE as error:
            if self._outside:
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UnpicklingError:
        return UnpicklingError(
            f"the pickle is damaged near byte {self.at} of {len(self.data)} ({type(error).__name__}: {error})"
        )

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        data = self.data[self.at : self.at + count]
        if len(data) != count:
            raise UnpicklingError("the pickle ends too early")
        self.at += count
        return data

    def read_line(self) -> str:
        """Return text up to the end of the line."""
        end = self.data.index(b"\n", self.at)
        line = self.data[self.at : end]
        self.at = end + 1
        return line.decode()

    def pop_mark(self) -> list[Any]:
        """Return what was pushed since the last mark."""
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items

    def spend(self, values: Any) -> None:
        """Count the memory that a call makes of its arguments against what the file may use."""
        for value in values:
            if isinstance(value, (str, bytes, bytearray)):
                self._budget -= len(value)
            elif isinstance(value, (list, tuple, dict, set, frozenset)):
                self._budget -= _PER_ITEM * len(value)
        if self._budget < 0:
            raise UnpicklingError("the pickle asks for far more memory than it has data")

    def is_allowed(self, value: Any) -> bool:
        """Whether the user has allowed this class or function."""
        return id(value) in self.allowed_ids

    def call_outside(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`; what it raises is not the fault of the pickle."""
        self._outside = True
        result = function(*args)
        self._outside = False
        return result

    def call(self, function: Any, args: Any) -> Any:
        """Return `function(*args)` if a file may call it."""
        if not isinstance(args, tuple):
            raise UnpicklingError("the pickle calls a function without a tuple of arguments")
        if self.is_allowed(function):
            return self.call_outside(function, *args)
        maker = makers().get(id(function))
        if maker is None:
            raise UnpicklingError(f"the file may not call {_short(function)}; weights_only=True forbids it")
        self.spend(args)
        try:
            return maker(*args)
        except (RuntimeError, MemoryError) as error:  # a device or a gradient, say, that cannot be
            raise UnpicklingError(f"the file makes a {_short(function)} that cannot be: {error}") from None


def _short(value: Any) -> str:
    return str(getattr(value, "__name__", None) or repr(type(value)))[:80]


_HANDLERS: dict[int, Callable[[WeightsUnpickler], None]] = {}
_Handler = Callable[[WeightsUnpickler], None]


def _on(*opcodes: bytes) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        for opcode in opcodes:
            _HANDLERS[opcode[0]] = handler
        return handler

    return register


def _constant(make: Callable[[], Any]) -> _Handler:
    return lambda self: self.stack.append(make())


def _number(layout: str) -> _Handler:
    unpack = struct.Struct(layout)
    return lambda self: self.stack.append(unpack.unpack(self.read(unpack.size))[0])


def _sized(width: int, convert: Callable[[bytes], Any]) -> _Handler:
    """Return a handler for a value that has its length before it, in `width` bytes."""

    def handle(self: WeightsUnpickler) -> None:
        length = int.from_bytes(self.read(width), "little")
        self.stack.append(convert(self.read(length)))

    return handle


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


_HANDLERS |= {
    pickle.NONE[0]: _constant(lambda: None),
    pickle.NEWTRUE[0]: _constant(lambda: True),
    pickle.NEWFALSE[0]: _constant(lambda: False),
    pickle.EMPTY_LIST[0]: _constant(list),
    pickle.EMPTY_TUPLE[0]: _constant(tuple),
    pickle.EMPTY_DICT[0]: _constant(dict),
    pickle.EMPTY_SET[0]: _constant(set),
    pickle.BININT[0]: _number("<i"),
    pickle.BININT1[0]: _number("<B"),
    pickle.BININT2[0]: _number("<H"),
    pickle.BINFLOAT[0]: _number(">d"),
    pickle.LONG1[0]: _sized(1, _signed),
    pickle.LONG4[0]: _sized(4, _signed),
    pickle.SHORT_BINUNICODE[0]: _sized(1, _text),
    pickle.BINUNICODE[0]: _sized(4, _text),
    pickle.BINUNICODE8[0]: _sized(8, _text),
    pickle.SHORT_BINSTRING[0]: _sized(1, bytes.decode),
    pickle.SHORT_BINBYTES[0]: _sized(1, bytes),
    pickle.BINBYTES[0]: _sized(4, bytes),
    pickle.BINBYTES8[0]: _sized(8, bytes),
    pickle.BYTEARRAY8[0]: _sized(8, bytearray),
}


@_on(pickle.PROTO)
def _(self: WeightsUnpickler) -> None:
    protocol = self.read(1)[0]
    if protocol > pickle.HIGHEST_PROTOCOL:
        raise UnpicklingError(f"the pickle has protocol {protocol}, which is not known")


@_on(pickle.FRAME)
def _(self: WeightsUnpickler) -> None:
    self.read(8)


@_on(pickle.MARK)
def _(self: WeightsUnpickler) -> None:
    self.outer_stacks.append(self.stack)
    self.stack = []


@_on(pickle.POP)
def _(self: WeightsUnpickler) -> None:
    if self.stack:
        self.stack.pop()
    else:
        self.pop_mark()


@_on(pickle.POP_MARK)
def _(self: WeightsUnpickler) -> None:
    self.pop_mark()


def _put(width: int) -> _Handler:
    def handle(self: WeightsUnpickler) -> None:
        self.memo[int.from_bytes(self.read(width), "little")] = self.stack[-1]

    return handle


def _get(width: int) -> _Handler:
    def handle(self: WeightsUnpickler) -> None:
        self.stack.append(self.memo[int.from_bytes(self.read(width), "little")])

    return handle


_HANDLERS |= {
    pickle.BINPUT[0]: _put(1),
    pickle.LONG_BINPUT[0]: _put(4),
    pickle.BINGET[0]: _get(1),
    pickle.LONG_BINGET[0]: _get(4),
}


@_on(pickle.MEMOIZE)
def _(self: WeightsUnpickler) -> None:
    self.memo[len(self.memo)] = self.stack[-1]


@_on(pickle.TUPLE)
def _(self: WeightsUnpickler) -> None:
    items = self.pop_mark()
    self.stack.append(tuple(items))


def _tuple_of(count: int) -> _Handler:
    def handle(self: WeightsUnpickler) -> None:
        if len(self.stack) < count:
            raise UnpicklingError("the pickle makes a tuple of more than it has")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    return handle


_HANDLERS |= {
    pickle.TUPLE1[0]: _tuple_of(1),
    pickle.TUPLE2[0]: _tuple_of(2),
    pickle.TUPLE3[0]: _tuple_of(3),
}


@_on(pickle.FROZENSET)
def _(self: WeightsUnpickler) -> None:
    items = self.pop_mark()
    self.stack.append(frozenset(map(check_key, items)))


@_on(pickle.ADDITEMS)
def _(self: WeightsUnpickler) -> None:
    items = self.pop_mark()
    if type(self.stack[-1]) is not set:
        raise UnpicklingError("the pickle adds items to what is not a set")
    self.stack[-1].update(map(check_key, items))


def _extend(self: WeightsUnpickler, items: list[Any]) -> None:
    target = self.stack[-1]
    if type(target) is not list and not (isinstance(target, list) and self.is_allowed(type(target))):
        raise UnpicklingError(f"the pickle appends to a {type(target).__name__}, not a list")
    target.extend(items)


@_on(pickle.APPEND)
def _(self: WeightsUnpickler) -> None:
    _extend(self, [self.stack.pop()])


@_on(pickle.APPENDS)
def _(self: WeightsUnpickler) -> None:
    _extend(self, self.pop_mark())


def _set_items(self: WeightsUnpickler, items: list[Any]) -> None:
    target = self.stack[-1]
    if type(target) not in _DICTS and not (isinstance(target, dict) and self.is_allowed(type(target))):
        raise UnpicklingError(f"the pickle sets items of a {type(target).__name__}, not a dict")
    if len(items) % 2:
        raise UnpicklingError("the pickle has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[check_key(key)] = value


@_on(pickle.SETITEM)
def _(self: WeightsUnpickler) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    _set_items(self, [key, value])


@_on(pickle.SETITEMS)
def _(self: WeightsUnpickler) -> None:
    _set_items(self, self.pop_mark())


@_on(pickle.GLOBAL)
def _(self: WeightsUnpickler) -> None:
    module, name = self.read_line(), self.read_line()
    self.stack.append(find_safe_global(module, name, self.allowed))


@_on(pickle.STACK_GLOBAL)
def _(self: WeightsUnpickler) -> None:
    name, module = self.stack.pop(), self.stack.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise UnpicklingError("the pickle names a class by something other than text")
    self.stack.append(find_safe_global(module, name, self.allowed))


@_on(pickle.REDUCE)
def _(self: WeightsUnpickler) -> None:
    args = self.stack.pop()
    self.stack[-1] = self.call(self.stack[-1], args)


@_on(pickle.NEWOBJ)
def _(self: WeightsUnpickler) -> None:
    args, cls = self.stack.pop(), self.stack.pop()
    if not (isinstance(cls, type) and self.is_allowed(cls) and isinstance(args, tuple)):
        raise UnpicklingError(f"the file may not make a {_short(cls)}; weights_only=True forbids it")
    self.stack.append(self.call_outside(cls.__new__, cls, *args))


@_on(pickle.BUILD)
def _(self: WeightsUnpickler) -> None:
    state = self.stack.pop()
    target = self.stack[-1]
    self.spend((state,))
    if type(target) is OrderedDict:
        _set_ordered_dict_attributes(target, state)
    elif self.is_allowed(type(target)):
        self.call_outside(_set_state, target, state)
    else:
        raise UnpicklingError(f"the file may not set attributes of a {type(target).__name__}")


def _set_ordered_dict_attributes(target: Any, state: Any) -> None:
    """Set attributes such as a state_dict's `_metadata`, but none that hides a method."""
    if not isinstance(state, dict):
        raise UnpicklingError("the attributes of an OrderedDict are not a dict")
    for name in state:
        if not isinstance(name, str) or hasattr(OrderedDict, name):
            raise UnpicklingError(f"a file may not set the attribute {name!r:.80} of an OrderedDict")
    target.__dict__.update(state)


def _set_state(target: Any, state: Any) -> None:
    """Do what Python's unpickler does for an object of a class that the user allowed."""
    set_state = getattr(target, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        target.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(target, name, value)


@_on(pickle.BINPERSID)
def _(self: WeightsUnpickler) -> None:
    self.stack.append(self.call_outside(self.load_storage, self.stack.pop()))
