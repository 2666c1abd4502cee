"""The history of one group in words: verdicts, attempts, decisions and interventions, with their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.vocabulary import ALSO, PREDECESSOR, Decision
from spinney.core.champions.champion_selection import decided_until, select_champion
from spinney.core.champions.interventions import SHORT_ID_LENGTH
from spinney.core.champions.promotion import Promotion
from spinney.core.durations import format_duration
from spinney.core.migration import LossHistory
from spinney.core.number_format import format_number
from spinney.core.recipes.display_name import recipe_display_name

Row = Mapping[str, Any]

_OF_AGE = "max_age"
"""The policy whose measure and limit are durations in microseconds, so that they are shown in words."""

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
    "loss_name",
)
"""Fields of an entry in `--json` other than its text."""


def explain(
    verdicts: Iterable[Row],
    attempts: Iterable[Row],
    decisions: Sequence[Row],
    estimators: Mapping[str, str],
    losses: LossHistory | None = None,
) -> tuple[dict[str, Any], ...]:
    """Return the history of one group, oldest first.

    verdicts, attempts (rows of `models`), decisions (rows of `promotions`): all rows of the group. estimators:
    recipe_id -> estimator. losses: of the fleet; once its loss has changed, an entry with losses names them.

    An entry has `at` (wall clock), `what` (kind), `said` (a sentence), `clock` (the fleet's) and numbers, by the names
    that `spinney why --json` uses.
    """
    entries = [_entry(row, "judged_at", 0, f"judged {row['decision']}", _verdict(row)) for row in verdicts]
    entries += [_entry(row, "fitted_at", 1, str(row["status"]), _attempt(row, estimators)) for row in attempts]
    entries += _decisions(decisions)
    if entries and losses is not None and losses.is_changed:
        entries = [_with_loss_name(entry, losses) for entry in entries] + list(_changes_of_loss(losses))
    return tuple(sorted(entries, key=lambda entry: (entry["at"], entry["order"])))


_LOSS_NUMBERS = frozenset({"recent_loss", "reference_loss", "expected_gain"})
"""Numbers of a verdict that are losses."""


def _with_loss_name(entry: dict[str, Any], losses: LossHistory) -> dict[str, Any]:
    """The entry with the name of its losses, if it has any."""
    numbers = json.loads(entry.get("numbers") or "{}")
    metrics = json.loads(entry.get("metrics") or "{}")
    if "challenger_loss" not in entry and "shadow" not in metrics and _LOSS_NUMBERS.isdisjoint(numbers):
        return entry
    name = losses.name_at(entry["at"]) if numbers else losses.name_of(entry.get("loss_name"))
    return {**entry, "loss_name": name, "said": f"{entry['said']} [{name} loss]"}


def _changes_of_loss(losses: LossHistory) -> Iterator[dict[str, Any]]:
    for change in losses.changes:
        sentence = (
            f"from {change.before} to {change.after}; the recent loss and the reference loss restart with it, "
            "and stored losses of single rows are converted"
        )
        yield _entry({"at": change.at}, "at", -1, "loss changed", sentence)


def model_label(model_id: str | None) -> str:
    """Return a model's shortened id as part of a sentence."""
    return f"model {model_id[:SHORT_ID_LENGTH]}" if model_id else "no model of its own"


def format_minute(moment: datetime | None) -> str:
    """Return a time in UTC to the minute; "never" for None."""
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _entry(row: Row, at: str, order: int, what: str, sentence: str) -> dict[str, Any]:
    numbers = {name: row[name] for name in _NUMBERS if row.get(name) is not None}
    return {"at": row[at], "order": order, "what": what, "said": sentence, "clock": row.get("clock"), **numbers}


def _verdict(row: Row) -> str:
    numbers = json.loads(row.get("numbers") or "{}")
    further, predecessor = numbers.pop(ALSO, {}), numbers.pop(PREDECESSOR, None)
    listed = [f"{name} {_format_number(name, value, row.get('policy'))}" for name, value in numbers.items() if value]
    listed += [f"{ALSO} stale by {name}" for name in further]
    listed += [f"predecessor {model_label(predecessor['model_id'])}"] if predecessor else []
    return f"{row['reason']} [{', '.join(listed)}]" if listed else str(row["reason"])


def _format_number(name: str, value: float | str, policy: str | None) -> str:
    """A number or name of a verdict as text. Durations are in words."""
    if isinstance(value, str):
        return value
    if policy == _OF_AGE and name in ("measure", "limit"):
        return format_duration(timedelta(microseconds=value))
    return format_number(value)


def _attempt(row: Row, estimators: Mapping[str, str]) -> str:
    if row.get("error"):
        kind = row.get("error_class")
        return f"{kind}: {row['error']}" if kind and not row["error"].startswith(kind) else str(row["error"])
    if origin := json.loads(row.get("metrics") or "{}").get("origin"):
        through = format_minute(row["trained_through"])
        return f"{model_label(row['model_id'])}, imported from {origin}, trained through {through}"
    recipe = recipe_display_name(row.get("recipe_id"), estimators)
    by = f" by {recipe}" if recipe else ""
    since = f"of {format_minute(row['trained_from'])} " if row.get("trained_from") else ""
    through = format_minute(row["trained_through"])
    return (
        f"{model_label(row['model_id'])}{by}, {row['rows']} rows {since}through {through}, "
        f"{format_number(row.get('fit_ms') or 0)} ms{_shadow(json.loads(row.get('metrics') or '{}'))}"
    )


def _shadow(metrics: Row) -> str:
    """The shadow's loss on the challenger's held-out rows, as part of a sentence."""
    shadow = metrics.get("shadow")
    if shadow is None:
        return ""
    if "error" in shadow:
        return f"; in shadow {shadow['estimator']}: {shadow['error']}"
    challenger_loss = metrics["challenger_loss"]
    losses = f"loss {format_number(shadow['loss'])} against {format_number(challenger_loss)}"
    return f"; in shadow {shadow['estimator']}: {losses} on {shadow['rows']} rows"


def _decisions(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """One entry per decision of a machine, and one per intervention of a person."""
    for row in rows:
        if not Promotion.from_row(row).is_by_person:
            sentence = f"{model_label(row['model_id'])}: {row['reason']} ({row['by']})"
            yield _entry(row, "decided_at", 2, str(row["decision"]), sentence)
    people: dict[str, list[Row]] = {}
    for row in rows:
        if Promotion.from_row(row).is_by_person:
            people.setdefault(str(row["round_id"]), []).append(row)
    for same_intervention in people.values():
        # A withdrawal is part of the intervention's sentence, unless it is all that was written.
        main = min(same_intervention, key=lambda row: row["decision"] == Decision.WITHDRAWN)
        yield _entry(main, "decided_at", 2, str(main["decision"]), _intervention(main, same_intervention, rows))


def _intervention(main: Row, same_intervention: Sequence[Row], rows: Sequence[Row]) -> str:
    earlier = (Promotion.from_row(row) for row in rows if row["epoch"] < main["epoch"])
    before = select_champion(decided_until(earlier, Promotion.from_row(main).decided_at))
    withdrawn = [row["model_id"] for row in same_intervention if row["decision"] == Decision.WITHDRAWN]
    now = None if main["decision"] == Decision.WITHDRAWN else str(main["model_id"])
    left = before.model_id if before else None
    words = (
        f"{model_label(now)} goes on" if now == left else f"{model_label(now)} answers in place of {model_label(left)}"
    )
    if now is None:
        words = f"{model_label(left)} is withdrawn, and none of its own answers"
    elif withdrawn:
        words += ", which is withdrawn" if withdrawn == [left] else f"; {model_label(withdrawn[0])} is withdrawn"
    return f"by {main['by']}: {main['reason']}; {words} (epoch {main['epoch']})"
