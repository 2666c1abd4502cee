"""Command register: the fleet as a version of one registered model."""

from __future__ import annotations

import sys

import click

from spinney.cli.options import config_option, example, json_option, load_config, write_json


@click.command(epilog=example("spinney register --alias champion"))
@config_option
@json_option
@click.option(
    "--as-of", metavar="TIME|ROUND", help="The champions at this time (wall clock) or after this round [default: now]."
)
@click.option("--alias", default="champion", show_default=True, help="Alias to set on this version.")
@click.option("--take-over", is_flag=True, help="Move the alias even if another fleet uses it.")
@click.option("--dry-run", is_flag=True, help="Show what the version would hold, without calling MLflow.")
def register(config_path: str, as_json: bool, as_of: str | None, alias: str, take_over: bool, dry_run: bool) -> None:
    """Register the fleet in MLflow as a version of one model that answers rows of any group.

    A version holds every group's champion, signed, and works without the fleet's tables.
    """
    from datetime import UTC, datetime

    from spinney.fleet import Fleet
    from spinney.storage.layout import FleetStore
    from spinney.tables.readers.as_of import resolve_as_of
    from spinney.tracking import registry

    config = load_config(config_path)
    at = resolve_as_of(FleetStore.of(config), as_of) if as_of else datetime.now(UTC)
    champions = Fleet(config).champions(at)
    done = registry.register(config, champions, at, alias, dry_run=dry_run, take_over=take_over)
    if as_json:
        write_json(done)
    else:
        click.echo(str(done))
    if done.manifest.refused:
        refused = "champions whose signature does not hold: others answer in their place; spinney retrain --group"
        click.echo(f"{done.manifest.refused} {refused}", err=True)
    sys.exit(1 if done.manifest.refused else 0)


VERBS = (register,)
