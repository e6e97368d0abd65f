"""Optimizer state that is not held by every rank: ZeRO stage 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.autograd.views import written
from disttorch.backends import backend_of
from disttorch.core.device import device
from disttorch.distributed import collectives, object_collectives, runtime
from disttorch.distributed.algorithms.join import Join, Joinable, JoinHook
from disttorch.distributed.coalesced import Pack, broadcast_coalesced
from disttorch.distributed.groups import get_global_rank
from disttorch.optim.optimizer import Optimizer

__all__ = ["ZeroRedundancyOptimizer"]

Group = dict[str, Any]


class ZeroRedundancyOptimizer(Optimizer, Joinable):
    """Let each rank update its share of the parameters, as `torch.distributed.optim.ZeroRedundancyOptimizer`.

    Every rank has the same parameters and gradients (with DistributedDataParallel) and an optimizer of
    `optimizer_class`, made with `defaults`, for about 1/n of them, so that it holds 1/n of the optimizer
    state; after a step each rank sends its parameters to the others. The result is that of the plain
    optimizer, bit for bit. From S. Rajbhandari et al., "ZeRO: memory optimizations toward training
    trillion parameter models", 2020 (stage 1).

    `parameters_as_bucket_view` moves each share into one piece of memory, which the parameters become
    views of, so that a share is sent without copying it first. Whole parameters are shared out, the
    largest first, each to the rank that has least. Every rank calls every method but `state_dict`,
    `load_state_dict` and `zero_grad` together with the others.
    """

    def __init__(
        self,
        params: Iterable[Any],
        optimizer_class: type[Optimizer],
        process_group: Any = None,
        parameters_as_bucket_view: bool = False,
        overlap_with_ddp: bool = False,
        **defaults: Any,
    ) -> None:
        if overlap_with_ddp:
            raise NotImplementedError(
                "ZeroRedundancyOptimizer(overlap_with_ddp=True) is not in disttorch; leave it out and call step() after "
                "backward()"
            )
        if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
            raise TypeError(f"optimizer_class must be a class of optimizers, got {optimizer_class!r}")
        Joinable.__init__(self)
        self.process_group = runtime.default(process_group)
        self.world_size = runtime.get_world_size(self.process_group)
        self.rank = runtime.get_rank(self.process_group)
        self.global_rank = get_global_rank(self.process_group, self.rank)
        self.parameters_as_bucket_view = parameters_as_bucket_view
        self._shards: list[list[Group]] = [[] for _ in range(self.world_size)]
        self._sizes = [0] * self.world_size
        self._buckets: list[list[Tensor]] = []
        self._packs: dict[Any, Pack] = {}
        self._all_state_dicts: list[dict[str, Any]] = []
        self._local: Optimizer | None = None
        Optimizer.__init__(self, params, defaults)
        self._local = optimizer_class(self._shards[self.rank], **defaults)
        _copy_options(self.optim.param_groups, self.param_groups)
        if parameters_as_bucket_view:
            self._build_buckets()

    @property
    def optim(self) -> Optimizer:
        """The optimizer of this rank's share."""
        assert self._local is not None
        return self._local

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with options of their own; every rank adds the same."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for rank, shard in enumerate(self._partition(group)):
            self._shards[rank].append(shard)
        if self._local is not None:
            self.optim.add_param_group(self._shards[self.rank][-1])
            _copy_options(self.optim.param_groups[-1:], self.param_groups[-1:])
            if self.parameters_as_bucket_view:
                self._build_buckets()

    def _partition(self, group: Group) -> list[Group]:
        """Share out a group's parameters, the largest first, each to the rank that has least."""
        members: list[list[int]] = [[] for _ in range(self.world_size)]
        params = group["params"]
        for index in sorted(range(len(params)), key=lambda i: -params[i].numel()):
            rank = self._sizes.index(min(self._sizes))
            members[rank].append(index)
            self._sizes[rank] += params[index].numel()
        listed = [key for key in ("params", "param_names") if key in group]
        return [{**group, **{key: [group[key][i] for i in own] for key in listed}} for own in members]

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Update this rank's share of the parameters and exchange the shares; return what `closure` returned.

        Other arguments go to the step of the optimizer of `optimizer_class`.
        """
        Join.notify_join_context(self)
        return self._step(closure, **kwargs)

    def _step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        _copy_options(self.param_groups, self.optim.param_groups)
        loss = self.optim.step(**kwargs) if closure is None else self.optim.step(closure=closure, **kwargs)
        _copy_options(self.optim.param_groups, self.param_groups)
        self._exchange()
        return loss

    def _exchange(self) -> None:
        if self.parameters_as_bucket_view and not self._in_buckets():
            self._build_buckets()
        for rank, shard in enumerate(self._shards):
            if self.parameters_as_bucket_view:
                for bucket in self._buckets[rank]:
                    collectives.broadcast(bucket, get_global_rank(self.process_group, rank), self.process_group)
                for param in _params(shard):
                    written(param)
            else:
                broadcast_coalesced(_params(shard), rank, self.process_group, self._packs)

    # -- shares as pieces of memory ---------------------------------------------------------------

    def _build_buckets(self) -> None:
        """Put the parameters of each rank's share, device by device and type by type, into one array each and let them be views of it."""
        self._buckets = []
        self._views: list[tuple[Tensor, Any]] = []
        for shard in self._shards:
            alike: dict[tuple[str, device], list[Tensor]] = {}
            for param in _params(shard):
                alike.setdefault((param._a.dtype.name, param.device), []).append(param)
            self._buckets.append([self._bucket(params) for params in alike.values()])

    def _bucket(self, params: list[Tensor]) -> Tensor:
        flat = backend_of(params[0]._a).namespace.concatenate([param._a.reshape(-1) for param in params])
        start = 0
        for param in params:
            size = param._a.size
            param._a = flat[start : start + size].reshape(param._a.shape)
            self._views.append((param, param._a))
            start += size
        return wrap(flat)

    def _in_buckets(self) -> bool:
        return all(param._a is view for param, view in self._views)

    # -- state ------------------------------------------------------------------------------------

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Bring the state of all shares to rank `to` (of the group), where `state_dict` can then be called."""
        if not 0 <= to < self.world_size:
            raise ValueError(f"consolidate_state_dict: to must be a rank from 0 to {self.world_size - 1}, got {to}")
        _copy_options(self.param_groups, self.optim.param_groups)
        self._all_state_dicts = []
        for rank in range(self.world_size):
            held = [self.optim.state_dict() if rank == self.rank else None]
            object_collectives.broadcast_object_list(
                held, get_global_rank(self.process_group, rank), self.process_group
            )
            if self.rank == to:
                state: Any = held[0]
                self._all_state_dicts.append(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all parameters, in the plain optimizer's layout, as `consolidate_state_dict` left it.

        Raises RuntimeError where there is none.
        """
        if not self._all_state_dicts:
            raise RuntimeError(
                "Optimizer state has not been consolidated on this rank. Please call "
                f"`consolidate_state_dict(to={self.rank})` on all ranks beforehand if you meant to save the global state."
            )
        by_param: dict[int, Any] = {}
        for shard, held in zip(self._shards, self._all_state_dicts, strict=True):
            for group, packed in zip(shard, held["param_groups"], strict=True):
                for param, number in zip(group["params"], packed["params"], strict=True):
                    if number in held["state"]:
                        by_param[id(param)] = held["state"][number]
        params = [param for group in self.param_groups for param in group["params"]]
        self.state.update({param: by_param[id(param)] for param in params if id(param) in by_param})
        try:
            return super().state_dict()
        finally:
            self.state.clear()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict`, here or of the plain optimizer, returned; each rank keeps its share."""
        super().load_state_dict(state_dict)
        local = self.optim.state_dict()
        own = _params(self._shards[self.rank])
        numbers = [number for group in local["param_groups"] for number in group["params"]]
        local["state"] = {n: self.state[p] for n, p in zip(numbers, own, strict=True) if p in self.state}
        self.state.clear()
        self.optim.load_state_dict(local)
        _copy_options(self.param_groups, self.optim.param_groups)
        _copy_options(self.optim.param_groups, self.param_groups)

    # -- uneven inputs ----------------------------------------------------------------------------

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """Return what a rank without data does: it takes a step whenever the others do.

        In `Join([model, optimizer])` the DistributedDataParallel comes first, which provides the gradients for it.
        """
        return _ZeROJoinHook(self)

    @property
    def join_device(self) -> device:
        """The device of the first parameter."""
        found: device = self.param_groups[0]["params"][0].device
        return found

    @property
    def join_process_group(self) -> Any:
        """The group that shares the parameters out."""
        return self.process_group


class _ZeROJoinHook(JoinHook):
    """What a rank does for a ZeroRedundancyOptimizer while it has no data."""

    def __init__(self, zero: ZeroRedundancyOptimizer) -> None:
        self.zero = zero

    def main_hook(self) -> None:
        self.zero._step()


def _params(shard: list[Group]) -> list[Tensor]:
    return [param for group in shard for param in group["params"]]


def _copy_options(source: list[Group], target: list[Group]) -> None:
    """Give the groups the options of those of another optimizer; each keeps its own parameters."""
    for one, other in zip(source, target, strict=True):
        for name, value in one.items():
            if name not in ("params", "param_names"):
                other[name] = value
