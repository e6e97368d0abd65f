"""Special functions: `torch.special`."""

# ruff: noqa: F401, F403
from disttorch.ops.activation import erf
from disttorch.ops.activation import sigmoid as expit
from disttorch.ops.bessel import *
from disttorch.ops.elementary import exp2, expm1, log1p
from disttorch.ops.polynomials import *
from disttorch.ops.reduce import logsumexp
from disttorch.ops.rounding import round
from disttorch.ops.softmax import log_softmax, softmax
from disttorch.ops.special import (
    digamma,
    entr,
    erfc,
    erfcx,
    erfinv,
    i0,
    log_ndtr,
    logit,
    ndtr,
    ndtri,
    polygamma,
    sinc,
    xlog1py,
    xlogy,
    zeta,
)
from disttorch.ops.special import digamma as psi
from disttorch.ops.special import igamma as gammainc
from disttorch.ops.special import igammac as gammaincc
from disttorch.ops.special import lgamma as gammaln
from disttorch.ops.special import mvlgamma as multigammaln
