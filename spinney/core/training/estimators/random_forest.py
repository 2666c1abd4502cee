"""A random forest, seeded from the group's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from spinney.core.training.fit_kernels import Kernel, PerGroupKernel

NAME = "random_forest"
TASKS = ("regression", "classification")


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `random_forest`. params: those of scikit-learn's RandomForestRegressor or …Classifier."""
    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return PerGroupKernel(kind(**params), task)
