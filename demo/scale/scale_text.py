"""The texts of the report at scale: headline, key figures, lines for the terminal, and definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.formatting import POLICY_LABELS, format_count, format_number, format_seconds, format_share
from demo.scale.synthetic_fleet import LABEL_SHIFT, NOISE_STD, ROWS_PER_GROUP

KIND_LABELS = {
    "changed": "changed",
    "as_busy": "unchanged, with as many events",
    "others": "all others, unchanged",
}
REFIT_LABELS = {**KIND_LABELS, "earlier": "changed, refitted before the change: false alarms"}
SHORT_REFIT_LABELS = {
    "changed": "changed",
    "as_busy": "unchanged, as busy",
    "others": "unchanged others",
    "earlier": "before the change",
}
Summary = Mapping[str, Any]


def headline(summary: Summary) -> str:
    """Return the result in a sentence, good or bad."""
    refits, timing = summary["refits"], summary["refits"]["to_answer"]
    changed, groups = refits["changed"], format_count(summary["fleet"]["groups"])
    text = (
        f"{format_count(changed['groups'])} of {groups} groups changed, and {format_count(changed['refitted'])} "
        "of them were refitted after it"
    )
    if timing["p50"] is not None:
        text += f"; their new champions answered {format_seconds(timing['p50'])} after the change"
    others = [refits[kind] for kind in ("as_busy", "others")]
    unchanged, refitted = (sum(one[name] for one in others) for name in ("groups", "refitted"))
    return f"{text}. Of the {format_count(unchanged)} that did not change, {format_count(refitted)} were refitted."


def subtitle(summary: Summary) -> str:
    """Return what was fitted and streamed, and the latency."""
    weekly, stream, latency = summary["weekly"], summary["stream"], summary["latency"]
    return (
        f"A weekly round fitted {format_count(weekly['fitted'])} models in {format_seconds(weekly['seconds'])}. Then "
        f"{format_count(stream['sent'])} events were sent, {format_count(stream['sent_per_second'])} a second, "
        f"and {format_count(stream['answered'])} answered: half of them within {format_seconds(latency['p50'])}, "
        f"99 % within {format_seconds(latency['p99'])}. All of it took {format_seconds(summary['wall_seconds'])}."
    )


def key_figures(summary: Summary) -> list[tuple[str, str]]:
    """Return up to four key figures as (number, description), both text."""
    latency, memory, weekly, stream = (summary[name] for name in ("latency", "memory", "weekly", "stream"))
    changed, busy = summary["refits"]["changed"], summary["refits"]["as_busy"]
    answered = f"events answered, {format_count(stream['rate'])} sent; 99 % within {format_seconds(latency['p99'])}"
    renewed = (
        f"of {format_count(changed['groups'])} changed groups have a new champion; of {format_count(busy['groups'])} "
        f"unchanged ones with as many events, {format_count(busy['promoted'])}"
    )
    figures = [
        (f"{format_count(stream['answered_per_second'])}/s", answered),
        (format_share(changed["promoted"], changed["groups"]), renewed),
        (f"{format_count(weekly['groups_per_second'])}/s", "groups fitted, measured and promoted by the weekly round"),
    ]
    if memory:
        peak = f"{memory['peak_mb'] / 1024:.1f} GB"
        figures.append((peak, "peak memory while events streamed: driver, JVM and Python workers"))
    return figures


def summary_lines(summary: Summary) -> dict[str, str]:
    """Return the summary for a terminal: name -> sentence."""
    history, weekly, stream = summary["history"], summary["weekly"], summary["stream"]
    latency, memory, budget = summary["latency"], summary["memory"], summary["budget"]
    unanswered = summary["unanswered"]
    return {
        "history": f"{format_count(history['rows'])} rows of {format_count(summary['fleet']['groups'])} groups "
        f"loaded in {format_seconds(history['load_seconds'])}: {format_count(history['rows_per_second'])} rows a "
        "second",
        "weekly round": f"{format_count(weekly['fitted'])} of {format_count(weekly['groups'])} groups fitted in "
        f"{format_seconds(weekly['seconds'])}: {format_count(weekly['groups_per_second'])} groups a second",
        "events": f"{format_count(stream['sent'])} sent ({format_count(stream['sent_per_second'])}/s): "
        f"{format_count(stream['stored'])} stored, {format_count(stream['answered'])} answered "
        f"({format_count(stream['answered_per_second'])}/s); {format_count(stream['repeated_answers'])} answers "
        "published again",
        "latency": f"event to prediction: median {format_seconds(latency['p50'])}, 95 % within "
        f"{format_seconds(latency['p95'])}, 99 % within {format_seconds(latency['p99'])}, longest "
        f"{format_seconds(latency['max'])}",
        "lag": f"{format_seconds(latency['after_the_last'])} from the last event to the last answer; at most "
        f"{format_count(unanswered['most'])} events unanswered",
        "memory": "not known on this system" if memory is None else f"peak {format_count(memory['peak_mb'])} MB",
        "rounds": f"{format_count(budget['rounds'])} while events streamed, "
        f"{format_seconds(budget['used_seconds'])} of {format_seconds(budget['allowed_seconds'])} used; "
        f"{format_count(budget['deferred'])} deferred",
        **_refits(summary["refits"]),
        "change": _change(summary),
    }


def _refits(refits: Summary) -> dict[str, str]:
    return {SHORT_REFIT_LABELS[kind]: _describe_refits(refits[kind]) for kind in REFIT_LABELS}


def _describe_refits(refits: Summary) -> str:
    return (
        f"{format_count(refits['refitted'])} of {format_count(refits['groups'])} groups refitted, "
        f"{format_count(refits['promoted'])} with a new champion; fits: {describe_policies(refits['by_policy'])}"
    )


def describe_repeated_answers(summary: Summary) -> str:
    """Return how many records of the topic of predictions are repeated."""
    return (
        f"The topic of predictions is at least once: {format_count(summary['stream']['repeated_answers'])} answers "
        "were published again."
    )


def _change(summary: Summary) -> str:
    """Return how soon the change was detected and answered, and the errors before and after."""
    stale, answer = summary["refits"]["to_stale"], summary["refits"]["to_answer"]
    evidence, changed = summary["refits"]["evidence_seconds"], summary["errors"]["changed"]
    return (
        f"each changed group had {ROWS_PER_GROUP} events after {format_seconds(evidence)}, was found stale after "
        f"{format_seconds(stale['p50'])} (median; 95 % {format_seconds(stale['p95'])}), a new champion "
        f"answered after {format_seconds(answer['p50'])} (95 % {format_seconds(answer['p95'])}); mean error before the "
        f"change {format_number(changed['before'])}, after it {format_number(changed['old_model'])}, by new champions "
        f"{format_number(changed['new_model'])}"
    )


def describe_policies(by_policy: Mapping[str, int]) -> str:
    """Return the number of fits of each policy, as text."""
    return ", ".join(f"{format_count(n)} {POLICY_LABELS.get(name, name)}" for name, n in by_policy.items()) or "none"


def definitions(summary: Summary) -> list[tuple[str, str]]:
    """Return (term, definition) of the numbers in the report."""
    fleet = summary["fleet"]
    lead_in = f"the first {summary['stream']['lead_in_seconds']} s"
    terms = {
        "The fleet": (
            f"Synthetic: {ROWS_PER_GROUP} rows of history a group, {fleet['features']} features, a linear truth for "
            f"each group, noise of {NOISE_STD:g}. The same seed ({fleet['seed']}) makes the same values."
        ),
        "The change": _define_change(summary, lead_in),
        "Latency": f"From Kafka's timestamp of an event to that of its prediction, after {lead_in} of the same rate.",
        "From the change": (
            "From the first event after the change to the verdict that the group is stale, and to the first prediction "
            "by its new champion. It includes the wait for labelled events, until there is enough evidence, and for "
            "the group's next event."
        ),
        "Refitted, but unchanged": (
            "False alarms: of an unchanged group at most one in 30 days, on average. A changed group's refit is one as "
            "well if the group was found stale before the change."
        ),
        "Error": (
            "Absolute, of the predictions that the stream gave, by the model that gave them. After a change the old "
            "model answers until there is a new champion, one whose group was found stale after the change."
        ),
        "Memory": (
            "Proportional set size of this process and its descendants, every two seconds while events streamed, "
            "without the broker and the producer."
        ),
    }
    return list(terms.items())


def _define_change(summary: Summary, lead_in: str) -> str:
    stream, fleet = summary["stream"], summary["fleet"]
    rest = 60 * (stream["rate"] - stream["busy_rate"]) / (fleet["groups"] - fleet["changed"] - fleet["as_busy"])
    return (
        f"After {lead_in}, {LABEL_SHIFT:g} is added to every label of {format_count(fleet['changed'])} groups. From "
        f"then on they, and as many that do not change, get {format_count(stream['busy_rate'])} of the "
        f"{format_count(stream['rate'])} events a second, and the others share the rest, {format_number(rest)} a "
        f"minute each: {ROWS_PER_GROUP} events of a group take {format_seconds(60 * ROWS_PER_GROUP / rest)}. "
        "No group is refitted for its number of new rows."
    )
