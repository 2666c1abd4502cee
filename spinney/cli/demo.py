"""Command demo: an example replayed through the whole loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from spinney.cli.options import example, json_option, write_json


@click.command(epilog=example("spinney demo --report work/demo/report.html"))
@json_option
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    help="Path of the HTML report [default: report.html beside the tables].",
)
@click.option("--days", type=click.IntRange(min=1), help="Days of event time to stream [default: the example's].")
@click.option(
    "--example",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of another example [default: examples/flights].",
)
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


def _example(as_json: bool, report: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.run import DemoOptions, run_demo

    folder = options.get("example")
    return run_demo(
        DemoOptions(
            json=as_json,
            report=Path(report) if report else None,
            days=options.get("days"),
            example=Path(folder) if folder else None,
            seed=options.get("seed"),
        )
    )


def _scale(as_json: bool, report: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.scale.traffic_plan import DEFAULT_GROUPS, DEFAULT_SECONDS, DEFAULT_SEED, TrafficPlan

    problem = TrafficPlan(
        options.get("groups", DEFAULT_GROUPS),
        options.get("seconds", DEFAULT_SECONDS),
        options.get("seed", DEFAULT_SEED),
    ).problem
    if problem:
        raise click.UsageError(problem)
    from demo.scale.run import ScaleDemoOptions, run_demo

    return run_demo(ScaleDemoOptions(json=as_json, report=Path(report) if report else None, **options))
