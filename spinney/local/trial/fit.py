"""A trial: one group fitted by the code that fits fleets, and asked for its own rows, the newest of them held out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from schemas.vocabulary import ModelStatus
from spinney.core.config import Config
from spinney.core.errors import FitFailed, TooFewRows
from spinney.core.models import codec
from spinney.core.models.model import Model, labels_of
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fit_attempt import HELD_OUT
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loss import loss_named
from spinney.core.training.training_rows import History, select
from spinney.local.trial.rows import Rows

HELD_OUT_WORDS = (
    f"The newest 1 in {HELD_OUT} rows by event time. All dots and losses are of the model fitted on the rows "
    "before them; the fleet's gate compares a challenger with the champion in the same way, and stores one fitted on "
    "all rows."
)
BEYOND = "beyond recipe.window or window_rows"
_SIGNER = Signer(b"a trial's key: nothing it signs is kept")


@dataclass(frozen=True)
class Losses:
    """Mean losses of one model, fitted on the older rows. constant: of the best single answer for all rows.

    train: on the rows it was fitted on. heldout, constant: on the newest rows; None where there are none.
    """

    train: float
    heldout: float | None
    constant: float | None


@dataclass(frozen=True)
class Trial:
    """What became of the group.

    group: the names of its columns. heldout_rows: the newest of `rows`. model_id, codec, payload_bytes, fit_ms: of the
    model on all rows, which the fleet would store. chosen, candidates: of `best_of`, which recipe that model is, and
    what each lost. points: one row per fitted row, oldest first: event_id, event_time, actual, predicted, heldout, loss
    and, for classification, probability (of the class that came), all by the model of the older rows.
    """

    group_key: str
    group: tuple[str, ...]
    recipe: Recipe
    source: str
    left_out: Mapping[str, int]
    clock: datetime
    rows: int
    heldout_rows: int
    model_id: str
    codec: str
    payload_bytes: int
    fit_ms: float
    losses: Losses
    chosen: str | None
    candidates: Mapping[str, float | None]
    points: pd.DataFrame

    @property
    def trained_from(self) -> datetime:
        at: datetime = self.points["event_time"].iloc[0].to_pydatetime()
        return at

    @property
    def trained_through(self) -> datetime:
        at: datetime = self.points["event_time"].iloc[-1].to_pydatetime()
        return at


def fit(config: Config, rows: Rows) -> Trial:
    """Fit the group as a round would. Raises TooFewRows, FitFailed, and ConfigError or ContractError for the recipe."""
    recipe = replace(Recipe.of(config), shadow=None)
    whole = _fitted(rows, recipe)
    history = select(rows.frame, [rows.group_key], recipe, rows.clock)
    metrics = json.loads(whole["metrics"])
    heldout = int(metrics["heldout_rows"])
    older = rows.frame[rows.frame["event_id"].isin(history.ids[: len(history.ids) - heldout])]
    part = replace(rows, frame=older)
    # Fitted alone, the older rows give the very model that the whole fit compares on the newer ones.
    points = _points(_model(part, replace(recipe, min_rows=1)), history, recipe, heldout)
    losses = Losses(
        train=float(points.loc[~points["heldout"], "loss"].mean()),
        heldout=float(points.loc[points["heldout"], "loss"].mean()) if heldout else None,
        constant=_constant_loss(rows, recipe),
    )
    return Trial(
        group_key=rows.group_key,
        group=config.fleet.group,
        recipe=recipe,
        source=rows.source,
        left_out=_left_out(rows, len(history.ids)),
        clock=rows.clock,
        rows=len(history.ids),
        heldout_rows=heldout,
        model_id=whole["model_id"],
        codec=whole["codec"],
        payload_bytes=len(whole["payload"]),
        fit_ms=float(whole["fit_ms"]),
        losses=losses,
        chosen=metrics.get("chosen"),
        candidates=metrics.get("candidates", {}),
        points=points,
    )


def _left_out(rows: Rows, fitted: int) -> dict[str, int]:
    beyond = len(rows.frame) - fitted
    return {**rows.left_out, **({BEYOND: beyond} if beyond else {})}


def _fitted(rows: Rows, recipe: Recipe) -> dict[str, Any]:
    """The row of `models` that a round would write."""
    asks = pd.DataFrame({"group_key": [rows.group_key]})
    fitted = fit_groups(rows.frame, asks, recipe, rows.clock, _SIGNER)
    row = {str(name): value for name, value in fitted.iloc[0].items()}
    if row["status"] == ModelStatus.TOO_FEW_ROWS:
        raise TooFewRows(rows.group_key, int(row["rows"]), max(1, recipe.min_rows))
    if row["status"] != ModelStatus.FITTED:
        raise FitFailed(rows.group_key, str(row["error_class"]), str(row["error"]))
    return row


def _model(rows: Rows, recipe: Recipe) -> Model:
    row = _fitted(rows, recipe)
    claim = Claim(rows.group_key, row["model_id"], row["codec"])
    return codec.open_signed(_SIGNER, claim, row["payload"], row["signature"])


def _points(model: Model, history: History, recipe: Recipe, heldout: int) -> pd.DataFrame:
    raw = model.raw(history.columns)
    count = len(history.ids)
    points = pd.DataFrame(
        {
            "event_id": history.ids,
            "event_time": pd.Series(history.times.astype("datetime64[us]")).dt.tz_localize("UTC"),
            "actual": history.labels,
            "predicted": raw[:, 0] if model.classes is None else labels_of(raw, model.classes),
            "heldout": np.arange(count) >= count - heldout,
            "loss": loss_named(recipe.loss).per_row(
                history.labels, raw[:, 0] if model.classes is None else (model.classes, raw)
            ),
        }
    )
    if model.classes is not None:
        place = {name: at for at, name in enumerate(model.classes)}
        at = np.array([place.get(label, -1) for label in history.labels])
        points["probability"] = np.where(at < 0, 0.0, raw[np.arange(count), at])
    return points


def _constant_loss(rows: Rows, recipe: Recipe) -> float | None:
    """What the best single answer would have lost on the held-out rows: the least that a model has to beat."""
    statistic = (("statistic", '"median"' if recipe.loss == "absolute" else '"mean"'),)
    params = statistic if recipe.task == "regression" else ()
    row = _fitted(rows, replace(recipe, estimator="constant", params=params, source=""))
    found = json.loads(row["metrics"])["challenger_loss"]
    return None if found is None else float(found)
