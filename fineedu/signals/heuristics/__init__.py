"""Gopher, C4 and FineWeb heuristics as signals."""

from fineedu.signals.heuristics.family import HeuristicSignals

__all__ = ["HeuristicSignals"]
