"""try: one group, in plain pandas."""

from __future__ import annotations

import click

from spinney.cli.options import config_option, example, json_option, key_of, load_config, write_json


@click.command(name="try", epilog=example("""spinney try --group '["AA","LGA","DFW"]' --rows departures.parquet"""))
@click.option(
    "--group", "key", metavar="KEY", required=True, help="The group's key as tables have it; one column: its value."
)
@config_option
@json_option
@click.option(
    "--rows", type=click.Path(exists=True, dir_okay=False), help="A Parquet, CSV or JSON lines file with the labels."
)
@click.option(
    "--out", type=click.Path(file_okay=False), default="work/try", show_default=True, help="Where the PNG and HTML go."
)
def try_(key: str, config_path: str, as_json: bool, rows: str | None, out: str) -> None:
    """Fit one group in plain pandas, no Spark and no Kafka; print its losses, draw what it predicts.

    The rows are those that the fleet would fit on, from its tables or from a file, the newest held out, by the code
    that fits fleets. Stores nothing but the two pictures.
    """
    from pathlib import Path

    from spinney.local.trial import words
    from spinney.local.trial.fit import fit
    from spinney.local.trial.output import write
    from spinney.local.trial.rows import of_file, stored

    config, group_key = load_config(config_path), key_of((key,))
    trial = fit(config, of_file(config, Path(rows), group_key) if rows else stored(config, group_key))
    files = write(trial, Path(out))
    if as_json:
        write_json(words.document(trial, files))
        return
    for word, said in words.lines(trial):
        click.echo(f"{word:<9} {said}")
    for kind, path in files.items():
        click.echo(f"{kind:<9} {path}")


VERBS = (try_,)
