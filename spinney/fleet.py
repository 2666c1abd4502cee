"""The fleet as it stands, read from its tables. Read-only; every surface is a view of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import ModelStatus
from spinney.core import keys, story
from spinney.core.champion import Promotion, champion, is_pinned
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.incumbent import Comparison
from spinney.core.model import Model
from spinney.core.pairs import Pair, pairs
from spinney.core.standing import Last, State, state
from spinney.stores import answers, delta, incumbent, signing_key
from spinney.stores.files import read_config
from spinney.stores.timeline import moment_of


@dataclass(frozen=True)
class Standing:
    """One group at a glance. trained_through: of its champion, in event time; rows: it was fitted on."""

    group_key: str
    state: State
    model_id: str | None
    trained_through: datetime | None
    fitted_at: datetime | None
    rows: int | None
    loss: float | None
    reason: str | None
    error: str | None


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
            head += f", answered by {story.short(now.model_id)} trained through {story.day(now.trained_through)}"
            head += "" if now.rows is None else f" on {now.rows} rows"
            head += "" if now.loss is None else f", held-out loss {now.loss:.6g}"
        lines = (f"  {story.day(each['at'])}  {each['what']}: {each['said']}" for each in self.happened)
        return "\n".join([head, *lines])


class Fleet:
    """A fleet's tables. Each call reads them as they are now."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def open(cls, path: str | Path = "fleet.toml") -> Fleet:
        """The fleet of this configuration file. Raises ConfigError."""
        return cls(read_config(path))

    def groups(self, as_of: datetime | str | None = None) -> list[Standing]:
        """Every group that has an event, by key; parents are not groups.

        as_of: as the fleet stood then, by what had been decided: a time (UTC where it names no zone), or a round's
        name. Raises StoreError.
        """
        at = self._moment(as_of)
        rows = self._read(tables.EVENTS, ["group_key"], _until("ingested_at", at))
        seen = rows.column("group_key").unique().to_pylist()
        return self._standings(sorted(key for key in seen if not keys.is_parent(key)), None, at)

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
        found = self._champions(self._moment(as_of), [key])
        if not found.histories and not keys.is_parent(key):
            self._refuse_unknown(key)
        return answers.own_model(key, found, self.config, signing_key.signer(self.config))

    def predict(self, frame: pd.DataFrame, as_of: datetime | str | None = None) -> pd.DataFrame:
        """What the stream would answer to each row, now or then: in the frame's order, with its index.

        frame: the group's columns and the features, and whatever else; rows of any groups, known or not. Times without
        a zone are UTC; `[fleet.ranges]` are not looked at. A model fitted before the features were edited needs those.
        Columns: prediction (null where nobody answers), probabilities (only for classification: class ->
        probability), model_id, answered_by (own, parent, global or none).

        Raises ContractError: a column is missing or of another type. StoreError: a model is gone. SetupError: there is
        no signing key.
        """
        at = self._moment(as_of)

        def champions_of(group_keys: Iterable[str]) -> Champions:
            asked = set(group_keys)
            asked |= {parent for key in asked for parent in answers.ancestors(self.config, key)}
            return self._champions(at, sorted(asked))

        return answers.answer_frame(frame, champions_of, self.config, signing_key.signer(self.config))

    def incumbent(self) -> Comparison:
        """The system before the fleet and the fleet, on the same rows, none of which the answering model was fitted on.

        See `spinney.core.incumbent` for what is compared; empty where no such row is there. Raises StoreError.
        """
        return incumbent.compared(self.config, self.champions())

    def shadow(self) -> list[Pair]:
        """The recipe and its shadow on the same held-out rows, group by group; the newest two recipes first.

        Of what `spinney tidy` has not forgotten. Empty where none was compared. Raises StoreError.
        """
        watched = pc.match_substring(ds.field("metrics"), '"shadow"')
        return pairs(self._read(tables.MODELS, _WATCHED, watched).to_pylist())

    def why(self, key: str) -> Story:
        """One group's verdicts, attempts and decisions in words. Raises StoreError: no such group."""
        mine = ds.field("group_key") == key
        (standing,) = self._standings([key], mine)
        happened = story.told(
            *(
                self._read(base, _light(base), mine).to_pylist()
                for base in (tables.VERDICTS, tables.MODELS, tables.PROMOTIONS)
            )
        )
        if not happened:
            self._refuse_unknown(key)
        return Story(key, standing, happened)

    def _moment(self, as_of: datetime | str | None) -> datetime | None:
        if isinstance(as_of, str):
            return moment_of(self.config, as_of)
        return as_of.replace(tzinfo=UTC) if as_of and not as_of.tzinfo else as_of

    def _champions(self, at: datetime | None, of: list[str] | None = None) -> Champions:
        """of: the groups and parents that are wanted; None: all."""
        where = _until("decided_at", at, None if of is None else ds.field("group_key").isin(pa.array(of, pa.string())))
        rows = self._read(tables.PROMOTIONS, [*_PROMOTION, "codec", "payload", "signature"], where)
        return Champions.of_rows(rows.to_pylist())

    def _refuse_unknown(self, key: str) -> None:
        """Raises StoreError, naming the nearest, for a group that has no event."""
        if not self._read(tables.EVENTS, ["group_key"], ds.field("group_key") == key).num_rows:
            known = self._read(tables.EVENTS, ["group_key"]).column("group_key").unique().to_pylist()
            raise StoreError(keys.unknown(key, known, "nothing was ever stored of it"))

    def _standings(
        self, wanted: Iterable[str], where: ds.Expression | None, at: datetime | None = None
    ) -> list[Standing]:
        promotions = _by_group(self._read(tables.PROMOTIONS, _PROMOTION, _until("decided_at", at)), "decided_at")
        verdicts = _newest(self._read(tables.VERDICTS, _VERDICT, _until("judged_at", at, where)), "judged_at")
        attempts = _newest(self._read(tables.MODELS, _ATTEMPT, _until("fitted_at", at, where)), "fitted_at")
        champions = {key: champion(Promotion.of_row(row) for row in rows) for key, rows in promotions.items()}
        found = []
        for key in wanted:
            mine = promotions.get(key, [])
            current = champions.get(key)
            verdict, outcome = _said_last(verdicts.get(key), mine, attempts.get(key))
            last = Last(
                champion_id=current.model_id if current else None,
                ancestor_answers=any(champions.get(each) for each in answers.ancestors(self.config, key)),
                pinned=is_pinned(Promotion.of_row(row) for row in mine),
                verdict=verdict,
                outcome=outcome,
            )
            # A row that only keeps or pins a model does not say again what it was fitted on.
            of_champion = (row for row in reversed(mine) if current and row["model_id"] == current.model_id)
            row: dict[str, Any] = next((row for row in of_champion if row["fitted_at"] is not None), {})
            found.append(
                Standing(
                    group_key=key,
                    state=state(last),
                    model_id=last.champion_id,
                    trained_through=row.get("trained_through"),
                    fitted_at=row.get("fitted_at"),
                    rows=row.get("rows"),
                    loss=row.get("challenger_loss"),
                    reason=verdicts.get(key, {}).get("reason"),
                    error=attempts.get(key, {}).get("error"),
                )
            )
        return found

    def _read(self, base: Contract, columns: list[str], where: ds.Expression | None = None) -> pa.Table:
        return delta.read(self.config, base, columns, where)


