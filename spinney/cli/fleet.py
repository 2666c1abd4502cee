"""fleet, why: reading what is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from spinney.cli.options import config_option, example, json_option, key_of, load_config, plain, table, write_json
from spinney.core.standing import State

if TYPE_CHECKING:
    from datetime import datetime

    from spinney.core.config import Config


@click.command(epilog=example("spinney fleet --state failed --limit 20"))
@config_option
@json_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only groups in this state.")
@click.option("--as-of", metavar="TIME|ROUND", help="As it stood then: a time of the wall clock, or after a round.")
@click.option("--incumbent", is_flag=True, help="Beside the system before it, on rows that both answered.")
@click.option("--shadow", is_flag=True, help="The recipe beside its shadow, on the same held-out rows.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Lines to show; 0 is all.")
def fleet(config_path: str, as_json: bool, incumbent: bool, shadow: bool, limit: int, **which: str | None) -> None:
    """The fleet at a glance, one line per group. Reads only.

    --incumbent: what your system before answered (the column `prediction` of loaded history) beside what the fleet did,
    by their mean errors on the same rows, none of which the answering model was fitted on.
    --shadow: the challengers of [recipe] beside the estimator of [shadow], by the fleet's loss; each group counts once.
    """
    state, as_of = which["state"], which["as_of"]
    if incumbent or shadow:
        name = "--incumbent" if incumbent else "--shadow"
        if state is not None or as_of is not None or (incumbent and shadow):
            raise click.UsageError(f"expected {name} alone: it compares all groups as they are now")
        if incumbent:
            _compare(config_path, as_json=as_json, limit=limit)
        else:
            _shadowed(config_path, as_json=as_json)
        return
    from spinney.fleet import Fleet
    from spinney.stores.lookup import dicts

    config = load_config(config_path)
    rows = Fleet(config).table(_moment(config, as_of))
    if state is not None:
        rows = rows.filter([each == state for each in rows.column("state").to_pylist()])
    shown = rows if as_json or not limit else rows.slice(0, limit)
    if as_json:
        write_json(dicts(shown))
        return
    table("fleet", dicts(shown))
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more; --limit 0 shows all", err=True)


def _moment(config: Config, as_of: str | None) -> datetime | None:
    """The moment that is meant; it is told, with its clock."""
    if as_of is None:
        return None
    from spinney.stores.timeline import moment_of, shown

    at = moment_of(config, as_of)
    click.echo(f"as of {shown(at)}", err=True)
    return at


BASES = {
    "answered": "rows that both answered, the fleet by a model that had not seen them",
    "held_out": "held-out rows of groups' first models, answered by their recipe fitted without them",
}


def _compare(config_path: str, *, as_json: bool, limit: int) -> None:
    from spinney.fleet import Fleet

    found = Fleet(load_config(config_path)).incumbent()
    if as_json:
        write_json(found)
        return
    if not found.whole:
        click.echo(
            "nothing to compare: no row that the incumbent answered and no model was fitted on or chosen by", err=True
        )
        return
    rows = [{**each, "group_key": each["group_key"] or "all"} for each in plain([*found.whole, *found.groups])]
    shown = rows[: limit + len(found.whole)] if limit else rows
    table(f"mean error, {found.measure}", shown)
    for each in found.whole:
        click.echo(f"{each.basis}: {BASES[each.basis]} ({found.measure})", err=True)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more; --limit 0 shows all", err=True)


def _shadowed(config_path: str, *, as_json: bool) -> None:
    from spinney.core.steps import SHOWN
    from spinney.fleet import Fleet

    found = Fleet(load_config(config_path)).shadow()
    if as_json:
        write_json(found)
        return
    if not found:
        click.echo("nothing to compare: no group was retrained with a [shadow] beside it", err=True)
        return
    names = ("recipe_id", "shadow_recipe_id")
    table("shadow", ({**each, **{name: each[name][:SHOWN] for name in names}} for each in plain(found)))


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
