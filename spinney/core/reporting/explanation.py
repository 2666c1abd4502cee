"""One group's life in words: verdicts, attempts and decisions with the numbers behind them, people's steps by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import decided_until, select_champion
from spinney.core.champions.interventions import SHORT_ID_LENGTH
from spinney.core.champions.promotion import Promotion
from spinney.core.durations import format_duration
from spinney.core.number_format import format_number
from spinney.core.recipes.display_name import recipe_display_name

Row = Mapping[str, Any]

_OF_AGE = "max_age"
"""The policy whose measure and limit are lengths of time, in microseconds."""

_NUMBERS = (
    "round_id",
    "numbers",
    "metrics",
    "rows",
    "challenger_loss",
    "champion_loss",
    "rows_compared",
    "model_id",
    "recipe_id",
    "policy",
    "epoch",
    "by",
)
"""What an entry has beside its words, for those who read it as JSON."""


def told(
    verdicts: Iterable[Row], attempts: Iterable[Row], decisions: Sequence[Row], estimators: Mapping[str, str]
) -> tuple[dict[str, Any], ...]:
    """What happened, oldest first: at, what, said, clock, and numbers. All rows are of one group.

    estimators: by recipe_id.
    """
    entries = [_entry(row, "judged_at", 0, f"judged {row['decision']}", _verdict(row)) for row in verdicts]
    entries += [_entry(row, "fitted_at", 1, str(row["status"]), _attempt(row, estimators)) for row in attempts]
    entries += _decisions(decisions)
    return tuple(sorted(entries, key=lambda each: (each["at"], each["order"])))


def short(model_id: str | None) -> str:
    return f"model {model_id[:SHORT_ID_LENGTH]}" if model_id else "no model of its own"


def day(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _entry(row: Row, at: str, order: int, what: str, said: str) -> dict[str, Any]:
    numbers = {name: row[name] for name in _NUMBERS if row.get(name) is not None}
    return {"at": row[at], "order": order, "what": what, "said": said, "clock": row.get("clock"), **numbers}


def _verdict(row: Row) -> str:
    numbers = json.loads(row.get("numbers") or "{}")
    listed = ", ".join(f"{name} {_said_of(name, value, row.get('policy'))}" for name, value in numbers.items() if value)
    return f"{row['reason']} [{listed}]" if listed else str(row["reason"])


def _said_of(name: str, value: float, policy: str | None) -> str:
    """A number of a verdict. Lengths of time are in words."""
    if policy == _OF_AGE and name in ("measure", "limit"):
        return format_duration(timedelta(microseconds=value))
    return format_number(value)


def _attempt(row: Row, estimators: Mapping[str, str]) -> str:
    if row.get("error"):
        kind = row.get("error_class")
        return f"{kind}: {row['error']}" if kind and not row["error"].startswith(kind) else str(row["error"])
    if origin := json.loads(row.get("metrics") or "{}").get("origin"):
        return f"{short(row['model_id'])}, imported from {origin}, trained through {day(row['trained_through'])}"
    recipe = recipe_display_name(row.get("recipe_id"), estimators)
    by = f" by {recipe}" if recipe else ""
    since = f"of {day(row['trained_from'])} " if row.get("trained_from") else ""
    return (
        f"{short(row['model_id'])}{by}, {row['rows']} rows {since}through {day(row['trained_through'])}, "
        f"{format_number(row.get('fit_ms') or 0)} ms{_shadow(json.loads(row.get('metrics') or '{}'))}"
    )


def _shadow(metrics: Row) -> str:
    """What the second recipe did on the rows that the challenger was measured on."""
    shadow = metrics.get("shadow")
    if shadow is None:
        return ""
    if "error" in shadow:
        return f"; in shadow {shadow['estimator']}: {shadow['error']}"
    mine = metrics["challenger_loss"]
    losses = f"loss {format_number(shadow['loss'])} against {format_number(mine)}"
    return f"; in shadow {shadow['estimator']}: {losses} on {shadow['rows']} rows"


def _decisions(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """One entry a machine's decision; one for all that a person's step wrote."""
    for row in rows:
        if not Promotion.from_row(row).is_by_person:
            said = f"{short(row['model_id'])}: {row['reason']} ({row['by']})"
            yield _entry(row, "decided_at", 2, str(row["decision"]), said)
    people: dict[str, list[Row]] = {}
    for row in rows:
        if Promotion.from_row(row).is_by_person:
            people.setdefault(str(row["round_id"]), []).append(row)
    for of_step in people.values():
        # What is withdrawn with it stands in the sentence; alone, it is the step.
        main = min(of_step, key=lambda row: row["decision"] == Decision.WITHDRAWN)
        yield _entry(main, "decided_at", 2, str(main["decision"]), _step(main, of_step, rows))


def _step(main: Row, of_step: Sequence[Row], rows: Sequence[Row]) -> str:
    earlier = (Promotion.from_row(row) for row in rows if row["epoch"] < main["epoch"])
    before = select_champion(decided_until(earlier, Promotion.from_row(main).decided_at))
    withdrawn = [row["model_id"] for row in of_step if row["decision"] == Decision.WITHDRAWN]
    now = None if main["decision"] == Decision.WITHDRAWN else str(main["model_id"])
    left = before.model_id if before else None
    words = f"{short(now)} goes on" if now == left else f"{short(now)} answers in place of {short(left)}"
    if now is None:
        words = f"{short(left)} is withdrawn, and none of its own answers"
    elif withdrawn:
        words += ", which is withdrawn" if withdrawn == [left] else f"; {short(withdrawn[0])} is withdrawn"
    return f"by {main['by']}: {main['reason']}; {words} (epoch {main['epoch']})"
