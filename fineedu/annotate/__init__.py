"""Labels for documents: by language models, and by people to check them."""
