"""Every operator, one place each. Importing the package fills the namespaces `registry.raw` and `registry.traced`."""

from disttorch.ops import (
    activation,
    complex,
    conv,
    convert,
    creation,
    elementwise,
    index,
    join,
    linalg,
    logic,
    loss,
    pool,
    random,
    reduce,
    rnn,
    shape,
    views,
)

__all__ = [
    "activation", "complex", "conv", "convert", "creation", "elementwise", "index", "join", "linalg", "logic", "loss",
    "pool", "random", "reduce", "rnn", "shape", "views",
]  # fmt: skip
