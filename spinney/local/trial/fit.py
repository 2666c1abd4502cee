"""A trial: one group fitted by the code that fits fleets, with predictions for its own rows."""

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
from spinney.core.training.comparisons.held_out_rows import HELD_OUT_ONE_IN
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loss import loss_named
from spinney.core.training.training_set import TrainingSet, select_training_set
from spinney.local.trial.rows import TrialRows

HELD_OUT_NOTE = (
    f"The newest rows by event time, at most 1 in {HELD_OUT_ONE_IN}. All dots and losses are of the model fitted on "
    "the rows before them. The fleet's gate measures a first model in the same way. The stored model is fitted on all "
    "rows."
)
BEYOND_WINDOW = "beyond recipe.window or window_rows"
_SIGNER = Signer(b"a trial's key: nothing it signs is kept")


@dataclass(frozen=True)
class Losses:
    """Mean losses of the model that is fitted on the older rows only.

    train: on the rows it was fitted on. heldout: on the held-out rows. constant: of the best constant prediction, on
    the held-out rows. The latter two are None if no row is held out.
    """

    train: float
    heldout: float | None
    constant: float | None


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Two models are fitted: one on all rows, which the fleet would store, and one on the older rows, which predicts.

    group_key, group: the group's key, and the names of its columns. heldout_rows: how many of `rows` are held out, the
    newest. model_id, codec, payload_bytes, fit_ms: of the model on all rows. chosen, candidates: with `best_of`, the
    candidate that was chosen for it, and the loss of each candidate. points: one row for each of `rows`, oldest first:
    event_id, event_time, actual, predicted, heldout (whether it is held out), loss and, for classification, probability
    (of the actual class).
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
        """Event time of the oldest fitted row."""
        at: datetime = self.points["event_time"].iloc[0].to_pydatetime()
        return at

    @property
    def trained_through(self) -> datetime:
        """Event time of the newest fitted row."""
        at: datetime = self.points["event_time"].iloc[-1].to_pydatetime()
        return at


def fit_trial(config: Config, rows: TrialRows) -> Trial:
    """Fit the group as a round would. Raises TooFewRows, FitFailed, and ConfigError or ContractError for the recipe."""
    recipe = replace(Recipe.of(config), shadow=None)
    fitted = _fit(rows, recipe)
    history = select_training_set(rows.frame, [rows.group_key], recipe, rows.clock)
    metrics = json.loads(fitted["metrics"])
    heldout = int(metrics["heldout_rows"])
    older = rows.frame[rows.frame["event_id"].isin(history.ids[: len(history.ids) - heldout])]
    # The model of the older rows alone is the one that the fit on all rows evaluates on the held-out rows.
    model = _fit_model(replace(rows, frame=older), replace(recipe, min_rows=1))
    points = _points(model, history, recipe, heldout)
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
        model_id=fitted["model_id"],
        codec=fitted["codec"],
        payload_bytes=len(fitted["payload"]),
        fit_ms=float(fitted["fit_ms"]),
        losses=losses,
        chosen=metrics.get("chosen"),
        candidates=metrics.get("candidates", {}),
        points=points,
    )


def _left_out(rows: TrialRows, fitted: int) -> dict[str, int]:
    beyond = len(rows.frame) - fitted
    return {**rows.left_out, **({BEYOND_WINDOW: beyond} if beyond else {})}


def _fit(rows: TrialRows, recipe: Recipe) -> dict[str, Any]:
    """Return the row of `models` that a round would write. Raises TooFewRows, FitFailed."""
    requests = pd.DataFrame({"group_key": [rows.group_key]})
    fitted = fit_groups(rows.frame, requests, recipe, rows.clock, _SIGNER)
    row = {str(name): value for name, value in fitted.iloc[0].items()}
    if row["status"] == ModelStatus.TOO_FEW_ROWS:
        raise TooFewRows(rows.group_key, int(row["rows"]), max(1, recipe.min_rows))
    if row["status"] != ModelStatus.FITTED:
        raise FitFailed(rows.group_key, str(row["error_class"]), str(row["error"]))
    return row


def _fit_model(rows: TrialRows, recipe: Recipe) -> Model:
    row = _fit(rows, recipe)
    claim = Claim(rows.group_key, row["model_id"], row["codec"])
    return codec.load_signed(_SIGNER, claim, row["payload"], row["signature"])


def _points(model: Model, history: TrainingSet, recipe: Recipe, heldout: int) -> pd.DataFrame:
    raw = model.raw_predictions(history.columns)
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
        columns = {name: column for column, name in enumerate(model.classes)}
        column = np.array([columns.get(label, -1) for label in history.labels])
        points["probability"] = np.where(column < 0, 0.0, raw[np.arange(count), column])
    return points


def _constant_loss(rows: TrialRows, recipe: Recipe) -> float | None:
    """Return the held-out loss of the best constant prediction: a model has to be better than that."""
    statistic = (("statistic", '"median"' if recipe.loss == "absolute" else '"mean"'),)
    params = statistic if recipe.task == "regression" else ()
    row = _fit(rows, replace(recipe, estimator="constant", params=params, source=""))
    loss = json.loads(row["metrics"])["challenger_loss"]
    return None if loss is None else float(loss)
