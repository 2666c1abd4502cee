"""Simulated groups whose models are fitted by `fit_groups`, and the drift of what the models predict for new rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.champions.promotion import Promotion
from spinney.core.models.codec import load_signed
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.attempt_outcomes import SAMPLE_COLUMNS, DecisionRecord
from spinney.core.staleness.evidence.error_evidence import LIMIT
from spinney.core.staleness.evidence.prediction_drift import PredictionDrift
from spinney.core.staleness.group_state import GroupStates
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.timestamps import to_microseconds
from spinney.core.training.comparisons.held_out_loss import RowsToPredict, measure_rows
from spinney.core.training.fitting import fit_groups
from spinney.core.training.loss import loss_named
from spinney.core.training.training_set import select_training_set

ROWS_PER_DAY = 4
GROUPS_PER_SHARD = 5
"""So few that nothing is taken for a common change, which would hide what all models of a flexible estimator do."""

WITHIN = 100
FEATURES = ("x", "y", "z")
LOSSES = {"classification": "log", "regression": "absolute"}
REFERENCES = ("training rows", "held-out rows")

_SIGNER = Signer(b"k" * 32)
_START = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000


@dataclass(frozen=True)
class DriftFleet:
    """A simulated fleet. A tenth of the groups change after the first fit: see `change`.

    rows: of a group before the first fit. every: days from one refit of all groups to the next. params: of the
    estimator. The groups are in shards of GROUPS_PER_SHARD.
    """

    estimator: str
    task: str
    groups: int
    rows: int
    days: int
    every: int
    params: Mapping[str, object]
    seed: int = 0

    @property
    def changed(self) -> int:
        """Number of groups that move: the first ones."""
        return self.groups // 10

    @property
    def noise(self) -> npt.NDArray[np.float64]:
        """Standard deviation of the noise of each group's labels, in those of the signal: from 0.5 to 3."""
        spread: npt.NDArray[np.float64] = np.geomspace(0.5, 3.0, self.groups)
        np.random.default_rng(self.seed).shuffle(spread)
        return spread

    def change(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Features after the change: moved by two standard deviations; for classes, closer to the boundary."""
        return 0.3 * features if self.task == "classification" else features + 2.0

    @property
    def keys(self) -> list[str]:
        """The groups' keys, in their order."""
        return [f'["{n:05}"]' for n in range(self.groups)]

    @property
    def recipe(self) -> Recipe:
        """What is fitted."""
        is_classes = self.task == "classification"
        return Recipe(
            estimator=self.estimator,
            params=tuple((name, json.dumps(value)) for name, value in sorted(self.params.items())),
            features=tuple(Feature(name, "double") for name in FEATURES),
            target=Feature("label", "string" if is_classes else "double"),
            task=self.task,
            loss=LOSSES[self.task],
            min_rows=10,
            window_rows=100_000,
            window=timedelta(days=3650),
        )


@dataclass(frozen=True)
class DriftOutcome:
    """false_alarms: per group-year of groups that do not move. found: share of the moved ones within WITHIN rows."""

    false_alarms: float
    found: float


def simulate_drift(fleet: DriftFleet, patience: timedelta) -> dict[str, DriftOutcome]:
    """Return what `drift` reports with each of REFERENCES: predictions on training rows only, or as it is."""
    random = np.random.default_rng(fleet.seed)
    rows = _events(fleet, random, -fleet.rows, fleet.rows)
    requests = pd.DataFrame({"group_key": fleet.keys})
    counters = {name: _AlarmCounter(fleet, patience) for name in REFERENCES}
    for begin in range(0, fleet.days, fleet.every):
        clock = _START + timedelta(days=begin)
        fitted = fit_groups(rows, requests, fleet.recipe, clock, _SIGNER)
        requests = fitted[["group_key"]].assign(**_champion_columns(fitted))
        new = _events(fleet, random, begin * ROWS_PER_DAY, min(fleet.every, fleet.days - begin) * ROWS_PER_DAY)
        predictions = _predictions(fleet, fitted, new)
        for name, counter in counters.items():
            counter.start(fitted, clock, has_held_out=name != REFERENCES[0])
            counter.count(fitted, predictions, begin * ROWS_PER_DAY)
        rows = pd.concat([rows, new], ignore_index=True)
    return {name: counter.outcome() for name, counter in counters.items()}


def _events(fleet: DriftFleet, random: np.random.Generator, first: int, count: int) -> pd.DataFrame:
    """So many rows of each group, ROWS_PER_DAY a day. first: number of the first one; 0 is at the first fit."""
    values = random.standard_normal((fleet.groups, count, len(FEATURES)))
    if first >= 0:
        values[: fleet.changed] = fleet.change(values[: fleet.changed])
    labels = values[..., 0] + fleet.noise[:, None] * random.standard_normal((fleet.groups, count))
    numbers = np.tile(np.arange(first, first + count), fleet.groups)
    frame = pd.DataFrame(values.reshape(-1, len(FEATURES)), columns=list(FEATURES))
    is_classes = fleet.task == "classification"
    frame["label"] = np.where(labels.ravel() > 0, "high", "low") if is_classes else labels.ravel()
    frame["group_key"] = np.repeat(np.array(fleet.keys, dtype=object), count)
    frame["event_id"] = numbers.astype(str)
    micros = to_microseconds(_START) + (numbers + 1) * (_DAY // ROWS_PER_DAY) - 1
    frame["event_time"] = pd.Series(micros.astype("datetime64[us]")).dt.tz_localize("UTC")
    return frame


def _champion_columns(fitted: pd.DataFrame) -> dict[str, pd.Series]:
    names = {"model_id": "id", **{name: name for name in ("codec", "payload", "signature", "trained_through")}}
    names |= {name: name for name in ("recipe_id", "heldout_losses", "heldout_predictions")}
    return {f"champion_{name}": fitted[column] for column, name in names.items()}


def _predictions(fleet: DriftFleet, fitted: pd.DataFrame, new: pd.DataFrame) -> npt.NDArray[np.float64]:
    """What each group's model predicts for its new rows, shape (groups, rows)."""
    models = [_model(row) for row in fitted.to_dict("records")]
    count = len(new) // fleet.groups
    clock = _START + timedelta(days=fleet.days + 1)
    rows = select_training_set(new, fleet.keys, fleet.recipe, clock)
    asked = RowsToPredict(np.arange(len(new)), np.repeat(np.arange(fleet.groups), count))
    measured = measure_rows(rows, models, asked, loss_named(fleet.recipe.loss), lambda _: None)
    return measured.values.reshape(fleet.groups, count)


def _model(row: Mapping[object, object]) -> Model:
    claim = Claim(str(row["group_key"]), str(row["model_id"]), str(row["codec"]))
    payload, signature = row["payload"], row["signature"]
    assert isinstance(payload, bytes), row["error"]
    assert isinstance(signature, bytes)
    return load_signed(_SIGNER, claim, payload, signature)


@dataclass
class _Shard:
    """The state of `drift` of a few groups. places: of the groups in the fleet."""

    places: slice
    states: GroupStates
    drift: PredictionDrift

    @classmethod
    def of(cls, places: slice, keys: list[str]) -> _Shard:
        states = GroupStates.empty()
        return cls(places, states, PredictionDrift.empty(len(states.positions_of(keys[places]))))

    def start(self, champions: list[DecisionRecord]) -> None:
        self.states["champion_id"][:] = [champion.promotion.model_id for champion in champions]
        self.drift.start(self.states, dict(enumerate(champions)))

    def alarms(self, health: HealthRows, patience: int) -> npt.NDArray[np.bool_]:
        """Count a row of each group. Returns which groups have drifted; their evidence starts anew."""
        self.drift = self.drift.counted(self.states, health.take(self.places), patience)
        has_alarm: npt.NDArray[np.bool_] = self.states["drift"] >= LIMIT
        self.states["drift"][has_alarm] = 0
        return has_alarm


class _AlarmCounter:
    """Counts the alarms of `drift` with its state."""

    def __init__(self, fleet: DriftFleet, patience: timedelta) -> None:
        self._fleet, self._patience = fleet, int(patience / timedelta(microseconds=1))
        begins = range(0, fleet.groups, GROUPS_PER_SHARD)
        self._shards = [_Shard.of(slice(begin, begin + GROUPS_PER_SHARD), fleet.keys) for begin in begins]
        self._first = np.full(fleet.groups, np.inf)
        self._false = 0

    def start(self, fitted: pd.DataFrame, clock: datetime, *, has_held_out: bool) -> None:
        """Take new champions. has_held_out: whether their predictions for held-out rows may be the reference."""
        at = to_microseconds(clock)
        champions = [_decision(row, at) for row in fitted.to_dict("records")]
        if not has_held_out:
            champions = [replace(champion, heldout_predictions=()) for champion in champions]
        for shard in self._shards:
            shard.start(champions[shard.places])

    def count(self, fitted: pd.DataFrame, predictions: npt.NDArray[np.float64], first: int) -> None:
        """Count the alarms of new predictions, shape (groups, rows). first: number of the first row."""
        for row, health in enumerate(_health(self._fleet, fitted, predictions, first), start=first):
            has_alarm = np.concatenate([shard.alarms(health, self._patience) for shard in self._shards])
            self._first = np.where(has_alarm, np.minimum(self._first, row + 1), self._first)
            self._false += int(has_alarm[self._fleet.changed :].sum())

    def outcome(self) -> DriftOutcome:
        """The result so far."""
        fleet = self._fleet
        years = (fleet.groups - fleet.changed) * fleet.days / 365
        return DriftOutcome(self._false / years, float((self._first[: fleet.changed] <= WITHIN).mean()))


def _decision(row: Mapping[object, object], at: int) -> DecisionRecord:
    samples = {name: tuple(row[name] or ()) for name in SAMPLE_COLUMNS}  # type: ignore[arg-type]
    promotion = Promotion(0, str(row["model_id"]), "promoted", at, at, at)
    return DecisionRecord(str(row["group_key"]), promotion, True, at, 1.0, 1.0, **samples)


def _health(
    fleet: DriftFleet, fitted: pd.DataFrame, predictions: npt.NDArray[np.float64], first: int
) -> Iterator[HealthRows]:
    """The rows of `health` of each step."""
    keys, models = (fitted[name].to_numpy(object) for name in ("group_key", "model_id"))
    for row, values in enumerate(predictions.T.tolist(), start=first):
        drift = np.empty(fleet.groups, dtype=object)
        drift[:] = [[value] for value in values]
        times = np.full(fleet.groups, to_microseconds(_START) + (row + 1) * (_DAY // ROWS_PER_DAY))
        columns = {"group_key": keys, "model_id": models, "drift": drift, "last_event_time": times}
        yield HealthRows.of_columns(columns, fleet.groups)
