"""The CPU's kernels, on NumPy arrays."""

from disttorch.backends.numpy.activation import relu, relu_grad, sigmoid
from disttorch.backends.numpy.conv import convolution, convolution_input_grad, convolution_weight_grad
from disttorch.backends.numpy.norm import standardize, standardize_grad
from disttorch.backends.numpy.optimizer import adam, rmsprop, sgd
from disttorch.backends.numpy.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad
from disttorch.backends.numpy.rnn import lstm_layer, lstm_layer_grad
from disttorch.backends.numpy.softmax import (
    log_softmax,
    log_softmax_grad,
    nll_loss,
    nll_loss_grad,
    softmax,
    softmax_grad,
)
from disttorch.backends.numpy.special import erf

__all__ = [
    "adam", "avg_pool", "avg_pool_grad", "convolution", "convolution_input_grad", "convolution_weight_grad", "erf",
    "log_softmax", "log_softmax_grad", "lstm_layer", "lstm_layer_grad", "max_pool", "max_pool_grad", "nll_loss",
    "nll_loss_grad", "relu", "relu_grad", "rmsprop", "sgd", "sigmoid", "softmax", "softmax_grad", "standardize",
    "standardize_grad",
]  # fmt: skip
