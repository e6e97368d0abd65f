"""Train a network on handwritten digits, alone or data-parallel, with the same lines.

    python examples/train_mnist.py
    disttorch-run --nproc-per-node 2 examples/train_mnist.py

Under disttorch-run every worker holds a copy of the network and trains on its own share of each
batch; the gradients are averaged over the workers, so all copies stay equal to the last bit. The
last lines of the output show it: a hash of each worker's weights.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
from mnist_data import Digits, InputError, load_digits
from mnist_models import MODELS
from mnist_options import check_outputs, parse_arguments
from mnist_plots import History, save_plot

import disttorch as torch
from disttorch import distributed as dist
from disttorch import nn
from disttorch.nn import functional as F
from disttorch.utils.data import DataLoader, TensorDataset

# Each optimizer with the learning rate that it gets by default.
OPTIMIZERS: dict[str, tuple[float, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (0.1, lambda weights, lr: torch.optim.SGD(weights, lr=lr)),
    "momentum": (0.05, lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.8)),
    "rmsprop": (0.001, lambda weights, lr: torch.optim.RMSprop(weights, lr=lr, alpha=0.9)),
    "adam": (0.003, lambda weights, lr: torch.optim.Adam(weights, lr=lr, betas=(0.9, 0.99))),
}
EVALUATION_BATCH = 250


def main() -> int:
    """Run the script; return 0, or 1 for bad input or workers whose weights differ."""
    args = parse_arguments(__doc__, MODELS, OPTIMIZERS)
    try:
        train_digits, test_digits = load_digits(args.data)
        check_outputs(args)
        device = choose_device(args.device)
    except InputError as error:
        print(f"train_mnist.py: error: {error}", file=sys.stderr)
        return 1
    if args.threads:
        torch.set_num_threads(args.threads)
    # disttorch-run sets this variable for its workers. Alone there is no group to join.
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group()
    net = train(args, train_digits, test_digits, device)
    equal = report_weights(net)
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0 if equal else 1


def train(args: argparse.Namespace, train_digits: Digits, test_digits: Digits, device: torch.device) -> nn.Module:
    """Train a network, print a line per epoch, write what was asked for; return the network."""
    torch.manual_seed(args.seed)
    mean, std = train_digits.images.mean(), train_digits.images.std()
    train_set = TensorDataset(*to_tensors(train_digits, mean, std))
    test_images, test_labels = to_tensors(test_digits, mean, std)
    # The loader gives each worker its share of every shuffled batch.
    loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, num_workers=args.workers)

    net = MODELS[args.model]().to(device)
    model = nn.DataParallel(net)
    default_lr, build_optimizer = OPTIMIZERS[args.optimizer]
    optimizer = build_optimizer(model.parameters(), lr=args.lr or default_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    history = History([], [])
    for epoch in range(1, args.epochs + 1):
        title = f"epoch {epoch}/{args.epochs}"
        start = time.perf_counter()
        loss, images_seen = train_one_epoch(model, show_progress(loader, title), optimizer, device)
        seconds = time.perf_counter() - start
        schedule.step()
        accuracy = measure_accuracy(net, test_images, test_labels, device)
        history.losses.append(loss)
        history.accuracies.append(accuracy)
        say(f"{title}  loss {loss:.4f}  held-out accuracy {accuracy:.2%}  {images_seen / seconds:.0f} images/s")

    if args.checkpoint and rank() == 0:
        save_checkpoint(args, net, optimizer)
    if args.plot and rank() == 0:
        guesses = predict(net, test_images[:EVALUATION_BATCH], device)
        save_plot(args.plot, history, test_digits.images, test_digits.labels, guesses.numpy())
        say(f"saved {args.plot}")
    return net


def to_tensors(digits: Digits, mean: float, std: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return standardised images, float32 [N, 1, 28, 28], and labels, int64 [N]."""
    images = (digits.images[:, None].astype(np.float32) - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(images), torch.from_numpy(digits.labels.astype(np.int64))


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[float, int]:
    """Take one step per batch; return the mean loss and the number of images of all workers."""
    model.train()
    loss_sum, images_seen = 0.0, 0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        images_seen += len(labels)
    loss_sum, all_images = sum_over_workers(loss_sum, images_seen)
    return loss_sum / all_images, int(all_images)


def measure_accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, device: torch.device) -> float:
    """Return the share of images classified correctly; each worker looks at its own stripe."""
    stripe = slice(rank(), None, world_size())
    correct = predict(net, images[stripe], device).eq(labels[stripe]).sum().item()
    (all_correct,) = sum_over_workers(correct)
    return all_correct / len(labels)


@torch.no_grad()
def predict(net: nn.Module, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the most likely class of each image, int64 [N], on the CPU."""
    net.eval()
    batches = images.split(EVALUATION_BATCH)
    return torch.cat([net(batch.to(device)).argmax(dim=1).cpu() for batch in batches])


def rank() -> int:
    """Return this worker's number, 0 when it works alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(*values: float) -> list[float]:
    """Add up each value over all workers; every worker gets the sums."""
    sums = torch.tensor(values, dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums.tolist()


def report_weights(net: nn.Module) -> bool:
    """Print a hash of every worker's weights; return whether all of them are equal."""
    hashes = [hash_weights(net)]
    if dist.is_initialized():
        hashes = hashes * world_size()
        dist.all_gather_object(hashes, hashes[rank()])
    for worker, value in enumerate(hashes):
        say(f"rank {worker} weights {value}")
    equal = len(set(hashes)) == 1
    if len(hashes) > 1:
        verdict = "equal" if equal else "NOT equal"
        say(f"weights are {verdict} on all {len(hashes)} ranks")
    return equal


def hash_weights(net: nn.Module) -> str:
    """Return the SHA-256 of the names and values of the network's state."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(args: argparse.Namespace, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the weights and the state of training; an older file stays until this one is whole."""
    state = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": args.epochs,
        "args": vars(args),
    }
    torch.save(state, args.checkpoint)
    say(f"saved {args.checkpoint}")


def say(line: str) -> None:
    """Print a line once, not once per worker, and at once even into a file."""
    if rank() == 0:
        print(line, flush=True)


def show_progress(loader: DataLoader, title: str) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Return the loader's batches, under a progress bar on the first worker's terminal."""
    if rank() != 0:
        return loader
    from tqdm import tqdm

    # None: the bar appears on a terminal and nowhere else.
    return tqdm(loader, desc=title, unit="batch", leave=False, disable=None)


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` names; `auto` is a GPU when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda needs a CUDA device, and none was found; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    sys.exit(main())
