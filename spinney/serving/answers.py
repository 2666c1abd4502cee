"""Predict rows of many groups by their champions, in the same way for the stream and for `Fleet`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from spinney.core import keys
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.routing import NO_ROUTE, ChampionSource, Route, RouteKey, find_routes
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Fleet, RecordSchema
from spinney.core.features import frame_conversion
from spinney.core.intervals.champion_intervals import Intervals
from spinney.core.migration import FormerColumn, add_former_columns
from spinney.core.models import batch_scoring
from spinney.core.models.model import Model
from spinney.serving.model_cache import ModelSource

log = logging.getLogger(__name__)

_Load = Callable[[dict[str, tuple[str, Promotion]]], tuple[dict[str, Model], set[str]]]

_NONE: Mapping[str, FormerColumn] = {}

_silent: set[str] = set()
"""Models for which this process has already logged that they gave no answer."""


@dataclass(frozen=True)
class Answers:
    """The answer to each row, and the model that gave it; None without an answer. Arrays of shape (n_rows,).

    half_widths: half the width of the interval around each prediction; NaN where it is unbounded or there is none.
    """

    prediction: npt.NDArray[Any]
    probabilities: npt.NDArray[Any]
    model_ids: npt.NDArray[np.object_]
    answered_by: npt.NDArray[np.object_]
    half_widths: npt.NDArray[np.float64]

    @property
    def interval(self) -> dict[str, npt.NDArray[np.float64]]:
        """The columns `lower` and `upper` of a regression; NaN where unbounded."""
        return {"lower": self.prediction - self.half_widths, "upper": self.prediction + self.half_widths}


def answer_frame(
    frame: pd.DataFrame,
    champions_of: Callable[[Iterable[str]], ChampionSource],
    schema: RecordSchema,
    models: ModelSource,
    intervals: Intervals | None,
    former: Mapping[str, FormerColumn] = _NONE,
) -> pd.DataFrame:
    """Answer a frame as `Fleet.predict` does, which documents the columns.

    champions_of: returns the champions of given groups and of their parents. intervals: as for `answer_rows`. former:
    columns that a migration renamed or dropped, which earlier models need.

    Raises ContractError: a column is missing or of another type. StoreError: a model is not stored.
    """
    group_keys, rows = frame_conversion.to_typed_rows(frame, schema)
    rows = add_former_columns(rows, former)
    found = answer_rows(rows, group_keys, champions_of(group_keys), models, intervals)
    is_regression = schema.fleet.task == "regression"
    by_task = found.interval if is_regression else {"probabilities": found.probabilities}
    named = {"model_id": found.model_ids, "answered_by": found.answered_by}
    return pd.DataFrame({"prediction": found.prediction, **by_task, **named}, index=frame.index)


def answer_rows(
    rows: pd.DataFrame | pa.Table,
    group_keys: Sequence[str],
    champions: ChampionSource,
    models: ModelSource,
    intervals: Intervals | None = None,
) -> Answers:
    """Answer each row by its group's model, or by the next model of its route if that one raises or has no finite
    answer.

    rows: for a few rows a table is faster than a frame. group_keys: each row's group. intervals: half-widths, whose
    promotions must carry their held-out losses; without it every interval is unbounded.

    Raises ContractError if a feature is missing or of another type, StoreError if a model is not stored.
    """
    probabilities = np.full(len(rows), None, dtype=object)
    numbers = models.store.fleet.task == "regression"
    prediction: npt.NDArray[Any] = np.full(len(rows), np.nan) if numbers else probabilities.copy()
    model_ids = probabilities.copy()
    answered_by = np.full(len(rows), NO_ROUTE.answered_by.value, dtype=object)
    half_widths = np.full(len(rows), np.nan)
    unusable: set[str] = set()
    of_row, distinct = batch_scoring.number_names(group_keys)  # a batch of thousands of rows has a few hundred groups
    route_keys, places = [RouteKey(key) for key in distinct], np.arange(len(rows))
    while len(places):
        routed, loaded = usable_routes(route_keys, champions, models.store.fleet, models.load, unusable)
        taken = [routed[key] for key in route_keys]
        ids: list[Any] = [route.promotion.model_id if route.promotion else None for route in taken]
        found = batch_scoring.predict_by_index(
            rows if len(places) == len(rows) else rows.take(places), of_row, ids, loaded
        )
        is_answered = pd.notna(found.prediction)
        route_of, now = of_row[is_answered], places[is_answered]
        prediction[now] = found.prediction[is_answered]
        if found.probabilities is not None:
            probabilities[places] = found.probabilities
        model_ids[now] = np.array(ids, dtype=object)[route_of]
        answered_by[now] = np.array([route.answered_by.value for route in taken], dtype=object)[route_of]
        half_widths[now] = _half_widths(intervals, route_keys, taken)[route_of]
        if is_answered.all():
            break
        silent = ~is_answered & np.array([name is not None for name in ids], dtype=bool)[of_row]
        again, of_row = np.unique(of_row[silent], return_inverse=True)
        places = places[silent]
        for at in again:
            _warn_once(taken[at].owner, ids[at], found.errors.get(ids[at], "a number that is not finite"))
        route_keys = [RouteKey(route_keys[at].group_key, route_keys[at].excluded | {ids[at]}) for at in again]
    return Answers(prediction, probabilities, model_ids, answered_by, half_widths)


def _half_widths(
    intervals: Intervals | None, route_keys: list[RouteKey], taken: list[Route]
) -> npt.NDArray[np.float64]:
    """Return the half-width of the interval around each route's answer; NaN if it is unbounded."""
    if intervals is None:
        return np.full(len(route_keys), np.nan)
    return intervals.half_widths([key.group_key for key in route_keys], [route.promotion for route in taken])


