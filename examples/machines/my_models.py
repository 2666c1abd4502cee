"""An estimator of one's own: any function that returns an unfitted scikit-learn estimator, found by PYTHONPATH."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier


def forest(trees: int = 20, depth: int = 6) -> RandomForestClassifier:
    # No random_state: each group's is drawn from its key.
    return RandomForestClassifier(n_estimators=trees, max_depth=depth)
