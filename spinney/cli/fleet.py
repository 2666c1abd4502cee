"""fleet, why: reading what is."""

from __future__ import annotations

import click

from spinney.cli.options import config_option, example, json_option, key_of, load_config, plain, table, write_json
from spinney.core.standing import State


@click.command(epilog=example("spinney fleet --state failed --limit 20"))
@config_option
@json_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only groups in this state.")
@click.option("--as-of", metavar="TIME|ROUND", help="As it stood then: a time, or right after a round.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Lines to show; 0 is all.")
def fleet(config_path: str, as_json: bool, state: str | None, as_of: str | None, limit: int) -> None:
    """The fleet at a glance, one line per group. Reads only."""
    from spinney.fleet import Fleet

    rows = plain(Fleet(load_config(config_path)).groups(as_of))
    if state is not None:
        rows = [row for row in rows if row.get("state") == state]
    shown = rows if as_json or not limit else rows[:limit]
    if as_json:
        write_json(shown)
        return
    table("fleet", shown)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more; --limit 0 shows all", err=True)


@click.command(epilog=example("spinney why AA JFK LAX"))
@click.argument("key", nargs=-1, required=True)
@config_option
@json_option
def why(key: tuple[str, ...], config_path: str, as_json: bool) -> None:
    """One group's verdicts, models and promotions in words. Reads only.

    KEY: the group's columns in their order (AA JFK LAX), or its key as tables have it ('["AA","JFK","LAX"]').
    """
    from spinney.fleet import Fleet

    story = Fleet(load_config(config_path)).why(key_of(key))
    if as_json:
        write_json(story)
    else:
        click.echo(story if isinstance(story, str) else str(story))


VERBS = (fleet, why)
