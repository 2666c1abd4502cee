"""Commands fleet and why: the status of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from spinney.cli.options import config_option, example, json_option, key_of, load_config, plain, table, write_json
from spinney.core.reporting.group_status import State

if TYPE_CHECKING:
    from datetime import datetime

    from spinney.core.config import Config


@click.command(epilog=example("spinney fleet --state failed --limit 20"))
@config_option
@json_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only groups in this state.")
@click.option(
    "--as-of", metavar="TIME|ROUND", help="The status at this time (wall clock) or after this round [default: now]."
)
@click.option("--incumbent", is_flag=True, help="Compare with the former system.")
@click.option("--shadow", is_flag=True, help="Compare the recipe with its shadow.")
@click.option("--summary", is_flag=True, help="Show states, errors and the worst groups on one screen.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Largest number of lines; 0 shows all."
)
def fleet(config_path: str, as_json: bool, limit: int, state: str | None, as_of: str | None, **views: bool) -> None:
    """Show the status of the fleet, one line per group. Reads only.

    --incumbent compares your former system (the column `prediction` of loaded history) with the fleet, by mean errors
    on the same rows, none of which the answering model was fitted on.

    --shadow compares the challengers of [recipe] with the estimator of [shadow], by the fleet's loss. Each group counts
    once.

    --summary shows groups by state, the champions' mean error beside that of a constant answer (and of the former
    system) on the same held-out rows, what refits have gained in stale groups drawn at random, and the groups in which
    a constant is better, worst first.
    """
    if selected_views := [name for name, is_asked in views.items() if is_asked]:
        if state is not None or as_of is not None or len(selected_views) > 1:
            raise click.UsageError(f"expected --{selected_views[0]} alone: it compares all groups as they are now")
        if selected_views == ["incumbent"]:
            _show_incumbent(config_path, as_json=as_json, limit=limit)
        elif selected_views == ["shadow"]:
            _show_shadow(config_path, as_json=as_json)
        else:
            _show_summary(config_path, as_json=as_json, limit=limit)
        return
    from spinney.fleet import Fleet
    from spinney.storage.layout import FleetStore
    from spinney.tables.lookup import to_dicts
    from spinney.tables.readers.halted_rounds import describe_halt

    config = load_config(config_path)
    opened, at = Fleet(config), _moment(config, as_of)
    rows = opened.table(at)
    if state is not None:
        rows = rows.filter([value == state for value in rows.column("state").to_pylist()])
    shown = rows if as_json or not limit else rows.slice(0, limit)
    if as_json:
        write_json(to_dicts(shown))
        return
    earlier_losses = set(shown.column("loss_name").to_pylist()) - {None, config.fleet.loss}
    table("fleet", to_dicts(shown if earlier_losses else shown.drop_columns(["loss_name"])))
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more; --limit 0 shows all", err=True)
    if (gain := opened.gain(at)) is not None:
        click.echo(gain, err=True)
    if at is None and (halt := describe_halt(FleetStore.of(config))) is not None:
        click.echo(halt, err=True)


def _moment(config: Config, as_of: str | None) -> datetime | None:
    """Return the time that --as-of names, None without it. Prints the time with the clock that it is read on."""
    from spinney.storage.layout import FleetStore

    if as_of is None:
        return None
    from spinney.tables.readers.as_of import format_as_of, resolve_as_of

    at = resolve_as_of(FleetStore.of(config), as_of)
    click.echo(f"as of {format_as_of(at)}", err=True)
    return at


BASES = {
    "answered": "rows that both answered, the fleet by a model that had not seen them",
    "held_out": "held-out rows of groups' first models, answered by their recipe fitted without them",
}


def _show_incumbent(config_path: str, *, as_json: bool, limit: int) -> None:
    from spinney.fleet import Fleet

    comparison = Fleet(load_config(config_path)).incumbent()
    if as_json:
        write_json(comparison)
        return
    if not comparison.whole:
        click.echo(
            "nothing to compare: no row that the incumbent answered and no model was fitted on or chosen by", err=True
        )
        return
    rows = [{**row, "group_key": row["group_key"] or "all"} for row in plain([*comparison.whole, *comparison.groups])]
    shown = rows[: limit + len(comparison.whole)] if limit else rows
    table(f"mean error, {comparison.measure}", shown)
    for errors in comparison.whole:
        click.echo(f"{errors.basis}: {BASES[errors.basis]} ({comparison.measure})", err=True)
    if len(shown) < len(rows):
        click.echo(f"{len(rows) - len(shown)} more; --limit 0 shows all", err=True)


def _show_shadow(config_path: str, *, as_json: bool) -> None:
    from spinney.core.champions.interventions import SHORT_ID_LENGTH
    from spinney.fleet import Fleet

    comparisons = Fleet(load_config(config_path)).shadow()
    if as_json:
        write_json(comparisons)
        return
    if not comparisons:
        click.echo("nothing to compare: no group was retrained with a [shadow] beside it", err=True)
        return
    names = ("recipe_id", "shadow_recipe_id")
    table("shadow", ({**row, **{name: row[name][:SHORT_ID_LENGTH] for name in names}} for row in plain(comparisons)))


MAX_WORST = 10
"""Groups listed by --summary unless --limit is given."""


def _show_summary(config_path: str, *, as_json: bool, limit: int) -> None:
    from spinney.fleet import Fleet

    summary = Fleet(load_config(config_path)).summary()
    if as_json:
        write_json(summary)
        return
    table(
        f"{summary.fleet}: {summary.groups:,} groups",
        ({"state": name, "groups": n} for name, n in summary.states.items()),
    )
    if summary.against:
        click.echo()
        table(f"mean error, {summary.measure}", plain(summary.against))
    if summary.gain is not None:
        click.echo(f"\n{summary.gain}")
    if summary.begun_anew is not None:
        click.echo(f"errors and gain: {summary.begun_anew}; models that were measured before do not count", err=True)
    if summary.unmeasured:
        click.echo(
            f"{summary.unmeasured:,} groups have a model that was never measured beside a constant: imported, fitted "
            "on too few rows, or before this was measured; their next fit may be",
            err=True,
        )
    source = click.get_current_context().get_parameter_source("limit")
    is_limit_given = source is not click.core.ParameterSource.DEFAULT
    max_groups = (limit if is_limit_given else MAX_WORST) or len(summary.worst)
    if summary.worst:
        click.echo()
        rows = [{**plain(group), "ratio": group.ratio} for group in summary.worst[:max_groups]]
        table("worse than a constant, the worst first", rows)
    if len(summary.worst) > max_groups:
        click.echo(f"{len(summary.worst) - max_groups:,} more; --limit 0 shows all", err=True)


@click.command(epilog=example("spinney why AA JFK LAX"))
@click.argument("key", nargs=-1, required=True)
@config_option
@json_option
def why(key: tuple[str, ...], config_path: str, as_json: bool) -> None:
    """Show the history of a group in words: verdicts, fits, promotions and changes by people. Reads only.

    KEY is either the values of the group's columns in their order (AA JFK LAX), or the group_key as in the tables
    ('["AA","JFK","LAX"]').
    """
    from spinney.fleet import Fleet

    history = Fleet(load_config(config_path)).why(key_of(key))
    if as_json:
        write_json(history)
    else:
        click.echo(str(history))


VERBS = (fleet, why)
