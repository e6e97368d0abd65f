"""The CPU's kernels, on NumPy arrays."""

from disttorch.backends.numpy._memory import keep_freed_memory
from disttorch.backends.numpy.activation import gelu, gelu_grad, relu, relu_grad, sigmoid
from disttorch.backends.numpy.conv import convolution, convolution_input_grad, convolution_weight_grad
from disttorch.backends.numpy.fourier import fft_c2c, fft_c2r, fft_r2c
from disttorch.backends.numpy.linalg import (
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
from disttorch.backends.numpy.norm import (
    batch_norm,
    batch_norm_grad,
    layer_norm,
    layer_norm_grad,
    standardize,
    standardize_grad,
)
from disttorch.backends.numpy.optimizer import adam, rmsprop, sgd
from disttorch.backends.numpy.order import searchsorted, unique, unique_consecutive
from disttorch.backends.numpy.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad
from disttorch.backends.numpy.rnn import lstm_layer, lstm_layer_grad
from disttorch.backends.numpy.scan import running_extreme, running_logsumexp
from disttorch.backends.numpy.scatter import reduce_at
from disttorch.backends.numpy.softmax import (
    log_softmax,
    log_softmax_grad,
    nll_loss,
    nll_loss_grad,
    softmax,
    softmax_grad,
)
from disttorch.backends.numpy.special import erf, scipy_special

keep_freed_memory()

__all__ = [
    "adam", "avg_pool", "avg_pool_grad", "batch_norm", "batch_norm_grad", "cholesky_info", "convolution",
    "convolution_input_grad", "convolution_weight_grad", "erf", "fft_c2c", "fft_c2r", "fft_r2c", "gelu",
    "gelu_grad", "layer_norm", "layer_norm_grad", "ldl_factor", "ldl_solve", "linalg_errors", "log_softmax",
    "log_softmax_grad", "lstm_layer", "lstm_layer_grad", "lstsq", "lu_factor", "lu_permutation", "matrix_exp",
    "max_pool", "max_pool_grad", "nll_loss", "nll_loss_grad", "reduce_at", "relu", "relu_grad", "rmsprop",
    "running_extreme", "running_logsumexp", "scipy_special", "searchsorted", "sgd", "sigmoid", "softmax",
    "softmax_grad", "solve_triangular", "standardize", "standardize_grad", "unique", "unique_consecutive",
]  # fmt: skip
