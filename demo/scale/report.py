"""The report of a demo at scale: one HTML file that needs no network, made from the summary alone."""

from __future__ import annotations

import html

from demo import plots as common
from demo.formatting import POLICY_LABELS, STATE_LABELS, format_count, format_number, format_seconds
from demo.markup import card, document, legend, section, table
from demo.report import batches_section, checks_table
from demo.scale import plots
from demo.scale.scale_text import (
    KIND_LABELS,
    REFIT_LABELS,
    Summary,
    definitions,
    describe_policies,
    describe_repeated_answers,
    headline,
    key_figures,
    subtitle,
)


def render_report(summary: Summary) -> str:
    """Return the report. summary: from `run_demo`, or read back from its JSON."""
    parts = [
        _head(summary),
        _errors(summary),
        _refits(summary),
        _latency(summary),
        _before(summary),
        batches_section(summary["batches"]),
        _reconciliation(summary),
        _notes(summary),
    ]
    return document(f"{format_count(summary['fleet']['groups'])} groups", parts)


def _head(summary: Summary) -> str:
    cells = "".join(
        f"<div><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>" for big, small in key_figures(summary)
    )
    return (
        f'<header><p class="name">Spinney <span>demo --scale, synthetic data</span></p>'
        f"<h1>{html.escape(headline(summary))}</h1>"
        f'<p class="lead">{html.escape(subtitle(summary))}</p><div class="figures">{cells}</div></header>'
    )


def _errors(summary: Summary) -> str:
    intro = (
        "Mean error of what the stream answered. At 0 s the labels of "
        f"{format_count(summary['fleet']['changed'])} groups change; "
        f"{format_count(summary['fleet']['as_busy'])} others "
        "have just as many events and do not change. By the second in which an event was sent."
    )
    rows = [
        [
            KIND_LABELS[kind],
            *(format_number(summary["errors"][kind][part]) for part in ("before", "old_model", "new_model")),
            format_count(summary["errors"][kind]["rows"]["new_model"]),
        ]
        for kind in KIND_LABELS
    ]
    heads = [
        "mean error",
        "before the change",
        "after it, by the old model",
        "by a new champion",
        "events of the latter",
    ]
    title = 'A sudden change<span class="made">made up</span>'
    return section("errors", title, intro, card(plots.draw_errors(summary)), card(table(heads, rows)))


def _refits(summary: Summary) -> str:
    refits, budget = summary["refits"], summary["budget"]
    intro = (
        f"{format_count(summary['retrained']['fits'])} fits in {format_count(budget['rounds'])} rounds, which took "
        f"{format_seconds(budget['used_seconds'])} of the {format_seconds(budget['allowed_seconds'])} of their budget."
    )
    rows = [
        [
            REFIT_LABELS[kind],
            *(format_count(refits[kind][name]) for name in ("groups", "refitted", "promoted")),
            describe_policies(refits[kind]["by_policy"]),
        ]
        for kind in REFIT_LABELS
    ]
    groups_card = card(table(["groups", "there are", "refitted", "with a new champion", "fits, and why"], rows))
    by_state = {state: n for state, n in summary["groups"]["by_state"].items() if n}
    strip = card(
        common.draw_group_states(summary) + legend(by_state, STATE_LABELS, common.STATE_COLOURS),
        f"{format_count(summary['groups']['total'])} groups, by their state at the end",
    )
    stale, answer = refits["to_stale"], refits["to_answer"]
    soon = card(
        plots.draw_time_to_answer(summary),
        "From the change to a new champion answering",
        f"The changed groups. Enough events to judge them by came within {format_seconds(refits['evidence_seconds'])}. "
        f"Stale after a median of {format_seconds(stale['p50'])}, answered by a new champion after "
        f"{format_seconds(answer['p50'])}, 95 % within {format_seconds(answer['p95'])}.",
    )
    return section("refits", "Who was refitted, and why", intro, groups_card, soon, strip, *_explanations(summary))


def _explanations(summary: Summary) -> list[str]:
    """Return a card with the output of `spinney why` for each example group."""
    return [
        card(
            f"<pre>{html.escape(one['story'])}</pre>",
            html.escape(f"spinney why '{one['group_key']}'"),
            f"One of those that were refitted because of: {POLICY_LABELS.get(one['policy'], one['policy'])}; its kind: "
            f"{REFIT_LABELS[one['kind']]}.",
        )
        for one in summary["refits"]["examples"]
    ]


def _latency(summary: Summary) -> str:
    latency, unanswered = summary["latency"], summary["unanswered"]
    intro = (
        f"{format_count(latency['n'])} events: median {format_seconds(latency['p50'])}, 95 % within "
        f"{format_seconds(latency['p95'])}, 99 % within {format_seconds(latency['p99'])}, longest "
        f"{format_seconds(latency['max'])}. All were answered {format_seconds(latency['after_the_last'])} after the "
        f"last was sent. At most {format_count(unanswered['most'])} were unanswered at a time. Fitted by a "
        f"line, latency changed by {latency['growth']:+.1f} s a minute."
    )
    timing = card(plots.draw_latency(summary), "From event to prediction", "By the second in which the event was sent.")
    if summary["memory"] is None:
        return section("latency", "How fast, and in how much memory", intro, timing)
    peak = f"Peak {format_count(summary['memory']['peak_mb'])} MB, without the broker and the producer."
    memory = card(plots.draw_memory(summary), "Memory of the process tree", peak)
    return section("latency", "How fast, and in how much memory", intro, f'<div class="pair">{timing}{memory}</div>')


def _before(summary: Summary) -> str:
    history, weekly = summary["history"], summary["weekly"]
    rows = [
        [
            f"History: {format_count(history['rows'])} rows loaded",
            format_seconds(history["load_seconds"]),
            f"{format_count(history['rows_per_second'])} rows/s",
        ],
        [
            f"Weekly round: {format_count(weekly['fitted'])} of {format_count(weekly['groups'])} groups fitted",
            format_seconds(weekly["seconds"]),
            f"{format_count(weekly['groups_per_second'])} groups/s",
        ],
        *[[f"of it: {stage}", format_seconds(seconds), ""] for stage, seconds in weekly["stages"].items()],
    ]
    intro = "Before the stream: validated, stored sorted, every group fitted, measured, signed and promoted."
    return section("before", "History and the weekly round", intro, card(table(["", "took", ""], rows)))


def _reconciliation(summary: Summary) -> str:
    checked = summary["reconciliation"]
    title = "Nothing lost, nothing stored twice" if checked["adds_up"] else "The sets do not add up"
    compared = "What the producer sent, compared id by id with what the tables and topics hold."
    intro = f"{compared} {describe_repeated_answers(summary)}"
    return section("sets", title, intro, card(checks_table(checked["checks"])))


def _notes(summary: Summary) -> str:
    entries = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in definitions(summary)
    )
    return section("notes", "How this was measured", "", f"<dl>{entries}</dl>") + (
        "<footer>Made by spinney demo --scale from the tables and topics it left behind. Every number is in the "
        "summary that spinney demo --scale --json prints.</footer>"
    )
