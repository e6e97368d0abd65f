"""One table with samples of every operator, for the tests of values, of derivatives and against PyTorch.

The rows are in `disttorch.testing.rows`, in files named as those of `disttorch.ops`: a new operator gets its row there.
"""

from __future__ import annotations

from disttorch.testing.rows import elementwise, index, join, layers, linalg, logic, reduce, shape
from disttorch.testing.sample import Sample

_FILES = (elementwise, index, join, layers, linalg, logic, reduce, shape)

SAMPLES: tuple[Sample, ...] = tuple(sample for rows in _FILES for sample in rows.samples())
