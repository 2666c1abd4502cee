"""Options of the commands that read files, and messages about their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from spinney.sources import ReadOptions
    from spinney.sources.rejections import Rejections

F = TypeVar("F", bound=Callable[..., Any])

_FORMAT = (
    click.option("--delimiter", help="Delimiter of a CSV: one character, or `tab` [default: detected]."),
    click.option("--encoding", help="Encoding of a CSV or JSON lines: `utf-8`, `cp1252` … [default: detected]."),
    click.option(
        "--decimal", type=click.Choice([".", ","]), help="Decimal mark of a CSV's numbers [default: detected]."
    ),
    click.option(
        "--thousands",
        help="What separates the thousands of a CSV's numbers: `,` `.` `'` `_` or `space` [default: nothing].",
    ),
    click.option(
        "--skip-lines", type=click.IntRange(min=0), help="Lines above the header of a CSV [default: comments, if any]."
    ),
    click.option(
        "--escape",
        type=click.Choice(["backslash", "quote"]),
        help="The character before a quote within quotes in a CSV [default: detected].",
    ),
    click.option(
        "--multiline",
        is_flag=True,
        help="Accept lines within quotes in a CSV as text, even if they look like rows [default: reject those].",
    ),
)
_FOLDER = click.option(
    "--missing-as-null",
    is_flag=True,
    help="If some files of a folder lack a column, its values are null there [default: refuse the folder].",
)
_LIMIT = click.option(
    "--max-rejected", metavar="N|N%", help="Stop if more rows than this number or share are not valid [default: never]."
)


READING = (
    "delimiter",
    "encoding",
    "decimal",
    "thousands",
    "skip_lines",
    "multiline",
    "escape",
    "missing_as_null",
    "max_rejected",
)
"""The keyword arguments that `validation_options` adds to a command."""


def format_options(verb: F) -> F:
    """Add the options about the text of a CSV to a command. `options_of` takes them as keywords."""
    return _all(verb, _FORMAT)


def reading_options(verb: F) -> F:
    """Add the options of `format_options`, and --missing-as-null."""
    return _all(verb, (*_FORMAT, _FOLDER))


def validation_options(verb: F) -> F:
    """Add the options of `reading_options`, and --max-rejected."""
    return _all(verb, (*_FORMAT, _FOLDER, _LIMIT))


def _all(verb: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        verb = option(verb)
    return verb


def options_of(reading: dict[str, Any]) -> ReadOptions:
    """Remove the options from `reading` and return them as a value. Raises UsageError."""
    from spinney.core.errors import ContractError
    from spinney.sources import ReadOptions, TextFormat
    from spinney.sources.rejections import RejectionLimit

    try:
        text = TextFormat.parse(**{field.name: reading.pop(field.name) for field in fields(TextFormat)})
        most = RejectionLimit.parse(reading.pop("max_rejected", None))
    except ContractError as error:
        raise click.UsageError(str(error)) from error
    return ReadOptions(text, missing_as_null=reading.pop("missing_as_null", False), rejection_limit=most)


def say_notes(verb: str, notes: Sequence[str]) -> None:
    """Print notes about a source on standard error."""
    for note in notes:
        click.echo(f"{verb}: {note}", err=True)


def say_rejections(verb: str, rejections: Rejections) -> None:
    """Print a line for each reason and column, with its first row; nothing if all rows are valid."""
    for rejection in rejections.as_dicts():
        of = f" in {rejection['field']}" if rejection["field"] else ""
        first = f"{rejection['file']} row {rejection['row']:,}: {rejection['example']}"
        click.echo(
            f"{verb}: {rejection['rows']:,} rejected: {rejection['reason']}{of}; the first: {first}",
            err=True,
        )
