"""The measurements behind the Gopher, C4 and FineWeb filters."""

from fineedu.signals.heuristics.family import HeuristicSignals

__all__ = ["HeuristicSignals"]
