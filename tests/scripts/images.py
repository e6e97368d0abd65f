"""A small convolutional network on random pictures, loaded by two worker processes."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    """Squares of noise; the class says which quarter is bright."""

    def __init__(self, count):
        generator = torch.Generator().manual_seed(2)
        self.labels = torch.randint(4, (count,), generator=generator)
        self.pictures = torch.rand(count, 1, 8, 8, generator=generator)
        for picture, label in zip(self.pictures, self.labels.tolist()):
            row, column = divmod(label, 2)
            picture[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.pictures[index], self.labels[index]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.1)
        self.classes = nn.Linear(8 * 2 * 2, 4)

    def forward(self, x):
        x = self.features(x)
        x = x.view(x.size(0), -1)
        return nn.functional.log_softmax(self.classes(self.dropout(x)), dim=1)


def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for pictures, labels in loader:
            right += (model(pictures).argmax(dim=1) == labels).sum().item()
    model.train()
    return right / len(loader.dataset)


def main():
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    train = DataLoader(Pictures(96), batch_size=16, shuffle=True, num_workers=2)
    test = DataLoader(Pictures(32), batch_size=32)
    model = Net()
    print(model)
    print(sum(p.numel() for p in model.parameters() if p.requires_grad), "parameters")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for epoch in range(2):
        total = 0.0
        for pictures, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.nll_loss(model(pictures), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * labels.size(0)
        print(f"epoch {epoch} loss {total / len(train.dataset):.5f} accuracy {accuracy(model, test):.3f}")


if __name__ == "__main__":
    main()
