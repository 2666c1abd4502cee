"""The fleet as it stands, read from its tables. Read-only; every surface is a view of it.

What only some of its methods need (pandas, scikit-learn) is imported inside them: `spinney why` answers in less time
than those take to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PAYLOAD_COLUMNS
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.number_format import format_number
from spinney.core.reporting import explanation
from spinney.core.reporting.status import Standing, State, standing
from spinney.storage import charter
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import lookup, recipe_names
from spinney.tables.lookup import OfParents, Shards, Until, Wanted

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from spinney.core.models.model import Model
    from spinney.core.reporting.incumbent_comparison import Comparison
    from spinney.core.reporting.shadow_comparison import Pair
    from spinney.core.reporting.summary import Summary

__all__ = ["Fleet", "Standing", "Story"]

ROWS_AT_ONCE = 1_000_000
"""Rows of `promotions` that are in memory at one time, some 200 bytes each; as many of `verdicts` and `models`."""


@dataclass(frozen=True)
class Story:
    """One group's life: what was said of it, oldest first."""

    group_key: str
    standing: Standing
    happened: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        now = self.standing
        head = f"{self.group_key}: {now.state}"
        if now.model_id:
            by = f" by {now.recipe}" if now.recipe else ""
            through = explanation.day(now.trained_through)
            head += f", answered by {explanation.short(now.model_id)}{by} trained through {through}"
            head += "" if now.rows is None else f" on {now.rows} rows"
            head += "" if now.loss is None else f", held-out loss {format_number(now.loss)}"
        lines = (f"  {explanation.day(each['at'])}  {each['what']}: {each['said']}" for each in self.happened)
        return "\n".join([head, *lines])


