"""Running an operator's samples of PyTorch's database through both libraries."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import disttorch
from oracle import compare, overhead, translate
from oracle.names import entries

overhead.leave_out()

DTYPES = (torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64)
# What these return is not determined: only type and shape are compared.
_UNDETERMINED = frozenset("empty empty_like new_empty new_empty_strided empty_strided resize_ resize_as_".split())
# Any of several results is right, as each eigenvector may have either sign: what the database's own comparison keeps of
# them is compared, and the gradient through it.
_UP_TO_A_CHOICE = frozenset(
    """svd linalg.svd linalg.eig linalg.eigh geqrf linalg.ldl_factor linalg.ldl_factor_ex linalg.householder_product
    nn.functional.fractional_max_pool2d""".split()
)  # fmt: skip
_MOST_SECOND_ORDER_ELEMENTS = 400


@dataclass
class Report:
    """What came of an operator: how many samples were run, and what differed."""

    name: str
    samples: int = 0
    failures: list[str] = field(default_factory=list)
    error_inputs: int = 0
    error_failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def noting(self, where: str, failures: list[str] | None = None) -> Iterator[None]:
        """Note what goes wrong inside, with the place."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            text = " | ".join(lines[:14])[:600]
            (self.failures if failures is None else failures).append(f"{where}: {type(error).__name__}: {text}")


def run(name: str, dtypes: tuple[Any, ...] = DTYPES, first_failure_only: bool = False) -> Report:
    """Run all samples of an operator, in each of `dtypes` that PyTorch supports."""
    report = Report(name)
    for entry in entries()[name]:
        for dtype in dtypes:
            if dtype in entry.supported_dtypes("cpu"):
                _run_samples(report, entry, dtype)
            if first_failure_only and report.failures:
                return report
    return report


def _seed() -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)


def label(entry: Any) -> str:
    """Return an entry's name with its variant's."""
    return f"{entry.name}.{entry.variant_test_name}" if entry.variant_test_name else entry.name


def _run_samples(report: Report, entry: Any, dtype: Any) -> None:
    _seed()
    gradients = dtype in entry.supported_backward_dtypes("cpu") and entry.supports_autograd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(entry.sample_inputs("cpu", dtype, requires_grad=gradients))
    for number, sample in enumerate(samples):
        report.samples += 1
        with report.noting(f"{label(entry)}[{str(dtype)[6:]} {number}] {_describe(sample)}"):
            Comparison(entry, sample, dtype).check(gradients)
    if samples:
        with report.noting(f"{label(entry)}[{str(dtype)[6:]}] other forms"):
            check_other_forms(entry, samples[0], dtype)


def _describe(sample: Any) -> str:
    def short(given: Any) -> str:
        if isinstance(given, torch.Tensor):
            return f"{str(given.dtype)[6:]}{list(given.shape)}"
        if isinstance(given, (list, tuple)):
            return "(" + ", ".join(short(item) for item in given) + ")"
        return getattr(given, "__name__", None) or repr(given)

    named = [f"{key}={short(item)}" for key, item in sample.kwargs.items()]
    return f"({', '.join([short(sample.input), *map(short, sample.args), *named])})"[:240]


