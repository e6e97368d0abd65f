"""Data-parallel training: one process per GPU or group of cores, gradients averaged while backward runs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from disttorch.autograd import grad_mode
from disttorch.autograd.node import next_seq
from disttorch.autograd.tensor import Tensor
from disttorch.core.device import device
from disttorch.distributed import collectives, progress, runtime, trace
from disttorch.distributed.algorithms.ddp_comm_hooks import default_hooks
from disttorch.distributed.algorithms.join import Join, Joinable, JoinHook
from disttorch.distributed.buffer_sync import BufferSync
from disttorch.distributed.coalesced import broadcast_coalesced
from disttorch.distributed.errors import DistError
from disttorch.distributed.gradient_averager import GradientAverager
from disttorch.distributed.gradient_buckets import BuiltinCommHookType, CommHook, check_comm_hook
from disttorch.distributed.inputs import batch_size, device_index, moved
from disttorch.distributed.module_watch import ModuleWatch
from disttorch.distributed.reducer import BUCKET_BYTES, Reducer
from disttorch.distributed.same_model import check_same_model, describe_module
from disttorch.nn.modules.module import Module

_MIB = 1024 * 1024
_NOT_HERE = ("delay_all_reduce_named_params", "param_to_hook_all_reduce", "mixed_precision", "device_mesh")
_BUILTIN_HOOKS: dict[BuiltinCommHookType, CommHook] = {
    BuiltinCommHookType.ALLREDUCE: default_hooks.allreduce_hook,
    BuiltinCommHookType.FP16_COMPRESS: default_hooks.fp16_compress_hook,
}


class DistributedDataParallel(Module, Joinable):
    """Average a module's gradients over all ranks, as `torch.nn.parallel.DistributedDataParallel`.

    Every rank builds the same module: DistError on every rank if names, shapes, types or `requires_grad` differ. Unless
    `init_sync=False`, rank 0's parameters and buffers are then copied to all. A gradient is averaged, in buckets of
    `bucket_cap_mb`, as soon as it is complete, while backward goes on (where rank 0 has one core and all share memory: when
    it has ended); when `backward()` returns, `.grad` is the same on every rank to the last bit. A parameter that no rank
    used keeps `.grad`; one that only some used counts as zero elsewhere. At the end of a backward pass rank 0's buffers are
    copied to all, if any rank has changed its own (`forward_sync_buffers`, formerly `broadcast_buffers`; PyTorch does it at
    the beginning of the next forward pass).

    `gradient_as_bucket_view`: `.grad` is always memory of the buckets, which the next pass overwrites. Without it, memory
    that the program has given to `.grad`, or old gradients that it still holds, are respected. `static_graph`: every pass
    is like the first one, which may finish a parameter several times, as checkpointing does. `find_unused_parameters`,
    `batched_grad_copy`, `skip_all_reduce_unused_params` and `dim` are accepted and change nothing: unused parameters are
    always found.

    Gradients of a module on a GPU are averaged in the host's memory. `device_ids=[n]`, for a module on one GPU: what is
    passed to `forward` is moved there. A module may be on a GPU in parts.
    """

    _distributed = True  # DataParallel sets it to False where there is only one process

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool | None = None,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        delay_all_reduce_named_params: Any = None,
        param_to_hook_all_reduce: Any = None,
        mixed_precision: Any = None,
        device_mesh: Any = None,
        skip_all_reduce_unused_params: bool = False,
        bucket_cap_mb_list: Any = None,
        batched_grad_copy: bool = False,
        forward_sync_buffers: bool | None = None,
    ) -> None:
        super().__init__()
        Joinable.__init__(self)
        given = (delay_all_reduce_named_params, param_to_hook_all_reduce, mixed_precision, device_mesh)
        for name, value in (*zip(_NOT_HERE, given, strict=True), ("bucket_cap_mb_list", bucket_cap_mb_list)):
            if value is not None:
                raise NotImplementedError(f"DistributedDataParallel({name}=...) is not in disttorch; leave it out")
        self.process_group: Any = runtime.default(process_group)
        self._take_module(module, dim, device_ids, output_device)
        self.find_unused_parameters = find_unused_parameters
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.static_graph = static_graph
        self.bucket_bytes_cap = BUCKET_BYTES if bucket_cap_mb is None else int(bucket_cap_mb * _MIB)
        self.forward_sync_buffers = forward_sync_buffers is not False and (
            forward_sync_buffers is not None or broadcast_buffers is not False
        )
        if runtime.get_world_size(self.process_group) == 1:
            self._check_trainable()
            return
        self._check_same_everywhere()
        self._check_trainable()
        if init_sync:
            with_buffers = forward_sync_buffers is not None or broadcast_buffers is not False
            self._copy_module(0, with_buffers)
        self._build()

    def _take_module(self, module: Module, dim: int, device_ids: Any, output_device: Any) -> None:
        ignored = getattr(module, "_ddp_params_and_buffers_to_ignore", ())
        self.parameters_to_ignore: set[str] = set(ignored)
        self.module = module
        self.dim = dim
        self._take_devices(device_ids, output_device)
        self.require_backward_grad_sync = True
        self.require_forward_param_sync = True
        self._forget_reductions()

    def _forget_reductions(self) -> None:
        self._averager: GradientAverager | None = None
        self._watch = ModuleWatch(self.module, self.parameters_to_ignore)
        self._buffer_sync: BufferSync | None = None
        self._comm_hook: tuple[Any, CommHook] | None = None
        self._divide_by_initial_world_size = True
        self._samples = 0

    def _take_devices(self, device_ids: Any, output_device: Any) -> None:
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError("device_ids can only be None or contain a single element.")
        self._see_devices()
        self.device_ids: list[int] | None = None
        self.output_device: int | None = None
        if device_ids and self.device_type != "cpu" and not self.is_multi_device_module:
            self.device_ids = [device_index(each) for each in device_ids]
            self.output_device = self.device_ids[0] if output_device is None else device_index(output_device)
        elif device_ids or output_device is not None:
            raise ValueError(
                "DistributedDataParallel device_ids and output_device arguments only work with GPU modules on one device, but got "
                f"device_ids {device_ids}, output_device {output_device}, and module parameters on "
                f"{[*dict.fromkeys(p.device for p in self.module.parameters())] or 'no device'}."
            )

    def _see_devices(self) -> None:
        devices = [*dict.fromkeys(p.device for p in self.module.parameters())]
        self.device = devices[0] if devices else device("cpu")
        self.device_type = self.device.type
        self.is_multi_device_module = len(devices) > 1

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Change the module's type or device, on every rank; the next forward pass makes buckets that fit."""
        super()._apply(fn, recurse)
        self._see_devices()
        if self._averager is not None and not self._averager.fits():
            self._averager.remove_hooks()
            self._averager = None
        return self

    def _check_trainable(self) -> None:
        if not self._trainable():
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient."
            )

    def _check_same_everywhere(self) -> None:
        options = {"static_graph": self.static_graph, "forward_sync_buffers": self.forward_sync_buffers}
        check_same_model(
            describe_module(self.module, self.parameters_to_ignore), options, set(options), self.process_group
        )

    def _trainable(self) -> dict[str, Tensor]:
        named = self.module.named_parameters()
        return {name: p for name, p in named if p.requires_grad and name not in self.parameters_to_ignore}

    def _buffers_in_use(self) -> list[Tensor]:
        return self._watch.buffers()

    def _copy_module(self, root: int, with_buffers: bool) -> None:
        named = self.module.named_parameters()
        parameters = [p for name, p in named if name not in self.parameters_to_ignore]
        broadcast_coalesced(parameters + (self._buffers_in_use() if with_buffers else []), root, self.process_group)

    def _build(self) -> GradientAverager:
        """Make buckets and hooks: every rank of the group does it at the same time."""
        trainable = self._trainable()
        reducer = Reducer(
            list(trainable),
            [p._a for p in trainable.values()],
            bucket_bytes=self.bucket_bytes_cap,
            group=self.process_group,
        )
        if self._comm_hook is not None:
            reducer.set_hook(*self._comm_hook, list(trainable.values()))
        self._buffer_sync = BufferSync(self.process_group, self._watch.buffers, self.forward_sync_buffers)
        self._averager = GradientAverager(
            reducer, list(trainable.values()), self.gradient_as_bucket_view, self.static_graph, self
        )
        return self._averager

    # -- forward and backward ---------------------------------------------------------------------

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the module; the backward pass of what it returns is averaged, unless this is under `no_sync`."""
        if self._join_config.enable:
            self._begin_joined_iteration()
        if self.device_ids is not None:
            inputs, kwargs = moved((inputs, kwargs), self.device)
        if not (grad_mode.mode.enabled and self._distributed):
            return self.module(*inputs, **kwargs)
        averager = self._before_forward(inputs, kwargs)
        if averager is None or not self.require_backward_grad_sync:
            return self.module(*inputs, **kwargs)
        start = next_seq()
        with trace.span("DistributedDataParallel.forward", "compute"):
            output = self.module(*inputs, **kwargs)
        averager.add_forward(start, next_seq())
        return output

    def _before_forward(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> GradientAverager | None:
        self.require_forward_param_sync = self.require_backward_grad_sync
        self._samples += batch_size(inputs) or batch_size(tuple(kwargs.values()))
        averager = self._averager
        if averager is None:
            if self._comm_hook is None and runtime.get_world_size(self.process_group) == 1:
                self._count_step(self.require_backward_grad_sync)
                return None
            averager = self._build()
        self._watch.check()
        averager.forget_past()
        return averager

    def _count_step(self, synchronised: bool) -> None:
        if synchronised:
            progress.step(self._samples)
            self._samples = 0

    def _before_last_reduction(self) -> tuple[bool, ...]:
        """Say whether this rank has changed its buffers, and whether they have other shapes or types now."""
        assert self._buffer_sync is not None
        return self._buffer_sync.offer() if self.forward_sync_buffers else (False, False)

    def _after_reductions(self, news: tuple[bool, ...]) -> None:
        """Copy the buffers from one rank if any rank has changed its own."""
        assert self._buffer_sync is not None
        changed, reshaped = news
        if changed:
            self._buffer_sync.copy_from(self._buffer_source(), reshaped)
        self._count_step(True)

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients on this rank only: the next backward pass outside averages their sum.

        As in PyTorch, it is the forward pass that counts: call the module inside, too.
        """
        before = self.require_backward_grad_sync
        self.require_backward_grad_sync = False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    @property
    def reducer(self) -> Reducer:
        """The reducer with the buckets of gradients."""
        return (self._averager or self._build()).reducer

    @property
    def broadcast_buffers(self) -> bool:
        """The former name of `forward_sync_buffers`."""
        return self.forward_sync_buffers

    @broadcast_buffers.setter
    def broadcast_buffers(self, value: bool) -> None:
        self.forward_sync_buffers = value

    @property
    def modules_buffers(self) -> list[Tensor]:
        """The buffers that are kept the same on all ranks."""
        return self._buffers_in_use()

    @property
    def named_module_buffers(self) -> dict[str, Tensor]:
        """The buffers that are kept the same on all ranks, by name."""
        return {n: b for n, b in self.module.named_buffers() if n not in self.parameters_to_ignore}

    def will_sync_module_buffers(self) -> bool:
        """Say whether the coming averaged backward pass keeps buffers the same, if they change."""
        return self.require_forward_param_sync and self.forward_sync_buffers and bool(self._buffers_in_use())

    # -- comm hooks -------------------------------------------------------------------------------

    def register_comm_hook(self, state: object, hook: CommHook) -> None:
        """Let `hook(state, bucket)` reduce the gradients; every rank registers the same one, once, before training.

        bucket: a `torch.distributed.GradBucket` with this rank's gradients, not divided by anything. The hook
        returns a `torch.futures.Future` of the tensor that is to be the bucket's new value on this rank, as many
        elements as `bucket.buffer()`. It is called in the order of the buckets, while backward goes on.
        """
        check_comm_hook(hook)
        if self._comm_hook is not None:
            raise RuntimeError("register_comm_hook or register_builtin_comm_hook can only be called once.")
        self._comm_hook = state, hook
        if self._averager is not None:
            self._averager.reducer.set_hook(state, hook, self._averager.parameters)

    def _register_builtin_comm_hook(self, comm_hook_type: BuiltinCommHookType) -> None:
        """Register one of the hooks that have a name of their own."""
        if comm_hook_type not in _BUILTIN_HOOKS:
            raise ValueError(f"expected a torch.distributed.BuiltinCommHookType, got {comm_hook_type!r}")
        self.register_comm_hook(self.process_group, _BUILTIN_HOOKS[comm_hook_type])

    def _set_static_graph(self) -> None:
        """Let every backward pass be like the first one; the argument `static_graph` calls for the same."""
        if self.static_graph:
            warnings.warn("You've set static_graph to be True, no need to set it again.", stacklevel=2)
            return
        self.static_graph = True
        if self._averager is not None:
            self._averager.set_static_graph()

    def _remove_autograd_hooks(self) -> None:
        """Take the hooks off the parameters: gradients are not averaged any more."""
        if self._averager is not None:
            self._averager.remove_hooks()

    def _check_reducer_finalized(self) -> None:
        """Raise DistError if the last backward pass did not end."""
        if self._averager is not None and self._averager.under_way:
            raise DistError("the last backward pass has not ended: its gradients are not averaged")

    @staticmethod
    def _set_params_and_buffers_to_ignore_for_model(module: Any, params_and_buffers_to_ignore: Any) -> None:
        """Leave parameters and buffers, by their full names, out of everything; call it before wrapping `module`."""
        module._ddp_params_and_buffers_to_ignore = list(params_and_buffers_to_ignore)
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name in params_and_buffers_to_ignore:
                tensor._ddp_ignored = True

    # -- uneven inputs ----------------------------------------------------------------------------

    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Join:
        """`with model.join():` around a training loop lets ranks have different numbers of batches.

        A rank that has run out takes part in the others' reductions with zeros; at the end all ranks get the model
        of one that went on to the last. Gradients are divided by the number of all ranks, so that every sample
        counts the same, or, without `divide_by_initial_world_size`, by the number of ranks that go on.
        `throw_on_early_termination`: RuntimeError on every rank instead as soon as one has run out, for modules
        with collectives of their own such as SyncBatchNorm.
        """
        return Join(
            [self] if self._distributed else [],
            enable and self._distributed,
            throw_on_early_termination,
            divide_by_initial_world_size=divide_by_initial_world_size,
        )

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """Return what a rank without data does; takes `divide_by_initial_world_size`, see `join`."""
        self._divide_by_initial_world_size = kwargs.get("divide_by_initial_world_size", True)
        return _DDPJoinHook(self)

    @property
    def join_device(self) -> device:
        """The device of the module."""
        return self.device

    @property
    def join_process_group(self) -> Any:
        """The process group of the module."""
        return self.process_group

    def _begin_joined_iteration(self) -> None:
        Join.notify_join_context(self)
        synchronised = self.require_backward_grad_sync and grad_mode.mode.enabled
        active, synchronising = self._agree_on_iteration(True, synchronised)
        if synchronising not in (0, active):
            raise DistError(
                f"{synchronising} of {active} ranks that have data average the gradients of this iteration and the others "
                "do not; use no_sync() on all of them in the same iterations"
            )

    def _agree_on_iteration(self, active: bool, synchronised: bool) -> tuple[int, int]:
        """Return how many ranks have data, and how many of these average the gradients of this iteration."""
        counts = np.array([active, synchronised], np.int64)
        collectives.all_reduce(counts, group=self.process_group)
        if counts[1]:
            divisor = None if self._divide_by_initial_world_size else float(counts[0])
            self.reducer.set_divisor(divisor)
        return int(counts[0]), int(counts[1])

    def _buffer_source(self, active: bool = True) -> int:
        """Return whose buffers count: rank 0's, or with uneven inputs those of the first rank that has data."""
        if not self._join_config.enable:
            return 0
        rank, size = runtime.get_rank(self.process_group), runtime.get_world_size(self.process_group)
        return self._extreme(rank if active and not self._shadowing else size, collectives.ReduceOp.MIN)

    _shadowing = False

    def _shadow_iteration(self) -> None:
        """Take part in an iteration of the ranks that have data."""
        _, synchronised = self._agree_on_iteration(False, False)
        if not synchronised:
            return
        assert self._averager is not None
        self._shadowing = True
        try:
            self._averager.shadow()
        finally:
            self._shadowing = False

    def _sync_final_model(self, is_last_joiner: bool) -> None:
        """Give all ranks the model of one that went on to the last."""
        rank = runtime.get_rank(self.process_group)
        root = self._extreme(rank if is_last_joiner else -1, collectives.ReduceOp.MAX)
        self._copy_module(root, self.forward_sync_buffers)
        self.reducer.set_divisor(None)

    def _extreme(self, value: int, op: collectives.ReduceOp) -> int:
        agreed = np.array([value], np.int64)
        collectives.all_reduce(agreed, op, self.process_group)
        return int(agreed[0])

    # -- copies -----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds: the module and the options, neither group nor buckets nor hook."""
        if self._distributed and self.process_group is not runtime.default():
            raise RuntimeError(
                "a DistributedDataParallel of a group of its own cannot be copied or pickled; copy its .module and wrap that"
            )
        left_out = ("process_group", "_averager", "_watch", "_buffer_sync", "_comm_hook", "_samples")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._distributed:
            self.process_group = runtime.default()
        self._forget_reductions()


