"""Deduplication: which documents repeat others, as signals that a recipe may select on."""
