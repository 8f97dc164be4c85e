"""Phrases of a lexicon, found in the text of many documents at once."""
