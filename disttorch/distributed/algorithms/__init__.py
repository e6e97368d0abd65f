"""Algorithms on top of the collectives: uneven inputs and communication hooks, under PyTorch's names."""
