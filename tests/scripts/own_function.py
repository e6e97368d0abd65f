"""Operations with derivatives of their own, a training step by hand, and a file with the result."""

import os
import tempfile

import torch
import torch.nn as nn
from torch.autograd import Function, gradcheck


class Clipped(Function):
    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= ctx.limit).to(g.dtype), None


class Legendre(Function):
    """(5 x^3 - 3 x) / 2."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * (5 * x**3 - 3 * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 1.5 * (5 * x**2 - 1)


torch.manual_seed(5)
sample = (torch.rand(5, dtype=torch.double) - 0.5).requires_grad_()
print("gradcheck:", gradcheck(Legendre.apply, (sample,)), gradcheck(lambda z: Clipped.apply(z, 2.0), (sample,)))

x = torch.linspace(-3.14, 3.14, 200)
y = torch.sin(x)
a, b, c, d = (torch.full((), value, requires_grad=True) for value in (0.0, -1.0, 0.0, 0.3))
for step in range(5):
    loss = (a + b * Legendre.apply(c + d * x) - y).pow(2).sum()
    loss.backward()
    with torch.no_grad():
        for p in (a, b, c, d):
            p -= 5e-6 * p.grad
            p.grad = None
    print(f"step {step} loss {loss.item():.4f}")

net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "net.pt")
    torch.save({"net": net.state_dict(), "step": 5}, path)
    again = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    print(again.load_state_dict(torch.load(path)["net"]))
print("equal:", torch.equal(net(torch.ones(1, 2)), again(torch.ones(1, 2))))
