"""Data-parallel training: one process per GPU or group of cores, gradients averaged while backward runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from disttorch.autograd import grad_mode
from disttorch.autograd.engine import queue_callback
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.distributed import collectives, runtime, trace
from disttorch.distributed.reducer import FIRST_BUCKET_BYTES, Reducer
from disttorch.nn.modules.module import Module

_MIB = 1024 * 1024


class DistributedDataParallel(Module):
    """Average a module's gradients over all ranks, as `torch.nn.parallel.DistributedDataParallel`.

    Every rank builds the same module; at the start rank 0's parameters and buffers are copied to all (DistError on every
    rank if names, shapes or types differ). A gradient is averaged, in buckets of `bucket_cap_mb`, as soon as it is
    complete, while backward goes on; when `backward()` returns, `.grad` is the same on every rank to the last bit. A
    parameter that no rank used keeps `.grad`; one that only some used counts as zero elsewhere. Before each forward pass
    in training, rank 0's buffers are copied to all (`broadcast_buffers`).

    `device_ids`, `output_device`, `dim`, `find_unused_parameters`, `gradient_as_bucket_view` and `static_graph` are
    accepted: a rank has one device, unused parameters are always found, and gradients always live in the buckets.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.broadcast_buffers = broadcast_buffers
        self.require_backward_grad_sync = True
        self.process_group = process_group
        self._reducer: Reducer | None = None
        self._under_way = False
        if runtime.get_world_size(process_group) == 1:
            return
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        if not named:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient."
            )
        self._averaged = [p for _, p in named]
        size = int((25 if bucket_cap_mb is None else bucket_cap_mb) * _MIB)
        self._reducer = Reducer(
            [name for name, _ in named],
            [p._a for p in self._averaged],
            bucket_bytes=size,
            first_bucket_bytes=min(size, FIRST_BUCKET_BYTES),
            group=process_group,
        )
        if init_sync:
            self._copy_from_rank_0([*module.parameters(), *module.buffers()])
        for index, parameter in enumerate(self._averaged):
            parameter.register_post_accumulate_grad_hook(self._hook(index))

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the module."""
        self._under_way = False
        synchronised = self._reducer is not None and self.require_backward_grad_sync
        if synchronised and self.broadcast_buffers and self.training and grad_mode.is_grad_enabled():
            self._copy_from_rank_0(list(self.module.buffers()))
        with trace.span("DistributedDataParallel.forward", "compute"):
            return self.module(*inputs, **kwargs)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients on this rank only: the next backward pass outside averages their sum."""
        before = self.require_backward_grad_sync
        self.require_backward_grad_sync = False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def _copy_from_rank_0(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            collectives.broadcast(tensor, 0, self.process_group)

    def _hook(self, index: int) -> Any:
        def gradient_is_complete(parameter: Tensor) -> None:
            if not self.require_backward_grad_sync:
                return
            assert self._reducer is not None
            assert parameter._grad is not None
            if not self._under_way:
                self._under_way = True
                self._reducer.reset()  # a backward pass that failed may have left gradients behind
                queue_callback(self._finish)
            parameter._grad._a = self._reducer.mark_ready(index, parameter._grad._a)

        return gradient_is_complete

    def _finish(self) -> None:
        """Wait for the averages at the end of the backward pass, and give them to parameters not used here."""
        self._under_way = False
        assert self._reducer is not None
        used = self._reducer.finalize(self._gradient_array)
        for index, (parameter, anywhere) in enumerate(zip(self._averaged, used)):
            if anywhere:
                view = self._reducer.view(index)
                if parameter._grad is None:
                    parameter._grad = wrap(view)
                else:
                    parameter._grad._a = view

    def _gradient_array(self, index: int) -> Any:
        held = self._averaged[index]._grad
        return None if held is None else held._a


class DataParallel(DistributedDataParallel):
    """`model = nn.DataParallel(model)`: train on all GPUs or groups of cores that `disttorch-run` has started.

    Where PyTorch's class splits a batch over the GPUs of one process, here every rank is a process of its own with its
    own part of the batch, and this class is `DistributedDataParallel`; it joins the process group by itself. Without
    the launcher it calls the module as it is, so the same script runs alone.
    """

    def __init__(
        self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0, **options: Any
    ) -> None:
        if runtime.is_launched() and not runtime.is_initialized():
            runtime.init_process_group()
        if runtime.is_initialized():
            super().__init__(module, device_ids, output_device, dim, **options)
            return
        Module.__init__(self)
        self.module = module
        self.broadcast_buffers = False
        self.require_backward_grad_sync = True
        self._reducer = None
        self._under_way = False
