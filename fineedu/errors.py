"""The one exception a user is meant to read."""

from __future__ import annotations


class FineeduError(Exception):
    """A mistake of input, set-up or recipe, told in one line: what, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
