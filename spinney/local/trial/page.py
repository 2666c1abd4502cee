"""A trial as one HTML file that needs nothing else: the figures, the drawing, the worst rows, how it was measured."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from importlib.resources import files

from spinney.core.reporting.units import loss_unit, loss_words, plain
from spinney.local.trial import pictures, words
from spinney.local.trial.fit import HELD_OUT_WORDS, Trial
from spinney.local.trial.pictures import amount

WORST = 10
STYLE = """
.drawing { background: #fbfaf7; padding: 8px 10px; } .drawing svg { width: 100%; height: auto; }
main { padding-top: 44px; } h1 { margin-bottom: 10px; } .lead { margin-bottom: 28px; }
section { margin-top: 44px; } dl { display: grid; grid-template-columns: 8em 1fr; gap: 8px 20px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 760px) { .figures { grid-template-columns: 1fr 1fr; } main { padding: 28px 18px; } }
"""


def page(trial: Trial) -> str:
    """The whole document."""
    title = html.escape(pictures.title(trial))
    name, unit = plain(trial.recipe.target.name)
    what = f"{name[:1].upper()}{name[1:]}{f' in {unit}' if unit else ''}, by {trial.recipe.estimator}"
    css = files("spinney.local").joinpath("report.css").read_text(encoding="utf-8") + STYLE
    body = "".join(
        (
            f'<p class="name">spinney <span>try</span></p><h1>{title}</h1>',
            f'<p class="lead">{html.escape(what)}. {html.escape(pictures.beaten(trial))}</p>',
            _figures(trial),
            f'<section><div class="card drawing">{pictures.svg(trial)}</div></section>',
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
    recipe, losses = trial.recipe, trial.losses
    unit, name = loss_unit(recipe.loss, recipe.target.name), loss_words(recipe.loss)
    shown = (
        (amount(losses.heldout, unit), f"{name} on the newest {trial.heldout_rows:,} rows, held out"),
        (amount(losses.train, unit), f"on the {trial.rows - trial.heldout_rows:,} older rows it was fitted on"),
        (amount(losses.constant, unit), "held out by one answer for all: the least to beat"),
        (f"{trial.rows:,}", f"rows, {trial.trained_from:%d %b %Y} to {trial.trained_through:%d %b %Y}"),
    )
    cells = "".join(f"<div><b>{html.escape(b)}</b><span>{html.escape(said)}</span></div>" for b, said in shown)
    return f'<div class="figures">{cells}</div>'


def _worst(trial: Trial) -> str:
    rows = words.worst(trial, WORST)
    if not rows:
        return ""
    regression = trial.recipe.task == "regression"
    unit = plain(trial.recipe.target.name)[1]
    of = f", {unit}" if unit else ""
    last = f"actual less predicted{of}" if regression else "probability of the actual"
    cells = [
        [
            f"{row['event_time']:%Y-%m-%d %H:%M}",
            str(row["event_id"]),
            amount(row["actual"]) if regression else str(row["actual"]),
            amount(row["predicted"]) if regression else str(row["predicted"]),
            amount(row["actual"] - row["predicted"]) if regression else amount(row["probability"]),
        ]
        for row in rows
    ]
    heads = ["time, UTC", "event", f"actual{of}", f"predicted{of}", last]
    return (
        f"<section><h2>Where it was furthest off</h2><p>The {len(rows)} held-out rows with the greatest loss.</p>"
        f'<div class="card">{_table(heads, cells)}</div></section>'
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first two columns are text, the others are numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ["" if at < 2 else ' class="n"' for at in range(len(cells))]
        return "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _notes(trial: Trial) -> str:
    said = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in _measured(trial))
    return f"<section><h2>How this was measured</h2><dl>{said}</dl></section>"


def _measured(trial: Trial) -> Iterator[tuple[str, str]]:
    yield from ((word or "baseline", text) for word, text in words.lines(trial) if word not in {"group", "target"})
    yield "features", ", ".join(feature.name for feature in trial.recipe.features)
    yield "held out", HELD_OUT_WORDS
