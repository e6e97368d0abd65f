"""Every operator, one place each. Importing the package fills the namespaces `registry.raw` and `registry.traced`.

A module says which of its functions are public functions of disttorch (`__all__`), which are methods of `Tensor` too
(`METHODS`), and which of those have an in-place form (`INPLACE`). The modules of layers (convolution, pooling, losses
and so on) say in `__all__` what `nn.functional` has.
"""

from disttorch.ops import (
    activation,
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
    elementary,
    embedding,
    factor,
    fourier,
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
    polynomials,
    pool,
    products,
    random,
    reduce,
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
    views,
)

MODULES = (
    activation, arithmetic, arrange, attention, bessel, complex, conv, convert, creation, ctc, diagonals, distance,
    dropout, elementary, embedding, factor, fourier, index, join, linalg, logic, loss, margin_loss, masked,
    matrix, norm, order, polynomials, pool, products, random, reduce, resample, rnn, rounding, scan, scatter,
    shape, similarity, softmax, solve, special, spectral, statistics, strided, views,
)  # fmt: skip

__all__ = [
    "MODULES", "activation", "arithmetic", "arrange", "attention", "bessel", "complex", "conv", "convert", "creation", "ctc",
    "diagonals", "distance", "dropout", "elementary", "embedding", "factor", "fourier", "index", "join",
    "linalg", "logic", "loss", "margin_loss", "masked", "matrix", "norm", "order", "polynomials", "pool",
    "products", "random", "reduce", "resample", "rnn", "rounding", "scan", "scatter", "shape", "similarity", "softmax", "solve",
    "special", "spectral", "statistics", "strided", "views",
]  # fmt: skip
