"""As scripts were written years ago: Variables, typed tensors, gradients applied by hand."""

import torch
from torch.autograd import Variable

use_cuda = torch.cuda.is_available()
dtype = torch.cuda.FloatTensor if use_cuda else torch.FloatTensor
torch.manual_seed(4)
if use_cuda:
    torch.cuda.manual_seed_all(4)

x = Variable(torch.randn(16, 8).type(dtype), requires_grad=False)
y = Variable(torch.randn(16, 2).type(dtype))
w1 = Variable(torch.randn(8, 10).type(dtype), requires_grad=True)
w2 = Variable(torch.randn(10, 2).type(dtype), requires_grad=True)
assert isinstance(w1, Variable)
assert isinstance(w1.data, dtype)
print(w1.data.type(), torch.is_tensor(w1), torch.LongTensor([1, 2]).type(), torch.DoubleTensor(2, 3).size())

for step in range(6):
    prediction = x.mm(w1).clamp(min=0).mm(w2)
    loss = (prediction - y).pow(2).sum()
    print(f"step {step} loss {loss.data.item():.4f}")
    loss.backward()
    w1.data -= 1e-4 * w1.grad.data
    w2.data -= 1e-4 * w2.grad.data
    w1.grad.data.zero_()
    w2.grad.data.zero_()

try:
    print(loss.data[0])
except IndexError as error:
    print("IndexError:", str(error)[:35])

seen = torch.ByteTensor(2, 2).fill_(0)
seen[0, 1] = 1
print(seen, torch.Tensor([[1, 2], [3, 4]]).t(), torch.IntTensor([7]).float())
