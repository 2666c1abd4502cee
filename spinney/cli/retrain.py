"""Command retrain: the weekly batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.options import (
    config_option,
    example,
    json_option,
    key_of,
    load_config,
    person_of,
    plain,
    reason_of,
    spark_session,
    table,
    write_json,
)
from spinney.cli.progress_line import ProgressLine
from spinney.core.errors import GroupError, StoreError

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.planning.batch_parts import Progress
    from spinney.operations.retrain_now import RequestOutcome


@click.command(epilog=example("""spinney retrain --group '["AA","JFK","LAX"]'"""))
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Retrain every group and every parent.")
@click.option("--stale", is_flag=True, help="Retrain groups that are stale or were never fitted.")
@click.option("--group", "groups", multiple=True, metavar="KEY", help="Retrain this group; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Fit a sample and print an estimate for all groups; store nothing.")
@click.option(
    "--unproven",
    is_flag=True,
    help="After an edit of the recipe: promote models even if nothing can be compared [default: stop].",
)
@click.option("--request", is_flag=True, help="With --group: ask the running stream to do it, and return at once.")
@click.option("--reason", help="With --request: why, recorded with the verdict [required].")
@click.option("--by", help="With --request: who asks [default: your login name].")
def retrain(
    *, config_path: str, as_json: bool, everything: bool, stale: bool, groups: tuple[str, ...], **how: Any
) -> None:
    """Retrain groups in a batch: plan, fit, gate and record. Safe to run beside the stream.

    Finished parts are stored, so the next run continues a run that was killed. If the recipe was edited, the command
    first prints what the new models will be compared with. With --request the stream retrains the groups in its next
    round.
    """
    if everything + stale + bool(groups) != 1:
        raise click.UsageError("expected one of --all, --stale, or --group KEY (at least one)")
    if how["request"] or how["reason"] is not None or how["by"] is not None:
        _request(config_path, groups, _RequestOptions(**how), as_json=as_json)
        return
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


@dataclass(frozen=True)
class _RequestOptions:
    """The options of --request, and those that do not go with it."""

    request: bool
    reason: str | None
    by: str | None
    dry_run: bool
    unproven: bool


def _request(config_path: str, groups: tuple[str, ...], options: _RequestOptions, *, as_json: bool) -> None:
    """Ask the stream to retrain the groups. The exit code is 1 if a request was not written."""
    if not options.request or not groups or options.dry_run or options.unproven:
        raise click.UsageError("--request, --reason and --by go together with --group KEY and with no other option")
    if options.reason is None:
        raise click.UsageError("expected --reason with --request: it is recorded with the verdict")
    from spinney.operations.interventions import Attribution
    from spinney.operations.retrain_now import request_retrain
    from spinney.storage.layout import FleetStore

    attribution = Attribution(person_of(options.by), reason_of(options.reason))
    group_keys = dict.fromkeys(key_of((group,)) for group in groups)
    store = FleetStore.of(load_config(config_path))
    outcomes, refusals = [], []
    for key in group_keys:
        try:
            outcomes.append(request_retrain(store, key, attribution))
        except (GroupError, StoreError) as error:
            refusals.append({"group_key": key, "why": str(error)})
    if as_json:
        write_json({"requested": outcomes, "refused": refusals})
    for outcome in [] if as_json else outcomes:
        click.echo(_describe_outcome(outcome), err=True)
    for refusal in [] if as_json else refusals:
        click.echo(f"not requested: {refusal['why']}", err=True)
    sys.exit(1 if refusals else 0)


def _describe_outcome(outcome: RequestOutcome) -> str:
    """Return the outcome of a written request, as a sentence."""
    if outcome.is_stream_running:
        return f"{outcome.group_key}: requested; the stream retrains it in its next round"
    return f"{outcome.group_key}: requested; no stream runs, so the request waits until `spinney stream` is started"


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
