"""Command try: fits one group in plain pandas."""

from __future__ import annotations

from typing import Any

import click

from spinney.cli.file_options import options_of, reading_options, say_notes
from spinney.cli.options import config_option, example, json_option, key_of, load_config, write_json


@click.command(name="try", epilog=example("""spinney try --group '["AA","LGA","DFW"]' --rows departures.parquet"""))
@click.option(
    "--group",
    "key",
    metavar="KEY",
    required=True,
    help="The group_key as in the tables; for a single column, its value.",
)
@config_option
@json_option
@click.option(
    "--rows", type=click.Path(), help="A file, folder or Delta table of labelled rows [default: the fleet's tables]."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    default="work/try",
    show_default=True,
    help="Folder of the PNG and HTML files.",
)
@reading_options
def try_(key: str, config_path: str, as_json: bool, rows: str | None, out: str, **how: Any) -> None:
    """Fit one group with pandas only, print its losses and draw its predictions. Needs no Spark and no Kafka.

    The rows are those that a round would use, from the tables or a file, and the newest are held out. Stores nothing
    except a PNG and an HTML page.
    """
    from pathlib import Path

    from spinney.local.trial import report_text
    from spinney.local.trial.fit import fit_trial
    from spinney.local.trial.output import write_files
    from spinney.local.trial.rows import open_rows, read_file_rows, read_stored_rows
    from spinney.storage.charter import original_columns_of
    from spinney.storage.layout import FleetStore

    config, group_key, options = load_config(config_path), key_of((key,)), options_of(how)
    if rows is None:
        trial = fit_trial(config, read_stored_rows(FleetStore.of(config), config.recipe.window, group_key))
    else:
        source = open_rows(config.record_schema, rows, options)
        say_notes("try", source.notes)
        originals = original_columns_of(FleetStore.of(config))
        trial = fit_trial(config, read_file_rows(config.record_schema, source, group_key, originals))
    files = write_files(trial, Path(out))
    if as_json:
        write_json(report_text.to_json(trial, files))
        return
    for term, text in report_text.summary_lines(trial):
        click.echo(f"{term:<9} {text}")
    for kind, path in files.items():
        click.echo(f"{kind:<9} {path}")


VERBS = (try_,)