class Fleet:
    """A fleet's tables. Each call reads them as they are now."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._store = FleetStore.of(config)

    @classmethod
    def open(cls, path: str | Path = "fleet.toml") -> Fleet:
        """The fleet of this configuration file. Raises ConfigError."""
        return cls(read_config(path))

    def groups(self, as_of: datetime | str | None = None) -> list[Standing]:
        """Every group that has an event, by key; parents are not groups.

        as_of: as the fleet stood then, by what had been decided: a time (UTC where it names no zone), or a round's
        name. Times are of the wall clock on which models were promoted, not of events. Raises StoreError, also for a
        moment before the first decision or after now.
        """
        rows = lookup.dicts(self.table(as_of))
        return [Standing(**{**row, "state": State(row["state"])}) for row in rows]

    def table(self, as_of: datetime | str | None = None) -> pa.Table:
        """The same as an Arrow table, a column for each field of `Standing`. Raises StoreError."""
        import pyarrow as pa

        from spinney.core.reporting import fleet_status

        at = self._moment(as_of)
        decided, judged, fitted = (_until(name, at) for name in ("decided_at", "judged_at", "fitted_at"))
        seen = lookup.group_keys(self._store, tables.EVENTS, _until("ingested_at", at))
        of_parents = lookup.every(self._store, tables.PROMOTIONS, fleet_status.PROMOTION, decided, OfParents())
        answering = fleet_status.answering(of_parents)
        estimators = recipe_names.estimators(self._store)

        def has_ancestor(key: str) -> bool:
            return not answering.isdisjoint(self._ancestors(key))

        found = [
            fleet_status.standings(
                pa.array(group_keys, pa.string()),
                lookup.every(self._store, tables.PROMOTIONS, fleet_status.PROMOTION, decided, shards),
                lookup.every(self._store, tables.VERDICTS, fleet_status.VERDICT, judged, shards),
                lookup.every(self._store, tables.MODELS, fleet_status.ATTEMPT, fitted, shards),
                has_ancestor,
                estimators,
            )
            for shards, group_keys in self._pieces([key for key in seen if not keys.is_parent(key)])
        ]
        return pa.concat_tables(found).sort_by("group_key")

    def _pieces(self, group_keys: list[str]) -> Iterator[tuple[Shards | None, list[str]]]:
        """The groups by shards, so that a large fleet's history is not in memory at once; in one piece if it is small.

        Shards: None for all.
        """
        shards = self.config.fleet.shards
        pieces = min(shards, 1 + lookup.count(self._store, tables.PROMOTIONS) // ROWS_AT_ONCE)
        if pieces == 1:
            yield None, group_keys
            return
        by_piece: list[list[str]] = [[] for _ in range(pieces)]
        for key in group_keys:
            by_piece[keys.shard_of(key, shards) * pieces // shards].append(key)
        for piece, mine in enumerate(by_piece):
            first, end = (-(-shards * each // pieces) for each in (piece, piece + 1))
            yield Shards(first, end - 1), mine

    def champions(self, as_of: datetime | str | None = None) -> Champions:
        """Who answers in the whole fleet, parents too, or who did then; small models are carried.

        `predict` asks them. Raises StoreError.
        """
        return self._champions(self._moment(as_of))

    def model(self, key: str, as_of: datetime | str | None = None) -> Model | None:
        """The verified model of this very group or parent, now or then; None where none of its own may answer.

        One whose signature does not hold is passed over for the one before it, as the stream does. Raises StoreError:
        nothing was ever stored of such a group, or its model is gone. SetupError: there is no signing key.
        """
        from spinney.serving import answers
        from spinney.storage import signing_key

        found = self._champions(self._moment(as_of), [key])
        if not found.promotions and not keys.is_parent(key):
            self._refuse_unknown(key)
        return answers.own_model(key, found, self._store, signing_key.signer(self._store))

    def predict(self, frame: pd.DataFrame, as_of: datetime | str | None = None) -> pd.DataFrame:
        """What the stream would answer to each row, now or then: in the frame's order, with its index.

        as_of: by the models that answered at this moment, by the wall clock; see `groups`.
        frame: the group's columns and the features, and whatever else; rows of any groups, known or not. Times may be
        ISO 8601 texts, or numbers of the unit that their column declares; without a zone they are UTC.
        `[fleet.ranges]` are not looked at. A model fitted before the features were edited needs those.
        Columns: prediction (null where nobody answers), probabilities (only for classification: class ->
        probability), model_id, answered_by (own, parent, global or none).

        Raises ContractError: a column is missing or of another type. StoreError: a model is gone. SetupError: there is
        no signing key.
        """
        from spinney.serving import answers
        from spinney.storage import signing_key

        at = self._moment(as_of)

        def champions_of(group_keys: Iterable[str]) -> Champions:
            asked = set(group_keys)
            asked |= {parent for key in asked for parent in self._ancestors(key)}
            return self._champions(at, sorted(asked))

        return answers.answer_frame(
            frame,
            champions_of,
            self.config,
            signing_key.signer(self._store),
            former=charter.former(self._store),
        )

    def incumbent(self) -> Comparison:
        """The system before the fleet and the fleet, on the same rows, none of which the answering model was fitted on.

        See `spinney.core.reporting.incumbent_comparison` for what is compared; empty where no such row is there.
        Raises StoreError.
        """
        from spinney.tables import incumbent_answers

        return incumbent_answers.compared(self._store, self.champions())

    def summary(self) -> Summary:
        """How many groups stand where, and the champions beside a constant answer and the incumbent.

        A champion's loss is that of its evaluation fit on the held-out rows; a constant's is measured on the same rows.
        Raises StoreError.
        """
        from spinney.core.reporting.summary import summary
        from spinney.tables import fit_metrics

        rows = lookup.dicts(self.table())
        fits = fit_metrics.of_models(self._store, [row["model_id"] for row in rows if row["model_id"]])
        fleet = self.config.fleet
        return summary(fleet.name, str(fleet.loss), rows, fits, self.incumbent())

    def shadow(self) -> list[Pair]:
        """The recipe and its shadow on the same held-out rows, group by group; the newest two recipes first.

        Of what `spinney tidy` has not forgotten. Empty where none was compared. Raises StoreError.
        """
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        from spinney.core.reporting.shadow_comparison import pairs
        from spinney.tables import delta

        self._require_known_format()
        watched = pc.match_substring(ds.field("metrics"), '"shadow"')
        return pairs(delta.read(self._store, tables.MODELS, _WATCHED, watched).to_pylist())

    def why(self, key: str) -> Story:
        """One group's verdicts, attempts and decisions in words. Raises StoreError: no such group."""
        self._require_known_format()
        ancestors = self._ancestors(key)
        verdicts, attempts = (self._of_groups(base, _light(base), key) for base in (tables.VERDICTS, tables.MODELS))
        decided = self._of_groups(tables.PROMOTIONS, _light(tables.PROMOTIONS), key, *ancestors)
        mine = [row for row in decided if row["group_key"] == key]
        estimators = recipe_names.estimators(self._store)
        happened = explanation.told(verdicts, attempts, mine, estimators)
        if not happened:
            self._refuse_unknown(key)
        answered = Champions.from_rows(row for row in decided if row["group_key"] != key)
        ancestor_answers = any(select_champion(answered.promotions.get(each, ())) for each in ancestors)
        now = standing(key, mine, verdicts, attempts, ancestor_answers=ancestor_answers, estimators=estimators)
        return Story(key, now, happened)

    def _moment(self, as_of: datetime | str | None) -> datetime | None:
        self._require_known_format()
        if as_of is None:
            return None
        from spinney.tables.as_of import moment_of

        return moment_of(self._store, as_of)

    def _require_known_format(self) -> None:
        """The charter's version stands for the tables. Raises UnknownFormat."""
        charter.standing(self._store)

    def _champions(self, at: datetime | None, of: list[str] | None = None) -> Champions:
        """of: the groups and parents that are wanted; None: all."""
        until = _until("decided_at", at)
        if of is None:
            rows = lookup.every(self._store, tables.PROMOTIONS, _PROMOTION, until)
        else:
            rows = lookup.rows(self._store, tables.PROMOTIONS, _PROMOTION, Wanted.of_groups(of, until))
        return Champions.from_rows(lookup.dicts(rows))

    def _refuse_unknown(self, key: str) -> None:
        """Raises StoreError, naming the nearest, for a group that has no event."""
        if not self._of_groups(tables.EVENTS, ["group_key"], key):
            known = lookup.group_keys(self._store, tables.EVENTS)
            raise StoreError(keys.unknown_group_message(key, known, "nothing was ever stored of it"))

    def _ancestors(self, key: str) -> tuple[str, ...]:
        """The parents that may answer for a group, nearest first; a parent has none."""
        fleet = self.config.fleet
        return () if keys.is_parent(key) else keys.ancestors(fleet.group, fleet.parents, key)

    def _of_groups(self, base: Contract, columns: Iterable[str], *group_keys: str) -> list[dict[str, Any]]:
        return lookup.dicts(lookup.rows(self._store, base, [*columns], Wanted.of_groups(group_keys)))


_PROMOTION = (*CHAMPION_COLUMNS, *PAYLOAD_COLUMNS)
_WATCHED = ["group_key", "model_id", "recipe_id", "metrics", "fitted_at"]


def _light(base: Contract) -> list[str]:
    """All columns but a model's bytes."""
    return [name for name in base.names if name not in PAYLOAD_COLUMNS[1:]]


def _until(column: str, at: datetime | None) -> Until | None:
    return None if at is None else Until(column, at)
