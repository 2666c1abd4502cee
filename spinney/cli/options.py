"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import getpass
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.vocabulary import MACHINES
from spinney.core.number_format import format_number

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spinney.core.config import Config

F = TypeVar("F", bound=Callable[..., Any])


def config_option(verb: F) -> F:
    """Add --config."""
    option = click.option(
        "--config",
        "config_path",
        default="fleet.toml",
        show_default=True,
        type=click.Path(dir_okay=False),
        help="The configuration file.",
    )
    return option(verb)


def json_option(verb: F) -> F:
    """Add --json to a command that prints one result."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")(verb)


def json_lines_option(verb: F) -> F:
    """Add --json to a command that runs until it is stopped."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON objects on standard output, one per line.")(
        verb
    )


def example(text: str) -> str:
    """Return an epilog that shows one call as it is typed."""
    return f"\b\nExample:\n  {text}"


def key_of(words: tuple[str, ...]) -> str:
    """Return the group_key of a group as typed. Raises BadParameter."""
    from spinney.core import keys
    from spinney.core.errors import ContractError

    try:
        return keys.parse_key_arguments(*words)
    except ContractError as error:
        raise click.BadParameter(str(error), param_hint="KEY") from error


def reason_of(words: str) -> str:
    """Return the stripped reason. Raises BadParameter when it is empty."""
    if not words.strip():
        raise click.BadParameter("expected words", param_hint="--reason")
    return words.strip()


def person_of(by: str | None) -> str:
    """Return who decides: the name given, or the login name. Raises BadParameter, UsageError."""
    try:
        name = (getpass.getuser() if by is None else by).strip()
    except (OSError, KeyError) as error:
        raise click.UsageError("no login name here: name the person who decides with --by NAME") from error
    if not name or name in MACHINES:
        raise click.BadParameter(f"expected a person's name; got {name!r}", param_hint="--by")
    return name


def confirmed(beforehand: bool, *, as_json: bool) -> bool:
    """Return whether the user has confirmed beforehand; if not, the caller asks.

    Raises UsageError if the caller cannot ask: with --json, or without a terminal. beforehand: confirmed by --yes, or
    nothing is written.
    """
    if not beforehand and (as_json or not somebody_is_there()):
        where = "with --json nothing is asked" if as_json else "no terminal to ask on"
        raise click.UsageError(f"{where}: add --yes, or --dry-run to look only")
    return beforehand


def somebody_is_there() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin.isatty()


def load_config(path: str) -> Config:
    """Read and check the configuration. Raises ConfigError."""
    from spinney.storage.config_file import read_config

    return read_config(path)


def say_where_a_fleet_begins(config: Config) -> None:
    """Print on standard error that this command creates the fleet, and where; nothing if the fleet exists."""
    from spinney.storage.charter import describe_new_fleet
    from spinney.storage.layout import FleetStore

    if (sentence := describe_new_fleet(FleetStore.of(config))) is not None:
        click.echo(sentence, err=True)


def spark_session(config: Config) -> SparkSession:
    """Start Spark in this process and fetch missing jars. Raises SetupError."""
    from spinney.local.java_and_jars import runtime
    from spinney.spark.session import session

    def show(done: int, wanted: int, name: str) -> None:
        click.echo(f"jars: {done} of {wanted}, {name}", err=True)

    return session(config, runtime=runtime(show))


def write_json(value: Any) -> None:
    """Write one JSON document to standard output. Times are ISO 8601 in UTC."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False, default=_text))


def plain(value: Any) -> Any:
    """Return a dataclass, a frame or a sequence of them as values that JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict("records"))
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(part) for part in value]
    return _known(value)


def table(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows: as a table on a terminal; otherwise as tab-separated lines under the names of the columns."""
    listed = list(rows)
    names = list(listed[0]) if listed else []
    if not sys.stdout.isatty():
        for line in ([names] if names else []) + [[_cell(row[name]) for name in names] for row in listed]:
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(title=title, header_style="bold")
    for name in names:
        drawn.add_column(name)
    for row in listed:
        drawn.add_row(*(escape(_cell(row[name])) for name in names))
    Console().print(drawn)


def _cell(value: Any) -> str:
    value = _known(value)
    if value is None:
        return "–"
    if isinstance(value, float):
        return format_number(value)
    return _text(value) if isinstance(value, date) else str(value)


def _known(value: Any) -> Any:
    """The value, with None for NaN, infinity and NaT, which JSON cannot hold."""
    unknown = isinstance(value, float) and not math.isfinite(value)
    return None if unknown or type(value).__name__ in ("NaTType", "NAType") else value


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.item() if hasattr(value, "item") else str(value)
