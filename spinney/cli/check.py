"""Command check: what a fleet needs and does not have."""

from __future__ import annotations

import sys

import click

from spinney.cli.options import config_option, example, json_option, load_config, table, write_json


@click.command(epilog=example("spinney check --config fleet.toml --show"))
@config_option
@json_option
@click.option("--show", is_flag=True, help="Show the values in effect and where each comes from; secrets are masked.")
def check(config_path: str, as_json: bool, show: bool) -> None:
    """Check that everything a fleet needs is in place.

    Checks the configuration, Java, jars, Kafka, topics, storage and estimator, and prints each finding with its remedy.
    Changes nothing. The exit code is 1 if there is a finding.
    """
    from spinney.core.errors import ConfigError
    from spinney.local.checks import fleet_checks

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
    results = fleet_checks.run(config)
    if as_json:
        write_json({"checks": results})
    for result in () if as_json else results:
        mark = {"ok": "ok     ", "finding": "FINDING", "skipped": "skipped"}[result.state]
        click.echo(f"{mark}  {result.name}: {result.text}")
        if result.remedy:
            click.echo(f"         → {result.remedy}")
    sys.exit(1 if any(result.state == "finding" for result in results) else 0)
