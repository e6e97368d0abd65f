"""What an operator costs when there is next to nothing to compute."""

from __future__ import annotations

from types import ModuleType

from benchmarks.timing import Case

READING_SECONDS = 0.05
CHAIN_LENGTH = 200


def cases(torch: ModuleType) -> dict[str, Case]:
    """Return the cases, built with `torch` or with disttorch in its place."""
    torch.manual_seed(0)
    a, b, c = torch.randn(4, 4), torch.randn(4, 4), torch.randn(4, 4)
    leaf = torch.randn(4, 4, requires_grad=True)
    ones = torch.ones(4, 4)
    linear = torch.nn.Linear(20, 1)
    x = torch.randn(32, 20)

    def chain() -> None:
        """Multiply and add in turn, 200 operators in all, and go back through them."""
        y = leaf
        for _ in range(CHAIN_LENGTH // 2):
            y = y * b
            y = y + c
        leaf.grad = None
        y.backward(ones)

    def linear_step() -> None:
        linear.zero_grad()
        linear(x).mean().backward()

    plain = {"a": a, "b": b}
    recorded = {"a": leaf, "b": b}
    return {
        "add 4x4": Case("a + b", plain),
        "add 4x4, recorded": Case("a + b", recorded),
        "mul 4x4": Case("a * b", plain),
        "mul 4x4, recorded": Case("a * b", recorded),
        "200 operators, forward and backward": Case("chain()", {"chain": chain}),
        "Linear 20-1, batch 32, forward and backward": Case("step()", {"step": linear_step}),
    }
