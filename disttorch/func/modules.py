"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn.modules.module import Module
from disttorch.ops.join import stack


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Return module(*args, **kwargs), computed with other parameters and buffers, given by their full names.

    What is not named keeps its value; a parameter that the module does not have is left out. `args` is a tuple, or the only argument. With `tie_weights`, a tensor that the
    module has under several names is replaced under all. `strict` raises RuntimeError unless all names are given.
    """
    given: dict[str, Tensor] = {}
    for part in _listed(parameter_and_buffer_dicts):
        if given.keys() & part.keys():
            raise ValueError(f"{sorted(given.keys() & part.keys())} appear in several dictionaries")
        given.update(part)
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, given, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


def _listed(dicts: Any) -> list[dict[str, Tensor]]:
    found = [dicts] if isinstance(dicts, dict) else list(dicts) if isinstance(dicts, Sequence) else None
    if found is None or not all(isinstance(d, dict) for d in found):
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(dicts)}"
        )
    return found


@contextmanager
def _replaced(module: Module, given: dict[str, Tensor], tie_weights: bool, strict: bool) -> Iterator[None]:
    places = dict(_places(module))
    given = _known_names(given, places, module, strict)
    if tie_weights:
        given = _tied(given, places)
    before = [(places[name], places[name][0][places[name][1]]) for name in given]
    try:
        for name, value in given.items():
            table, key = places[name]
            table[key] = value
        yield
    finally:
        for (table, key), value in before:
            table[key] = value


def _places(module: Module) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    """Yield the full name of every parameter and buffer, and the table and key under which a module has it."""
    for prefix, part in module.named_modules(remove_duplicate=False):
        for table in (part._parameters, part._buffers):
            for key in table:
                yield f"{prefix}.{key}" if prefix else key, (table, key)


def _known_names(given: dict[str, Tensor], places: dict[str, Any], module: Module, strict: bool) -> dict[str, Tensor]:
    """Return the replacements of what there is; with `strict`, RuntimeError unless they are just those."""
    unexpected = [name for name in given if name not in places]
    missing = [name for name, (table, key) in places.items() if table[key] is not None and name not in given]
    if strict and (unexpected or missing):
        raise RuntimeError(f"functional_call, strict: the module has no {unexpected}, and {missing} are not given")
    for name in unexpected:
        module.get_submodule(name.rpartition(".")[0])  # AttributeError where there is not even the module
    return {name: value for name, value in given.items() if name in places}


def _tied(given: dict[str, Tensor], places: dict[str, Any]) -> dict[str, Tensor]:
    """Return the replacements with those of all other names of the same tensors."""
    values = {id(places[name][0][places[name][1]]): value for name, value in given.items()}
    own = {name: table[key] for name, (table, key) in places.items()}
    shared = {name: values[id(t)] for name, t in own.items() if t is not None and id(t) in values and name not in given}
    return given | shared


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters and the buffers of models of one class, each stacked along a new first dimension."""
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: expected at least one model, got 0")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: expected all models to be in training mode, or all in evaluation mode")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: expected all models to be of the same class")
    return (
        {
            name: _stack_leaves([dict(m.named_parameters())[name] for m in models])
            for name, _ in models[0].named_parameters()
        },
        {name: _stack_leaves([dict(m.named_buffers())[name] for m in models]) for name, _ in models[0].named_buffers()},
    )


def _stack_leaves(tensors: list[Tensor]) -> Tensor:
    return stack([t.detach() for t in tensors]).requires_grad_(tensors[0].requires_grad)
