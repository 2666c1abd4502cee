"""`Fleet`: the read-only Python interface of a fleet's tables.

Its methods import pandas and scikit-learn where needed: `spinney why` answers in less time than these take to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.champion_selection import is_pinned, select_champion
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config
from spinney.core.errors import UnknownGroup
from spinney.core.number_format import format_number
from spinney.core.reporting import explanation
from spinney.core.reporting.group_status import GroupStatus, State, derive_status
from spinney.storage import charter, retrain_requests
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest
from spinney.tables import lookup, unverified_recipes
from spinney.tables.lookup import InShards, NotAfter, OfParent, RowFilter

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from spinney.core.intervals.champion_intervals import FleetIntervals
    from spinney.core.models.model import Model
    from spinney.core.reporting.fleet_summary import Summary
    from spinney.core.reporting.incumbent_comparison import IncumbentComparison
    from spinney.core.reporting.retraining_gain import RetrainingGain
    from spinney.core.reporting.shadow_comparison import ShadowComparison
    from spinney.page_data.fleet_figures import FleetFigures
    from spinney.page_data.group_figures import GroupFigures
    from spinney.page_data.pipeline_figures import PipelineFigures
    from spinney.tables.readers.incremental_gain import IncrementalGain

__all__ = ["Fleet", "GroupHistory", "GroupStatus"]

ROWS_AT_ONCE = 1_000_000
"""Rows of `promotions` in memory at a time, about 200 bytes each; about as many of `verdicts` and `models`."""


@dataclass(frozen=True)
class GroupHistory:
    """The history of one group, as `spinney why` shows it; the field names are those of `--json`.

    standing: the group's current status. is_pinned: whether a person pinned the group, so that only `unpin` is
    possible; the status `held` can also mean that the gate held a challenger. happened: entries, oldest first, with
    `at` (wall clock), `what`, `said` (a sentence), `clock` (the fleet's) and the numbers of a verdict, an attempt or a
    decision. request: a person's request to retrain the group, until the stream has recorded the round that does so.
    has_two_losses: whether the fleet's loss has changed.
    """

    group_key: str
    standing: GroupStatus
    is_pinned: bool
    happened: tuple[dict[str, Any], ...]
    request: RetrainRequest | None = None
    has_two_losses: bool = False

    def __str__(self) -> str:
        status = self.standing
        head = f"{self.group_key}: {status.state}"
        if status.model_id:
            by = f" by {status.recipe}" if status.recipe else ""
            through = explanation.format_minute(status.trained_through)
            head += f", answered by {explanation.model_label(status.model_id)}{by} trained through {through}"
            head += "" if status.rows is None else f" on {status.rows} rows"
            name = f"{status.loss_name} " if self.has_two_losses else ""
            head += "" if status.loss is None else f", held-out {name}loss {format_number(status.loss)}"
        lines = (
            f"  {explanation.format_minute(entry['at'])}  {entry['what']}: {entry['said']}" for entry in self.happened
        )
        return "\n".join([head, *lines, *self._waiting()])

    def _waiting(self) -> Iterator[str]:
        """The line about a request that is not carried out yet."""
        if (request := self.request) is not None:
            at = explanation.format_minute(request.requested_at)
            yield f"  {at}  retraining requested: by {request.by}: {request.reason}; not carried out yet"


class Fleet:
    """Reads a fleet: status of groups, champions, answers, comparisons. Each call reads the tables as they are now.

    In every method, `as_of` is a time of the wall clock (a datetime or ISO 8601 text; UTC without a zone) or a round's
    name (`batch-7`). The result is then computed from the decisions made by that time. StoreError is raised for an
    unknown round, and for a time before the first decision or in the future.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._store = FleetStore.of(config)
        self._gain: IncrementalGain | None = None

    @classmethod
    def open(cls, path: str | Path = "fleet.toml") -> Fleet:
        """Return the fleet of a configuration file. Raises ConfigError when the file is missing or not valid."""
        return cls(read_config(path))

    def groups(self, as_of: datetime | str | None = None) -> list[GroupStatus]:
        """Return the status of every group that has an event, sorted by key. Parents are not groups.

        Raises StoreError when a table cannot be read, or for `as_of`.
        """
        rows = lookup.to_dicts(self.table(as_of))
        return [GroupStatus(**{**row, "state": State(row["state"])}) for row in rows]

    def table(self, as_of: datetime | str | None = None) -> pa.Table:
        """Return `groups` as an Arrow table with the fields of GroupStatus as columns.

        group_key, state, model_id, recipe, trained_through (event time), fitted_at (wall clock), rows, loss, reason,
        error, loss_name. Columns about the champion are null without one. Errors as for `groups`.
        """
        import pyarrow as pa

        from spinney.core.reporting import fleet_status
        from spinney.core.reporting.loss_names import name_losses

        at = self._moment(as_of)
        decided, judged, fitted = (_until(name, at) for name in ("decided_at", "judged_at", "fitted_at"))
        seen = lookup.read_group_keys(self._store, tables.EVENTS, _until("ingested_at", at))
        of_parents = lookup.read_where(
            self._store, tables.PROMOTIONS, fleet_status.PROMOTION_COLUMNS, decided, OfParent()
        )
        answering = fleet_status.owners_with_champion(of_parents)
        estimators = unverified_recipes.read_estimators(self._store)

        def has_ancestor(key: str) -> bool:
            return not answering.isdisjoint(self._ancestors(key))

        found = [
            fleet_status.derive_statuses(
                pa.array(group_keys, pa.string()),
                lookup.read_where(self._store, tables.PROMOTIONS, fleet_status.PROMOTION_COLUMNS, decided, shards),
                lookup.read_where(self._store, tables.VERDICTS, fleet_status.VERDICT_COLUMNS, judged, shards),
                lookup.read_where(self._store, tables.MODELS, fleet_status.ATTEMPT_COLUMNS, fitted, shards),
                has_ancestor,
                estimators,
            )
            for shards, group_keys in self._pieces([key for key in seen if not keys.is_parent(key)])
        ]
        return name_losses(pa.concat_tables(found).sort_by("group_key"), charter.losses_of(self._store))

    def _pieces(self, group_keys: list[str]) -> Iterator[tuple[InShards | None, list[str]]]:
        """The groups in pieces by shards, so that the history of a large fleet is not in memory at once.

        Yields (shards, group_keys); shards is None when one piece holds all groups.
        """
        shards = self.config.fleet.shards
        pieces = min(shards, 1 + lookup.count_rows(self._store, tables.PROMOTIONS) // ROWS_AT_ONCE)
        if pieces == 1:
            yield None, group_keys
            return
        by_piece: list[list[str]] = [[] for _ in range(pieces)]
        for key in group_keys:
            by_piece[keys.shard_of(key, shards) * pieces // shards].append(key)
        for piece, keys_of_piece in enumerate(by_piece):
            first, end = (-(-shards * index // pieces) for index in (piece, piece + 1))
            yield InShards(first, end - 1), keys_of_piece

    def champions(self, as_of: datetime | str | None = None, group_keys: Iterable[str] | None = None) -> Champions:
        """Return the champions of these groups and of the parents that may answer for them; of the whole fleet if None.

        Payloads of small models are included. Errors as for `groups`.
        """
        at = self._moment(as_of)
        if group_keys is None:
            return self._champions(at)
        owners = set(group_keys)
        owners |= {parent for key in owners for parent in self._ancestors(key)}
        return self._champions(at, sorted(owners))

    def model(self, key: str, as_of: datetime | str | None = None) -> Model | None:
        """Return the own model of a group or parent; None if none may answer. Models of parents are not considered.

        key: a group_key, such as '["AA","JFK","LAX"]'. If the signature of a model is invalid, the group's model before
        it is returned, as in the stream. Raises StoreError when the group is unknown or its model is missing,
        SetupError without a signing key.
        """
        from spinney.serving import answers
        from spinney.serving.model_cache import ModelSource
        from spinney.storage import signing_key

        found = self._champions(self._moment(as_of), [key])
        if not found.promotions and not keys.is_parent(key):
            self._require_known(key)
        return answers.own_model(key, found, ModelSource(self._store, signing_key.load_signer(self._store)))

    def predict(self, frame: pd.DataFrame, as_of: datetime | str | None = None) -> pd.DataFrame:
        """Return what the stream would answer to each row, in the order and with the index of `frame`.

        frame: the group's columns and the features; other columns are ignored. Groups may be unknown. Times may be
        datetimes, ISO 8601 texts, or numbers in the unit that their column declares; without a zone they are UTC.
        `[fleet.ranges]` is not applied. Models fitted before the features were edited need their former features.

        The result has the columns prediction (null where no model answers), lower and upper (regression only: the
        interval around it, null where it is unbounded), probabilities (classification only: class -> probability),
        model_id and answered_by (own, parent, global or none).

        Raises ContractError when a column is missing or of another type, StoreError when a model is missing or for
        `as_of`, SetupError without a signing key.
        """
        from spinney.serving import answers
        from spinney.serving.model_cache import ModelSource
        from spinney.storage import signing_key

        at = self._moment(as_of)
        return answers.answer_frame(
            frame,
            lambda group_keys: self.champions(at, group_keys),
            self.config.record_schema,
            ModelSource(self._store, signing_key.load_signer(self._store)),
            self._intervals(at),
            former=charter.former_columns_of(self._store),
        )

    def intervals(self, as_of: datetime | str | None = None) -> FleetIntervals | None:
        """Return the half-widths of prediction intervals; None where there are none (`[intervals]`).

        The champions of a shard are read when one of its groups is asked for. Errors as for `groups`.
        """
        return self._intervals(self._moment(as_of))

    def _intervals(self, at: datetime | None) -> FleetIntervals | None:
        from spinney.core.intervals.champion_intervals import FleetIntervals, IntervalRule
        from spinney.tables.readers import held_out_losses

        first_loss = charter.losses_of(self._store).first
        rule = IntervalRule.of(self.config.fleet, self.config.intervals.coverage, first_loss)
        if rule is None:
            return None
        until = _until("decided_at", at)
        pools = partial(held_out_losses.read_pools, self._store, until=until)
        return FleetIntervals(rule, self.config.fleet.shards, pools)

    def incumbent(self) -> IncumbentComparison:
        """Return mean errors of the incumbent and the fleet on the same rows, which the fleet's models have not seen.

        Empty if no such row is stored. `IncumbentComparison` says which rows are compared. Raises StoreError.
        """
        from spinney.tables.readers import incumbent_comparison

        return incumbent_comparison.compare_with_incumbent(self._store, self.champions())

    def summary(self) -> Summary:
        """Return the number of groups by state, the champions' errors beside baselines, and the gain from retraining.

        The baselines are a constant answer and the incumbent. A champion's loss is that of its evaluation fit on its
        held-out rows; a constant's is measured on the same rows. Raises StoreError.
        """
        from spinney.page_data.fleet_figures import read_summary

        return read_summary(self._store, self.table(), self.incumbent(), self.gain())

    def gain(self, as_of: datetime | str | None = None) -> RetrainingGain | None:
        """Return the gain from refits of stale groups drawn at random by the stream; None if none was compared.

        `RetrainingGain` says what is measured. Only draws in the 90 days before the newest verdict count. Decisions and
        verdicts that `spinney tidy` has removed do not count. Errors as for `groups`.
        """
        from spinney.tables.readers.random_draws import read_retraining_gain

        return read_retraining_gain(self._store, self._moment(as_of))

    def figures(self, statuses: pa.Table | None = None, before: FleetFigures | None = None) -> FleetFigures:
        """Return the figures of the whole fleet, as the fleet page shows them: ages and errors as bands, the queue.

        Its summary does not compare with the incumbent, since this would read all of the incumbent's answers. statuses:
        the result of `table`, if it was just read. before: an earlier result, to read less. Raises StoreError.
        """
        from spinney.page_data.fleet_figures import read_fleet_figures
        from spinney.tables.readers.incremental_gain import IncrementalGain

        self._gain = self._gain or IncrementalGain(self._store)
        statuses = self.table() if statuses is None else statuses
        horizon, budget = self.config.kafka.label_horizon, self.config.budget.seconds
        return read_fleet_figures(self._gain, horizon, budget, statuses, datetime.now(UTC), before)

    def group_figures(self, key: str) -> GroupFigures:
        """Return a group's error over time, and its newest answers beside their labels; empty where nothing is stored.

        key: a group_key, such as '["AA","JFK","LAX"]'. Raises StoreError.
        """
        from spinney.page_data.group_figures import read_group_figures

        self._require_known_format()
        return read_group_figures(self._store, key)

    def pipeline(self) -> PipelineFigures:
        """Return the batches of each query, rows of the tables, dead letters by kind and rounds. Raises StoreError."""
        from spinney.page_data.pipeline_figures import read_pipeline_figures

        self._require_known_format()
        return read_pipeline_figures(self._store, self.config.tracking.uri, datetime.now(UTC))

    def shadow(self) -> list[ShadowComparison]:
        """Return the losses of the recipe and its shadow on the same held-out rows, one per pair of recipes.

        The newest pair comes first; empty where none was compared. Attempts that `spinney tidy` has removed do not
        count. Raises StoreError.
        """
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        from spinney.core.reporting.shadow_comparison import compare_with_shadow
        from spinney.tables import delta

        self._require_known_format()
        has_shadow = pc.match_substring(ds.field("metrics"), '"shadow"')
        return compare_with_shadow(
            delta.read_table(self._store, tables.MODELS, _SHADOW_COLUMNS, has_shadow).to_pylist()
        )

    def why(self, key: str) -> GroupHistory:
        """Return the history of a group or parent: verdicts, attempts, decisions and its current status.

        key: a group_key, such as '["AA","JFK","LAX"]'. Raises UnknownGroup, naming the nearest keys.
        """
        self._require_known_format()
        ancestors = self._ancestors(key)
        verdicts, attempts = (
            self._rows_of(base, _history_columns(base), key) for base in (tables.VERDICTS, tables.MODELS)
        )
        decided = self._rows_of(tables.PROMOTIONS, _history_columns(tables.PROMOTIONS), key, *ancestors)
        own = [row for row in decided if row["group_key"] == key]
        estimators, losses = unverified_recipes.read_estimators(self._store), charter.losses_of(self._store)
        entries = explanation.explain(verdicts, attempts, own, estimators, losses)
        if not entries:
            self._require_known(key)
        parents = Champions.from_rows(row for row in decided if row["group_key"] != key)
        ancestor_answers = any(select_champion(parents.promotions.get(ancestor, ())) for ancestor in ancestors)
        status = derive_status(key, own, verdicts, attempts, ancestor_answers=ancestor_answers, estimators=estimators)
        if status.loss is not None:
            status = replace(status, loss_name=losses.name_of(status.loss_name))
        request, pinned = retrain_requests.find_request(self._store, key), is_pinned(map(Promotion.from_row, own))
        return GroupHistory(key, status, pinned, entries, request, has_two_losses=losses.is_changed)

    def _moment(self, as_of: datetime | str | None) -> datetime | None:
        self._require_known_format()
        if as_of is None:
            return None
        from spinney.tables.readers.as_of import resolve_as_of

        return resolve_as_of(self._store, as_of)

    def _require_known_format(self) -> None:
        """Raise UnknownFormat if the tables have a version, given in the charter, that is not read here."""
        charter.load_charter(self._store)

    def _champions(self, at: datetime | None, owners: list[str] | None = None) -> Champions:
        """The champions of these groups and parents, or of all if `owners` is None, as decided by `at`."""
        until = _until("decided_at", at)
        if owners is None:
            rows = lookup.read_where(self._store, tables.PROMOTIONS, _PROMOTION_COLUMNS, until)
        else:
            rows = lookup.read_rows(
                self._store, tables.PROMOTIONS, _PROMOTION_COLUMNS, RowFilter.of_groups(owners, until)
            )
        return Champions.from_rows(lookup.to_dicts(rows))

    def _require_known(self, key: str) -> None:
        """Raise UnknownGroup, naming the nearest keys, unless the group has an event."""
        if not self._rows_of(tables.EVENTS, ["group_key"], key):
            known = lookup.read_group_keys(self._store, tables.EVENTS)
            raise UnknownGroup(keys.unknown_group_message(key, known, "nothing was ever stored of it"))

    def _ancestors(self, key: str) -> tuple[str, ...]:
        """The parents of a group, nearest first; none for a parent."""
        fleet = self.config.fleet
        return () if keys.is_parent(key) else keys.ancestors(fleet.group, fleet.parents, key)

    def _rows_of(self, base: Contract, columns: Iterable[str], *group_keys: str) -> list[dict[str, Any]]:
        return lookup.to_dicts(lookup.read_rows(self._store, base, [*columns], RowFilter.of_groups(group_keys)))


_PROMOTION_COLUMNS = (*CHAMPION_COLUMNS, *PAYLOAD_COLUMNS, *held_out_loss_codec.COLUMNS)
_NOT_SHOWN = (*PAYLOAD_COLUMNS[1:], *held_out_loss_codec.LISTS, "training_predictions", "heldout_predictions", "pins")
_SHADOW_COLUMNS = ["group_key", "model_id", "recipe_id", "metrics", "fitted_at"]


def _history_columns(base: Contract) -> list[str]:
    """Return the columns of a history: all but a model's bytes, its lists of numbers, and a plan's pins."""
    return [name for name in base.names if name not in _NOT_SHOWN]


def _until(column: str, at: datetime | None) -> NotAfter | None:
    return None if at is None else NotAfter(column, at)
