"""Command retrain: the weekly batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from spinney.cli.options import (
    config_option,
    example,
    json_option,
    load_config,
    plain,
    spark_session,
    table,
    write_json,
)
from spinney.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.planning.parts import Progress


@click.command(epilog=example("""spinney retrain --group '["AA","JFK","LAX"]'"""))
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Retrain every group and every parent.")
@click.option("--stale", is_flag=True, help="Retrain groups that are stale or were never fitted.")
@click.option("--group", "groups", multiple=True, metavar="KEY", help="Retrain this group; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Fit a sample and print an estimate for all groups; store nothing.")
@click.option("--unproven", is_flag=True, help="Promote an edited recipe even where nothing could be compared.")
def retrain(
    *, config_path: str, as_json: bool, everything: bool, stale: bool, groups: tuple[str, ...], **how: bool
) -> None:
    """Retrain groups in a batch: plan, fit, gate and record. Safe to run beside the stream.

    Finished parts are stored, so the next run continues a run that was killed. If the recipe was edited, the command
    first prints what the new models will be compared with.
    """
    if everything + stale + bool(groups) != 1:
        raise click.UsageError("expected one of --all, --stale, or --group KEY (at least one)")
    config = load_config(config_path)
    group_keys = None if everything or stale else list(groups)
    if how["dry_run"]:
        _estimate(config, group_keys, stale=stale, as_json=as_json)
        return
    from batch.weekly import retrain as run_retrain

    result = run_retrain(
        config,
        group_keys,
        stale=stale,
        unproven=how["unproven"],
        spark=lambda: spark_session(config),
        show=_progress(),
    )
    if as_json:
        write_json(result)
    elif result is None:
        click.echo("nothing to do", err=True)
    else:
        table("round", [{"what": name, "value": value} for name, value in plain(result).items()])


def _estimate(config: Config, groups: list[str] | None, *, stale: bool, as_json: bool) -> None:
    from batch.estimate import estimate

    estimated = estimate(config, groups, stale=stale, spark=spark_session(config))
    if as_json:
        write_json(estimated)
    else:
        click.echo(str(estimated))


def _progress() -> Callable[[str, Progress | str], None]:
    line = ProgressLine()

    def show(round_id: str, progress: Progress | str) -> None:
        line.show(f"{round_id}: {progress}", is_last=isinstance(progress, str) or progress.done == progress.total)

    return show
