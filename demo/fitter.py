"""The fleet's own recipe as the replayed fleets use it: the same fitting, scoring and loss as the running one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from demo.worth import LossOf
from schemas.vocabulary import ModelStatus
from spinney.core.config import Config
from spinney.core.keys import is_parent
from spinney.core.models import batch_scoring, codec
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loss import loss_named


class RecipeFitter:
    """Fits by `fit_groups` and keeps the models it made, in memory. signer: any; its signatures are not read here."""

    def __init__(self, config: Config, signer: Signer) -> None:
        self.config, self.signer = config, signer
        self.recipe = Recipe.of(config)
        self.models: dict[str, Any] = {}

    @property
    def fitted(self) -> RecipeFitter:
        return self

    def fit(self, rows: pd.DataFrame, clock: datetime) -> Mapping[str, str]:
        if not len(rows):
            return {}
        wanted = ["group_key", "event_id", "event_time", *self.config.fleet.features, "label"]
        names = list(dict.fromkeys(wanted))
        # Without champions: nothing is compared, each refit takes the place of the one before.
        asks = pd.DataFrame({"group_key": sorted(rows["group_key"].unique())})
        results = fit_groups(self._capped(rows)[names], asks, self.recipe, clock, self.signer)
        made = results[results["status"] == ModelStatus.FITTED.value]
        for model_id, name, payload in made[["model_id", "codec", "payload"]].itertuples(index=False, name=None):
            self.models.setdefault(model_id, codec.load(name, payload))
        return dict(zip(made["group_key"], made["model_id"], strict=True))

    def answer(self, frame: pd.DataFrame, ids: Sequence[str | None]) -> npt.NDArray[Any]:
        """Predictions, or for a loss on probabilities a map of class to probability each."""
        answers = batch_scoring.predict_by_id(frame, list(ids), self.models)
        wanted = answers.prediction if answers.probabilities is None else answers.probabilities
        found = np.full(len(frame), None, dtype=object)
        found[:] = list(wanted)
        return found

    def _capped(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Of a parent at most `recipe.parents.max_rows` rows: a sample by hash of the event's id."""
        cap = self.config.recipe.parents.max_rows
        sizes = rows["group_key"].value_counts()
        large = [key for key in sizes.index[sizes > cap] if is_parent(key)]
        for key in large:
            mine = rows.loc[rows["group_key"] == key, "event_id"]
            kept = mine.map(lambda name: zlib.crc32(name.encode())).sort_values(kind="stable").index[:cap]
            rows = rows.drop(mine.index.difference(kept))
        return rows


def loss_of(config: Config) -> LossOf:
    """The fleet's loss as `worth.compare` asks for it: NaN where there is no answer."""
    loss = loss_named(config.fleet.loss)

    def of(labels: pd.Series, answers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        given = list(map(as_mapping, answers)) if loss.task == "classification" else answers
        return loss.per_row(labels.to_numpy(dtype=object), given)

    return of


def own_answers(predictions: pd.DataFrame, config: Config) -> pd.Series:
    """The table of predictions as `worth.compare` asks for it: what the loss needs, by (group_key, event_id)."""
    column = "probabilities" if loss_named(config.fleet.loss).task == "classification" else "prediction"
    first = predictions.drop_duplicates(["group_key", "event_id"])
    return pd.Series(
        first[column].to_numpy(dtype=object), index=pd.MultiIndex.from_frame(first[["group_key", "event_id"]])
    )


def as_mapping(answer: Any) -> Mapping[str, float] | None:
    """Probabilities as a mapping: readers of Delta give a map as a list of pairs."""
    if answer is None or isinstance(answer, float):
        return None
    return dict(answer)
