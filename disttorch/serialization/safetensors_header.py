"""The header of a safetensors file, 8 bytes of length and JSON: nothing in it is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

MAX_HEADER = 100_000_000  # bytes
_MOST_DIMENSIONS = 64  # of a NumPy array
_LARGEST = (1 << 63) - 1

# The types of the format and the bytes of an element; disttorch has no type for those without a
# name.
ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
    "C64": 8, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
DTYPE_NAMES = {
    "I64": "int64", "F64": "float64", "C64": "complex64", "F32": "float32", "I32": "int32", "BF16": "bfloat16",
    "F16": "float16", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class SafetensorError(ValueError):
    """A file that is not in the safetensors format, or tensors that it cannot hold."""


class TensorInfo(NamedTuple):
    """What the header says of one tensor; its bytes are `begin` to `end` of the data part."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """The tensors in the order of their data, the metadata, and where in the file data begins."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def encode_header(tensors: Iterable[tuple[str, TensorInfo]], metadata: dict[str, str]) -> bytes:
    """Return the length and the JSON, padded so that the data begins at a multiple of 8 bytes."""
    content: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for name, info in tensors:
        offsets = [info.begin, info.end]
        content[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": offsets}
    try:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise SafetensorError(f"a tensor name or metadata is not valid text: {error}") from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise SafetensorError(f"the header would have {len(text)} bytes; at most {MAX_HEADER} are allowed")
    return len(text).to_bytes(8, "little") + text


def header_length(first8: bytes, file_size: int, source: str) -> int:
    """Return how many bytes of JSON follow the first 8; SafetensorError if there are too few."""
    if len(first8) < 8:
        raise SafetensorError(f"{source} is too short to be a safetensors file")
    length = int.from_bytes(first8, "little")
    if length > MAX_HEADER:
        raise SafetensorError(
            f"{source} is not a safetensors file: its header would have {length} bytes, more than "
            f"the {MAX_HEADER} that are allowed"
        )
    if length > file_size - 8:
        raise SafetensorError(f"{source} is truncated: its header alone needs {length} bytes more")
    return length


def parse_header(text: bytes, file_size: int, source: str) -> Header:
    """Return the checked header of a file of `file_size` bytes, or raise SafetensorError."""
    content = _parse_json(text, source)
    metadata = _checked_metadata(content.pop("__metadata__", {}), source)
    infos = {name: _checked_info(name, entry, source) for name, entry in content.items()}
    ordered = dict(sorted(infos.items(), key=lambda item: (item[1].begin, item[1].end)))
    data_start = 8 + len(text)
    _check_layout(ordered, file_size - data_start, source)
    return Header(ordered, metadata, data_start)


def _parse_json(text: bytes, source: str) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise SafetensorError(f"{source} is not a safetensors file: its header does not start with '{{'")
    try:
        content: dict[str, Any] = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise SafetensorError(f"the header of {source} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise SafetensorError(f"the header of {source} is not valid JSON: {error}") from None
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r:.80} occurs twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _checked_metadata(metadata: Any, source: str) -> dict[str, str]:
    if isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values()):
        return metadata
    raise SafetensorError(f"the metadata of {source} must map text to text")


def _checked_info(name: str, entry: Any, source: str) -> TensorInfo:
    where = f"tensor {name!r:.80} of {source}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorError(f"{where} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise SafetensorError(f"{where} has the unknown dtype {dtype!r:.40}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS:
        raise SafetensorError(f"{where} has the shape {shape!r:.80}; expected a list of counts")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise SafetensorError(f"{where} has data_offsets {offsets!r:.80}; expected [begin, end]")
    nbytes = prod(shape) * ITEM_SIZES[dtype]
    if prod(max(n, 1) for n in shape) > _LARGEST or offsets[1] - offsets[0] != nbytes:
        raise SafetensorError(
            f"{where} has shape {shape!r:.80} and dtype {dtype}, which does not fit its data_offsets {offsets}"
        )
    return TensorInfo(dtype, tuple(shape), *offsets)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n <= _LARGEST for n in values)


def _check_layout(tensors: dict[str, TensorInfo], data_size: int, source: str) -> None:
    """Check that the tensors fill the data without holes or overlaps."""
    position = 0
    for name, info in tensors.items():
        if info.begin != position:
            kind = "overlaps the one before it" if info.begin < position else "leaves a hole before it"
            raise SafetensorError(f"tensor {name!r:.80} of {source} {kind}")
        position = info.end
    if position != data_size:
        raise SafetensorError(f"{source} has {data_size} bytes of tensor data, but its header describes {position}")
