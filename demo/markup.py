"""Parts of a report as HTML: document, sections, cards, legends and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources

from demo.formatting import format_count
from spinney.core.reporting.palette import CSS_VARIABLES, GREY

_UNIT = re.compile(r"(\d) (%|s|h|min|days)(?![\w=])")
"""Matches a number and its unit, which must stay on one line."""


def document(name: str, parts: Sequence[str]) -> str:
    """Return a whole page without external references. name: text. parts: HTML."""
    style = resources.files("spinney.local.reports").joinpath("report.css").read_text(encoding="utf-8")
    body = _UNIT.sub("\\1&nbsp;\\2", "\n".join(parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Spinney: {html.escape(name)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def section(name: str, title: str, intro: str, *parts: str) -> str:
    """Return a section of the page. title and parts are HTML, intro is text."""
    words_of = f"<p>{html.escape(intro)}</p>" if intro else ""
    body = '<div style="height:20px"></div>'.join(part for part in parts if part)
    return f'<section id="{name}"><h2>{title}</h2>{words_of}{body}</section>'


def card(content: str, title: str = "", intro: str = "") -> str:
    """Return a card. content and title are HTML, intro is text."""
    head = f"<h3>{title}</h3>" if title else ""
    note = f'<p class="note">{html.escape(intro)}</p>' if intro else ""
    return f'<div class="card">{head}{note}{content}</div>'


def legend(numbers: Mapping[str, int], names: Mapping[str, str], colours: Mapping[str, str]) -> str:
    """Return a list of coloured squares, each with a number and a name.

    colours: of the palette; grey for a missing one.
    """
    items = "".join(
        f'<li><i style="background: var(--{CSS_VARIABLES[colours.get(name, GREY)]})"></i><b>{format_count(number)}</b> '
        f"{html.escape(names.get(name, name))}</li>"
        for name, number in numbers.items()
    )
    return f'<ul class="legend">{items}</ul>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool = True) -> str:
    """Return a table: the first column is text, the others are numbers. plain: the cells are text, not HTML."""

    def cell(at: int, content: str) -> str:
        kind = ' class="n"' if at else ""
        return f"<td{kind}>{html.escape(content) if plain else content}</td>"

    head = "".join(f"<th{' class=n' if at else ''}>{html.escape(name)}</th>" for at, name in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell(at, value) for at, value in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
