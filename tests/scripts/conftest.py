"""The scripts import torch; tests/test_script.py runs them."""

collect_ignore_glob = ["*.py"]
