"""Which groups are stale: the judge, its state per group, and one file per policy."""
