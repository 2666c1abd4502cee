"""Command backtest: replays recorded history under this and other configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.file_options import options_of, say_notes, say_rejections, validation_options
from spinney.cli.options import config_option, example, json_option, load_config, table, write_json
from spinney.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    import pandas as pd

    from spinney.core.backtest.run import Progress
    from spinney.core.config import Config
    from spinney.local.backtest.report_text import Backtest
    from spinney.sources import ReadOptions


@click.command(epilog=example("spinney backtest --rows history.parquet --candidate weekly.toml --plot frontier.svg"))
@config_option
@json_option
@click.option(
    "--rows", type=click.Path(), help="A file, folder or Delta table of labelled rows [default: the fleet's tables]."
)
@click.option(
    "--candidate",
    "candidates",
    type=click.Path(dir_okay=False),
    multiple=True,
    help="A TOML file with the keys of [recipe], [staleness], [gate] and [budget] that differ; may be repeated.",
)
@click.option("--baselines", is_flag=True, help="Also replay fixed schedules, random choice and the best in hindsight.")
@click.option("--step", default="1d", show_default=True, help="Time between two rounds, such as 6h.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="SVG file for a chart of loss against number of fits [default: no chart].",
)
@validation_options
def backtest(
    *, config_path: str, as_json: bool, rows: str | None, candidates: tuple[str, ...], plot: str | None, **how: Any
) -> None:
    """Replay history: which models would have been fitted, which would have gone live, and with what loss.

    Labels are used only from when they were observed. Writes nothing except the chart. Needs no Spark and no Kafka.
    """
    from spinney.local.backtest import report_text
    from spinney.local.backtest.run import Request, run_backtest

    config = load_config(config_path)
    request = Request(config, candidates, _step_of(how.pop("step")), how.pop("baselines"))
    frame = _stored(config) if rows is None else _of_file(config, rows, options_of(how))
    found = run_backtest(request, frame, rows or f"the tables below {config.storage.root}", _progress())
    files = {} if plot is None else {"svg": _draw(found, plot)}
    if as_json:
        write_json(report_text.to_json(found, files))
        return
    for line in report_text.heading_lines(found):
        click.echo(line, err=True)
    table("backtest", report_text.table_rows(found.comparison.scores))


def _draw(found: Backtest, file: str) -> str:
    """Write the chart and return its path."""
    from pathlib import Path

    from spinney.local.backtest.frontier_chart import write_frontier

    write_frontier(found.comparison, found.loss, Path(file))
    return file


def _stored(config: Config) -> pd.DataFrame:
    from spinney.local.backtest.stored_rows import read_stored_history
    from spinney.storage.layout import FleetStore

    return read_stored_history(FleetStore.of(config))


def _of_file(config: Config, place: str, options: ReadOptions) -> pd.DataFrame:
    from spinney.local.backtest.file_rows import open_history, read_history
    from spinney.storage.charter import original_columns_of
    from spinney.storage.layout import FleetStore

    source = open_history(config.record_schema, place, options)
    say_notes("backtest", source.notes)
    originals = original_columns_of(FleetStore.of(config))
    found = read_history(config.record_schema, source, options, originals=originals)
    say_rejections("backtest", found.rejections)
    return found.frame


def _step_of(text: str) -> int:
    """Return the text of --step in microseconds. Raises BadParameter."""
    from datetime import timedelta

    from spinney.core import durations

    try:
        step = durations.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--step") from error
    if step <= timedelta(0):
        raise click.BadParameter(f"expected a time greater than 0; got {text!r}", param_hint="--step")
    return step // timedelta(microseconds=1)


def _progress() -> Callable[[Progress], None]:
    line = ProgressLine(seconds_between=5.0)

    def show(progress: Progress) -> None:
        text = f"backtest: {progress.strategy}, step {progress.done:,} of {progress.steps:,}"
        line.show(text, is_last=progress.done == progress.steps)

    return show
