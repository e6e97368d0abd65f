"""`vmap`: a function of one sample, for a batch of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.ops.join import stack
from disttorch.random import get_rng_state, set_rng_state
from disttorch.utils._pytree import TreeSpec, broadcast_prefix, tree_flatten, tree_unflatten

_RANDOMNESS = ("error", "different", "same")


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that applies `func` to every slice of its arguments and stacks the results.

    `in_dims` says along which dimension each tensor argument is sliced (None: every call gets all of it), `out_dims`
    where the results' new dimension goes; both are numbers or containers of them, shaped as the arguments and results.
    Every call gets keyword arguments whole. `randomness`: whether random functions raise RuntimeError ("error"),
    draw anew in each call ("different") or the same ("same").

    This is a loop over the batch: it takes the time of one call for each slice. So `func` may also do what PyTorch's does
    not allow, such as branch on a value. `chunk_size` is accepted and changes nothing.

    >>> import disttorch as torch
    >>> vmap(torch.dot)(torch.ones(3, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    tensor([ 3.,  7., 11.])
    """
    if randomness not in _RANDOMNESS:
        raise RuntimeError(f"Only allowed values for randomness are {', '.join(_RANDOMNESS)}, got {randomness!r}")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten(args)
        dims = _in_dims(in_dims, spec, leaves)
        size = _batch_size(leaves, dims)
        results = []
        start = before = get_rng_state()
        for i in range(size):
            if randomness == "same":
                set_rng_state(start)
            given = [x if d is None else x[(slice(None),) * d + (i,)] for x, d in zip(leaves, dims)]
            results.append(func(*tree_unflatten(given, spec), **kwargs))
            if randomness == "error" and not bool((get_rng_state() == before).all()):
                raise RuntimeError(
                    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
                    "randomness flags on vmap or perform the randomness operation out of vmap"
                )
        return _stacked(results, out_dims)

    return wrapper


def _in_dims(in_dims: Any, spec: TreeSpec, leaves: Sequence[Any]) -> list[int | None]:
    """Return the dimension along which each leaf of the arguments is sliced, None for one that is not."""
    if not leaves:
        raise ValueError("vmap: there are no inputs to map over; is the function to be called without vmap?")
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(f"vmap: expected in_dims to be an int or a tuple, got {type(in_dims).__name__}")
    prefix = in_dims if isinstance(in_dims, int) else tuple(in_dims)
    found = broadcast_prefix(prefix, spec)
    if found is None:
        raise ValueError(f"vmap: in_dims={in_dims} does not have the structure of the inputs, nor of their outer part")
    return [_wrapped(d, leaf) for d, leaf in zip(found, leaves)]


def _wrapped(d: Any, leaf: Any) -> int | None:
    if d is None:
        return None
    if not isinstance(d, int):
        raise ValueError(f"vmap: expected in_dims to hold ints or None, got {d!r}")
    if not isinstance(leaf, Tensor):
        raise ValueError(
            f"vmap: in_dims has {d} for an input of type {type(leaf).__name__}; use None for what is no tensor"
        )
    if not -leaf._a.ndim <= d < leaf._a.ndim:
        raise ValueError(f"vmap: in_dims has {d} for an input of {leaf._a.ndim} dimensions")
    return d % leaf._a.ndim


def _batch_size(leaves: Sequence[Any], dims: Sequence[int | None]) -> int:
    sizes = [leaf._a.shape[d] for leaf, d in zip(leaves, dims) if d is not None]
    if not sizes:
        raise ValueError("vmap: at least one input must be mapped over, but in_dims is None for all")
    if len(set(sizes)) > 1:
        raise ValueError(
            f"vmap: expected all inputs to have the same size along the mapped dimension, got sizes {sizes}"
        )
    if not sizes[0]:
        raise ValueError("vmap: the mapped dimension has size 0, so there is no call that tells the results' shapes")
    return sizes[0]


def _stacked(results: Sequence[Any], out_dims: Any) -> Any:
    """Return results of the same structure as one, each tensor with a new dimension at its place in `out_dims`."""
    flat = [tree_flatten(result) for result in results]
    spec = flat[0][1]
    dims = broadcast_prefix(tuple(out_dims) if isinstance(out_dims, list) else out_dims, spec)
    if dims is None and isinstance(out_dims, tuple) and len(out_dims) == 1 and spec.kind is None:
        dims = [out_dims[0]]
    if dims is None:
        raise ValueError(f"vmap: out_dims={out_dims} does not have the structure of the function's result")
    columns = zip(*(leaves for leaves, _ in flat))
    return tree_unflatten([_joined(list(column), d) for column, d in zip(columns, dims)], spec)


def _joined(column: list[Any], d: int | None) -> Any:
    for value in column:
        if not isinstance(value, Tensor):
            raise ValueError(f"vmap: the function must only return Tensors, got type {type(value)}")
    return column[0] if d is None else stack(column, d)
