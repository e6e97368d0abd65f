"""Speed of disttorch beside PyTorch: `python -m benchmarks --help`, from the repository root."""
