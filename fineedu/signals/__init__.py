"""Signals: measurements of documents, computed once in batches and stored beside the text."""
