"""Gradient boosted trees over binned features, with native support of missing values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from spinney.core.training.fit_kernels import Kernel, PerGroupKernel

NAME = "hist_gradient_boosting"
TASKS = ("regression", "classification")


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `hist_gradient_boosting`.

    params: those of scikit-learn's HistGradientBoostingRegressor or …Classifier.
    """
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return PerGroupKernel(kind(**params), task)
