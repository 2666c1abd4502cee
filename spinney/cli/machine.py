"""check, init: is everything there, and make what is not."""

from __future__ import annotations

import sys

import click

from spinney.cli.options import (
    config_option,
    example,
    json_option,
    load_config,
    say_where_a_fleet_begins,
    table,
    write_json,
)


@click.command(epilog=example("spinney check --config fleet.toml --show"))
@config_option
@json_option
@click.option("--show", is_flag=True, help="The values in effect and where each came from; secrets are masked.")
def check(config_path: str, as_json: bool, show: bool) -> None:
    """Configuration, Java, jars, Kafka, topics, storage, estimator: each finding with its remedy. Changes nothing."""
    from spinney.core.errors import ConfigError
    from spinney.local import checks

    try:
        config = load_config(config_path)
    except ConfigError as error:
        if as_json:
            write_json({"findings": error.findings})
            sys.exit(2)
        raise
    if show:
        settings = [setting._asdict() for setting in config.effective()]
        write_json(settings) if as_json else table(config_path, settings)
        return
    results = checks.run(config)
    if as_json:
        write_json({"checks": results})
    for result in () if as_json else results:
        mark = {"ok": "ok     ", "finding": "FINDING", "skipped": "skipped"}[result.state]
        click.echo(f"{mark}  {result.name}: {result.text}")
        if result.remedy:
            click.echo(f"         → {result.remedy}")
    sys.exit(1 if any(result.state == "finding" for result in results) else 0)


@click.command(epilog=example("spinney init --from history.csv > fleet.toml"))
@config_option
@click.option("--partitions", type=click.IntRange(min=1), default=4, show_default=True, help="Of topics made now.")
@click.option(
    "--retention-ms", type=click.IntRange(min=-1), help="Of topics made now; -1 keeps for ever. [broker's own]"
)
@click.option(
    "--from",
    "data",
    type=click.Path(exists=True, dir_okay=False),
    help="Propose a fleet.toml for this CSV or Parquet file on standard output; make nothing.",
)
def init(config_path: str, partitions: int, retention_ms: int | None, data: str | None) -> None:
    """Make the topics, the tables and the signing key that are missing. Safe to repeat."""
    if data is not None:
        _propose(data)
        return
    config = load_config(config_path)
    say_where_a_fleet_begins(config)
    from spinney.stores.kafka import ensure_topics

    for topic, made in ensure_topics(config, partitions, retention_ms).items():
        click.echo(f"topic {topic}: {'made' if made else 'was there'}", err=True)
    from spinney.stores.charter import ensure_fixed
    from spinney.stores.delta import create_tables

    ensure_fixed(config)
    made_now = create_tables(config)
    click.echo(f"tables below {config.storage.root}: {len(made_now)} made, the others were there", err=True)
    from spinney.stores.signing_key import ensure_key

    if ensure_key(config):
        click.echo(f"signing key: made, {config.storage.root}/signing.key; whoever has it can forge models", err=True)


def _propose(data: str) -> None:
    from pathlib import Path

    from spinney.core.proposal import propose
    from spinney.stores.sample import read_sample

    click.echo(propose(read_sample(data), Path(data).stem), nl=False)


VERBS = (check, init)
