"""Gopher, C4 and FineWeb heuristics as signals, and the words that they count."""

from fineedu.signals.heuristics.characters import N_CODE_POINTS, symbol_points
from fineedu.signals.heuristics.family import HeuristicSignals
from fineedu.signals.heuristics.tables import tables
from fineedu.signals.heuristics.words import split_words

__all__ = ["N_CODE_POINTS", "HeuristicSignals", "split_words", "symbol_points", "tables"]
