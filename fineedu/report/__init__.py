"""A run on one page: counts, charts, samples, borderline documents."""
