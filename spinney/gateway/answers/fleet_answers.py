"""Answers records of many groups by the champions of one moment, with the scoring code of the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from spinney.core import keys
from spinney.core.champions.routing import ChampionSource
from spinney.core.config import Config
from spinney.core.features.request_rows import (
    FEW_RECORDS,
    RequestRows,
    RowError,
    read_plain_rows,
    read_request_rows,
    request_rules,
)
from spinney.core.intervals.champion_intervals import FleetIntervals, IntervalRule
from spinney.core.migration import add_former_columns
from spinney.core.models.signing import Signer
from spinney.core.records.json_columns import count_strings
from spinney.fleet import Fleet
from spinney.gateway.errors import TooMuchError
from spinney.serving.answers import Answers, answer_rows
from spinney.serving.few_answers import answer_few
from spinney.serving.fleet_snapshot import FleetSnapshot
from spinney.serving.model_cache import LoadedLinearModels, ModelCache, ModelSource, NotLoadedError, SignedPayload
from spinney.serving.stored_models import StoredModels
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import to_pandas


@dataclass(frozen=True)
class Records:
    """The groups and rows that a request asks about.

    values: the records, as parsed. exact: returns them with numbers as text. by_column: fields have the names of
    columns, as in a frame; otherwise those of messages. as_of: a time or round; None for now. check_names: called with
    the number of names and texts in the records; raises RequestError if a name occurs twice in one object.
    """

    values: Sequence[Any]
    exact: Callable[[], Sequence[Any]]
    by_column: bool = False
    as_of: str | None = None
    check_names: Callable[[int], None] = lambda _: None


@dataclass(frozen=True)
class RecordAnswers:
    """The answers to the records of a request.

    columns: name -> values, shape (n_records,), None where there is none: prediction, lower and upper (regression
    only), probabilities (classification only), model_id, answered_by. errors: position -> why that record has no
    answer.
    """

    columns: Mapping[str, Sequence[Any]]
    errors: Mapping[int, RowError]

    def answered_by(self) -> Sequence[str]:
        """own, parent, global, none or invalid, of each record."""
        found = list(self.columns["answered_by"])
        for place in self.errors:
            found[place] = "invalid"
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Return one object per record, with its status: answered, no_model or invalid."""
        names = [*self.columns, "status"]
        statuses = ["no_model" if name is None else "answered" for name in self.columns["model_id"]]
        rows = zip(*self.columns.values(), statuses, strict=True)
        found = [dict(zip(names, values, strict=True)) for values in rows]
        for place, error in self.errors.items():
            about = {"reason": error.reason, "field": error.field, "detail": error.detail}
            found[place] |= {"status": "invalid", "error": about}
        return found


