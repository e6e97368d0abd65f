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
from disttorch.ops.activation import *
from disttorch.ops.arithmetic import *
from disttorch.ops.arrange import *
from disttorch.ops.complex import *
from disttorch.ops.convert import *
from disttorch.ops.creation import *
from disttorch.ops.diagonals import *
from disttorch.ops.distance import *
from disttorch.ops.elementary import *
from disttorch.ops.index import *
from disttorch.ops.join import *
from disttorch.ops.linalg import *
from disttorch.ops.logic import *
from disttorch.ops.matrix import *
from disttorch.ops.order import *
from disttorch.ops.products import *
from disttorch.ops.random import *
from disttorch.ops.reduce import *
from disttorch.ops.rounding import *
from disttorch.ops.scan import *
from disttorch.ops.scatter import *
from disttorch.ops.shape import *
from disttorch.ops.special import *
from disttorch.ops.spectral import *
from disttorch.ops.statistics import *
from disttorch.ops.strided import *
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
from disttorch._legacy import *
from disttorch._settings import *
from disttorch.threads import get_num_threads, set_num_threads
from disttorch.version import __version__
from disttorch.serialization import load, save
from disttorch import distributed, fft, linalg, masked, nn, optim, signal, special, utils

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

import disttorch.ops.grad_names as _grad_names
import disttorch.backends.cuda as _cuda
import disttorch.backends.cudnn as _cudnn
import disttorch.backends.mps as _mps
import disttorch.autograd.functional as _functional
from disttorch import accelerator, func, _missing
from disttorch.func import vmap

_missing.guard_tensor(Tensor)
_missing.guard_modules()
