"""Command init: topics, tables and the signing key, or a proposed configuration."""

from __future__ import annotations

from typing import Any

import click

from spinney.cli.file_options import format_options, options_of, say_notes
from spinney.cli.options import config_option, example, json_option, load_config, say_where_a_fleet_begins, write_json


@click.command(epilog=example("spinney init --from history.csv > fleet.toml"))
@config_option
@json_option
@click.option(
    "--partitions", type=click.IntRange(min=1), default=4, show_default=True, help="Partitions of new topics."
)
@click.option(
    "--retention-ms",
    type=click.IntRange(min=-1),
    help="Retention of new topics in milliseconds; -1: unlimited [default: the broker's].",
)
@click.option(
    "--from",
    "data",
    type=click.Path(),
    help="Print a proposed fleet.toml for this file, folder or Delta table; create nothing.",
)
@click.option("--target", help="With --from: the column to predict [default: guessed].")
@click.option("--group", multiple=True, help="With --from: a column of the group; up to five [default: guessed].")
@click.option("--id", "identity", help="With --from: the column with each event's id [default: guessed].")
@click.option("--time", help="With --from: the column with the event time [default: guessed].")
@click.option("--name", help="With --from: name of the fleet [default: the file's].")
@format_options
def init(
    config_path: str, as_json: bool, partitions: int, retention_ms: int | None, data: str | None, **choices: Any
) -> None:
    """Create the topics, tables and signing key that do not exist yet. Safe to repeat.

    With --from, print a proposed configuration for your data instead, and create nothing.
    """
    from spinney.storage.layout import FleetStore

    if data is not None:
        proposal = _propose(data, choices)
        write_json({"fleet_toml": proposal}) if as_json else click.echo(proposal, nl=False)
        return
    if given := [name for name, value in choices.items() if value]:
        raise click.UsageError(f"--{given[0].replace('identity', 'id')} needs --from")
    config = load_config(config_path)
    say_where_a_fleet_begins(config)
    from spinney.kafka.client import ensure_topics
    from spinney.storage.charter import ensure_charter
    from spinney.storage.signing_key import ensure_key
    from spinney.tables.delta import create_tables

    created: dict[str, Any] = {"root": config.storage.root}
    store = FleetStore.of(config)
    ensure_charter(store)
    created["tables"] = create_tables(store)
    click.echo(f"tables below {config.storage.root}: {len(created['tables'])} made, the others were there", err=True)
    created["signing_key"] = ensure_key(store)
    if created["signing_key"]:
        click.echo(f"signing key: made, {config.storage.root}/signing.key; anyone with it can forge models", err=True)
    # Last: without a broker the tables and the key are still created, which is enough to load and retrain.
    created["topics"] = ensure_topics(config.kafka, partitions, retention_ms)
    for topic, new in created["topics"].items():
        click.echo(f"topic {topic}: {'made' if new else 'was there'}", err=True)
    if as_json:
        write_json(created)


def _propose(data: str, choices: dict[str, Any]) -> str:
    from pathlib import Path

    from spinney.core.config_proposal import Choices, propose
    from spinney.sources import open_source
    from spinney.sources.sample import read_sample

    source = open_source(data, options_of(choices))
    say_notes("init", source.notes)
    sample = read_sample(source)
    say_notes("init", sample.notes)
    chosen = Choices(tuple(choices["group"]), choices["target"], choices["identity"], choices["time"])
    name = choices["name"] or Path(data).stem
    return propose(sample.frame, name, sample.texts, chosen, is_beginning=not sample.is_whole)
