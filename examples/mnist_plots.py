"""One picture of a finished training run: its curves, and what the network says of some digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GRID_ROWS, GRID_COLUMNS = 3, 8


class History(NamedTuple):
    """What each epoch brought: mean training loss and held-out accuracy from 0 to 1."""

    losses: list[float]
    accuracies: list[float]


def save_plot(path: str, history: History, images: np.ndarray, labels: np.ndarray, guesses: np.ndarray) -> None:
    """Write the run as one PNG: loss and accuracy on top, a grid of predictions below.

    Args:
        path: where the PNG goes.
        history: one entry per epoch.
        images: uint8 [N, 28, 28]; the first 24 are shown.
        labels: the true classes, [N].
        guesses: the predicted classes, [N].
    """
    # A figure of its own, not pyplot: no window system is needed and no global state is left.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (curves,), (grid,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.2))
    draw_curves(curves, history)
    draw_predictions(grid, images, labels, guesses)
    figure.savefig(Path(path), format="png", dpi=120)


def draw_curves(figure: Any, history: History) -> None:
    """Draw training loss and held-out accuracy against the epoch."""
    epochs = range(1, len(history.losses) + 1)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    loss_axes.plot(epochs, history.losses, marker="o")
    loss_axes.set(title="Training loss", xlabel="epoch", ylabel="mean cross-entropy")
    accuracy_axes.plot(epochs, [100 * value for value in history.accuracies], marker="o")
    accuracy_axes.set(title="Held-out accuracy", xlabel="epoch", ylabel="per cent correct")
    for axes in (loss_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)


def draw_predictions(figure: Any, images: np.ndarray, labels: np.ndarray, guesses: np.ndarray) -> None:
    """Draw some digits with the predicted class above each; errors in red with the true class."""
    all_axes = figure.subplots(GRID_ROWS, GRID_COLUMNS).ravel()
    for axes in all_axes:
        axes.axis("off")
    # The grid may have more cells than there are pictures: the rest stays empty.
    for axes, image, label, guess in zip(all_axes, images, labels, guesses, strict=False):
        axes.imshow(image, cmap="gray_r")
        right = guess == label
        title = str(guess) if right else f"{guess}, is {label}"
        axes.set_title(title, color="black" if right else "red", fontsize=9)
