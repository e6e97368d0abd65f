"""PyTorch's operator database as a judge of disttorch's operators; `tests/parity/report.py` is its command."""
