"""Commands demo, stream and retrain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from schemas.vocabulary import STREAMING, QueryName
from spinney.cli.options import (
    config_option,
    example,
    json_lines_option,
    json_option,
    load_config,
    plain,
    say_where_a_fleet_begins,
    spark_session,
    table,
    write_json,
)

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.planning.parts import Progress
    from streaming.reporting import Reporter

QUERIES = tuple(query.value for query in STREAMING)


@click.command(epilog=example("spinney demo --report work/demo/report.html"))
@json_option
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    help="Path of the HTML report [default: report.html beside the tables].",
)
@click.option("--days", type=click.IntRange(min=1), help="Days of event time to stream [default: the example's].")
@click.option("--example", type=click.Path(exists=True, file_okay=False), help="Folder of another example.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of random choices [default: the example's; with --scale 0]."
)
@click.option("--scale", is_flag=True, help="Run synthetic groups at 2,000 events per second; 1 % of them change.")
@click.option("--groups", type=click.IntRange(200, 100_000), help="With --scale: number of groups [default: 50,000].")
@click.option(
    "--seconds", type=click.IntRange(10, 3_600), help="With --scale: seconds of sending events [default: 120]."
)
def demo(*, as_json: bool, report: str | None, seed: int | None, scale: bool, **only: Any) -> None:
    """Run an example on real flights: a Kafka broker, the four queries and an HTML report.

    With --scale, run 50,000 synthetic groups instead: a weekly round, then 2,000 events per second, in less than five
    minutes. The tables stay in work/demo or work/demo-scale. With --json, one object is printed on standard output and
    everything else on standard error.
    """
    _refuse_other_options(only, refused=("days", "example") if scale else ("groups", "seconds"), scale=scale)
    options = {name: value for name, value in {**only, "seed": seed}.items() if value is not None}
    summary = (_scale if scale else _example)(as_json, report, options)
    if as_json:
        write_json(summary)
    if scale:
        from demo.scale.scale_summary import require_sets_add_up

        require_sets_add_up(summary)


def _refuse_other_options(only: Mapping[str, Any], *, refused: Sequence[str], scale: bool) -> None:
    """Raise UsageError for options of the other kind of demo."""
    for name in refused:
        if only[name] is not None:
            raise click.UsageError(f"--{name} {'cannot be used with' if scale else 'needs'} --scale")


def _example(as_json: bool, report: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.run import DemoOptions, run_demo

    folder = asked.get("example")
    return run_demo(
        DemoOptions(
            json=as_json,
            report=Path(report) if report else None,
            days=asked.get("days"),
            example=Path(folder) if folder else None,
            seed=asked.get("seed"),
        )
    )


def _scale(as_json: bool, report: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.scale.traffic_plan import DEFAULT_GROUPS, DEFAULT_SECONDS, DEFAULT_SEED, TrafficPlan

    problem = TrafficPlan(
        asked.get("groups", DEFAULT_GROUPS), asked.get("seconds", DEFAULT_SECONDS), asked.get("seed", DEFAULT_SEED)
    ).problem
    if problem:
        raise click.UsageError(problem)
    from demo.scale.run import ScaleDemoOptions, run_demo

    return run_demo(ScaleDemoOptions(json=as_json, report=Path(report) if report else None, **asked))


@click.command(epilog=example("spinney stream --config fleet.toml --only ingest --only score"))
@config_option
@json_lines_option
@click.option("--only", multiple=True, type=click.Choice(QUERIES), help="Run only this query; may be repeated.")
@click.option("--once", is_flag=True, help="Process what is there and exit; for cron jobs and tests.")
@click.option(
    "--accept-topic",
    "accept_topics",
    multiple=True,
    metavar="TOPIC",
    help="Read this topic from its start after it was deleted and created again; may be repeated.",
)
def stream(config_path: str, as_json: bool, only: tuple[str, ...], once: bool, accept_topics: tuple[str, ...]) -> None:
    """Run the four queries: ingest, score, labels and retrain.

    Runs until Ctrl-C or SIGTERM, which stop it between batches. Prints when the queries are running, and every minute
    and at the end what they did.
    """
    config = load_config(config_path)
    say_where_a_fleet_begins(config)
    _accept(config, accept_topics)
    from spinney.cli.stream_reporter import reporter_for

    reporter = reporter_for(as_json=as_json)
    if once and _is_drained(config, only, reporter):
        return
    from streaming.app import run

    run(config, only, once=once, spark=spark_session(config), reporter=reporter)


def _is_drained(config: Config, only: Sequence[str], reporter: Reporter) -> bool:
    """Whether these queries have nothing to do, found out without Java. Pending rounds are delivered to MLflow."""
    from streaming.pending_work import find_pending_work
    from streaming.query_names import select_queries

    names = select_queries(config, only)
    pending = find_pending_work(config, names)
    if pending is not None:
        click.echo(f"stream: {pending}: Spark starts", err=True)
        return False
    reporter.nothing_to_do()
    if QueryName.RETRAIN in names:
        from spinney.tracking import deliver_now

        deliver_now(config, ends_stream=True)
    return True


def _accept(config: Config, names: Sequence[str]) -> None:
    if not names:
        return
    from spinney.kafka.topic_ids import accept_topics

    for sentence in accept_topics(config, names):
        click.echo(sentence, err=True)


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
    """Show progress on one line of a terminal, which is overwritten; elsewhere print a line per part."""
    on_terminal = sys.stderr.isatty()

    def show(round_id: str, progress: Progress | str) -> None:
        ended = isinstance(progress, str) or progress.done == progress.total
        before = "\r\x1b[K" if on_terminal else ""
        click.echo(f"{before}{round_id}: {progress}", err=True, nl=ended or not on_terminal)

    return show


VERBS = (demo, stream, retrain)
