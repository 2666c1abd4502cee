"""The report of a trial: one HTML file that refers to no other file."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files

from spinney.core.reporting.loss_names import loss_label
from spinney.local.trial import plots, report_text
from spinney.local.trial.fit import HELD_OUT_NOTE, Trial
from spinney.local.trial.plots import format_number

WORST = 10
STYLE = """
.chart { padding: 8px 10px; }
main { padding-top: 44px; } h1 { margin-bottom: 10px; } .lead { margin-bottom: 28px; }
section { margin-top: 44px; } dl { display: grid; grid-template-columns: 8em 1fr; gap: 8px 20px; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; }
@media (max-width: 760px) { .figures { grid-template-columns: 1fr 1fr; } main { padding: 28px 18px; } }
"""


def page(trial: Trial) -> str:
    """Return the whole document."""
    title = html.escape(plots.group_title(trial))
    target = f"{trial.recipe.target.name}, by {trial.recipe.estimator}"
    css = files("spinney.local.reports").joinpath("report.css").read_text(encoding="utf-8") + STYLE
    body = "".join(
        (
            f'<p class="name">spinney <span>try</span></p><h1>{title}</h1>',
            f'<p class="lead">{html.escape(target)}. {html.escape(plots.compare_with_constant(trial))}</p>',
            _figures(trial),
            f'<section><div class="card chart">{plots.svg(trial)}</div></section>',
            _worst(trial),
            _notes(trial),
        )
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: spinney try</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _figures(trial: Trial) -> str:
    losses, name = trial.losses, loss_label(trial.recipe.loss)
    shown = (
        (format_number(losses.heldout), f"{name} on the newest {trial.heldout_rows:,} rows, held out"),
        (format_number(losses.train), f"on the {trial.rows - trial.heldout_rows:,} older rows it was fitted on"),
        (format_number(losses.constant), "on the held-out rows by the best constant prediction"),
        (f"{trial.rows:,}", f"rows, {trial.trained_from:%d %b %Y} to {trial.trained_through:%d %b %Y}"),
    )
    cells = "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>" for value, text in shown)
    return f'<div class="figures">{cells}</div>'


def _worst(trial: Trial) -> str:
    rows = report_text.worst_rows(trial, WORST)
    if not rows:
        return ""
    regression = trial.recipe.task == "regression"
    last = "actual minus predicted" if regression else "probability of the actual class"
    cells = [
        [
            f"{row['event_time']:%Y-%m-%d %H:%M}",
            str(row["event_id"]),
            format_number(row["actual"]) if regression else str(row["actual"]),
            format_number(row["predicted"]) if regression else str(row["predicted"]),
            format_number(row["actual"] - row["predicted"]) if regression else format_number(row["probability"]),
        ]
        for row in rows
    ]
    heads = ["time, UTC", "event", f"actual {trial.recipe.target.name}", "predicted", last]
    return (
        f"<section><h2>Largest errors</h2><p>The {len(rows)} held-out rows with the greatest loss.</p>"
        f'<div class="card">{_table(heads, cells)}</div></section>'
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table. The first two columns are text, the others are numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ["" if at < 2 else ' class="n"' for at in range(len(cells))]
        return "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _notes(trial: Trial) -> str:
    entries = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in _definitions(trial))
    return f"<section><h2>How this was measured</h2><dl>{entries}</dl></section>"


def _definitions(trial: Trial) -> Iterator[tuple[str, str]]:
    lines = report_text.summary_lines(trial)
    yield from ((term or "baseline", text) for term, text in lines if term not in {"group", "target"})
    yield "features", ", ".join(feature.name for feature in trial.recipe.features)
    yield "held out", HELD_OUT_NOTE
