"""Command load: history from files, and models from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.file_options import READING, options_of, say_notes, say_rejections, validation_options
from spinney.cli.options import (
    config_option,
    example,
    json_option,
    load_config,
    person_of,
    reason_of,
    say_where_a_fleet_begins,
    table,
    write_json,
)
from spinney.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from batch.load import LoadProgress
    from spinney.operations.model_import import ImportResult

MAX_SHOWN = 50
PROGRESS_SECONDS = 10.0


@click.command(epilog=example("spinney load models.csv --models --reason 'from the old system'"))
@click.argument("source", type=click.Path())
@config_option
@json_option
@click.option("--outcomes", is_flag=True, help="Load the rows as outcomes (late labels) instead of events.")
@click.option("--models", is_flag=True, help="Load fitted scikit-learn models, listed in SOURCE.")
@click.option("--allow-pickle", is_flag=True, help="With --models: accept pickles. Reading a pickle can run any code.")
@click.option("--dry-run", is_flag=True, help="With --models: read and try the models without writing them.")
@click.option("--reason", help="With --models: why, recorded with the decision [required].")
@click.option("--by", help="With --models: who decides [default: your login name].")
@validation_options
def load(source: str, config_path: str, as_json: bool, outcomes: bool, models: bool, **importing: Any) -> None:
    """Load history from files into the fleet's tables, without Kafka.

    The rows are validated as in the stream and added to the tables events and outcomes.

    SOURCE is a file of CSV, JSON, Parquet, Arrow or ORC, a folder of such files, or a Delta table. Rows that are
    stored already are not added again. Rows that are not valid become dead letters, and the exit code is 1.

    If labels arrive late and the rows have the target column, the labels are loaded as outcomes too. A column
    `prediction` holds the answers of your current system; `spinney fleet --incumbent` compares them.

    With --models, fitted models become the first champions of their groups. SOURCE is then a CSV, JSON lines or Parquet
    file with the group's columns and `model`: a path or an MLflow URI.
    """
    reading = {name: importing.pop(name) for name in READING}
    if models:
        _load_models(source, config_path, as_json=as_json, outcomes=outcomes, **importing)
        return
    if given := [name for name, value in importing.items() if value]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} needs --models")
    from batch.load import load as run_load
    from batch.load import open_for_load

    config, options = load_config(config_path), options_of(reading)
    opened = open_for_load(config.record_schema, source, options, outcomes=outcomes)
    say_where_a_fleet_begins(config)
    say_notes("load", opened.notes)
    loaded = run_load(config, opened, outcomes=outcomes, options=options, show=_progress())
    rejections = loaded.rejections
    if as_json:
        counts = {"added": loaded.added, "duplicates": loaded.duplicates, "rejected": rejections.rejected}
        write_json({**counts, "rejections": rejections.as_dicts()})
    else:
        duplicates: dict[str, Any] = loaded.duplicates
        shown = [
            {"table": name, "rows": rows, "duplicates": duplicates.get(name)} for name, rows in loaded.added.items()
        ]
        table("added", shown)
    say_rejections("load", rejections)
    sys.exit(1 if rejections.rejected else 0)


def _progress() -> Callable[[LoadProgress], None]:
    line = ProgressLine(seconds_between=PROGRESS_SECONDS)

    def show(progress: LoadProgress) -> None:
        text = f"load: {progress.stage}: {progress.rows:,} of {progress.of:,} rows"
        line.show(text, is_last=progress.rows >= progress.of)

    return show


def _load_models(source: str, config_path: str, *, as_json: bool, outcomes: bool, **importing: Any) -> None:
    if outcomes:
        raise click.UsageError("expected one of: --outcomes, --models")
    if importing["reason"] is None:
        raise click.UsageError("--models writes decisions of a person: give the reason with --reason TEXT")
    from batch.load_models import load_models
    from spinney.operations.interventions import Attribution
    from spinney.operations.model_import import ImportOutcome

    decision_by = Attribution(person_of(importing["by"]), reason_of(importing["reason"]))
    allow_pickle, dry_run = importing["allow_pickle"], importing["dry_run"]
    if allow_pickle:
        click.echo("load: pickles are allowed: reading one runs whatever code it holds", err=True)
    results = load_models(load_config(config_path), source, decision_by, allow_pickle=allow_pickle, dry_run=dry_run)
    counts = {what.value: sum(result.what == what for result in results) for what in ImportOutcome}
    if as_json:
        write_json({"written": not dry_run, "counts": counts, "models": results})
    else:
        table("models", [{"what": what, "models": number} for what, number in counts.items()])
        _say_why(results)
    sys.exit(1 if counts[ImportOutcome.REFUSED] else 0)


def _say_why(results: Sequence[ImportResult]) -> None:
    explained = [result for result in results if result.why]
    for result in explained[:MAX_SHOWN]:
        click.echo(f"group {result.group_key}: {result.named}: {result.what}: {result.why}", err=True)
    if (more := sum(result.why is not None for result in results) - MAX_SHOWN) > 0:
        click.echo(f"{more:,} more; --json shows all", err=True)
