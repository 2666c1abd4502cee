"""Command migrate: changes the columns and the loss of a fleet that has stored events."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.options import config_option, example, json_option, load_config, table, write_json

if TYPE_CHECKING:
    from spinney.operations.migration import MigrationPlan


@click.command(epilog=example("spinney migrate --rename sqft=area --yes"))
@config_option
@json_option
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="Rename a column; may be repeated.")
@click.option("--yes", is_flag=True, help="Carry it out. Without it, only show what would change.")
def migrate(config_path: str, as_json: bool, renames: tuple[str, ...], yes: bool) -> None:
    """Change the columns of stored events, and the loss, to those of the edited configuration.

    Columns can be added, dropped, renamed (--rename), or given a wider type. The loss of a regression can be changed:
    absolute or squared. Stop every process of the fleet first. If the command is killed, run it again to finish.
    """
    config, names = load_config(config_path), _names(renames)
    from spinney.operations import migration
    from spinney.storage.layout import FleetStore

    plan_or_migrate = migration.carry_out_migration if yes else migration.plan_migration
    plan = plan_or_migrate(FleetStore.of(config), names)
    if as_json:
        write_json(_as_data(plan, done=yes))
    else:
        _show(plan)
    if plan.obstacles:
        sys.exit(1)
    if as_json:
        return
    if plan.migration is None:
        click.echo("migrate: the columns and the loss are as the configuration says", err=True)
    elif yes:
        click.echo("migrate: done", err=True)
    else:
        click.echo("migrate: nothing was changed; add --yes to carry it out", err=True)


def _names(renames: tuple[str, ...]) -> dict[str, str]:
    new_names = {}
    for rename in renames:
        old, equals, new = rename.partition("=")
        if not (old and equals and new) or old in new_names:
            raise click.BadParameter(f"expected OLD=NEW, each OLD once; got {rename!r}", param_hint="--rename")
        new_names[old] = new
    return new_names


def _as_data(plan: MigrationPlan, *, done: bool) -> dict[str, Any]:
    return {
        "done": done,
        "changes": [asdict(change) for change in plan.changes],
        "tables": [asdict(table_change) for table_change in plan.tables],
        "loss": None if plan.loss is None else asdict(plan.loss),
        "notes": plan.notes,
        "obstacles": plan.obstacles,
    }


def _show(plan: MigrationPlan) -> None:
    columns = ("kind", "name", "old_name", "was", "becomes")
    table("columns", [{name: getattr(change, name) for name in columns} for change in plan.changes])
    if plan.loss is not None:
        table("losses", [asdict(state) for state in plan.loss.states])
    table("tables", [asdict(table_change) for table_change in plan.tables])
    for note in plan.notes:
        click.echo(f"- {note}", err=True)
    for obstacle in plan.obstacles:
        click.echo(f"not now: {obstacle}", err=True)


VERBS = (migrate,)
