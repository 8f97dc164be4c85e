"""Labels from annotators: how far they agree, and one label a document from many votes."""
