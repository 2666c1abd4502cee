"""The report's key figures, and how each number in it is defined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo import words

DECISIONS = {
    "promoted": "promoted",
    "unproven": "promoted on thin evidence",
    "refused": "refused",
    "held": "held",
    "kept": "kept as they were",
}


def figures(measures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Four numbers and what they are: (big, small), as HTML text."""
    fresh, checked = measures["freshness"], measures["reconciliation"]
    events = measures["events"]
    worth = measures["worth"]
    found = []
    if worth is not None and worth["mean_loss_without_injected"]["fleet"] is not None:
        loss = worth["mean_loss_without_injected"]
        unit = f" {worth['unit']}" if worth["unit"] else ""
        low = f"mean error{', in' + unit if unit else ''}; {words.less(loss['fleet'], loss['never'])} never refitting"
        found.append((words.number(loss["fleet"]), low))
        found.append(
            (
                words.share(measures["retrained"]["fits"], worth["fits"]["daily"]),
                f"of the fits that daily refits take, erring {words.less(loss['fleet'], loss['daily'])} they do",
            )
        )
    timing = fresh["stale_to_answer"]
    found.append(
        (
            words.seconds(timing["p50"]),
            f"median, from stale to a new champion answering; 95 % within {words.seconds(timing['p95'])}",
        )
    )
    odd = sum(check["missing"] + check["unexpected"] + check["twice"] for check in checked["checks"])
    handled = words.count(events["records"])
    found.append((words.count(odd), f"lost, doubled or unexplained, of {handled} events sent, bad ones among them"))
    return found


def decisions(measures: Mapping[str, Any]) -> str:
    """What the gate decided, in words."""
    decided = measures["retrained"]["by_decision"]
    said = [f"{words.count(number)} {DECISIONS.get(name, name)}" for name, number in decided.items()]
    said += [
        f"{words.count(number)} {name.replace('_', ' ')}"
        for name, number in measures["retrained"]["not_fitted"].items()
    ]
    return ", ".join(said) or "nothing was decided"


def definitions(measures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(term, what it means here)."""
    found = {"Time": _time(measures)}
    if measures["worth"] is not None:
        found["Error"] = _error(measures)
        found["Refitted daily, weekly, never"] = _REFITTED
        if measures["worth"]["injected"]:
            found["Recovered"] = _RECOVERED
    return list({**found, "From stale to answering": _ANSWERING, "Reconciliation": _SETS}.items())


def _time(measures: Mapping[str, Any]) -> str:
    span = measures["span"]
    return (
        f"Events and outcomes were sent in the order of their own time, {span['days']} days in "
        f"{words.seconds(span['wall_seconds'])}, never further ahead than the loop could follow. At this speed a "
        "round of seconds costs hours of event time; at real speed it costs seconds."
    )


def _error(measures: Mapping[str, Any]) -> str:
    fleet, worth = measures["fleet"], measures["worth"]
    return (
        f"The fleet's loss ({fleet['loss']}) of {fleet['target']}, on the {words.count(worth['events'])} streamed "
        "events whose label was known and mature at the end and that all four answered; "
        f"{words.count(worth['left_out'])} left out because one did not."
    )


_REFITTED = (
    "The same recipe and code, replayed: all groups at the stream's start, then every day or week, on rows whose label "
    "had come by then. No gate: a refit always replaces. Groups without a model are answered by a parent."
)
_RECOVERED = (
    "The first full hour, at least 24 after the change, from which the mean error of the preceding 24 hours of event "
    "time, all changed groups together, stays below 1.5 times its mean before the change for 24 hours. The change, the "
    "duplicates and the bad records are made up, and nothing else."
)
_ANSWERING = (
    "Wall clock, from the verdict that a group is stale to the first prediction by its new model. It includes the wait "
    "for the group's next event, which comes seldom in quiet groups."
)
_SETS = (
    "Sets of (group, event id) from the producer's ledger and from the tables; dead letters by a digest of their "
    "bytes, and by reason."
)
