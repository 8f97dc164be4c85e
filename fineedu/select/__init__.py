"""Signals to a corpus: rules decide, every decision keeps its reasons, what is kept is written."""