def own_model(key: str, champions: ChampionSource, models: ModelSource) -> Model | None:
    """Return the first model of this group or parent whose signature is valid; None without one."""
    own = Champions({key: champions.promotions.get(key, ())})
    route_key = RouteKey(key)
    routed, loaded = usable_routes([route_key], own, models.store.fleet, models.load, set())
    promotion = routed[route_key].promotion
    return loaded[promotion.model_id] if promotion else None


def ancestors(fleet: Fleet, key: str) -> tuple[str, ...]:
    """Return the parents that may answer for a group, nearest first; a parent has none."""
    return () if keys.is_parent(key) else keys.ancestors(fleet.group, fleet.parents, key)


def _warn_once(owner: str, model_id: str, got: str) -> None:
    if model_id not in _silent:
        _silent.add(model_id)
        text = "group %s: expected an answer of model %s; got %s. Another model answers instead. Logged once per model"
        log.warning(text, owner, model_id[:12], got)


def usable_routes(
    route_keys: list[RouteKey], champions: ChampionSource, fleet: Fleet, load: _Load, unusable: set[str]
) -> tuple[dict[RouteKey, Route], dict[str, Model]]:
    """Return routes whose models load. A model with an invalid signature is replaced by the one before it.

    load: returns the models of given promotions, and the model_ids that were refused. unusable: model_ids known to be
    invalid; newly found ones are added.
    """
    while True:
        found = find_routes(route_keys, champions, lambda key: ancestors(fleet, key), unusable)
        wanted: dict[str, tuple[str, Promotion]] = {}
        twice: set[str] = set()
        for route in found.values():
            if route.promotion:
                owner, _ = wanted.setdefault(route.promotion.model_id, (route.owner, route.promotion))
                # A model_id covers its group's key: if two groups claim it, one claim is false, and both are refused.
                twice |= {route.promotion.model_id} if owner != route.owner else set()
        if twice:
            unusable |= twice
            continue
        loaded, refused = load(wanted)
        if not refused:
            return found, loaded
        unusable |= refused