class _DDPJoinHook(JoinHook):
    """What a rank does for a DistributedDataParallel while it has no data."""

    def __init__(self, ddp: DistributedDataParallel) -> None:
        self.ddp = ddp

    def main_hook(self) -> None:
        self.ddp._shadow_iteration()

    def post_hook(self, is_last_joiner: bool) -> None:
        self.ddp._sync_final_model(is_last_joiner)


class DataParallel(DistributedDataParallel):
    """`model = nn.DataParallel(model)`: train on all GPUs or groups of cores that `disttorch-run` has started.

    Where PyTorch's class splits a batch over the GPUs of one process, here every rank is a process of its own with its
    own part of the batch, and this class is `DistributedDataParallel`; it joins the process group by itself. Without
    the launcher it calls the module as it is, so the same script runs alone. `device_ids` and `output_device` are
    accepted; what is passed to a module on one GPU is moved there. A module without anything to train is called as it is.
    """

    def __init__(
        self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0, **options: Any
    ) -> None:
        if runtime.is_launched() and not runtime.is_initialized():
            runtime.init_process_group()
        if runtime.is_initialized() and any(p.requires_grad for p in module.parameters()):
            super().__init__(module, _only_gpu(module), dim=dim, **options)
            return
        Module.__init__(self)
        Joinable.__init__(self)
        self._distributed = False
        self.process_group = None
        self._take_module(module, dim, _only_gpu(module), None)
        self.forward_sync_buffers = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Change the module's type or device, on every rank, and move inputs to where it is then."""
        super()._apply(fn, recurse)
        self._take_devices(_only_gpu(self.module), None)
        return self


def _only_gpu(module: Module) -> list[device] | None:
    """Return the GPU that a module is on, None if it is on the CPU or on several devices."""
    devices = {p.device for p in module.parameters()}
    return list(devices) if len(devices) == 1 and device("cpu") not in devices else None
