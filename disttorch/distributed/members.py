"""Who belongs to a process group."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

WORLD = "world"


@dataclass(frozen=True)
class Members:
    """The ranks of one group, as one of them sees it.

    name: the same on all of them and no other group's; epoch: how many times the world's group was made; ranks:
    their numbers in the world, in the order of their numbers in the group; rank: this process's number in the
    group; hosts: the host that each is on.
    """

    name: str
    epoch: int
    ranks: tuple[int, ...]
    rank: int
    hosts: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)

    @property
    def key(self) -> str:
        """A prefix for the names of what the group shares."""
        return f"{self.epoch}/{self.name}"

    @property
    def number(self) -> int:
        """32 bits that stand for the group in headers."""
        if self.name == WORLD:
            return 0
        return int.from_bytes(blake2b(self.name.encode(), digest_size=4).digest(), "little")

    @property
    def here(self) -> list[int]:
        """The members, by their numbers in the group, that are on this process's host."""
        return [r for r in range(self.size) if self.hosts[r] == self.hosts[self.rank]]

    def subset(self, name: str, ranks: list[int]) -> Members:
        """Return a group of some of these members, given by their numbers in this group; this process is one of them."""
        return Members(
            f"{self.name}/{name}",
            self.epoch,
            tuple(self.ranks[r] for r in ranks),
            ranks.index(self.rank),
            tuple(self.hosts[r] for r in ranks),
        )


def alone(epoch: int = 0) -> Members:
    """Return the group of a process that has no others."""
    return Members(WORLD, epoch, (0,), 0, (0,))
