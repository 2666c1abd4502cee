"""Training sets: the rows that groups are fitted on, selected, ordered and identified by a fingerprint.

`spinney.retraining.fitting.training_row_reader` reads the rows from tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.errors import ContractError
from spinney.core.features.encoding import (
    NULL_TIME,
    Columns,
    Floats,
    Integers,
    as_slice,
    to_columns,
    to_float64,
    to_microseconds,
)
from spinney.core.keys import is_parent
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.parent_row_lineage import ORIGIN, lineage_codes

_MICROSECOND = pd.Timedelta(1, "us")
_DAY = pd.Timedelta(1, "D") // _MICROSECOND


@dataclass(frozen=True)
class TrainingSet:
    """The training rows of some groups: each group's rows are adjacent and sorted by (event_time, event_id).

    starts: shape (n_groups + 1,): group g has rows starts[g] to starts[g + 1]. times: microseconds since 1970, UTC.
    labels: float64, or texts for classification. lineage: from `lineage_codes`, if parents are pooled with estimated
    weights.
    """

    keys: tuple[str, ...]
    columns: Columns
    starts: Integers
    times: Integers
    ids: npt.NDArray[np.object_]
    labels: npt.NDArray[Any]
    lineage: Integers | None = None

    def fingerprint(self, g: int) -> str:
        """Return the SHA-256, in hex, of the features, labels, ids and times of the rows of the group at position g."""
        rows = slice(int(self.starts[g]), int(self.starts[g + 1]))
        labels = self.labels[rows]
        digest = hashlib.sha256(json.dumps(self.ids[rows].tolist()).encode())
        digest.update(self.times[rows].tobytes())
        digest.update(self.columns.numbers[rows].tobytes())
        digest.update(json.dumps(labels.tolist()).encode() if labels.dtype == object else labels.tobytes())
        for j, words in enumerate(self.columns.words):
            texts = [None if code < 0 else words[code] for code in self.columns.codes[rows, j].tolist()]
            digest.update(json.dumps(texts).encode())
        return digest.hexdigest()

    def with_features(self, features: tuple[Feature, ...]) -> TrainingSet:
        """Return the same rows with these features only. Raises ContractError for a feature that they do not have."""
        return self if features == self.columns.features else replace(self, columns=self.columns.select(features))

    def kernel_input(
        self, groups: Sequence[int], stops: Integers, recipe: Recipe, begins: Integers | None = None
    ) -> KernelInput:
        """Return the input of a kernel. groups: positions of the groups to fit.

        stops: shape (len(groups),): the end of each group's rows, to leave its newest out. begins: their beginning, to
        leave its oldest out; None: its first row.
        """
        begins = self.starts[list(groups)] if begins is None else begins
        rows = concatenated_ranges(begins, stops)
        starts = np.concatenate([[0], np.cumsum(stops - begins)]).astype(np.int64)
        weights = None
        if recipe.weight_half_life is not None:
            age = np.repeat(self.times[stops - 1], stops - begins) - self.times[rows]
            weights = np.exp2(-age / (recipe.weight_half_life / _MICROSECOND))
        keys, columns = tuple(self.keys[g] for g in groups), self.columns.take(rows)
        lineage = None if self.lineage is None else self.lineage[rows]
        days = self.times[rows] // _DAY if recipe.ladder else None
        labels = self.labels[as_slice(rows)]
        return KernelInput(keys, columns, starts, labels, weights, recipe.loss, lineage=lineage, days=days)


def concatenated_ranges(begins: Integers, stops: Integers) -> Integers:
    """Return the concatenation of range(begins[0], stops[0]), range(begins[1], stops[1]) and so on."""
    sizes = stops - begins
    shift = begins - (np.cumsum(sizes) - sizes)
    places: Integers = np.arange(int(sizes.sum()), dtype=np.int64) + np.repeat(shift, sizes)
    return places


def select_training_set(rows: pd.DataFrame, keys: Sequence[str], recipe: Recipe, clock: datetime) -> TrainingSet:
    """Select the rows of each of these groups that the recipe fits. `rows` is left unchanged.

    Left out, in this order: rows of other groups, rows without a (finite) label, rows older than `window` before
    `clock`, second rows of one event (the first by (event_time, event_id) stays), and all but the newest
    `window_rows` of a group. An id is unique within its group. The rows of a parent are a sample of any size that the
    caller has drawn, with the column ORIGIN, by which events of several groups with the same id are told apart; without
    it their ids must be unique. Raises ContractError if a column is missing or of another type; so is ORIGIN if the
    recipe has a `ladder`.
    """
    needed = ["group_key", "event_id", "event_time", "label"]
    if missing := [name for name in needed if name not in rows]:
        raise ContractError(f"rows: expected columns {needed} and the features; got none of {missing}")
    group = pd.Index(keys).get_indexer(pd.Index(rows["group_key"], dtype=object)).astype(np.int64)
    times = _times(rows)
    labels, labelled = _labels(rows["label"], recipe)
    horizon = _microseconds_of(clock) - recipe.window // _MICROSECOND
    chosen = np.flatnonzero((group >= 0) & labelled & (times >= horizon))
    columns = to_columns(rows, recipe.features)
    ids = rows["event_id"].to_numpy(dtype=object)
    order = chosen[np.lexsort((times[chosen], group[chosen]))]
    order = _break_ties(order, group, times, _TieBreaker(ids, columns, labels))
    origins = rows[ORIGIN].to_numpy(dtype=object) if ORIGIN in rows else None
    order = order[~_is_repeated(group[order], ids[order], None if origins is None else origins[order])]
    parents = np.fromiter((is_parent(key) for key in keys), dtype=np.bool_, count=len(keys))
    order = order[parents[group[order]] | _is_within_window_rows(order, group, recipe.window_rows)]
    starts = np.searchsorted(group[order], np.arange(len(keys) + 1)).astype(np.int64)
    lineage = _lineage(rows, keys, group, order, recipe) if parents.any() and recipe.ladder else None
    return TrainingSet(tuple(keys), columns.take(order), starts, times[order], ids[order], labels[order], lineage)


def _lineage(rows: pd.DataFrame, keys: Sequence[str], group: Integers, order: Integers, recipe: Recipe) -> Integers:
    if ORIGIN not in rows:
        raise ContractError(f"rows: expected the column {ORIGIN} for parents of pooled groups; got none. Report this")
    return lineage_codes(keys, group[order], rows[ORIGIN].to_numpy(dtype=object)[order], recipe.ladder)


@dataclass(frozen=True)
class _TieBreaker:
    """Orders rows of the same time: by event_id, and copies of one event by their values."""

    ids: npt.NDArray[np.object_]
    columns: Columns
    labels: npt.NDArray[Any]

    def sort_key(self, row: int) -> tuple[str, bytes, str]:
        words = [
            known[code] if code >= 0 else None
            for known, code in zip(self.columns.words, self.columns.codes[row], strict=True)
        ]
        return str(self.ids[row]), self.columns.numbers[row].tobytes(), json.dumps([words, self.labels[row]])


def _break_ties(order: Integers, group: Integers, times: Integers, texts: _TieBreaker) -> Integers:
    """Reorder rows of the same group and time with `texts`."""
    same = (np.diff(group[order]) == 0) & (np.diff(times[order]) == 0)
    if not same.any():
        return order
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    out = order.copy()
    for begin, last in edges.reshape(-1, 2).tolist():
        out[begin : last + 1] = sorted(order[begin : last + 1].tolist(), key=texts.sort_key)
    return out


def _is_repeated(
    group: Integers, ids: npt.NDArray[np.object_], origins: npt.NDArray[np.object_] | None
) -> npt.NDArray[np.bool_]:
    """Whether each row is a copy of an earlier one, that is of the same event. origins: the group of each row of a
    parent; None if not known.
    """
    codes, known = pd.factorize(ids)
    if (codes < 0).any():
        raise ContractError("rows: event_id: expected a text in every row; got null")
    if len(known) == len(ids):
        return np.zeros(len(ids), dtype=np.bool_)
    whose = group
    if origins is not None:
        origin_codes, found = pd.factorize(origins)  # -1 for null, the rows of groups
        whose = group * (len(found) + 1) + origin_codes + 1
    return pd.Series(whose * len(known) + codes).duplicated().to_numpy()


def _is_within_window_rows(order: Integers, group: Integers, window_rows: int) -> npt.NDArray[np.bool_]:
    group_of_row = group[order]
    stops = np.searchsorted(group_of_row, group_of_row, side="right")
    newest: npt.NDArray[np.bool_] = stops - np.arange(len(order)) <= window_rows
    return newest


def _times(rows: pd.DataFrame) -> Integers:
    try:
        times = to_microseconds(rows["event_time"])
    except TypeError as error:
        raise ContractError(f"rows: event_time: {error}") from error
    if (times == NULL_TIME).any():
        raise ContractError("rows: event_time: expected a time in every row; got null")
    return times


def _microseconds_of(clock: datetime) -> int:
    stamp = pd.Timestamp(clock)
    aware = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
    return int((aware - pd.Timestamp(0, tz="UTC")) // _MICROSECOND)


def _labels(values: pd.Series[Any], recipe: Recipe) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The labels as the estimator gets them, and whether each row has one."""
    if recipe.task == "regression":
        try:
            numbers: Floats = to_float64(values)
        except (TypeError, ValueError) as error:
            raise ContractError(f"rows: label: expected {recipe.target.type}; got {error}") from error
        return numbers, np.isfinite(numbers)
    has_label = values.notna().to_numpy(dtype=np.bool_)
    texts = np.full(len(values), None, dtype=object)
    texts[has_label] = [label_text(value, recipe.target) for value in values.to_numpy(dtype=object)[has_label]]
    return texts, has_label


def label_text(value: Any, target: Feature) -> str:
    """Return a class as text, as Spark's cast to string writes it. Raises ContractError for an unsupported type."""
    kind = target.type.partition("(")[0]
    if kind == "string":
        return str(value)
    if kind == "boolean":
        return "true" if value else "false"
    if kind in {"tinyint", "smallint", "int", "bigint"}:
        return str(int(value))
    raise ContractError(
        f"fleet.target: expected text, boolean or integer classes; got {target.name} of type {target.type}"
    )
