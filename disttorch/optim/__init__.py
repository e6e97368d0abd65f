"""Optimizers and learning-rate schedules, as `torch.optim`."""

from disttorch.optim import lr_scheduler
from disttorch.optim.adam import Adam
from disttorch.optim.adamw import AdamW
from disttorch.optim.optimizer import Optimizer
from disttorch.optim.rmsprop import RMSprop
from disttorch.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
