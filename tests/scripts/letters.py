"""A recurrent network that learns to continue a text, letter by letter."""

import torch
import torch.nn as nn
from torch.nn.utils import clip_grad_norm_

TEXT = "she sells sea shells by the sea shore " * 6
LETTERS = sorted(set(TEXT))
NUMBER = {letter: i for i, letter in enumerate(LETTERS)}


class Model(nn.Module):
    def __init__(self, letters, size):
        super().__init__()
        self.embedding = nn.Embedding(letters, 8)
        self.rnn = nn.LSTM(8, size, num_layers=2, batch_first=True)
        self.out = nn.Linear(size, letters)

    def forward(self, x, state=None):
        h, state = self.rnn(self.embedding(x), state)
        return self.out(h), state


def batches(data, steps):
    for start in range(0, data.size(1) - 1, steps):
        stop = min(start + steps, data.size(1) - 1)
        yield data[:, start:stop], data[:, start + 1 : stop + 1]


@torch.no_grad()
def written(model, first, count):
    letters, state = [first], None
    for _ in range(count):
        scores, state = model(torch.tensor([[NUMBER[letters[-1]]]]), state)
        letters.append(LETTERS[scores[0, -1].argmax().item()])
    return "".join(letters)


torch.manual_seed(3)
codes = torch.tensor([NUMBER[letter] for letter in TEXT], dtype=torch.long)
data = codes[: len(codes) // 4 * 4].view(4, -1)
model = Model(len(LETTERS), 24)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
for epoch in range(4):
    state, total, count = None, 0.0, 0
    for inputs, targets in batches(data, 14):
        scores, state = model(inputs, state)
        state = tuple(s.detach() for s in state)
        loss = criterion(scores.reshape(-1, len(LETTERS)), targets.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        count += 1
    print(f"epoch {epoch} loss {total / count:.5f} norm {float(norm):.4f}")
print(len(written(model, "s", 20)), "letters written")
