"""`python -m disttorch_run` is `disttorch-run`."""

from __future__ import annotations

import sys

from disttorch_run.cli import main

if __name__ == "__main__":
    sys.exit(main())
