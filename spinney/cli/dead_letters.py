"""dead-letters: rejected records listed, shown, sent again after a fix, forgotten."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.vocabulary import DeadLetterReason
from spinney.cli.options import config_option, example, json_option, load_config, table, write_json

if TYPE_CHECKING:
    from spinney.operations.dead_letters.letters import Choice
    from spinney.operations.dead_letters.replay import Plan

F = TypeVar("F", bound=Callable[..., Any])

REASONS = tuple(each.value for each in DeadLetterReason)


def _choosing(verb: F) -> F:
    """The options that choose some of the dead letters."""
    options = (
        config_option,
        json_option,
        click.option("--reason", "reasons", multiple=True, type=click.Choice(REASONS), help="Only these; repeatable."),
        click.option("--field", "fields", multiple=True, help="Only those of this column; may be repeated."),
        click.option(
            "--since", metavar="TIME|DURATION", help="Only those of this time or later: 2026-11-20T18:00Z, 2h."
        ),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


@click.group(name="dead-letters", epilog=example("spinney dead-letters list --since 1d"))
def dead_letters() -> None:
    """Rejected records: what there is and why, sent again after a fix, forgotten. No Java is needed."""


@dead_letters.command(name="list", epilog=example("spinney dead-letters list --since 1d"))
@_choosing
def list_(config_path: str, as_json: bool, **choosing: Any) -> None:
    """How many there are of each source, reason and field; when they came; one of them in words. Reads only."""
    from spinney.operations.dead_letters import ledger
    from spinney.operations.dead_letters.letters import Letters, kinds
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    store = FleetStore.of(config)
    found = kinds(Letters.opened(store, _choice(**choosing)), ledger.replayed(store))
    if as_json:
        write_json(found)
    elif found:
        table("dead letters", [vars(kind) for kind in found])
    else:
        click.echo("no dead letters", err=True)


@dead_letters.command(epilog=example("spinney dead-letters show --reason wrong_type --field price --limit 5"))
@_choosing
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Newest first; 0 is all.")
def show(config_path: str, as_json: bool, limit: int, **choosing: Any) -> None:
    """The records as they came, with why they were rejected, newest first. Reads only.

    Key and value are text where they are UTF-8, else base64.
    """
    from spinney.operations.dead_letters.letters import Letters, newest
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    found = [_record(row) for row in newest(Letters.opened(FleetStore.of(config), _choice(**choosing)), limit)]
    if as_json:
        write_json(found)
        return
    for record in found:
        click.echo("\n".join(_lines(record)))
    if not found:
        click.echo("no dead letters", err=True)


@dead_letters.command(epilog=example("spinney dead-letters replay --reason out_of_range --yes"))
@_choosing
@click.option("--yes", is_flag=True, help="Send them. Without it: show what would be sent.")
def replay(config_path: str, as_json: bool, yes: bool, **choosing: Any) -> None:
    """Send them to their topics again, key and value as they came, each at most once.

    For after a fix, of the configuration say: start the stream with it first. What `spinney load` rejected came from no
    topic: load the corrected file.
    """
    from spinney.operations.dead_letters.letters import Letters
    from spinney.operations.dead_letters.replay import carry_out, plan
    from spinney.storage.layout import FleetStore

    config = load_config(config_path)
    letters = Letters.opened(FleetStore.of(config), _choice(**choosing))
    done = carry_out(config, letters) if yes else plan(config, letters)
    if as_json:
        write_json({"sent": done.count if yes else 0, "would_be_sent": 0 if yes else done.count, "left": done.left})
        return
    _tell(done, sent=yes)


def _tell(done: Plan, *, sent: bool) -> None:
    click.echo(f"{done.count:,} {'sent' if sent else 'would be sent: add --yes'}", err=True)
    for why, count in done.left.items():
        click.echo(f"{count:,} left: {why}", err=True)


@dead_letters.command(epilog=example("spinney dead-letters purge --older-than 90d --yes"))
@_choosing
@click.option("--older-than", metavar="DURATION", help="Only those that came before: 90d.")
@click.option("--yes", is_flag=True, help="Forget them. Without it: show how many.")
def purge(config_path: str, as_json: bool, older_than: str | None, yes: bool, **choosing: Any) -> None:
    """Forget dead letters for good: those chosen, at least by one option. A running stream does it itself."""
    from spinney.operations.dead_letters import purge as purging
    from spinney.operations.dead_letters.letters import Letters
    from spinney.storage.layout import FleetStore

    choice = _choice(**choosing, older_than=older_than)
    if not (choice.reasons or choice.fields or choice.since or choice.before):
        raise click.UsageError("expected at least one of: --older-than, --reason, --field, --since")
    store = FleetStore.of(load_config(config_path))
    count = purging.purge(store, choice) if yes else purging.count(Letters.opened(store, choice))
    if as_json:
        write_json({"forgotten": count if yes else 0, "would_be_forgotten": 0 if yes else count})
    else:
        click.echo(f"{count:,} {'forgotten' if yes else 'would be forgotten: add --yes'}", err=True)


def _choice(
    reasons: tuple[str, ...], fields: tuple[str, ...], since: str | None, older_than: str | None = None
) -> Choice:
    """Raises BadParameter: no time and no duration."""
    from spinney.operations.dead_letters.letters import Choice

    before = None if older_than is None else _ago(older_than, "--older-than")
    return Choice(reasons, fields, None if since is None else _time(since), before)


def _time(text: str) -> datetime:
    """A time, UTC where it names no zone; or so long ago."""
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
    """A dead letter as JSON has it: bytes as text, or base64 under a name that says so."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, bytes):
            found[name] = value
            continue
        try:
            found[name] = value.decode()
        except UnicodeDecodeError:
            found[f"{name}_base64"] = base64.b64encode(value).decode()
    return found


def _lines(record: Mapping[str, Any]) -> list[str]:
    place = f"{record['topic']}/{record['kafka_partition']}/{record['kafka_offset']}"
    field = f", field {record['field']}" if record["field"] is not None else ""
    at = f"{record['ingested_at']:%Y-%m-%dT%H:%M:%SZ}" if record["ingested_at"] is not None else "unknown time"
    lines = [f"{place} at {at}: {record['reason']}{field}: {record['detail']}"]
    lines += [f"  {name}: {record[name]}" for name in ("key", "key_base64", "value", "value_base64") if name in record]
    return [*lines, ""]


VERBS = (dead_letters,)
