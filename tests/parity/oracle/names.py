"""The names in scope: public functions of PyTorch that its operator database has samples for."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

from torch.testing._internal.common_methods_invocations import op_db

# Not public (internal kernels, copies of views made for functional transforms, just-in-time compiled kernels), or of
# what disttorch does not have at all (sparse layouts, complex32).
_OUT_OF_SCOPE = (
    "torch.", "jiterator_", "sparse.", "native_", "_", "unsafe_", "nn.functional.linear_cross_entropy",
)  # fmt: skip
_OUT_OF_SCOPE_NAMES = frozenset(
    """resolve_conj resolve_neg max_pool2d_with_indices_backward slice svd_lowrank pca_lowrank index_copy chalf
    empty_permuted to_sparse nonzero_static hash_tensor""".split()
)


def _in_scope(name: str) -> bool:
    return not (name.startswith(_OUT_OF_SCOPE) or name.endswith("_copy") or name in _OUT_OF_SCOPE_NAMES)


@cache
def entries() -> dict[str, list[Any]]:
    """Return the database's entries (variants of an operator) by the operator's name."""
    found: dict[str, list[Any]] = defaultdict(list)
    for entry in op_db:
        if _in_scope(entry.name) or entry.name == "__getitem__" or entry.name.startswith("__r"):
            found[entry.name].append(entry)
    return dict(sorted(found.items()))
