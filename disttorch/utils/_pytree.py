"""Nested containers of tensors: taking the leaves out, and putting others in their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["TreeSpec", "tree_flatten", "tree_leaves", "tree_map", "tree_unflatten"]


class TreeSpec(NamedTuple):
    """The shape of a tree: the container's class (None for a leaf), what it needs besides, and its children's shapes."""

    kind: Any
    context: Any
    children: tuple[TreeSpec, ...]

    @property
    def num_leaves(self) -> int:
        """The number of leaves."""
        return 1 if self.kind is None else sum(child.num_leaves for child in self.children)


LEAF = TreeSpec(None, None, ())


def _opened(tree: Any) -> tuple[list[Any], Any] | None:
    """Return a container's children and context; None for a leaf."""
    if isinstance(tree, dict):
        return list(tree.values()), list(tree)
    if isinstance(tree, (list, tuple)) and (type(tree) in (list, tuple) or hasattr(tree, "_fields")):
        return list(tree), None
    return None


def tree_flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """Return the leaves of nested tuples, lists and dicts in order, and the shape of the whole.

    >>> leaves, spec = tree_flatten({"a": 1, "b": (2, [3])})
    >>> leaves, tree_unflatten([10, 20, 30], spec)
    ([1, 2, 3], {'a': 10, 'b': (20, [30])})
    """
    opened = _opened(tree)
    if opened is None:
        return [tree], LEAF
    leaves, specs = [], []
    for child in opened[0]:
        found, spec = tree_flatten(child)
        leaves += found
        specs.append(spec)
    return leaves, TreeSpec(type(tree), opened[1], tuple(specs))


def tree_unflatten(leaves: Any, spec: TreeSpec) -> Any:
    """Return a tree of the shape `spec` with `leaves` in their places."""
    left = iter(leaves)
    tree = _filled(left, spec)
    if next(left, spec) is not spec:
        raise ValueError(f"a tree of {spec.num_leaves} leaves was given more")
    return tree


def _filled(leaves: Any, spec: TreeSpec) -> Any:
    if spec.kind is None:
        return next(leaves)
    children = [_filled(leaves, child) for child in spec.children]
    if issubclass(spec.kind, dict):
        return spec.kind(zip(spec.context, children))
    return spec.kind(*children) if hasattr(spec.kind, "_fields") else spec.kind(children)


def tree_leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested tuples, lists and dicts in order."""
    return tree_flatten(tree)[0]


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return the tree with `function` applied to every leaf."""
    leaves, spec = tree_flatten(tree)
    return tree_unflatten([function(leaf) for leaf in leaves], spec)


def broadcast_prefix(prefix: Any, spec: TreeSpec) -> list[Any] | None:
    """Return a value for each leaf of `spec` from a tree that may stop above the leaves; None if they do not fit."""
    if spec.kind is None:
        return [prefix] if _opened(prefix) is None else None
    opened = _opened(prefix)
    if opened is None:
        return [prefix] * spec.num_leaves
    if len(opened[0]) != len(spec.children) or opened[1] != spec.context:
        return None
    parts = [broadcast_prefix(p, child) for p, child in zip(opened[0], spec.children)]
    return None if any(part is None for part in parts) else [value for part in parts for value in part or ()]
