"""Logistic regression on standardised features; two classes or more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.models.linear import Linear, Link
from spinney.core.training.fit_kernels import Kernel, PerGroupKernel

NAME = "logistic_regression"
TASKS = ("classification",)


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `logistic_regression`. params: those of scikit-learn's LogisticRegression."""
    template = Pipeline(
        [
            ("impute", SimpleImputer(strategy="mean", keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("model", LogisticRegression(**{"max_iter": 1000, **params})),
        ]
    )
    return PerGroupKernel(template, task, to_linear)


def to_linear(pipeline: Any) -> Linear:
    """Return the fitted pipeline as one Linear model, with the scaling included in its coefficients."""
    imputer, scaler, model = (step for _, step in pipeline.steps)
    coefficients = model.coef_ / scaler.scale_
    intercept = model.intercept_ - (coefficients * scaler.mean_).sum(axis=1)
    link = Link.LOGISTIC if len(coefficients) == 1 else Link.SOFTMAX
    return Linear(link, intercept, coefficients, imputer.statistics_)
