"""Old spellings against PyTorch's: the same tensors, or the same kind of refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

import disttorch  # noqa: E402

EXPRESSIONS = """
FloatTensor(2, 3).shape | FloatTensor([1, 2]) | FloatTensor((2, 3)) | FloatTensor(Size([2, 3])).shape | FloatTensor()
FloatTensor(tensor([1, 2])) | FloatTensor(tensor([1.0, 2])) | FloatTensor(np.array([1, 2])) | FloatTensor(3.5)
FloatTensor([[1, 2], [3]]) | FloatTensor(tensor(3)).shape | FloatTensor(np.int64(3)).shape | FloatTensor([1], device="cuda")
FloatTensor([1], dtype=float32) | FloatTensor([[1, 2], [3, 4]]) | FloatTensor([True, False]) | FloatTensor(2, "a")
LongTensor([1.7, -1.7]) | LongTensor(np.array([1.5, 2])) | LongTensor(3).shape | ByteTensor([255]) | ByteTensor([256])
BoolTensor([0, 2]) | HalfTensor([1]) | BFloat16Tensor([1]) | CharTensor([-3]) | ShortTensor([3]) | IntTensor([[3]])
DoubleTensor([1e300]) | Tensor([1, 2]) | Tensor(Size([2, 3])).shape | Tensor(tensor([1, 2])) | Tensor(3).shape | Tensor(-1)
Tensor("ab") | Tensor(True) | Tensor(None) | Tensor([]) | Tensor(range(3)) | Tensor(np.float32(3)) | Tensor(tensor([1.0]), 2)
Tensor([tensor(1.0), tensor(2.0)]) | Tensor([[1, 2]], requires_grad=True) | Tensor((2, 3)) | Tensor(2, 0).shape
FloatTensor | cuda.FloatTensor | DoubleTensor.dtype | LongTensor.__name__ | isinstance(tensor(1.0), FloatTensor)
isinstance(tensor(1), FloatTensor) | isinstance(tensor(1.0), cuda.FloatTensor) | issubclass(FloatTensor, Tensor)
cuda.FloatTensor(2) | tensor([1]).type(FloatTensor) | tensor([1]).type("torch.DoubleTensor") | tensor([1.5]).type("torch.x")
tensor([1.5]).type() | tensor([True]).type() | typename(tensor([1])) | typename(3) | typename(FloatTensor)
autograd.Variable(tensor([1.0]), requires_grad=True) | autograd.Variable(tensor([1])) | autograd.Variable(tensor([1]), True)
autograd.Variable([1]) | autograd.Variable() | autograd.Variable(3) | autograd.Variable(tensor([1.0]), True)
autograd.Variable(tensor([1.0]), volatile=True) | autograd.Variable(tensor([1.0]), requires_grad=True, volatile=True)
isinstance(tensor(1), autograd.Variable) | isinstance(3, autograd.Variable) | tensor(1.0).data[0] | tensor([3.0]).data[0]
set_default_tensor_type(LongTensor) | set_default_tensor_type(3) | set_default_tensor_type("torch.cuda.FloatTensor")
cuda.is_available() | cuda.device_count() | cuda.memory_allocated() | cuda.is_initialized() | cuda.manual_seed_all(3)
backends.cudnn.benchmark | backends.cudnn.deterministic | backends.cudnn.enabled | backends.cudnn.is_available()
backends.mps.is_available() | backends.cuda.is_built() | backends.cuda.matmul.allow_tf32 | accelerator.is_available()
are_deterministic_algorithms_enabled() | use_deterministic_algorithms(3) | get_float32_matmul_precision()
get_default_device() | get_deterministic_debug_mode() | set_deterministic_debug_mode("no") | set_default_device("cpu")
is_tensor(3) | is_tensor(tensor(3)) | numel(tensor([1, 2])) | no_such_name | backends.cudnn.version()
"""


@pytest.mark.parametrize("expression", [e.strip() for line in EXPRESSIONS.splitlines() for e in line.split(" | ") if e])
def test_expression_is_that_of_torch(expression: str) -> None:
    def outcome(t: Any) -> str:
        names = {"np": np, **{n: getattr(t, n) for n in dir(t) if n not in ("range", "int", "bool", "float")}}
        try:
            return repr(eval(expression, {**names, "__builtins__": __builtins__}))
        except Exception as error:
            return type(error).__name__

    try:
        assert outcome(disttorch) == outcome(torch)
    finally:
        torch.set_default_device(None)  # "cpu" leaves a mode behind under which torch's l1_loss loses its weight
