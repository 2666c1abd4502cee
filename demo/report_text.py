"""The texts of the demo's report: headline, key figures, decisions of the gate, and definitions of the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.formatting import describe_difference, format_count, format_hours, format_number, format_seconds, format_share

DECISIONS = {
    "promoted": "promoted",
    "unproven": "promoted on thin evidence",
    "refused": "refused",
    "held": "held",
    "kept": "kept as they were",
    "withdrawn": "champions withdrawn for the model before",
}


def headline(summary: Mapping[str, Any]) -> str:
    """Return the result in a sentence, better or worse. The groups of the injected change are left out."""
    worth = summary["worth"]
    if worth is None or worth["mean_loss_without_injected"]["fleet"] is None:
        rows = format_count(summary["predictions"]["rows"])
        return f"{rows} events answered, {format_count(summary['retrained']['fits'])} groups retrained on the way."
    loss = worth["mean_loss_without_injected"]
    weekly, in_turn = (describe_difference(loss["fleet"], loss[name]) for name in ("weekly", "in_turn"))
    return (
        f"Retrained as it went stale, the fleet erred {weekly} one refitted weekly, and {in_turn} one refitted in "
        "turn, with as many fits."
    )


def subtitle(summary: Mapping[str, Any]) -> str:
    """Return the number of streamed events and the mean losses of the compared fleets, in two sentences."""
    span, worth = summary["span"], summary["worth"]
    events, groups = format_count(summary["predictions"]["rows"]), format_count(summary["groups"]["total"])
    text = (
        f"{events} events of {groups} groups went through Kafka, {span['days']} days of them in "
        f"{format_seconds(span['wall_seconds'])}."
    )
    if worth is None or worth["mean_loss_without_injected"]["fleet"] is None:
        return text
    loss, fits = worth["mean_loss_without_injected"], worth["fits"]
    unit = f" {worth['unit']}" if worth["unit"] else ""
    fleet, fitted = summary["fleet"], format_count(fits["fleet"])
    others = ", ".join(
        [
            f"refitted in turn {format_number(loss['in_turn'])} with {format_count(fits['in_turn'])}",
            f"daily {format_number(loss['daily'])} with {format_count(fits['daily'])}",
            f"weekly {format_number(loss['weekly'])} with {format_count(fits['weekly'])}",
            f"never {format_number(loss['never'])}",
        ]
    )
    own = f"{format_number(loss['fleet'])}{unit} with {fitted} fits"
    return f"{text} Mean {fleet['loss']} error of {fleet['target']}: {own}; {others}."


def key_figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return up to four key figures as (number, description), both HTML text."""
    worth = summary["worth"]
    figures = []
    if worth is not None and worth["mean_loss_without_injected"]["fleet"] is not None:
        loss = worth["mean_loss_without_injected"]
        unit = f", in {worth['unit']}" if worth["unit"] else ""
        never = describe_difference(loss["fleet"], loss["never"])
        daily = describe_difference(loss["fleet"], loss["daily"])
        fits = format_share(worth["fits"]["fleet"], worth["fits"]["daily"])
        figures.append((format_number(loss["fleet"]), f"mean error{unit}; {never} never refitting"))
        figures.append((fits, f"of the fits that daily refits take, erring {daily} they do"))
    timing = summary["freshness"]["stale_to_answer"]
    wait = f"median, from stale to a new champion answering; 95 % within {format_seconds(timing['p95'])}"
    figures.append((format_seconds(timing["p50"]), wait))
    checks = summary["reconciliation"]["checks"]
    wrong = sum(check["missing"] + check["unexpected"] + check["twice"] for check in checks)
    sent = format_count(summary["events"]["records"])
    figures.append((format_count(wrong), f"lost, doubled or unexplained, of {sent} events sent, bad ones among them"))
    return figures


NOT_FOUND = {
    "not_risen": "had an error that rose to less than 1.5 times",
    "refitted": "had been refitted for another reason by then",
    "unnoticed": "went unnoticed",
}
"""Phrases about changed groups that `error_rise` did not find, by the keys of `found_by_error.others`."""


def describe_found_by_error(summary: Mapping[str, Any]) -> str:
    """Return how many of the changed groups were found by their risen error, and what happened to the others."""
    by_error = summary["found_by_error"]
    text = f"error_rise found {by_error['found']} of {by_error['changed']} changed groups"
    if by_error["found"]:
        text += f", the median {format_hours(by_error['hours']['p50'])} after the change"
    others = by_error["others"] or {}
    parts = [f"{others[name]} {says}" for name, says in NOT_FOUND.items() if others.get(name)]
    if parts:
        text += f". Of the others, {', '.join(parts)}"
    return f"{text}. Other alarms: {format_count(by_error['other_alarms'])}; errors of unchanged groups rise too."


