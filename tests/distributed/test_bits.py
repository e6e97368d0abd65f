"""Training has one result: whatever the timing, the sizes of buckets and chunks, the transport, the layout of ranks."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

import disttorch as torch
import disttorch.distributed as dist
from disttorch import nn
from disttorch.distributed import messages, shared_memory
from disttorch.testing.distributed import run


def train(bucket_mb: float = 25.0, chunk_bytes: int = 0, dawdle: int = -1, view: bool = False) -> str:
    """Train a little and return the hash of the weights; rank `dawdle` comes late to everything."""
    if chunk_bytes:
        shared_memory.STAGING_BYTES = chunk_bytes
        messages.MessageTransport.chunk = messages.MessageTransport.cell = chunk_bytes
    dist.init_process_group()
    rank = dist.get_rank()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 7))
    model = nn.parallel.DistributedDataParallel(net, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=view)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = np.random.default_rng(rank)
    for _ in range(4):
        x = torch.from_numpy(generator.standard_normal((16, 40)).astype(np.float32))
        optimizer.zero_grad()
        if rank == dawdle:
            time.sleep(0.03)
        (model(x) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        assert len(set(everybodys(net))) == 1, "the ranks' weights differ"
    return everybodys(net)[rank]


def everybodys(net: nn.Module) -> list[str]:
    digest = hashlib.sha256()
    for value in net.state_dict().values():
        digest.update(value.numpy().tobytes())
    hashes = [""] * dist.get_world_size()
    dist.all_gather_object(hashes, digest.hexdigest())
    return hashes


# What differs from a plain run with four ranks: arguments of `train` and the environment.
RUNS = {
    "many buckets": ({"bucket_mb": 0.05}, {}),
    "gradients in the buckets": ({"view": True}, {}),
    "small chunks": ({"chunk_bytes": 32 * 1024}, {}),
    "a late rank": ({"dawdle": 2, "bucket_mb": 0.2}, {}),
    "Unix sockets": ({"bucket_mb": 0.2}, {"DISTTORCH_TRANSPORT": "ipc"}),
    "TCP in small chunks": ({"chunk_bytes": 32 * 1024}, {"DISTTORCH_TRANSPORT": "tcp"}),
    "two hosts": ({}, {"DISTTORCH_HOSTS": "2"}),
    "three ranks on a host and one on another": ({}, {"DISTTORCH_HOSTS": "0,0,0,1"}),
    "hosts that alternate": ({"bucket_mb": 0.2}, {"DISTTORCH_HOSTS": "0,1,0,1"}),
}


@pytest.fixture(scope="module")
def plain() -> str:
    return run(train, 4, timeout=60, join=False)[0]


@pytest.mark.parametrize("what", RUNS)
def test_the_weights_have_the_bits_of_a_plain_run(what: str, plain: str) -> None:
    arguments, environment = RUNS[what]
    assert run(train, 4, timeout=60, join=False, environment=environment, **arguments) == [plain] * 4
