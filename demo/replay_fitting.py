"""The fleet's recipe for the replayed strategies: the same fitting, scoring and loss as in the running fleet."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demo.refit_comparison import LossFunction
from schemas.vocabulary import ModelStatus
from spinney.core.config import Config
from spinney.core.keys import is_parent
from spinney.core.models import batch_scoring, codec
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loss import loss_named


class RecipeFitter:
    """Fits by `fit_groups` and keeps the models in memory. signer: any signer; the signatures are not verified."""

    def __init__(self, config: Config, signer: Signer) -> None:
        self.config, self.signer = config, signer
        self.recipe = Recipe.of(config)
        self.models: dict[str, Any] = {}

    @property
    def fitted(self) -> RecipeFitter:
        """This object, which also keeps the fitted models."""
        return self

    def fit(self, rows: pd.DataFrame, clock: datetime) -> Mapping[str, str]:
        """Fit the groups of a frame, as groups without champions.

        Returns group_key -> model_id of those that were fitted.
        """
        if not len(rows):
            return {}
        wanted = ["group_key", "event_id", "event_time", *self.config.fleet.features, "label"]
        names = list(dict.fromkeys(wanted))
        requests = pd.DataFrame({"group_key": sorted(rows["group_key"].unique())})
        results = fit_groups(self._capped(rows)[names], requests, self.recipe, clock, self.signer)
        made = results[results["status"] == ModelStatus.FITTED.value]
        for model_id, name, payload in made[["model_id", "codec", "payload"]].itertuples(index=False, name=None):
            self.models.setdefault(model_id, codec.load(name, payload))
        return dict(zip(made["group_key"], made["model_id"], strict=True))

    def answer(self, frame: pd.DataFrame, ids: Sequence[str | None]) -> npt.NDArray[Any]:
        """Return predictions, or maps of class to probability for a classification; None where the id is None."""
        answers = batch_scoring.predict_by_id(frame, list(ids), self.models)
        values = answers.prediction if answers.probabilities is None else answers.probabilities
        result = np.full(len(frame), None, dtype=object)
        result[:] = list(values)
        return result

    def _capped(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Keep at most `recipe.parents.max_rows` rows of each parent, sampled by hash of the event's id."""
        cap = self.config.recipe.parents.max_rows
        sizes = rows["group_key"].value_counts()
        large = [key for key in sizes.index[sizes > cap] if is_parent(key)]
        for key in large:
            ids = rows.loc[rows["group_key"] == key, "event_id"]
            kept = ids.map(lambda name: zlib.crc32(name.encode())).sort_values(kind="stable").index[:cap]
            rows = rows.drop(ids.index.difference(kept))
        return rows


def loss_function(loss_name: str) -> LossFunction:
    """Return a loss in the form that `compare_refits` takes: NaN without an answer."""
    loss = loss_named(loss_name)

    def of(labels: pd.Series, answers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        given = list(map(as_probabilities, answers)) if loss.task == "classification" else answers
        return loss.per_row(labels.to_numpy(dtype=object), given)

    return of


def fleet_answers(predictions: pd.DataFrame, loss_name: str) -> pd.Series:
    """Return the answers from which the loss is computed, indexed by (group_key, event_id).

    predictions: rows of that table.
    """
    column = "probabilities" if loss_named(loss_name).task == "classification" else "prediction"
    first = predictions.drop_duplicates(["group_key", "event_id"])
    return pd.Series(
        first[column].to_numpy(dtype=object), index=pd.MultiIndex.from_frame(first[["group_key", "event_id"]])
    )


def as_probabilities(answer: Any) -> Mapping[str, float] | None:
    """Return probabilities as a mapping: Delta's readers return a map as a list of pairs."""
    if answer is None or isinstance(answer, float):
        return None
    return dict(answer)
