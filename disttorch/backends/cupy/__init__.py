"""The GPU's kernels, on CuPy arrays: the names of `disttorch.backends.numpy`, written with CuPy's functions."""

from disttorch.backends.cupy.activation import gelu, gelu_grad, relu, relu_grad, sigmoid
from disttorch.backends.cupy.conv import convolution, convolution_input_grad, convolution_weight_grad
from disttorch.backends.cupy.fourier import fft_c2c, fft_c2r, fft_r2c
from disttorch.backends.cupy.linalg import (
    cholesky_info,
    ldl_factor,
    ldl_solve,
    linalg_errors,
    lstsq,
    lu_factor,
    lu_permutation,
    matrix_exp,
    solve_triangular,
)
from disttorch.backends.cupy.norm import (
    batch_norm,
    batch_norm_grad,
    layer_norm,
    layer_norm_grad,
    standardize,
    standardize_grad,
)
from disttorch.backends.cupy.optimizer import adam, rmsprop, sgd
from disttorch.backends.cupy.order import searchsorted, unique, unique_consecutive
from disttorch.backends.cupy.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad
from disttorch.backends.cupy.rnn import lstm_layer, lstm_layer_grad
from disttorch.backends.cupy.scan import running_extreme, running_logsumexp
from disttorch.backends.cupy.scatter import reduce_at
from disttorch.backends.cupy.softmax import (
    log_softmax,
    log_softmax_grad,
    nll_loss,
    nll_loss_grad,
    softmax,
    softmax_grad,
)
from disttorch.backends.cupy.special import erf, scipy_special

__all__ = [
    "adam", "avg_pool", "avg_pool_grad", "batch_norm", "batch_norm_grad", "cholesky_info", "convolution",
    "convolution_input_grad", "convolution_weight_grad", "erf", "fft_c2c", "fft_c2r", "fft_r2c", "gelu",
    "gelu_grad", "layer_norm", "layer_norm_grad", "ldl_factor", "ldl_solve", "linalg_errors", "log_softmax",
    "log_softmax_grad", "lstm_layer", "lstm_layer_grad", "lstsq", "lu_factor", "lu_permutation", "matrix_exp",
    "max_pool", "max_pool_grad", "nll_loss", "nll_loss_grad", "reduce_at", "relu", "relu_grad", "rmsprop",
    "running_extreme", "running_logsumexp", "scipy_special", "searchsorted", "sgd", "sigmoid", "softmax",
    "softmax_grad", "solve_triangular", "standardize", "standardize_grad", "unique", "unique_consecutive",
]  # fmt: skip
