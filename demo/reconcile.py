"""Do the sets add up: what the ledger says was sent, beside what the tables hold, id by id and never by subtraction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from demo.faults import digest
from demo.ledger import Ledger
from demo.tables import Tables

EXAMPLES = 5
"""Ids shown of what is missing or unexpected."""


@dataclass(frozen=True)
class Check:
    """One set compared. missing: expected, not found. unexpected: found, not expected. twice: ids found more often."""

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
        return not (self.missing or self.unexpected or self.twice)


def compare(name: str, says: str, expected: AbstractSet[Any], found: Iterable[Any]) -> Check:
    """Return the check of one set. found: every row's id, repeats and all."""
    counts = Counter(found)
    missing, unexpected = expected - counts.keys(), counts.keys() - expected
    twice = {one for one, count in counts.items() if count > 1}
    examples = [
        f"{word} {' '.join(map(str, one)) if isinstance(one, tuple) else one}"
        for word, ids in (("missing", missing), ("unexpected", unexpected), ("twice", twice))
        for one in sorted(ids)[:EXAMPLES]
    ]
    sizes = (len(expected), len(counts), len(missing), len(unexpected), len(twice))
    return Check(name, says, *sizes, tuple(examples[:EXAMPLES]))


def reconcile(tables: Tables, ledger: Ledger) -> dict[str, Any]:
    """Return every check as plain values, and whether all of them hold."""
    events, answers, outcomes = ids(tables.events), ids(tables.predictions), ids(tables.outcomes)
    answered = set(answers)
    letters = [
        (digest(_bytes(key), _bytes(value)), str(reason))
        for key, value, reason in tables.dead_letters[["key", "value", "reason"]].itertuples(index=False, name=None)
    ]
    late = [one for one in outcomes if one not in ledger.loaded_outcomes]
    checks = [
        compare("events", "loaded and sent = stored", ledger.loaded_events | ledger.events, events),
        compare("predictions", "sent = answered", ledger.events, answers),
        compare("dead letters", "sent wrong = kept, with the right reason", set(ledger.dead.items()), letters),
        compare("outcomes", "loaded and sent = stored", ledger.loaded_outcomes | ledger.outcomes, outcomes),
        compare(
            "outcomes matched",
            "outcomes of streamed events = those with a prediction",
            ledger.outcomes & ledger.events,
            [one for one in late if one in answered],
        ),
        compare(
            "outcomes unmatched",
            "outcomes of earlier events, or of none = those without",
            ledger.outcomes - ledger.events,
            [one for one in late if one not in answered],
        ),
        rounds_add_up(tables.rounds),
    ]
    return {
        "adds_up": all(check.adds_up for check in checks),
        "checks": [{**asdict(check), "examples": list(check.examples), "adds_up": check.adds_up} for check in checks],
    }


def ids(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(group_key, event_id) of each row."""
    return list(zip(frame["group_key"], frame["event_id"], strict=True))


def rounds_add_up(rounds: pd.DataFrame) -> Check:
    """Groups in = fitted + failed + too few rows + kept + deferred, in every round."""
    parts = rounds[["fitted", "failed", "too_few_rows", "kept", "deferred"]].fillna(0).sum(axis=1)
    odd = rounds.loc[rounds["groups_in"].fillna(0) != parts, "round_id"]
    whole = [str(one) for one in rounds["round_id"] if one not in set(odd)]
    says = "groups in = fitted + failed + too few rows + kept + deferred"
    return compare("rounds", says, {str(one) for one in rounds["round_id"]}, whole)


def _bytes(value: Any) -> bytes | None:
    return None if value is None or value is pd.NA or isinstance(value, float) else bytes(value)
