"""The result of a demo at scale in sentences, and how each number is defined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo import words
from demo.scale.fleet import CHANGE, NOISE, ROWS
from spinney.core.training.fit_attempt import HELD_OUT_ONE_IN

KINDS = {
    "changed": "changed",
    "as_busy": "unchanged, with as many events",
    "others": "all others, unchanged",
}
REFITS = {**KINDS, "earlier": "changed, refitted before the change: false alarms"}
SHORT = {
    "changed": "changed",
    "as_busy": "unchanged, as busy",
    "others": "unchanged others",
    "earlier": "before the change",
}
Summary = Mapping[str, Any]


def headline(summary: Summary) -> str:
    """The result in a sentence, whichever way it came out."""
    refits, timing = summary["refits"], summary["refits"]["to_answer"]
    changed, groups = refits["changed"], words.count(summary["fleet"]["groups"])
    text = (
        f"{words.count(changed['groups'])} of {groups} groups changed, and {words.count(changed['refitted'])} of them "
        "were refitted after it"
    )
    if timing["p50"] is not None:
        text += f"; their new champions answered {words.seconds(timing['p50'])} after the change"
    others = [refits[kind] for kind in ("as_busy", "others")]
    unchanged, refitted = (sum(one[name] for one in others) for name in ("groups", "refitted"))
    return f"{text}. Of the {words.count(unchanged)} that did not change, {words.count(refitted)} were refitted."


def subline(summary: Summary) -> str:
    """What was done for it."""
    weekly, stream, latency = summary["weekly"], summary["stream"], summary["latency"]
    return (
        f"A weekly round fitted {words.count(weekly['fitted'])} models in {words.seconds(weekly['seconds'])}. Then "
        f"{words.count(stream['sent'])} events were sent, {words.count(stream['sent_per_second'])} a second, and "
        f"{words.count(stream['answered'])} answered: half of them within {words.seconds(latency['p50'])}, 99 % within "
        f"{words.seconds(latency['p99'])}. All of it took {words.seconds(summary['wall_seconds'])}."
    )


def figures(summary: Summary) -> list[tuple[str, str]]:
    """Four numbers and what they are: (big, small), as text."""
    latency, memory, weekly, stream = (summary[name] for name in ("latency", "memory", "weekly", "stream"))
    changed, busy = summary["refits"]["changed"], summary["refits"]["as_busy"]
    answered = f"events answered, {words.count(stream['rate'])} sent; 99 % within {words.seconds(latency['p99'])}"
    renewed = (
        f"of {words.count(changed['groups'])} changed groups have a new champion; of {words.count(busy['groups'])} "
        f"unchanged ones with as many events, {words.count(busy['promoted'])}"
    )
    found = [
        (f"{words.count(stream['answered_per_second'])}/s", answered),
        (words.share(changed["promoted"], changed["groups"]), renewed),
        (f"{words.count(weekly['groups_per_second'])}/s", "groups fitted, measured and promoted by the weekly round"),
    ]
    if memory:
        peak = f"{memory['peak_mb'] / 1024:.1f} GB"
        found.append((peak, "peak memory while events streamed: driver, JVM and Python workers"))
    return found


def counts(summary: Summary) -> dict[str, str]:
    """What a person wants to read on a terminal: name -> sentence."""
    history, weekly, stream = summary["history"], summary["weekly"], summary["stream"]
    latency, memory, budget = summary["latency"], summary["memory"], summary["budget"]
    unanswered = summary["unanswered"]
    return {
        "history": f"{words.count(history['rows'])} rows of {words.count(summary['fleet']['groups'])} groups loaded in "
        f"{words.seconds(history['load_seconds'])}: {words.count(history['rows_per_second'])} rows a second",
        "weekly round": f"{words.count(weekly['fitted'])} of {words.count(weekly['groups'])} groups fitted in "
        f"{words.seconds(weekly['seconds'])}: {words.count(weekly['groups_per_second'])} groups a second",
        "events": f"{words.count(stream['sent'])} sent ({words.count(stream['sent_per_second'])}/s): "
        f"{words.count(stream['stored'])} stored, {words.count(stream['answered'])} answered "
        f"({words.count(stream['answered_per_second'])}/s); {words.count(stream['repeated_answers'])} answers "
        "published again",
        "latency": f"event to prediction: median {words.seconds(latency['p50'])}, 95 % within "
        f"{words.seconds(latency['p95'])}, 99 % within {words.seconds(latency['p99'])}, longest "
        f"{words.seconds(latency['max'])}",
        "lag": f"{words.seconds(latency['after_the_last'])} from the last event to the last answer; at most "
        f"{words.count(unanswered['most'])} events unanswered",
        "memory": "not known on this system" if memory is None else f"peak {words.count(memory['peak_mb'])} MB",
        "rounds": f"{words.count(budget['rounds'])} while events streamed, {words.seconds(budget['used_seconds'])} of "
        f"{words.seconds(budget['allowed_seconds'])} used; {words.count(budget['deferred'])} deferred",
        **_refits(summary["refits"]),
        "change": _change(summary),
    }


def _refits(refits: Summary) -> dict[str, str]:
    return {
        SHORT[
            kind
        ]: f"{words.count(refits[kind]['refitted'])} of {words.count(refits[kind]['groups'])} groups refitted, "
        f"{words.count(refits[kind]['promoted'])} with a new champion; fits: "
        f"{reasons(refits[kind]['by_policy'])}"
        for kind in REFITS
    }


def repeated(summary: Summary) -> str:
    """What the topic of predictions holds more than once."""
    return (
        f"The topic of predictions is at least once: {words.count(summary['stream']['repeated_answers'])} answers were "
        "published again."
    )


def _change(summary: Summary) -> str:
    """How soon it was found and answered, and what it did to the error."""
    stale, answer = summary["refits"]["to_stale"], summary["refits"]["to_answer"]
    evidence, changed = summary["refits"]["evidence_seconds"], summary["errors"]["changed"]
    return (
        f"each changed group had {ROWS} events after {words.seconds(evidence)}, was found stale after "
        f"{words.seconds(stale['p50'])} (median; 95 % {words.seconds(stale['p95'])}), a new champion "
        f"answered after {words.seconds(answer['p50'])} (95 % {words.seconds(answer['p95'])}); mean error before the "
        f"change {words.number(changed['before'])}, after it {words.number(changed['old_model'])}, by new champions "
        f"{words.number(changed['new_model'])}"
    )


def reasons(by_policy: Mapping[str, int]) -> str:
    return ", ".join(f"{words.count(n)} {words.REASONS.get(name, name)}" for name, n in by_policy.items()) or "none"


def definitions(summary: Summary) -> list[tuple[str, str]]:
    """(term, what it means here)."""
    stream, fleet = summary["stream"], summary["fleet"]
    rest = 60 * (stream["rate"] - stream["busy_rate"]) / (fleet["groups"] - fleet["changed"] - fleet["as_busy"])
    lead_in = f"the first {stream['lead_in_seconds']} s"
    found = {
        "The fleet": (
            f"Synthetic: {ROWS} rows of history a group, {fleet['features']} features, a linear truth for each group, "
            f"noise of {NOISE:g}. The same seed ({fleet['seed']}) makes the same values."
        ),
        "The change": (
            f"After {lead_in}, {CHANGE:g} is added to every label of {words.count(fleet['changed'])} groups. From then "
            f"on they, and as many that do not change, get {words.count(stream['busy_rate'])} of the "
            f"{words.count(stream['rate'])} events a second, and the others share the rest, {words.number(rest)} a "
            f"minute each: a group is judged by {ROWS} events, and at that rate they take "
            f"{words.seconds(60 * ROWS / rest)}. No group is refitted for its number of new rows."
        ),
        "Latency": f"From Kafka's timestamp of an event to that of its prediction, after {lead_in} of the same rate.",
        "From the change": (
            "From the first event after the change to the verdict that the group is stale, and to the first prediction "
            f"by its new champion. It includes the wait for {ROWS} labelled events, before which nothing is said of a "
            "model's error, and for the group's next event."
        ),
        "Refitted, but unchanged": (
            f"False alarms: a model's own error is known from {ROWS // HELD_OUT_ONE_IN} held-out rows, and by "
            "chance some of these means are a third of what they should be. A changed group's refit is one as "
            "well if the group was found stale before the change."
        ),
        "Error": (
            "Absolute, of the predictions that the stream gave, by the model that gave them. After a change the old "
            "model answers until a new champion is there, one whose group was found stale after the change."
        ),
        "Memory": (
            "Proportional set size of this process and all below it, every two seconds while events streamed, without "
            "the broker and the producer."
        ),
    }
    return list(found.items())
