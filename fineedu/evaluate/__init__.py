"""Evaluation that does not flatter: measures with intervals, baselines, slices, learning curve, ceiling, leakage."""
