"""Stage: select."""
