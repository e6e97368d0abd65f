"""One table with samples of every operator, for the tests of values, of derivatives and against PyTorch.

The rows are in `disttorch.testing.rows`, in files named as those of `disttorch.ops`: a new operator gets its row there.
"""

from __future__ import annotations

import importlib
import pkgutil

from disttorch.testing import rows
from disttorch.testing.sample import Sample

FILES = tuple(importlib.import_module(f"{rows.__name__}.{info.name}") for info in pkgutil.iter_modules(rows.__path__))

SAMPLES: tuple[Sample, ...] = tuple(sample for file in FILES for sample in file.samples())