class Comparison:
    """One sample in both libraries."""

    def __init__(self, entry: Any, sample: Any, dtype: Any) -> None:
        self.entry, self.dtype = entry, dtype
        self.theirs = _copied((sample.input, list(sample.args), sample.kwargs))
        self.ours = translate.arguments((sample.input, list(sample.args), sample.kwargs))
        self.process = sample.output_process_fn_grad if entry.name in _UP_TO_A_CHOICE else None
        self.function = translate.function(entry.op)

    def check(self, gradients: bool) -> None:
        """Compare values, types, layouts; with `gradients` the first derivatives, and for small samples the second."""
        expected = self._call(self.entry.op, self.theirs, torch, self.process)
        found = self._call(self.function, self.ours, disttorch, translate.value(self.process))
        name = self.entry.name
        theirs, ours = compare.flat(expected), compare.flat(found)
        assert len(ours) == len(theirs), f"{len(ours)} results, {len(theirs)} expected"
        for k, (y, z) in enumerate(zip(ours, theirs)):
            compare.assert_same(
                y, z, f"result {k}", values=name not in _UNDETERMINED, layout=name not in _UP_TO_A_CHOICE
            )
            if gradients and isinstance(z, torch.Tensor):
                assert y.requires_grad == z.requires_grad, f"result {k}: requires_grad is {y.requires_grad}"
        if gradients:
            self._check_gradients(ours, theirs)

    def _call(self, function: Callable[..., Any], arguments: Any, library: Any, process: Any) -> Any:
        first, rest, named = arguments
        library.manual_seed(5)
        result = function(first, *rest, **named)
        return result if process is None else process(result)

    def _check_gradients(self, ours: list[Any], theirs: list[Any]) -> None:
        pairs = [(y, z) for y, z in zip(ours, theirs) if isinstance(z, torch.Tensor) and z.requires_grad]
        inputs = list(_leaves(self.ours)), list(_leaves(self.theirs))
        if not pairs or not inputs[1]:
            return
        second = self.entry.supports_gradgrad and self.dtype is torch.float64 and _small(inputs[1], pairs)
        seeds = [_seed_like(z, k) for k, (_, z) in enumerate(pairs)]
        our_seeds = [translate.tensor(s) for s in seeds]
        expected = torch.autograd.grad(
            [z for _, z in pairs], inputs[1], seeds, create_graph=second, allow_unused=True, retain_graph=second
        )
        found = disttorch.autograd.grad(
            [y for y, _ in pairs], inputs[0], our_seeds, create_graph=second, allow_unused=True, retain_graph=second
        )
        self._compare_gradients("first derivative", found, expected, inputs[0])
        if second:
            self._check_second(inputs, found, expected)

    def _check_second(self, inputs: Any, found: Any, expected: Any) -> None:
        pairs = [(g, h) for g, h in zip(found, expected) if h is not None and h.requires_grad]
        if not pairs:
            return
        seeds = [_seed_like(h, 11 + k) for k, (_, h) in enumerate(pairs)]
        wanted = torch.autograd.grad([h for _, h in pairs], inputs[1], seeds, allow_unused=True)
        ours = [(g, translate.tensor(s)) for (g, _), s in zip(pairs, seeds) if g is not None and g.requires_grad]
        if ours:
            got = disttorch.autograd.grad([g for g, _ in ours], inputs[0], [s for _, s in ours], allow_unused=True)
        else:
            got = (None,) * len(inputs[0])
        self._compare_gradients("second derivative", got, wanted, inputs[0])

    def _compare_gradients(self, what: str, found: Any, expected: Any, inputs: Any) -> None:
        for k, (g, h, x) in enumerate(zip(found, expected, inputs)):
            if g is None and h is None:
                continue
            mine = np.zeros(tuple(x.shape)) if g is None else compare.elements(g)
            other = np.zeros(tuple(x.shape)) if h is None else compare.elements(h)
            assert mine.shape == other.shape, f"{what} {k}: {mine.shape}, {other.shape} expected"
            dtype = self.dtype if h is None else h.dtype
            compare.assert_close(mine, other, dtype, f"{what} of input {k}", scale=5.0)


