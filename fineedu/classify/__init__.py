"""Classifiers: bundles of weights, text preparation and evidence; training."""
