"""The report: one HTML file that needs no network, made from the summary alone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from demo import notes, plots, words
from demo.markup import card, document, legend, section, table
from demo.worth import NAMES

Summary = Mapping[str, Any]


def page(measures: Summary) -> str:
    """Return the report. measures: what `measures.measure` returned, also after a trip through JSON."""
    worth = measures["worth"]
    there = worth is not None and worth["events"] > 0
    parts = [
        _head(measures),
        _errors(measures) if there else "",
        _injected(measures) if there and worth["injected"] else "",
        _retraining(measures),
        _life(measures) if there and measures["life"] else "",
        batches(measures["batches"]),
        _sets(measures),
        _worst(measures) if there else "",
        _notes(measures),
    ]
    return document(measures["fleet"]["name"], [part for part in parts if part])


def _head(measures: Summary) -> str:
    span = measures["span"]
    when = f"{words.day(span['start'])} to {words.day(span['end'])} {span['end'][:4]}"
    figures = "".join(f"<div><b>{big}</b><span>{small}</span></div>" for big, small in notes.figures(measures))
    return (
        f'<header><p class="name">Spinney <span>{html.escape(measures["fleet"]["name"])}, {when}</span></p>'
        f"<h1>{html.escape(words.headline(measures))}</h1>"
        f'<p class="lead">{html.escape(words.subline(measures))}</p><div class="figures">{figures}</div></header>'
    )


def _errors(measures: Summary) -> str:
    said = (
        "Mean error of each day on the same events for all four, each with the same recipe and knowing only what was "
        f"known at its moment.{_only_real(measures)}"
    )
    return section("worth", "The error, day by day", said, card(plots.daily_error(measures)), _comparison(measures))


def _only_real(measures: Summary) -> str:
    injected = measures["worth"]["injected"]
    return f" Without the {len(injected['groups'])} groups of the injected change below." if injected else ""


def _comparison(measures: Summary) -> str:
    worth = measures["worth"]
    fits = {"fleet": measures["retrained"]["fits"], **worth["fits"]}
    loss, clean = worth["mean_loss"], worth["mean_loss_without_injected"]
    rows = [
        [
            words.NAMES[name],
            words.number(clean[name]),
            words.number(loss[name]),
            "" if name == "fleet" else words.less(clean["fleet"], clean[name]).rsplit(" ", 1)[0],
            words.count(fits[name]),
        ]
        for name in NAMES
    ]
    heads = ["", "mean error", "with the injected change", "this fleet's is", "fits while streaming"]
    if not worth["injected"]:
        rows, heads = [row[:2] + row[3:] for row in rows], heads[:2] + heads[3:]
    return card(table(heads, rows))


def _injected(measures: Summary) -> str:
    injected = measures["worth"]["injected"]
    what = measures["injected_says"]
    said = (
        f"This did not happen: from {words.day(injected['change_at'])} on, the demo changes the outcomes of "
        f"{len(injected['groups'])} groups{f' ({what})' if what else ''}, {words.count(injected['events_after'])} "
        "events. How long until their error is back below 1.5 times what it was, and stays there for a day?"
    )
    lines = card(plots.recovery_lines(measures), "Their error", "Mean of the last 24 hours of event time.")
    bars = card(plots.recovery_bars(measures), "Until recovered", "Hours of event time since the change.")
    title = 'A sudden change<span class="made">injected</span>'
    return section("injected", title, said, f'<div class="pair">{lines}{bars}</div>')


def _retraining(measures: Summary) -> str:
    retrained, fresh, groups = measures["retrained"], measures["freshness"], measures["groups"]
    used, allowed = measures["budget"]["used_seconds"], measures["budget"]["allowed_seconds"]
    said = (
        f"{words.count(retrained['fits'])} fits in {words.count(measures['budget']['rounds'])} rounds, "
        f"{words.count(retrained['groups'])} groups; {notes.decisions(measures)}. "
        f"They took {words.seconds(used)} of the {words.seconds(allowed)} that the budget allowed."
    )
    by_state = {state: n for state, n in groups["by_state"].items() if n}
    strip = card(
        plots.states(measures) + legend(by_state, words.STATES, plots.STATE_COLOURS),
        f"{words.count(groups['total'])} groups, by their state at the end",
    )
    why = card(
        plots.reasons(measures) + legend(retrained["by_reason"], words.REASONS, plots.POLICY_COLOURS),
        "Retrained, and why",
        "Fits on each day of event time.",
    )
    timing = fresh["stale_to_answer"]
    soon = card(
        plots.freshness(measures),
        "From stale to a new champion answering",
        f"Wall clock. Median {words.seconds(timing['p50'])}, 95 % within {words.seconds(timing['p95'])}; "
        f"{words.count(fresh['no_event_yet'])} had no event to answer yet.",
    )
    return section("retraining", "Who was retrained", said, strip, f'<div class="pair">{why}{soon}</div>')


def _life(measures: Summary) -> str:
    one = measures["life"]
    mark = '<span class="made">injected change</span>' if one["injected"] else ""
    said = (
        "Each dot is an event's error, the lines are means of the last 15. Below, each round that retrained the group: "
        f"{len(one['rounds'])} in all. Rest the pointer on one to read why."
    )
    title = f"One group's life: {html.escape(words.group(one['group_key']))}{mark}"
    return section("life", title, said, card(plots.life(measures)))


def batches(queries: Summary) -> str:
    """The section about each query's micro-batches. queries: as `measures.batches` returns them."""
    typical = [one["seconds"]["p95"] for one in queries.values() if one["seconds"]["p95"] is not None]
    top = max(typical, default=1.0) * 1.15
    cards = "".join(
        card(
            plots.batch_line(one, top),
            html.escape(query),
            f"{words.count(one['batches'])} batches; median {words.seconds(one['seconds']['p50'])}, "
            f"95 % {words.seconds(one['seconds']['p95'])}, longest {words.seconds(one['seconds']['max'])}; "
            f"{words.count(one['rows_per_second'])} rows a second while it worked.",
        )
        for query, one in queries.items()
    )
    phases = list(dict.fromkeys(phase for one in queries.values() for phase in one["phases"]))
    rows = [
        [query, *(words.seconds(one["phases"][phase]) if phase in one["phases"] else "" for phase in phases)]
        for query, one in queries.items()
    ]
    means = card(table(["mean per batch", *phases], rows)) if phases else ""
    said = (
        "Seconds each micro-batch took, in order, all on one scale; taller ones are cut and drawn in another colour. "
        "The first of each starts cold."
    )
    return section("batches", "Where the time went", said, f'<div class="four">{cards}</div>', means)


