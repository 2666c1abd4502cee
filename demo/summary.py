"""The summary on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from demo import notes, words
from demo.worth import NAMES


def summary_text(measures: Mapping[str, Any]) -> RenderableType:
    """Return what a person wants to read at the end of a demo. measures: as `measures.measure` returned it."""
    parts: list[RenderableType] = [
        Text(words.headline(measures), style="bold"),
        Text(words.subline(measures)),
        Text(),
        _counts(measures),
        Text(),
    ]
    worth = measures["worth"]
    if worth is not None and worth["events"]:
        parts += [_worth(measures), Text()]
    parts.append(_sets(measures))
    return Group(*parts)


def _counts(measures: Mapping[str, Any]) -> Table:
    events, outcomes = measures["events"], measures["outcomes"]
    retrained, fresh, groups = measures["retrained"], measures["freshness"], measures["groups"]
    budget, timing = measures["budget"], fresh["stale_to_answer"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = {
        "events": f"{words.count(events['records'])} sent: {words.count(events['stored'])} stored, "
        f"{words.count(events['duplicates'])} duplicate, {words.count(events['dead'])} dead; "
        f"{words.count(measures['predictions']['rows'])} predictions",
        "outcomes": f"{words.count(outcomes['records'])} sent, {words.count(outcomes['duplicates'])} duplicate: "
        f"{words.count(outcomes['matched'])} matched, {words.count(outcomes['unmatched'])} unmatched",
        "groups": ", ".join(f"{words.count(n)} {words.STATES[state]}" for state, n in groups["by_state"].items() if n),
        "retrained": f"{words.count(retrained['fits'])} fits: {_reasons(retrained['by_reason'])}",
        "decided": notes.decisions(measures),
        "stale to answering": f"median {words.seconds(timing['p50'])}, 95 % within {words.seconds(timing['p95'])}; "
        f"{words.count(fresh['no_event_yet'])} with no event yet",
        "budget": f"{words.seconds(budget['used_seconds'])} used of {words.seconds(budget['allowed_seconds'])} "
        f"in {words.count(budget['rounds'])} rounds",
        "batches": "; ".join(
            f"{query} {words.seconds(one['seconds']['p50'])} (95 % {words.seconds(one['seconds']['p95'])})"
            for query, one in measures["batches"].items()
        ),
    }
    for name, said in rows.items():
        table.add_row(name, said)
    return table


def _reasons(by_reason: Mapping[str, int]) -> str:
    return ", ".join(f"{words.count(n)} {words.REASONS.get(name, name)}" for name, n in by_reason.items()) or "none"


def _worth(measures: Mapping[str, Any]) -> Table:
    worth = measures["worth"]
    injected = worth["injected"]
    fits = {"fleet": measures["retrained"]["fits"], **worth["fits"]}
    table = Table(title="What it was worth", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    unit = f" ({worth['unit']})" if worth["unit"] else ""
    for head in (f"mean error{unit}", "fits", *(["injected change: recovered in"] if injected else [])):
        table.add_column(head, justify="right")
    for name in NAMES:
        cells = [words.number(worth["mean_loss_without_injected"][name]), words.count(fits[name])]
        if injected:
            cells.append(words.hours(injected["hours_to_recover"][name]))
        table.add_row(words.NAMES[name], *cells, style="green" if name == "fleet" else None)
    return table


def _sets(measures: Mapping[str, Any]) -> Text:
    checked = measures["reconciliation"]
    if checked["adds_up"]:
        return Text("The sets add up: nothing lost, nothing twice.", style="green")
    odd = [f"{check['name']}: {', '.join(check['examples'])}" for check in checked["checks"] if not check["adds_up"]]
    return Text("The sets do not add up.\n" + "\n".join(odd), style="red")
