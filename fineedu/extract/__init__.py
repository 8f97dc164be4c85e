"""Web archives to documents: read records, decode them, take the main text."""
