"""PyTorch's programming model in readable Python over NumPy and CuPy: `import disttorch as torch`."""

# ruff: noqa: E402
import warnings as _warnings

# Like PyTorch, an overflow or a division by zero gives inf or NaN without a warning. The filter is confined to our own
# modules: what NumPy says about the caller's arrays stays as it is.
_warnings.filterwarnings("ignore", ".*encountered in", RuntimeWarning, r"disttorch\.")

from math import e, inf, nan, pi

from disttorch import autograd, cuda
from disttorch.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from disttorch.core.device import device
from disttorch.core.dtypes import (
    bfloat16,
    complex64,
    complex128,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from disttorch.core.dtypes import bool_ as bool
from disttorch.core.printing import get_printoptions, printoptions, set_printoptions
from disttorch.core.promotion import can_cast, promote_types
from disttorch.core.size import Size
from disttorch.ops.activation import (
    erf,
    log_softmax,
    relu,
    sigmoid,
    softmax,
)
from disttorch.ops.complex import (
    imag,
    real,
)
from disttorch.ops.convert import (
    is_floating_point,
    is_tensor,
    numel,
)
from disttorch.ops.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    result_type,
    tensor,
    zeros,
    zeros_like,
)
from disttorch.ops.elementwise import (
    abs,
    acos,
    add,
    asin,
    atan,
    atan2,
    ceil,
    clamp,
    clamp_max,
    clamp_min,
    conj,
    cos,
    cosh,
    div,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmod,
    frac,
    is_complex,
    lerp,
    log,
    log10,
    log1p,
    log2,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    reciprocal,
    remainder,
    round,
    rsqrt,
    rsub,
    sgn,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    sub,
    tan,
    tanh,
    true_divide,
    trunc,
)
from disttorch.ops.index import (
    gather,
    index_add,
    index_put,
    index_select,
    masked_fill,
    masked_select,
    nonzero,
    scatter,
    scatter_add,
)
from disttorch.ops.join import (
    cat,
    clone,
    flip,
    stack,
    tril,
    triu,
)
from disttorch.ops.linalg import (
    addmm,
    bmm,
    dot,
    matmul,
    mm,
    mv,
    outer,
)
from disttorch.ops.logic import (
    allclose,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    equal,
    ge,
    gt,
    isclose,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    where,
)
from disttorch.ops.random import (
    bernoulli,
    dropout,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
)
from disttorch.ops.reduce import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    argsort,
    cumsum,
    dist,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    sort,
    std,
    sum,
    topk,
    var,
)
from disttorch.ops.shape import (
    broadcast_to,
    chunk,
    diagonal,
    flatten,
    movedim,
    narrow,
    permute,
    reshape,
    split,
    squeeze,
    t,
    transpose,
    unbind,
    unflatten,
    unsqueeze,
)
from disttorch.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from disttorch._tensor import Tensor
from disttorch.threads import get_num_threads, set_num_threads
from disttorch.version import __version__
from disttorch.serialization import load, save
from disttorch import distributed, nn, optim, utils

float = float32
double = float64
half = float16
long = int64
int = int32
short = int16
cfloat = complex64
cdouble = complex128

newaxis = None

subtract, multiply, divide, negative, absolute, concat, concatenate, ger = (
    sub, mul, div, neg, abs, cat, cat, outer,
)  # fmt: skip
