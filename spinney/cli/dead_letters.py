"""Commands dead-letters list, show, replay and purge: rejected records."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.vocabulary import DeadLetterReason
from spinney.cli.options import config_option, example, json_option, load_config, table, write_json

if TYPE_CHECKING:
    from spinney.operations.dead_letters.letters import LetterFilter
    from spinney.operations.dead_letters.replay import ReplayPlan

F = TypeVar("F", bound=Callable[..., Any])

REASONS = tuple(reason.value for reason in DeadLetterReason)


def _selection_options(verb: F) -> F:
    """Add the options that select dead letters."""
    options = (
        config_option,
        json_option,
        click.option(
            "--reason", "reasons", multiple=True, type=click.Choice(REASONS), help="Only this reason; may be repeated."
        ),
        click.option("--field", "fields", multiple=True, help="Only this column; may be repeated."),
        click.option(
            "--since",
            metavar="TIME|DURATION",
            help="Only those rejected since this time, or since a duration ago: 2026-11-20T18:00Z, 2h.",
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


@click.group(name="dead-letters", epilog=example("spinney dead-letters list --since 1d"))
def dead_letters() -> None:
    """List, show, send again or delete rejected records. Needs no Java."""


@dead_letters.command(name="list", epilog=example("spinney dead-letters list --since 1d"))
@_selection_options
def list_(config_path: str, as_json: bool, **selection: Any) -> None:
    """Count dead letters by source, reason and field, with their times and an example each. Reads only."""
    from spinney.operations.dead_letters import ledger
    from spinney.operations.dead_letters.letters import DeadLetters, group_letters
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    store = FleetStore.of(config)
    rows = group_letters(DeadLetters.opened(store, _choice(**selection)), ledger.read_replayed(store))
    if as_json:
        write_json(rows)
    elif rows:
        table("dead letters", [vars(kind) for kind in rows])
    else:
        click.echo("no dead letters", err=True)


@dead_letters.command(epilog=example("spinney dead-letters show --reason wrong_type --field price --limit 5"))
@_selection_options
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Largest number of records shown; 0 shows all.",
)
def show(config_path: str, as_json: bool, limit: int, **selection: Any) -> None:
    """Show rejected records and why they were rejected, newest first. Reads only.

    Key and value are shown as text if they are UTF-8, otherwise in base64.
    """
    from spinney.operations.dead_letters.letters import DeadLetters, newest_letters
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    records = [
        _record(row) for row in newest_letters(DeadLetters.opened(FleetStore.of(config), _choice(**selection)), limit)
    ]
    if as_json:
        write_json(records)
        return
    for record in records:
        click.echo("\n".join(_lines(record)))
    if not records:
        click.echo("no dead letters", err=True)


@dead_letters.command(epilog=example("spinney dead-letters replay --reason out_of_range --yes"))
@_selection_options
@click.option("--yes", is_flag=True, help="Send them. Without it, only show what would be sent.")
def replay(config_path: str, as_json: bool, yes: bool, **selection: Any) -> None:
    """Send dead letters to their topics again, with unchanged key and value, each at most once.

    Use it after a fix, for example of the configuration: first restart the stream with it. Rows rejected by `spinney
    load` came from no topic; load the corrected file instead.
    """
    from spinney.operations.dead_letters.letters import DeadLetters
    from spinney.operations.dead_letters.replay import carry_out_replay, plan_replay
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    store = FleetStore.of(config)
    letters = DeadLetters.opened(store, _choice(**selection))
    done = carry_out_replay(store, config.kafka, letters) if yes else plan_replay(store, letters)
    if as_json:
        write_json({"sent": done.count if yes else 0, "would_be_sent": 0 if yes else done.count, "left": done.left})
        return
    _show_replay(done, sent=yes)


def _show_replay(done: ReplayPlan, *, sent: bool) -> None:
    click.echo(f"{done.count:,} {'sent' if sent else 'would be sent: add --yes'}", err=True)
    for why, count in done.left.items():
        click.echo(f"{count:,} left: {why}", err=True)


@dead_letters.command(epilog=example("spinney dead-letters purge --older-than 90d --yes"))
@_selection_options
@click.option("--older-than", metavar="DURATION", help="Only those older than this: 90d.")
@click.option("--yes", is_flag=True, help="Delete them. Without it, only show how many.")
def purge(config_path: str, as_json: bool, older_than: str | None, yes: bool, **selection: Any) -> None:
    """Delete the selected dead letters permanently. At least one option must select them.

    If a stream is running, it carries out the deletion.
    """
    from spinney.operations.dead_letters import purge as purging
    from spinney.operations.dead_letters.letters import DeadLetters
    from spinney.storage.layout import FleetStore

    choice = _choice(**selection, older_than=older_than)
    if not (choice.reasons or choice.fields or choice.since or choice.before):
        raise click.UsageError("expected at least one of: --older-than, --reason, --field, --since")
    store = FleetStore.of(load_config(config_path))
    count = purging.purge(store, choice) if yes else purging.count_letters(DeadLetters.opened(store, choice))
    if as_json:
        write_json({"forgotten": count if yes else 0, "would_be_forgotten": 0 if yes else count})
    else:
        click.echo(f"{count:,} {'forgotten' if yes else 'would be forgotten: add --yes'}", err=True)


def _choice(
    reasons: tuple[str, ...], fields: tuple[str, ...], since: str | None, older_than: str | None = None
) -> LetterFilter:
    """Return the filter that the selection options describe.

    Raises BadParameter if --since is neither a time nor a duration, or --older-than is not a duration.
    """
    from spinney.operations.dead_letters.letters import LetterFilter

    before = None if older_than is None else _ago(older_than, "--older-than")
    return LetterFilter(reasons, fields, None if since is None else _time(since), before)


def _time(text: str) -> datetime:
    """Return the time that --since names: a time (UTC if it has no zone), or a duration before now."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return _ago(text, "--since")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _ago(text: str, option: str) -> datetime:
    from spinney.core import durations

    try:
        return datetime.now(UTC) - durations.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _record(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dead letter as JSON: bytes as text, or as base64 in a field named `…_base64`."""
    record: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, bytes):
            record[name] = value
            continue
        try:
            record[name] = value.decode()
        except UnicodeDecodeError:
            record[f"{name}_base64"] = base64.b64encode(value).decode()
    return record


def _lines(record: Mapping[str, Any]) -> list[str]:
    place = f"{record['topic']}/{record['kafka_partition']}/{record['kafka_offset']}"
    field = f", field {record['field']}" if record["field"] is not None else ""
    at = f"{record['ingested_at']:%Y-%m-%dT%H:%M:%SZ}" if record["ingested_at"] is not None else "unknown time"
    lines = [f"{place} at {at}: {record['reason']}{field}: {record['detail']}"]
    lines += [f"  {name}: {record[name]}" for name in ("key", "key_base64", "value", "value_base64") if name in record]
    return [*lines, ""]


VERBS = (dead_letters,)
