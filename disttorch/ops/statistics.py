"""Statistics of elements: moments, medians, quantiles, histograms, correlations."""

from __future__ import annotations

__all__: list[str] = []
