"""The report of a demo at scale: one HTML file that needs no network, made from the summary alone."""

from __future__ import annotations

import html

from demo import plots as common
from demo import words
from demo.markup import card, document, legend, section, table
from demo.report import batches, checks
from demo.scale import plots
from demo.scale.words import KINDS, REFITS, Summary, definitions, figures, headline, reasons, repeated, subline


def page(summary: Summary) -> str:
    """Return the report. summary: what `run.demo` returned, also after a trip through JSON."""
    parts = [
        _head(summary),
        _errors(summary),
        _refits(summary),
        _latency(summary),
        _before(summary),
        batches(summary["batches"]),
        _sets(summary),
        _notes(summary),
    ]
    return document(f"{words.count(summary['fleet']['groups'])} groups", parts)


def _head(summary: Summary) -> str:
    cells = "".join(
        f"<div><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>" for big, small in figures(summary)
    )
    return (
        f'<header><p class="name">Spinney <span>demo --scale, synthetic data</span></p>'
        f"<h1>{html.escape(headline(summary))}</h1>"
        f'<p class="lead">{html.escape(subline(summary))}</p><div class="figures">{cells}</div></header>'
    )


def _errors(summary: Summary) -> str:
    said = (
        "Mean error of what the stream answered. At 0 s the labels of "
        f"{words.count(summary['fleet']['changed'])} groups change; {words.count(summary['fleet']['as_busy'])} others "
        "have just as many events and do not change. By the second in which an event was sent."
    )
    rows = [
        [
            KINDS[kind],
            *(words.number(summary["errors"][kind][part]) for part in ("before", "old_model", "new_model")),
            words.count(summary["errors"][kind]["rows"]["new_model"]),
        ]
        for kind in KINDS
    ]
    heads = [
        "mean error",
        "before the change",
        "after it, by the old model",
        "by a new champion",
        "events of the latter",
    ]
    title = 'A sudden change<span class="made">made up</span>'
    return section("errors", title, said, card(plots.errors(summary)), card(table(heads, rows)))


def _refits(summary: Summary) -> str:
    refits, budget = summary["refits"], summary["budget"]
    said = (
        f"{words.count(summary['retrained']['fits'])} fits in {words.count(budget['rounds'])} rounds, which took "
        f"{words.seconds(budget['used_seconds'])} of the {words.seconds(budget['allowed_seconds'])} of their budget."
    )
    rows = [
        [
            REFITS[kind],
            *(words.count(refits[kind][name]) for name in ("groups", "refitted", "promoted")),
            reasons(refits[kind]["by_policy"]),
        ]
        for kind in REFITS
    ]
    who = card(table(["groups", "there are", "refitted", "with a new champion", "fits, and why"], rows))
    by_state = {state: n for state, n in summary["groups"]["by_state"].items() if n}
    strip = card(
        common.states(summary) + legend(by_state, words.STATES, common.STATE_COLOURS),
        f"{words.count(summary['groups']['total'])} groups, by their state at the end",
    )
    stale, answer = refits["to_stale"], refits["to_answer"]
    soon = card(
        plots.to_answer(summary),
        "From the change to a new champion answering",
        f"The changed groups. Enough events to judge them by came within {words.seconds(refits['evidence_seconds'])}. "
        f"Stale after a median of {words.seconds(stale['p50'])}, answered by a new champion after "
        f"{words.seconds(answer['p50'])}, 95 % within {words.seconds(answer['p95'])}.",
    )
    return section("refits", "Who was refitted, and why", said, who, soon, strip, *_stories(summary))


def _stories(summary: Summary) -> list[str]:
    """What `spinney why` says of one group for each policy and kind."""
    return [
        card(
            f"<pre>{html.escape(one['story'])}</pre>",
            html.escape(f"spinney why '{one['group_key']}'"),
            f"One of those that were refitted because of: {words.REASONS.get(one['policy'], one['policy'])}; its kind: "
            f"{REFITS[one['kind']]}.",
        )
        for one in summary["refits"]["examples"]
    ]


def _latency(summary: Summary) -> str:
    latency, unanswered = summary["latency"], summary["unanswered"]
    said = (
        f"{words.count(latency['n'])} events: median {words.seconds(latency['p50'])}, 95 % within "
        f"{words.seconds(latency['p95'])}, 99 % within {words.seconds(latency['p99'])}, longest "
        f"{words.seconds(latency['max'])}. All were answered {words.seconds(latency['after_the_last'])} after the last "
        f"was sent. At most {words.count(unanswered['most'])} were unanswered at a time. Fitted by a "
        f"line, latency changed by {latency['growth']:+.1f} s a minute."
    )
    timing = card(plots.latency(summary), "From event to prediction", "By the second in which the event was sent.")
    if summary["memory"] is None:
        return section("latency", "How fast, and in how much memory", said, timing)
    peak = f"Peak {words.count(summary['memory']['peak_mb'])} MB, without the broker and the producer."
    memory = card(plots.memory(summary), "Memory of the process tree", peak)
    return section("latency", "How fast, and in how much memory", said, f'<div class="pair">{timing}{memory}</div>')


def _before(summary: Summary) -> str:
    history, weekly = summary["history"], summary["weekly"]
    rows = [
        [
            f"History: {words.count(history['rows'])} rows loaded",
            words.seconds(history["load_seconds"]),
            f"{words.count(history['rows_per_second'])} rows/s",
        ],
        [
            f"Weekly round: {words.count(weekly['fitted'])} of {words.count(weekly['groups'])} groups fitted",
            words.seconds(weekly["seconds"]),
            f"{words.count(weekly['groups_per_second'])} groups/s",
        ],
        *[[f"of it: {stage}", words.seconds(seconds), ""] for stage, seconds in weekly["stages"].items()],
    ]
    said = "Before the stream: validated, stored sorted, every group fitted, measured, signed and promoted."
    return section("before", "History and the weekly round", said, card(table(["", "took", ""], rows)))


def _sets(summary: Summary) -> str:
    checked = summary["reconciliation"]
    title = "Nothing lost, nothing stored twice" if checked["adds_up"] else "The sets do not add up"
    said = f"What the producer sent, compared id by id with what the tables and topics hold. {repeated(summary)}"
    return section("sets", title, said, card(checks(checked["checks"])))


def _notes(summary: Summary) -> str:
    entries = "".join(
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(said)}</dd>" for word, said in definitions(summary)
    )
    return section("notes", "How this was measured", "", f"<dl>{entries}</dl>") + (
        "<footer>Made by spinney demo --scale from the tables and topics it left behind. Every number stands in the "
        "summary that spinney demo --scale --json prints.</footer>"
    )
