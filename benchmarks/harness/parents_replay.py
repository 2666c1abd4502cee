"""Fleets with parents, replayed day by day: who answers, with what loss, and when first models go live."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from schemas.vocabulary import Decision, ModelStatus
from spinney.core import keys
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.champions.gate import decide
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.routing import is_last_rung
from spinney.core.config import Config
from spinney.core.features.encoding import NULL_TIME, Floats, Integers
from spinney.core.models import codec
from spinney.core.models.batch_scoring import NO_MODEL
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.comparisons.baseline import group_medians
from spinney.core.training.comparisons.held_out_loss import RowsToPredict, row_losses
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.fitting import fit_training_set
from spinney.core.training.loss import loss_named
from spinney.core.training.parent_row_lineage import ORIGIN

DAY = 86_400_000_000
REFIT_AFTER = 7 * DAY
SIGNER = Signer(b"a benchmark's key: nothing it signs is kept")


@dataclass(frozen=True)
class Champion:
    """model: that answers. request: by which it is a champion, or a parent, in later fits."""

    model: Model
    request: FitRequest


@dataclass
class Owners:
    """Groups or parents, and their champions.

    They are refitted a week after the last attempt if they have new rows, and with `growth` once they have half as many
    more. A first model is fitted as soon as there are `min_rows` rows, and after a refusal when there are half as many
    more. If weights are estimated, parents are fitted after their own parents. worse_than_constant: first models that
    were measured to be so on enough rows, refused or not.
    """

    history: History
    recipe: Recipe
    config: Config
    parents: Owners | None = None
    champions: dict[str, Champion] = field(default_factory=dict)
    fits: int = 0
    refused: int = 0
    worse_than_constant: int = 0
    growth: bool = False
    _attempted: Integers = field(init=False)
    _rows: Integers = field(init=False)

    def __post_init__(self) -> None:
        self._attempted = np.full(self.history.n_groups, NULL_TIME // 2)
        self._rows = np.zeros(self.history.n_groups, dtype=np.int64)

    def refit(self, clock: int) -> None:
        """Fit those that are due at this time, microseconds, and let the gate decide."""
        everyone = np.arange(self.history.n_groups)
        sizes = np.diff(self.history.training_set(everyone, clock, self.recipe).starts)
        has_champion = np.array([key in self.champions for key in self.history.rows.keys], dtype=np.bool_)
        is_old, has_grown = clock - self._attempted >= REFIT_AFTER, sizes * 2 >= self._rows * 3
        is_old = (is_old & (sizes != self._rows)) | (has_grown & self.growth)
        is_due = np.where(has_champion, is_old, has_grown) & (sizes >= self.recipe.min_rows)
        self._attempted[is_due], self._rows[is_due] = clock, sizes[is_due]
        columns = [len(keys.parent_values(key)) if keys.is_parent(key) else 0 for key in self.history.rows.keys]
        for rung in sorted(set(columns)) if self.recipe.ladder else [None]:
            due = np.flatnonzero(is_due & (np.array(columns) == rung if rung is not None else True))
            if len(due):
                self._fit(due, clock)

    def _fit(self, due: Integers, clock: int) -> None:
        requests = [self._request(self.history.rows.keys[group]) for group in due.tolist()]
        training_set = self.history.training_set(due, clock, self.recipe)
        for row in fit_training_set(training_set, requests, self.recipe, SIGNER).to_dict("records"):
            if row["status"] == ModelStatus.FITTED:
                self._decide(row)

    def _request(self, key: str) -> FitRequest:
        known = self.champions.get(key)
        request = FitRequest(key, None, None, None, None, NULL_TIME) if known is None else known.request
        owners = self if self.recipe.ladder and keys.is_parent(key) else self.parents
        parent = None if owners is None else owners.nearest(key)
        return replace(request, parent=None if parent is None else parent.request)

    def _decide(self, row: Mapping[str, object]) -> None:
        key, metrics = str(row["group_key"]), json.loads(str(row["metrics"]))
        is_last = is_last_rung(key, self.config.fleet.parents)
        found = decide(metrics, self.config.gate, is_last_rung=is_last)
        decision, reason = found.decision, found.reason
        self.fits += 1
        self.refused += decision is Decision.REFUSED
        self.worse_than_constant += "worse than a constant" in reason
        if decision not in PROMOTING_DECISIONS:
            return
        name, payload, through = str(row["codec"]), row["payload"], row["trained_through"]
        microseconds = int((pd.Timestamp(through) - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "us"))
        stored = (str(row["model_id"]), name, payload, row["signature"], microseconds, str(row["recipe_id"]))
        self.champions[key] = Champion(codec.load(name, payload), FitRequest(key, *stored))

    def nearest(self, key: str) -> Champion | None:
        """The champion of the nearest parent of a group or parent; None if no parent has one."""
        group, parents = self.config.fleet.group, self.config.fleet.parents
        is_parent = keys.is_parent(key)
        found = keys.ancestors_of_parent(parents, key) if is_parent else keys.ancestors(group, parents, key)
        return next((self.champions[parent] for parent in found if parent in self.champions), None)


def losses_of(history: History, places: Integers, answering: Mapping[str, Champion], loss: str) -> Floats:
    """The losses of these rows. answering: group_key -> the champion that answers; NaN for other groups."""
    models, index = [], np.full(history.n_groups, NO_MODEL, dtype=np.int64)
    for group in np.unique(history.group_of_row[places]).tolist():
        if (champion := answering.get(history.rows.keys[group])) is not None:
            index[group] = len(models)
            models.append(champion.model)
    out = np.full(len(places), np.nan)
    owners = index[history.group_of_row[places]]
    asked = np.flatnonzero(owners != NO_MODEL)
    if len(asked):
        rows = RowsToPredict(places[asked], owners[asked])
        out[asked], _ = row_losses(history.rows, models, rows, loss_named(loss), lambda _: None)
    return out


def median_losses(history: History, places: Integers, clock: int, recipe: Recipe) -> Floats:
    """The absolute losses of the median of each group's labels that are known at a time, else of all groups'."""
    known = history.training_set(np.arange(history.n_groups), clock, recipe)
    sizes = np.diff(known.starts)
    medians = np.full(history.n_groups, np.median(known.labels) if len(known.labels) else 0.0)
    medians[sizes > 0] = group_medians(known.labels, sizes[sizes > 0])
    labels: Floats = history.rows.labels[places]
    return np.abs(labels - medians[history.group_of_row[places]])


def rows_so_far(history: History, places: Integers, clock: int, recipe: Recipe) -> Integers:
    """How many labelled rows the group of each of these rows has at a time."""
    sizes = np.diff(history.training_set(np.arange(history.n_groups), clock, recipe).starts)
    return sizes[history.group_of_row[places]]


def parent_history(frame: pd.DataFrame, config: Config, recipe: Recipe, timing: LabelTiming) -> History:
    """The rows of all parents, each row once for every parent of its group. frame: as of `History.of`."""
    group, parents = config.fleet.group, config.fleet.parents
    of_key = {key: keys.ancestors(group, parents, key) for key in frame["group_key"].unique()}
    origin = {ORIGIN: frame["group_key"]}
    levels = [
        frame.assign(group_key=frame["group_key"].map(_level(of_key, level)), **origin) for level in range(len(parents))
    ]
    return History.of(pd.concat(levels, ignore_index=True), recipe, timing)


def _level(of_key: Mapping[str, Sequence[str]], level: int) -> dict[str, str]:
    return {key: parents[level] for key, parents in of_key.items()}
