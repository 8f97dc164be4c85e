"""Several scores to one: percentiles, buckets, votes, learned combinations and cascades."""