def describe_fits(summary: Mapping[str, Any]) -> str:
    """Return the number of fits, and how many of them are of parents."""
    retrained = summary["retrained"]
    return f"{format_count(retrained['fits'])} fits ({format_count(retrained['fits_of_parents'])} of parents)"


def describe_decisions(summary: Mapping[str, Any]) -> str:
    """Return the decisions of the gate with their numbers, and why other attempts had none."""
    retrained = summary["retrained"]
    parts = [f"{format_count(number)} {DECISIONS.get(name, name)}" for name, number in retrained["by_decision"].items()]
    parts += [f"{format_count(number)} {name.replace('_', ' ')}" for name, number in retrained["not_fitted"].items()]
    return ", ".join(parts) or "nothing was decided"


def describe_gain(summary: Mapping[str, Any]) -> str:
    """Return the gain from retraining as a sentence that follows another one; empty if none was measured."""
    gain = summary["gain"]
    return f" {gain['says'][0].upper()}{gain['says'][1:]}." if gain else ""


def describe_intervals(summary: Mapping[str, Any]) -> str:
    """Return the coverage of the prediction intervals in words; empty if there are none."""
    found = summary["intervals"]
    if not found:
        return ""
    unit = f" {summary['worth']['unit']}" if summary["worth"]["unit"] else ""
    return (
        f"{100 * found['covered']:.1f} % of {format_count(found['rows'])} labels within their interval "
        f"({100 * found['nominal']:g} % intended), mean width {format_number(found['width'])}{unit}; "
        f"{100 * found['unbounded']:.1f} % without an interval"
    )


def definitions(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (term, definition) of the numbers in the report."""
    terms = {"Time": _time(summary)}
    if summary["worth"] is not None:
        terms["Error"] = _error(summary)
        terms["Refitted in turn, daily, weekly, never"] = _REFITTED
        if summary["worth"]["injected"]:
            terms["Recovered"] = _RECOVERED
    if summary["gain"]:
        terms["Gain from retraining"] = _GAIN
    return list({**terms, "From stale to answering": _TIME_TO_ANSWER, "Reconciliation": _RECONCILIATION}.items())


def _time(summary: Mapping[str, Any]) -> str:
    span = summary["span"]
    return (
        f"Events and outcomes were sent in the order of their own time, {span['days']} days in "
        f"{format_seconds(span['wall_seconds'])}, never further ahead than the loop could follow. At this speed a "
        "round of seconds costs hours of event time; at real speed it costs seconds."
    )


def _error(summary: Mapping[str, Any]) -> str:
    fleet, worth = summary["fleet"], summary["worth"]
    return (
        f"The fleet's loss ({fleet['loss']}) of {fleet['target']}, on the {format_count(worth['events'])} streamed "
        "events whose label was known and mature at the end and that all fleets answered; "
        f"{format_count(worth['left_out'])} events were left out because one of them had no answer."
    )


_REFITTED = (
    "The same recipe and code, replayed: all groups at the stream's start, then every day or week, on rows whose label "
    "had come by then. In turn: every six hours the groups that have waited longest and have a new label, with as many "
    "fits as this fleet. No gate: a refit always replaces. Groups without a model are answered by a parent; fits of "
    "parents are not counted here."
)
_RECOVERED = (
    "The first full hour, at least 24 after the change, from which the mean error of the preceding 24 hours of event "
    "time, all changed groups together, stays below 1.5 times its mean before the change for 24 hours. Only the "
    "change, the duplicates and the bad records are made up."
)
_GAIN = (
    "Each round takes a few of the stale groups at random. Where such a group got a new model, a later round lets that "
    "and the one it replaced answer all rows that came after both were fitted. The gain is the replaced model's mean "
    "loss minus the new one's, each group counted once."
)
_TIME_TO_ANSWER = (
    "Wall clock, from the verdict that a group is stale to the first prediction by its new model. It includes the wait "
    "for the group's next event, which may take long in groups with few events."
)
_RECONCILIATION = (
    "Sets of (group, event id) from the record of what was sent and from the tables; dead letters by a digest of their "
    "bytes, and by reason."
)