def checks(found: Sequence[Mapping[str, Any]]) -> str:
    """A table of the checks of a reconciliation."""
    rows = [
        [
            f"{html.escape(check['name'])}<small>{html.escape(check['says'])}</small>"
            + "".join(f"<small>{html.escape(example)}</small>" for example in check["examples"]),
            *(words.count(check[name]) for name in ("expected", "found", "missing", "unexpected", "twice")),
            '<span class="yes">adds up</span>' if check["adds_up"] else '<span class="no">does not</span>',
        ]
        for check in found
    ]
    heads = ["", "expected", "found", "missing", "not expected", "twice", ""]
    return table(heads, rows, plain=False)


def _sets(measures: Summary) -> str:
    checked = measures["reconciliation"]
    events, outcomes = measures["events"], measures["outcomes"]
    said = (
        f"Sent: {words.count(events['records'])} events, {words.count(events['duplicates'])} of them duplicates and "
        f"{words.count(events['dead'])} bad on purpose; {words.count(outcomes['records'])} outcomes, "
        f"{words.count(outcomes['duplicates'])} of them duplicates. Compared id by id with what the tables hold."
    )
    dead = ", ".join(f"{html.escape(name)} {n}" for name, n in measures["dead_letters"].items())
    letters = f'<p class="note">Dead letters, with their bytes and a reason: {dead}.</p>' if dead else ""
    title = "Nothing lost, nothing twice" if checked["adds_up"] else "The sets do not add up"
    return section("sets", title, said, card(checks(checked["checks"]) + letters))


def _worst(measures: Summary) -> str:
    rows = [
        [
            html.escape(words.group(one["group_key"]))
            + ('<span class="made">injected</span>' if one["injected"] else ""),
            words.count(one["events"]),
            *(words.number(one[name]) for name in NAMES),
        ]
        for one in measures["worth"]["worst"]
    ]
    heads = [" · ".join(measures["fleet"]["group"]), "events", *(words.NAMES[name] for name in NAMES)]
    said = (
        "By this fleet's own mean error, of the groups with at least ten events judged. With few events each, chance "
        "has its part in who stands here."
    )
    return section("worst", "The worst ten groups", said, card(table(heads, rows, plain=False)))


def _notes(measures: Summary) -> str:
    entries = "".join(
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(said)}</dd>" for word, said in notes.definitions(measures)
    )
    return section("notes", "How this was measured", "", f"<dl>{entries}</dl>") + (
        "<footer>Made by spinney demo from the tables it left behind. Every number stands in the summary that "
        "spinney demo --json prints.</footer>"
    )
