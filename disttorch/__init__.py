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
from disttorch.core.layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from disttorch.core.printing import get_printoptions, printoptions, set_printoptions
from disttorch.core.promotion import can_cast, promote_types
from disttorch.core.size import Size
from disttorch.ops.activation import *
from disttorch.ops.arithmetic import *
from disttorch.ops.arrange import *
from disttorch.ops.complex import *
from disttorch.ops.convert import *
from disttorch.ops.creation import *
from disttorch.ops.ctc import *
from disttorch.ops.diagonals import *
from disttorch.ops.distance import *
from disttorch.ops.dropout import alpha_dropout, dropout, feature_alpha_dropout
from disttorch.ops.elementary import *
from disttorch.ops.grid import grid_sampler_2d, grid_sampler_3d
from disttorch.ops.index import *
from disttorch.ops.join import *
from disttorch.ops.linalg import *
from disttorch.ops.logic import *
from disttorch.ops.loss import binary_cross_entropy_with_logits, kl_div, poisson_nll_loss
from disttorch.ops.margin_loss import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    triplet_margin_loss,
)
from disttorch.ops.matrix import *
from disttorch.ops.order import *
from disttorch.ops.products import *
from disttorch.ops.random import *
from disttorch.ops.reduce import *
from disttorch.ops.rounding import *
from disttorch.ops.scan import *
from disttorch.ops.scatter import *
from disttorch.ops.shape import *
from disttorch.ops.similarity import *
from disttorch.ops.softmax import *
from disttorch.ops.special import *
from disttorch.ops.spectral import *
from disttorch.ops.statistics import *
from disttorch.ops.strided import *
from disttorch.ops.views import *
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
from disttorch import distributed, fft, futures, linalg, masked, multiprocessing, nn, optim, signal, special, utils

# What `torch` itself has of `nn.functional`, where both are the same function or take the same arguments.
from disttorch.nn.functional import (
    adaptive_avg_pool1d,
    avg_pool1d,
    channel_shuffle,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    group_norm,
    layer_norm,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    pixel_shuffle,
    pixel_unshuffle,
    rms_norm,
)

float = float32
double = float64
half = float16
long = int64
int = int32
short = int16
cfloat = complex64
cdouble = complex128

newaxis = None

ger = outer

import disttorch.ops.grad_names as _grad_names
import disttorch.backends.cuda as _cuda
import disttorch.backends.cudnn as _cudnn
import disttorch.backends.mps as _mps
import disttorch.autograd.functional as _functional
from disttorch import accelerator, func, _missing
from disttorch.func import vmap

_missing.guard_tensor(Tensor)
_missing.guard_modules()
