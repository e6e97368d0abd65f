"""The helpers of the comparison with PyTorch are no tests."""

collect_ignore = ["oracle", "report.py"]