def _copied(given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        made = given.detach()
        made = made.clone() if made.is_conj() or made.is_neg() else _same_layout(made)
        return made.requires_grad_(given.requires_grad)
    if isinstance(given, torch.Size):
        return given
    if isinstance(given, (tuple, list)):
        items = [_copied(item) for item in given]
        return type(given)(*items) if hasattr(given, "_fields") else type(given)(items)
    if isinstance(given, dict):
        return {key: _copied(item) for key, item in given.items()}
    if isinstance(given, torch.Generator):
        return given.clone_state()
    return given


def _same_layout(given: Any) -> Any:
    if not given.numel():
        return given.clone()
    whole = given.as_strided((given.untyped_storage().nbytes() // given.element_size(),), (1,), 0).clone()
    return whole.as_strided(given.shape, given.stride(), given.storage_offset())


def _leaves(given: Any) -> Iterator[Any]:
    if isinstance(given, (torch.Tensor, disttorch.Tensor)):
        if given.requires_grad:
            yield given
    elif isinstance(given, (tuple, list)):
        for item in given:
            yield from _leaves(item)
    elif isinstance(given, dict):
        for item in given.values():
            yield from _leaves(item)


def _seed_like(given: Any, number: int) -> Any:
    generator = np.random.default_rng(number)
    values = torch.from_numpy(np.asarray(generator.standard_normal(tuple(given.shape))))
    if given.is_complex():
        values = torch.complex(values, torch.from_numpy(np.asarray(generator.standard_normal(tuple(given.shape)))))
    return values.to(given.dtype)


def _small(inputs: list[Any], pairs: list[Any]) -> bool:
    return sum(x.numel() for x in inputs) + sum(z.numel() for _, z in pairs) <= _MOST_SECOND_ORDER_ELEMENTS


# -- in-place and out= --------------------------------------------------------------------------------------------


def check_other_forms(entry: Any, sample: Any, dtype: Any) -> None:
    """Compare the method, the in-place form and `out=` with PyTorch's, on one sample without gradients."""
    with torch.no_grad(), disttorch.no_grad():
        _check_form(entry, sample, entry.method_variant, "method")
        _check_form(entry, sample, entry.inplace_variant, "in place")
        if entry.supports_out:
            _check_out(entry, sample)


def _check_form(entry: Any, sample: Any, form: Any, what: str) -> None:
    if form is None or not isinstance(sample.input, torch.Tensor):
        return
    theirs = _copied((sample.input, list(sample.args), sample.kwargs))
    ours = translate.arguments((sample.input, list(sample.args), sample.kwargs), leaves=False)
    torch.manual_seed(5)
    disttorch.manual_seed(5)
    try:
        expected = form(theirs[0].detach(), *theirs[1], **theirs[2])
    except RuntimeError:  # as where the result's type or shape is not the tensor's own
        return
    found = translate.function(form)(ours[0], *ours[1], **ours[2])
    for k, (y, z) in enumerate(zip(compare.flat(found), compare.flat(expected))):
        values = entry.name not in _UNDETERMINED | _UP_TO_A_CHOICE
        compare.assert_same(y, z, f"{what}, result {k}", values=values, layout=False)


def _check_out(entry: Any, sample: Any) -> None:
    theirs = _copied((sample.input, list(sample.args), sample.kwargs))
    torch.manual_seed(5)
    expected = entry.op(theirs[0], *theirs[1], **theirs[2])
    parts = compare.flat(expected)
    if not all(isinstance(part, torch.Tensor) for part in parts):
        return
    empty = [part.new_empty(0) for part in parts]
    try:
        entry.op(theirs[0], *theirs[1], **theirs[2], out=empty[0] if isinstance(expected, torch.Tensor) else empty)
    except (RuntimeError, TypeError, NotImplementedError):
        return
    ours = translate.arguments((sample.input, list(sample.args), sample.kwargs), leaves=False)
    outs = translate.value([part.new_empty(0) for part in parts])
    disttorch.manual_seed(5)
    translate.function(entry.op)(
        *[ours[0], *ours[1]], **ours[2], out=outs[0] if isinstance(expected, torch.Tensor) else outs
    )
    for k, (y, z) in enumerate(zip(outs, parts)):
        values = entry.name not in _UNDETERMINED | _UP_TO_A_CHOICE
        compare.assert_same(y, z, f"out=, result {k}", values=values, layout=False)


# -- errors -------------------------------------------------------------------------------------------------------


def run_errors(name: str) -> Report:
    """Run the inputs for which PyTorch raises: the same type of exception is expected."""
    report = Report(name)
    for entry in entries()[name]:
        if entry.error_inputs_func is None:
            continue
        _seed()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = list(entry.error_inputs("cpu"))
        for number, error in enumerate(given):
            report.error_inputs += 1
            sample = error.sample_input
            with report.noting(f"{label(entry)}[error {number}] {_describe(sample)}", report.error_failures):
                _check_raises(entry, sample, error)
    return report


def _check_raises(entry: Any, sample: Any, error: Any) -> None:
    arguments = translate.arguments((sample.input, list(sample.args), sample.kwargs))
    function = translate.function(entry.op)
    try:
        function(arguments[0], *arguments[1], **arguments[2])
    except translate.Missing:
        raise
    except error.error_type:
        return
    except Exception as raised:
        raise AssertionError(f"{type(raised).__name__}, {_names(error)} expected: {raised}") from None
    raise AssertionError(f"no error, {_names(error)} expected: {error.error_regex}")


def _names(error: Any) -> str:
    given = error.error_type
    return "/".join(t.__name__ for t in given) if isinstance(given, tuple) else given.__name__
