"""The GPU's kernels, on CuPy arrays: the names of `disttorch.backends.numpy`, written with CuPy's functions."""

from disttorch.backends.cupy.activation import relu, relu_grad, sigmoid
from disttorch.backends.cupy.conv import convolution, convolution_input_grad, convolution_weight_grad
from disttorch.backends.cupy.optimizer import adam, rmsprop, sgd
from disttorch.backends.cupy.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad
from disttorch.backends.cupy.rnn import lstm_layer, lstm_layer_grad
from disttorch.backends.cupy.softmax import (
    log_softmax,
    log_softmax_grad,
    nll_loss,
    nll_loss_grad,
    softmax,
    softmax_grad,
)
from disttorch.backends.cupy.special import erf

__all__ = [
    "adam", "avg_pool", "avg_pool_grad", "convolution", "convolution_input_grad", "convolution_weight_grad",
    "erf", "log_softmax", "log_softmax_grad", "lstm_layer", "lstm_layer_grad", "max_pool", "max_pool_grad",
    "nll_loss", "nll_loss_grad", "relu", "relu_grad", "rmsprop", "sgd", "sigmoid", "softmax", "softmax_grad",
]  # fmt: skip
