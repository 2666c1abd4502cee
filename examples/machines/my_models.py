"""A user's estimator: any function that returns an unfitted scikit-learn estimator, imported from PYTHONPATH."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier


def forest(trees: int = 20, depth: int = 6) -> RandomForestClassifier:
    """Return an unfitted forest. Without a random_state, each group's is derived from its key."""
    return RandomForestClassifier(n_estimators=trees, max_depth=depth)
