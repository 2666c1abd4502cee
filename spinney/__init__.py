"""Spinney keeps a fleet of small models fresh: one scikit-learn model per group, refitted when it goes stale."""