class FleetAnswers:
    """Answers the requests to one fleet. Safe to use from several threads.

    snapshot: returns the newest champions. cache: of models.
    """

    def __init__(
        self, config: Config, signer: Signer, snapshot: Callable[[], FleetSnapshot], cache: ModelCache
    ) -> None:
        self.config, self.cache = config, cache
        self._store, self._signer, self._snapshot = FleetStore.of(config), signer, snapshot
        self._rules = {
            by_column: request_rules(config.record_schema, by_column=by_column) for by_column in (False, True)
        }
        first_loss = charter.losses_of(self._store).first
        self._rule = IntervalRule.of(config.fleet, config.intervals.coverage, first_loss)
        self._calibrated: tuple[FleetSnapshot, FleetIntervals] | None = None
        self._former = charter.former_columns_of(self._store)
        self._loaded = LoadedLinearModels(self._store, signer, cache=cache)
        self._stored, self._fleet = StoredModels(self._store, signer), Fleet(config)
        self.prepare(snapshot())

    def answer(self, records: Records) -> RecordAnswers:
        """Answer each record by its group's model, or by the next one of its route, in the caller's order.

        Raises TooMuchError for more records or groups than `[gateway]` allows, ContractError if a feature is missing in
        every record, StoreError for an `as_of` that cannot be answered, RequestError for names that occur twice.
        """
        limits, count = self.config.gateway, len(records.values)
        if count > limits.max_rows:
            raise TooMuchError("records", limits.max_rows, count, "gateway.max_rows")
        read = read_request_rows(records.values, records.exact, self._rules[records.by_column], self.config.fleet)
        records.check_names(read.strings)
        groups = len(set(read.group_keys))
        if groups > limits.max_groups:
            raise TooMuchError("groups", limits.max_groups, groups, "gateway.max_groups")
        return self._in_order(read, self._answer_rows(read, records.as_of), count)

    def answer_at_once(self, records: Records) -> RecordAnswers:
        """Answer at most FEW_RECORDS valid records like `answer`, if `answer_few` can and the shards are calibrated.

        This is fast enough for the event loop; calibrating a shard takes several milliseconds. Raises NotLoadedError
        for all other requests.
        """
        limits, fleet = self.config.gateway, self.config.fleet
        if len(records.values) > min(FEW_RECORDS, limits.max_rows, limits.max_groups):
            raise NotLoadedError
        if self._former or records.as_of is not None:
            raise NotLoadedError
        rows = read_plain_rows(records.values, records.exact, self._rules[records.by_column], fleet)
        if rows is None:
            raise NotLoadedError
        records.check_names(count_strings(records.values))
        group_keys = [keys.encode([row[name] for name in fleet.group]) for row in rows]
        snapshot = self._snapshot()
        intervals = self._intervals(snapshot)
        if intervals is not None and not intervals.are_calibrated(group_keys):
            raise NotLoadedError
        return RecordAnswers(answer_few(rows, group_keys, snapshot, self._loaded, intervals), {})

    def _answer_rows(self, read: RequestRows, as_of: str | None) -> Answers:
        snapshot = self._snapshot()
        champions: ChampionSource = snapshot if as_of is None else self._fleet.champions(as_of, set(read.group_keys))
        intervals = self._intervals(snapshot) if as_of is None else self._fleet.intervals(as_of)
        models = ModelSource(self._store, self._signer, partial(self._payloads, snapshot), self.cache)
        rows = add_former_columns(to_pandas(read.rows), self._former) if self._former else read.rows
        return answer_rows(rows, read.group_keys, champions, models, intervals)

    def prepare(self, snapshot: FleetSnapshot) -> None:
        """Calibrate the intervals of a new snapshot: the first time of all shards, later of those that have changed.

        Call it before the snapshot becomes the current one; otherwise every request calibrates for itself.
        """
        if self._rule is not None:
            intervals = self._uncalibrated(self._rule, snapshot)
            if self._calibrated is None:
                intervals.calibrate(range(self.config.fleet.shards))
            else:
                intervals = self._calibrated[1].after_change(intervals.pools, snapshot.changed_shards)
            self._calibrated = (snapshot, intervals)

    def _intervals(self, snapshot: FleetSnapshot) -> FleetIntervals | None:
        """Return the half-widths of intervals by these champions; None without intervals."""
        if self._rule is None:
            return None
        calibrated = self._calibrated
        if calibrated is None or calibrated[0] is not snapshot:  # it took its champions just before they changed
            return self._uncalibrated(self._rule, snapshot)
        return calibrated[1]

    def _uncalibrated(self, rule: IntervalRule, snapshot: FleetSnapshot) -> FleetIntervals:
        shards = self.config.fleet.shards
        return FleetIntervals(rule, shards, partial(snapshot.pools, n_shards=shards))

    def _payloads(self, snapshot: FleetSnapshot, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
        carried = snapshot.payloads(owners)
        elsewhere = {name: owner for name, owner in owners.items() if name not in carried}
        return carried | (self._stored.fetch(elsewhere) if elsewhere else {})

    def _in_order(self, read: RequestRows, answers: Answers, count: int) -> RecordAnswers:
        if self.config.fleet.task == "classification":
            columns = {"prediction": answers.prediction.astype(object), "probabilities": answers.probabilities}
        else:
            numbers = {"prediction": answers.prediction, **answers.interval}
            columns = {name: _null_for_nan(values) for name, values in numbers.items()}
        columns |= {"model_id": answers.model_ids, "answered_by": answers.answered_by}
        if read.errors:
            columns = {name: _spread(values, read.places, count) for name, values in columns.items()}
            columns["answered_by"][list(read.errors)] = "none"
        return RecordAnswers({name: values.tolist() for name, values in columns.items()}, read.errors)


def _null_for_nan(values: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    found: npt.NDArray[np.object_] = values.astype(object)
    found[np.isnan(values)] = None
    return found


def _spread(values: Any, places: Any, count: int) -> Any:
    """Return an array of `count` values with the given values at their places, and None elsewhere."""
    whole = np.full(count, None, dtype=object)
    whole[places] = values
    return whole


def group_of(key: str, group: Sequence[str]) -> str:
    """Return the group_key that a caller names: a key as JSON, or the text of the only key column.

    Raises ContractError for another number of columns, or a parent.
    """
    found = keys.parse_key_arguments(key)
    keys.ancestors(group, (), found)
    return found
