"""fineedu: web quality classification and filtering. Score once, cut many."""

__version__ = "0.1.0"
