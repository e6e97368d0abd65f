"""What is said about names that are not here: that they are not, why, and which name comes nearest.

Modules get a `__getattr__`, which Python asks only for names that it did not find. `Tensor` gets none, because with one
Python looks up every attribute more slowly; instead PyTorch's tensor names that are absent are bound to a descriptor that
raises. The nearest name is searched for when the message is read, so `hasattr` stays quick.
"""

from __future__ import annotations

import opcode
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

# Where a name of another namespace is looked for, in this order; the module `disttorch` is PyTorch's `torch`.
_NAMESPACES = """
    disttorch disttorch.nn.functional disttorch.nn disttorch.linalg disttorch.special disttorch.fft disttorch.optim
    disttorch.optim.lr_scheduler disttorch.autograd disttorch.autograd.functional disttorch.func disttorch.nn.init
    disttorch.nn.utils disttorch.utils.data disttorch.distributed disttorch.masked disttorch.signal.windows
    disttorch.random disttorch.cuda disttorch.utils disttorch.signal
""".split()

_REASONS = {
    "there is no compiler: leave it out, functions run as they are": "compile compiler jit export fx onnx _dynamo",
    "there are no sparse tensors": """
        sparse sparse_coo_tensor sparse_csr_tensor sparse_compressed_tensor to_sparse to_sparse_coo to_sparse_csr
        to_sparse_csc to_sparse_bsr to_sparse_bsc sparse_dim dense_dim coalesce is_coalesced indices col_indices
        crow_indices ccol_indices row_indices sparse_mask sparse_resize_ sparse_resize_and_clear_ resize_as_sparse_ smm
        sspaddmm SparseAdam
    """,
    "there are no quantized tensors": """
        quantization ao quantize_per_tensor quantize_per_channel dequantize int_repr q_scale q_zero_point qscheme
        q_per_channel_axis q_per_channel_scales q_per_channel_zero_points
    """,
    "there are no nested tensors": "nested to_padded_tensor",
    "tensors have no other devices than the CPU and CUDA": "mtia xpu ipu mps to_mkldnn vulkan",
    "tensors keep their memory in arrays, not in storages": """
        storage storage_type typed_storage untyped_storage set_ FloatStorage UntypedStorage
    """,
}
_REASON_OF = {name: reason for reason, names in _REASONS.items() for name in names.split()}

# Names of PyTorch's tensors that are bound to a descriptor where `Tensor` has nothing of that name.
_TENSOR_NAMES = """
    align_as align_to apply_ as_subclass ccol_indices chalf coalesce col_indices crow_indices dense_dim dequantize
    fill_diagonal_ has_names hash_tensor indices int_repr is_coalesced is_conj is_cpu is_distributed is_ipu is_meta
    is_mkldnn is_mps is_neg is_nested is_nonzero is_quantized is_same_size is_set_to is_shared is_sparse
    is_sparse_csr is_vulkan is_xla is_xpu layout map2_ map_ module_load mtia names narrow_copy new nonzero_static
    q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme
    record_stream refine_names reinforce rename rename_ resize resize_as resize_as_sparse_ resolve_conj resolve_neg
    row_indices set_ share_memory_ smm sparse_dim sparse_mask sparse_resize_ sparse_resize_and_clear_ sspaddmm storage
    storage_type symeig to_dense to_mkldnn to_padded_tensor to_sparse to_sparse_bsc to_sparse_bsr to_sparse_coo
    to_sparse_csc to_sparse_csr unsafe_chunk unsafe_split unsafe_split_with_sizes untyped_storage volatile xpu
"""


class MissingNameError(AttributeError):
    """An AttributeError that finds the nearest name when it is shown."""

    def __init__(self, message: str, namespace: str, name: str) -> None:
        super().__init__(message)
        self.name = name  # or Python adds a suggestion of its own
        self.namespace = namespace

    def __str__(self) -> str:
        return f"{self.args[0]}: {advice(self.namespace, str(self.name))}"

    def __reduce__(self) -> Any:
        return AttributeError, (str(self),)


# Tracebacks show the name of the class.
MissingNameError.__module__ = "builtins"
MissingNameError.__name__ = MissingNameError.__qualname__ = "AttributeError"


def advice(namespace: str, name: str) -> str:
    """Return that `name` is not in disttorch, why, and the nearest name that is.

    >>> advice("disttorch", "relu6")
    'torch.relu6 is not in disttorch; the nearest that is: torch.nn.functional.relu6'
    """
    text = f"{_shown(namespace)}.{name} is not in disttorch"
    if name in _REASON_OF:
        return f"{text}; {_REASON_OF[name]}"
    found = nearest(namespace, name)
    return f"{text}; the nearest that is: {found}" if found else text


def nearest(namespace: str, name: str) -> str | None:
    """Return the full name of what comes nearest: the name elsewhere, a similar one here, a similar one elsewhere."""
    import difflib

    elsewhere = [other for other in (*_NAMESPACES, "disttorch.Tensor") if other != namespace]
    for other in elsewhere:
        if any(name in names for names in _names(other)):
            return f"{_shown(other)}.{name}"
    for place in (namespace, *elsewhere):
        for names in _names(place):
            similar = difflib.get_close_matches(name, names, 1, 0.7)
            if similar:
                return f"{_shown(place)}.{similar[0]}"
    return None


def _names(namespace: str) -> tuple[list[str], list[str]]:
    """Return the public names of a namespace, and those of its modules."""
    found = sys.modules["disttorch"].Tensor if namespace == "disttorch.Tensor" else sys.modules.get(namespace)
    names = [n for n in dir(found) if not n.startswith("_") and hasattr(found, n)] if found is not None else []
    modules = [n for n in names if isinstance(getattr(found, n), ModuleType)]
    return [n for n in names if n not in modules], modules


def _shown(namespace: str) -> str:
    """Return a namespace as users write it: `torch.nn` for `disttorch.nn`."""
    return namespace if namespace == "Tensor" else namespace.replace("disttorch", "torch", 1)


def _is_import_from(frame: FrameType) -> bool:
    """Whether a frame executes `from module import name`, which would replace an AttributeError by one of its own."""
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


def guard_modules() -> None:
    """Let the modules that users meet tell about names that they do not have."""
    for name in _NAMESPACES:
        module = sys.modules.get(name)
        if module is not None:
            module.__dict__["__getattr__"] = _asker(module, module.__dict__.get("__getattr__"))


def _asker(module: ModuleType, otherwise: Callable[[str], Any] | None) -> Callable[[str], Any]:
    """Return a module's `__getattr__`; `otherwise` is one that it had before and that is asked first."""
    namespace = module.__name__

    def __getattr__(name: str) -> Any:  # noqa: N807
        if otherwise is not None:
            try:
                return otherwise(name)
            except AttributeError:
                pass
        message = f"module '{namespace}' has no attribute '{name}'"
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(message)
        if _is_import_from(sys._getframe(1)):
            raise ImportError(
                f"cannot import name '{name}' from '{namespace}': {advice(namespace, name)}", name=namespace
            )
        raise MissingNameError(message, namespace, name)

    return __getattr__


class _AbsentMember:
    """A name that PyTorch's class has and ours has not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        message = f"'{owner.__name__}' object has no attribute '{self.name}'"
        raise MissingNameError(message, "disttorch.Tensor", self.name)


def guard_tensor(cls: type) -> None:
    """Bind PyTorch's tensor names that `cls` does not have to a descriptor that raises AttributeError."""
    for name in _TENSOR_NAMES.split():
        if not hasattr(cls, name):
            setattr(cls, name, _AbsentMember(name))
