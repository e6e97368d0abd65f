"""Every operator, one place each. Importing the package fills the namespaces `registry.raw` and `registry.traced`.

A module says which of its functions are public functions of disttorch (`__all__`), which are methods of `Tensor` too
(`METHODS`), and which of those have an in-place form (`INPLACE`). The modules of layers (convolution, pooling, losses
and so on) say in `__all__` what `nn.functional` has.
"""

from disttorch.ops import (
    activation,
    adaptive_pool,
    arithmetic,
    arrange,
    attention,
    bessel,
    complex,
    conv,
    convert,
    creation,
    ctc,
    diagonals,
    distance,
    dropout,
    eigen,
    elementary,
    embedding,
    factor,
    fold,
    fourier,
    grad_names,
    grid,
    index,
    join,
    linalg,
    logic,
    loss,
    margin_loss,
    masked,
    matrix,
    norm,
    order,
    padding,
    polynomials,
    pool,
    products,
    random,
    reduce,
    reduction,
    resample,
    rnn,
    rounding,
    scan,
    scatter,
    shape,
    similarity,
    softmax,
    solve,
    special,
    spectral,
    statistics,
    strided,
    taps,
    transfer,
    vectors,
    views,
)
from disttorch.ops.numpy_names import accept_numpy_names

MODULES = (
    activation, adaptive_pool, arithmetic, arrange, attention, bessel, complex, conv, convert, creation, ctc,
    diagonals, distance, dropout, eigen, elementary, embedding, factor, fold, fourier, grad_names, grid, index,
    join, linalg, logic, loss, margin_loss, masked, matrix, norm, order, padding, polynomials, pool, products,
    random, reduce, reduction, resample, rnn, rounding, scan, scatter, shape, similarity, softmax, solve,
    special, spectral, statistics, strided, taps, transfer, vectors, views,
)  # fmt: skip

__all__ = [
    "MODULES", "activation", "adaptive_pool", "arithmetic", "arrange", "attention", "bessel", "complex", "conv",
    "convert", "creation", "ctc", "diagonals", "distance", "dropout", "eigen", "elementary", "embedding",
    "factor", "fold", "fourier", "grad_names", "grid", "index", "join", "linalg", "logic", "loss",
    "margin_loss", "masked", "matrix", "norm", "order", "padding", "polynomials", "pool", "products", "random",
    "reduce", "reduction", "resample", "rnn", "rounding", "scan", "scatter", "shape", "similarity", "softmax",
    "solve", "special", "spectral", "statistics", "strided", "taps", "transfer", "vectors", "views",
]  # fmt: skip

for _module in MODULES:
    accept_numpy_names(_module)
