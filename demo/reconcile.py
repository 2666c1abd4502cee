"""Compare the ledger of sent records with the contents of the tables, id by id, never by subtracting counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from demo.fleet_tables import FleetTables
from demo.invalid_records import record_digest
from demo.ledger import Ledger

EXAMPLES = 5
"""Ids shown per check."""


@dataclass(frozen=True)
class SetCheck:
    """A comparison of two sets of ids, as counts.

    says: what is compared. missing: number of ids expected and not found. unexpected: found and not expected. twice:
    found more than once. examples: some of these ids.
    """

    name: str
    says: str
    expected: int
    found: int
    missing: int
    unexpected: int
    twice: int
    examples: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """Whether both sets are equal and no id was found twice."""
        return not (self.missing or self.unexpected or self.twice)

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {**asdict(self), "examples": list(self.examples), "adds_up": self.adds_up}


def compare_sets(name: str, says: str, expected: AbstractSet[Any], found: Iterable[Any]) -> SetCheck:
    """Compare two sets of ids. found: the id of every row, with repetitions."""
    counts = Counter(found)
    missing, unexpected = expected - counts.keys(), counts.keys() - expected
    twice = {found_id for found_id, count in counts.items() if count > 1}
    examples = [
        f"{word} {' '.join(map(str, one)) if isinstance(one, tuple) else one}"
        for word, ids in (("missing", missing), ("unexpected", unexpected), ("twice", twice))
        for one in sorted(ids)[:EXAMPLES]
    ]
    sizes = (len(expected), len(counts), len(missing), len(unexpected), len(twice))
    return SetCheck(name, says, *sizes, tuple(examples[:EXAMPLES]))


def reconcile(tables: FleetTables, ledger: Ledger) -> dict[str, Any]:
    """Return every check as plain values, and whether all of them hold."""
    events, answers, outcomes = event_ids(tables.events), event_ids(tables.predictions), event_ids(tables.outcomes)
    answered = set(answers)
    letters = [
        (record_digest(_bytes(key), _bytes(value)), str(reason))
        for key, value, reason in tables.dead_letters[["key", "value", "reason"]].itertuples(index=False, name=None)
    ]
    late = [one for one in outcomes if one not in ledger.loaded_outcomes]
    checks = [
        compare_sets("events", "loaded and sent = stored", ledger.loaded_events | ledger.events, events),
        compare_sets("predictions", "sent = answered", ledger.events, answers),
        compare_sets("dead letters", "sent wrong = kept, with the right reason", set(ledger.dead.items()), letters),
        compare_sets("outcomes", "loaded and sent = stored", ledger.loaded_outcomes | ledger.outcomes, outcomes),
        compare_sets(
            "outcomes matched",
            "outcomes of streamed events = those with a prediction",
            ledger.outcomes & ledger.events,
            [one for one in late if one in answered],
        ),
        compare_sets(
            "outcomes unmatched",
            "outcomes of earlier events, or of none = those without",
            ledger.outcomes - ledger.events,
            [one for one in late if one not in answered],
        ),
        check_round_counts(tables.rounds),
    ]
    return {
        "adds_up": all(check.adds_up for check in checks),
        "checks": [check.to_json() for check in checks],
    }


def event_ids(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (group_key, event_id) of each row."""
    return list(zip(frame["group_key"], frame["event_id"], strict=True))


def check_round_counts(rounds: pd.DataFrame) -> SetCheck:
    """Check that in every round: groups in = fitted + failed + too few rows + kept + deferred."""
    parts = rounds[["fitted", "failed", "too_few_rows", "kept", "deferred"]].fillna(0).sum(axis=1)
    odd = rounds.loc[rounds["groups_in"].fillna(0) != parts, "round_id"]
    whole = [str(one) for one in rounds["round_id"] if one not in set(odd)]
    says = "groups in = fitted + failed + too few rows + kept + deferred"
    return compare_sets("rounds", says, {str(one) for one in rounds["round_id"]}, whole)


def _bytes(value: Any) -> bytes | None:
    return None if value is None or value is pd.NA or isinstance(value, float) else bytes(value)