_PROMOTION = [
    "group_key",
    "epoch",
    "model_id",
    "decision",
    "trained_through",
    "fitted_at",
    "decided_at",
    "round_id",
    "rows",
    "challenger_loss",
]
_WATCHED = ["group_key", "model_id", "recipe_id", "metrics", "fitted_at"]
_VERDICT = ["group_key", "decision", "round_id", "reason", "judged_at"]
_ATTEMPT = ["group_key", "status", "error", "fitted_at", "round_id"]


def _light(base: Contract) -> list[str]:
    """All columns but a model's bytes."""
    return [name for name in base.names if name not in ("payload", "signature")]


def _until(column: str, at: datetime | None, where: ds.Expression | None = None) -> ds.Expression | None:
    if at is None:
        return where
    then = ds.field(column) <= at
    return then if where is None else where & then


def _said_last(
    verdict: dict[str, Any] | None, promotions: list[dict[str, Any]], attempt: dict[str, Any] | None
) -> tuple[str | None, str | None]:
    """The verdict and the outcome of a `Last`. promotions: oldest first; attempt: the newest."""
    outcomes = [(row["decided_at"], row["round_id"], row["decision"]) for row in promotions[-1:]]
    if attempt and attempt["status"] != ModelStatus.FITTED:
        outcomes.append((attempt["fitted_at"], attempt["round_id"], attempt["status"]))
    at, round_id, outcome = max(outcomes, key=lambda each: each[0], default=(None, None, None))
    if verdict is None or (at is not None and (round_id == verdict["round_id"] or at > verdict["judged_at"])):
        return None, outcome
    return verdict["decision"], outcome


def _by_group(table: pa.Table, by: str) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(table.to_pylist(), key=lambda row: row[by]):
        grouped[row["group_key"]].append(row)
    return grouped


def _newest(table: pa.Table, by: str) -> dict[str, dict[str, Any]]:
    return {key: rows[-1] for key, rows in _by_group(table, by).items()}
