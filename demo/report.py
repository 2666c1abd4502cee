"""The report: one HTML file that needs no network, made from the summary alone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from demo import plots, report_text
from demo.formatting import (
    POLICY_LABELS,
    STATE_LABELS,
    STRATEGY_LABELS,
    describe_difference,
    format_count,
    format_day,
    format_group,
    format_number,
    format_seconds,
)
from demo.markup import card, document, legend, section, table
from demo.refit_comparison import STRATEGIES

Summary = Mapping[str, Any]


def render_report(summary: Summary) -> str:
    """Return the report as HTML. summary: from `run_summary.summarize_run`, or read back from its JSON."""
    worth = summary["worth"]
    has_comparison = worth is not None and worth["events"] > 0
    parts = [
        _head(summary),
        _errors(summary) if has_comparison else "",
        _injected(summary) if has_comparison and worth["injected"] else "",
        _retraining(summary),
        _group_timeline(summary) if has_comparison and summary["life"] else "",
        batches_section(summary["batches"]),
        _reconciliation(summary),
        _worst(summary) if has_comparison else "",
        _notes(summary),
    ]
    return document(summary["fleet"]["name"], [part for part in parts if part])


def _head(summary: Summary) -> str:
    span = summary["span"]
    when = f"{format_day(span['start'])} to {format_day(span['end'])} {span['end'][:4]}"
    figures = "".join(f"<div><b>{big}</b><span>{small}</span></div>" for big, small in report_text.key_figures(summary))
    return (
        f'<header><p class="name">Spinney <span>{html.escape(summary["fleet"]["name"])}, {when}</span></p>'
        f"<h1>{html.escape(report_text.headline(summary))}</h1>"
        f'<p class="lead">{html.escape(report_text.subtitle(summary))}</p><div class="figures">{figures}</div></header>'
    )


def _errors(summary: Summary) -> str:
    intro = (
        "Mean error of each day on the same events for all, each with the same recipe and knowing only what was known "
        f"at its moment.{_only_real(summary)}"
    )
    if intervals := report_text.describe_intervals(summary):
        intro += f" Of this fleet: {intervals}."
    return section("worth", "The error, day by day", intro, card(plots.draw_daily_error(summary)), _comparison(summary))


def _only_real(summary: Summary) -> str:
    injected = summary["worth"]["injected"]
    return f" Without the {len(injected['groups'])} groups of the injected change below." if injected else ""


def _comparison(summary: Summary) -> str:
    worth = summary["worth"]
    fits, loss, clean = worth["fits"], worth["mean_loss"], worth["mean_loss_without_injected"]
    rows = [
        [
            STRATEGY_LABELS[name],
            format_number(clean[name]),
            format_number(loss[name]),
            "" if name == "fleet" else describe_difference(clean["fleet"], clean[name]).rsplit(" ", 1)[0],
            format_count(fits[name]),
        ]
        for name in STRATEGIES
    ]
    heads = ["", "mean error", "with the injected change", "this fleet's is", "fits of groups while streaming"]
    if not worth["injected"]:
        rows, heads = [row[:2] + row[3:] for row in rows], heads[:2] + heads[3:]
    return card(table(heads, rows))


def _injected(summary: Summary) -> str:
    injected = summary["worth"]["injected"]
    what = summary["injected_says"]
    intro = (
        f"This did not happen: from {format_day(injected['change_at'])} on, the demo changes the outcomes of "
        f"{len(injected['groups'])} groups{f' ({what})' if what else ''}, {format_count(injected['events_after'])} "
        "events. How long until their error is back below 1.5 times what it was, and stays there for a day? "
        f"{report_text.describe_found_by_error(summary)}"
    )
    lines = card(plots.draw_recovery_lines(summary), "Their error", "Mean of the last 24 hours of event time.")
    bars = card(plots.draw_recovery_bars(summary), "Until recovered", "Hours of event time since the change.")
    title = 'A sudden change<span class="made">injected</span>'
    return section("injected", title, intro, f'<div class="pair">{lines}{bars}</div>')


def _retraining(summary: Summary) -> str:
    retrained, fresh, groups = summary["retrained"], summary["freshness"], summary["groups"]
    used, allowed = summary["budget"]["used_seconds"], summary["budget"]["allowed_seconds"]
    intro = (
        f"{report_text.describe_fits(summary)} in {format_count(summary['budget']['rounds'])} rounds, "
        f"{format_count(retrained['groups'])} groups; {report_text.describe_decisions(summary)}. "
        f"They took {format_seconds(used)} of the {format_seconds(allowed)} that the budget allowed."
        f"{report_text.describe_gain(summary)}"
    )
    by_state = {state: n for state, n in groups["by_state"].items() if n}
    strip = card(
        plots.draw_group_states(summary) + legend(by_state, STATE_LABELS, plots.STATE_COLOURS),
        f"{format_count(groups['total'])} groups, by their state at the end",
    )
    why = card(
        plots.draw_retraining_reasons(summary) + legend(retrained["by_reason"], POLICY_LABELS, plots.POLICY_COLOURS),
        "Retrained, and why",
        "Fits on each day of event time.",
    )
    timing = fresh["stale_to_answer"]
    soon = card(
        plots.draw_freshness(summary),
        "From stale to a new champion answering",
        f"Wall clock. Median {format_seconds(timing['p50'])}, 95 % within {format_seconds(timing['p95'])}; "
        f"{format_count(fresh['no_event_yet'])} had no event to answer yet.",
    )
    return section("retraining", "Who was retrained", intro, strip, f'<div class="pair">{why}{soon}</div>')


def _group_timeline(summary: Summary) -> str:
    one = summary["life"]
    mark = '<span class="made">injected change</span>' if one["injected"] else ""
    intro = (
        "Each dot is an event's error, the lines are means of the last 15. Below, each round that retrained the group: "
        f"{len(one['rounds'])} in all. Rest the pointer on one to read why."
    )
    title = f"One group's life: {html.escape(format_group(one['group_key']))}{mark}"
    return section("life", title, intro, card(plots.draw_group_timeline(summary)))


def batches_section(queries: Summary) -> str:
    """Return the section about micro-batches. queries: from `run_summary.summarize_batches`."""
    typical = [one["seconds"]["p95"] for one in queries.values() if one["seconds"]["p95"] is not None]
    top = max(typical, default=1.0) * 1.15
    cards = "".join(
        card(
            plots.draw_batch_durations(one, top),
            html.escape(query),
            f"{format_count(one['batches'])} batches; median {format_seconds(one['seconds']['p50'])}, "
            f"95 % {format_seconds(one['seconds']['p95'])}, longest {format_seconds(one['seconds']['max'])}; "
            f"{format_count(one['rows_per_second'])} rows a second while it worked.",
        )
        for query, one in queries.items()
    )
    phases = list(dict.fromkeys(phase for one in queries.values() for phase in one["phases"]))
    rows = [
        [query, *(format_seconds(one["phases"][phase]) if phase in one["phases"] else "" for phase in phases)]
        for query, one in queries.items()
    ]
    means = card(table(["mean per batch", *phases], rows)) if phases else ""
    intro = (
        "Seconds each micro-batch took, in order, all on one scale; taller ones are cut and drawn in another colour. "
        "The first of each starts cold."
    )
    return section("batches", "Where the time went", intro, f'<div class="four">{cards}</div>', means)


def checks_table(checks: Sequence[Mapping[str, Any]]) -> str:
    """Return the checks of a reconciliation as an HTML table."""
    rows = [
        [
            f"{html.escape(check['name'])}<small>{html.escape(check['says'])}</small>"
            + "".join(f"<small>{html.escape(example)}</small>" for example in check["examples"]),
            *(format_count(check[name]) for name in ("expected", "found", "missing", "unexpected", "twice")),
            '<span class="yes">adds up</span>' if check["adds_up"] else '<span class="no">does not</span>',
        ]
        for check in checks
    ]
    heads = ["", "expected", "found", "missing", "not expected", "twice", ""]
    return table(heads, rows, plain=False)


def _reconciliation(summary: Summary) -> str:
    checked = summary["reconciliation"]
    events, outcomes = summary["events"], summary["outcomes"]
    intro = (
        f"Sent: {format_count(events['records'])} events, {format_count(events['duplicates'])} of them duplicates and "
        f"{format_count(events['dead'])} bad on purpose; {format_count(outcomes['records'])} outcomes, "
        f"{format_count(outcomes['duplicates'])} of them duplicates. Compared id by id with what the tables hold."
    )
    dead = ", ".join(f"{html.escape(name)} {n}" for name, n in summary["dead_letters"].items())
    letters = f'<p class="note">Dead letters, with their bytes and a reason: {dead}.</p>' if dead else ""
    title = "Nothing lost, nothing twice" if checked["adds_up"] else "The sets do not add up"
    return section("sets", title, intro, card(checks_table(checked["checks"]) + letters))


def _worst(summary: Summary) -> str:
    rows = [
        [
            html.escape(format_group(one["group_key"]))
            + ('<span class="made">injected</span>' if one["injected"] else ""),
            format_count(one["events"]),
            *(format_number(one[name]) for name in STRATEGIES),
        ]
        for one in summary["worth"]["worst"]
    ]
    heads = [" · ".join(summary["fleet"]["group"]), "events", *(STRATEGY_LABELS[name] for name in STRATEGIES)]
    intro = (
        "The groups with the largest mean error, of those with at least ten events judged. With few events, chance "
        "decides in part which groups are listed here."
    )
    return section("worst", "The worst ten groups", intro, card(table(heads, rows, plain=False)))


def _notes(summary: Summary) -> str:
    entries = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in report_text.definitions(summary)
    )
    return section("notes", "How this was measured", "", f"<dl>{entries}</dl>") + (
        "<footer>Made by spinney demo from the tables it left behind. Every number is in the summary that "
        "spinney demo --json prints.</footer>"
    )
