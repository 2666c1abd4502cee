"""The summary of a demo as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from demo import report_text
from demo.formatting import (
    POLICY_LABELS,
    STATE_LABELS,
    STRATEGY_LABELS,
    format_count,
    format_hours,
    format_number,
    format_seconds,
)
from demo.refit_comparison import STRATEGIES


def summary_text(summary: Mapping[str, Any]) -> RenderableType:
    """Return the summary as text. summary: from `run_summary.summarize_run`."""
    parts: list[RenderableType] = [
        Text(report_text.headline(summary), style="bold"),
        Text(report_text.subtitle(summary)),
        Text(),
        _counts(summary),
        Text(),
    ]
    worth = summary["worth"]
    if worth is not None and worth["events"]:
        parts += [_comparison_table(summary), Text()]
    parts.append(_reconciliation(summary))
    return Group(*parts)


def _counts(summary: Mapping[str, Any]) -> Table:
    events, outcomes = summary["events"], summary["outcomes"]
    retrained, fresh, groups = summary["retrained"], summary["freshness"], summary["groups"]
    budget, timing = summary["budget"], fresh["stale_to_answer"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = {
        "events": f"{format_count(events['records'])} sent: {format_count(events['stored'])} stored, "
        f"{format_count(events['duplicates'])} duplicate, {format_count(events['dead'])} dead; "
        f"{format_count(summary['predictions']['rows'])} predictions",
        "outcomes": f"{format_count(outcomes['records'])} sent, {format_count(outcomes['duplicates'])} duplicate: "
        f"{format_count(outcomes['matched'])} matched, {format_count(outcomes['unmatched'])} unmatched",
        "groups": ", ".join(f"{format_count(n)} {STATE_LABELS[state]}" for state, n in groups["by_state"].items() if n),
        "retrained": f"{report_text.describe_fits(summary)}: {_reasons(retrained['by_reason'])}",
        "decided": report_text.describe_decisions(summary),
        **({"gain": summary["gain"]["says"].removeprefix("gain from retraining: ")} if summary["gain"] else {}),
        **({"intervals": intervals} if (intervals := report_text.describe_intervals(summary)) else {}),
        "stale to answering": f"median {format_seconds(timing['p50'])}, 95 % within {format_seconds(timing['p95'])}; "
        f"{format_count(fresh['no_event_yet'])} with no event yet",
        "budget": f"{format_seconds(budget['used_seconds'])} used of {format_seconds(budget['allowed_seconds'])} "
        f"in {format_count(budget['rounds'])} rounds",
        "batches": "; ".join(
            f"{query} {format_seconds(one['seconds']['p50'])} (95 % {format_seconds(one['seconds']['p95'])})"
            for query, one in summary["batches"].items()
        ),
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _reasons(by_reason: Mapping[str, int]) -> str:
    return ", ".join(f"{format_count(n)} {POLICY_LABELS.get(name, name)}" for name, n in by_reason.items()) or "none"


def _comparison_table(summary: Mapping[str, Any]) -> Table:
    worth = summary["worth"]
    injected = worth["injected"]
    table = Table(title="What it was worth", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    unit = f" ({worth['unit']})" if worth["unit"] else ""
    for head in (f"mean error{unit}", "fits of groups", *(["injected change: recovered in"] if injected else [])):
        table.add_column(head, justify="right")
    for name in STRATEGIES:
        cells = [format_number(worth["mean_loss_without_injected"][name]), format_count(worth["fits"][name])]
        if injected:
            cells.append(format_hours(injected["hours_to_recover"][name]))
        table.add_row(STRATEGY_LABELS[name], *cells, style="green" if name == "fleet" else None)
    if injected:
        table.caption, table.caption_justify = report_text.describe_found_by_error(summary), "left"
    return table


def _reconciliation(summary: Mapping[str, Any]) -> Text:
    checked = summary["reconciliation"]
    if checked["adds_up"]:
        return Text("The sets add up: nothing lost, nothing twice.", style="green")
    odd = [f"{check['name']}: {', '.join(check['examples'])}" for check in checked["checks"] if not check["adds_up"]]
    return Text("The sets do not add up.\n" + "\n".join(odd), style="red")
