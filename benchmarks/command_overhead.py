"""Whole commands with little work: start-up, planning and commits.

A fleet with a history and a champion for each group. In each run: `stream --once` when there is nothing new, `load` of
1,000 rows, `retrain` of 10 groups; and the peer, a process that starts Spark with the same settings, runs one job and
ends.

Target: ≤ 15 s each.
Run: ``python benchmarks/command_overhead.py --groups 3000 --rows 50``
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from harness.broker import make_topics, serving
from harness.commands import Commands, Spinney
from harness.fleet import LabelModel, Rows, Settings, write_champions
from harness.results import Measure, arguments, show, work_folder
from refit import group_options, retrained

from spinney.storage.config_file import read_config

LOADED, REFITTED = 1_000, 10
EVENTS = 200
"""Events that are processed before anything is measured, so that no query is at its first batch."""


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
    asked = arguments(__doc__ or "", {"groups": 3_000, "rows": 50}).parse_args(arguments_given)
    peer, target = "bare Spark session", "≤ 15 s"
    stream = Measure("stream --once, nothing to do", "s", "less", peer, target)
    load = Measure(f"load, {LOADED:,} rows", "s", "less", peer, target)
    retrain = Measure(f"retrain, {REFITTED} groups", "s", "less", peer, target)
    cpu = {measure.what: Measure(f"{measure.what}", "CPU s", "less", peer) for measure in (stream, load, retrain)}
    label_model = LabelModel(asked.groups)
    with work_folder() as place, serving(place, asked.bootstrap_servers) as servers:
        file = Settings(
            f"command-overhead-{uuid.uuid4().hex[:8]}", asked.groups, servers, spark=tuple(asked.spark)
        ).write(place)
        config, spinney = read_config(file), commands(file)
        make_topics(config)
        write_champions(config, label_model)
        Rows(asked.rows).write(label_model, place / "history")
        spinney.run("load", str(place / "history"))
        events = str(config.kafka.events)
        spinney.run_module("harness.send", config.kafka.bootstrap_servers, events, str(asked.groups), str(EVENTS))
        spinney.run("stream", "--once")
        for run in range(1, asked.runs + 1):
            few = LabelModel(min(asked.groups, LOADED))
            Rows(LOADED // few.groups, batch=run).write(few, place / f"new-{run}")
            keys = [(run * REFITTED + n) % asked.groups for n in range(REFITTED)]
            bare, _ = spinney.run_module("harness.bare_session", str(file))
            done = (
                (stream, spinney.run("stream", "--once")[0]),
                (load, spinney.run("load", str(place / f"new-{run}"))[0]),
                (retrain, retrained(spinney, group_options(keys), REFITTED)),
            )
            for measure, usage in done:
                measure.add(usage.wall_s, peer=bare.wall_s, peak_mb=usage.peak_mb)
                cpu[measure.what].add(usage.cpu_s, peer=bare.cpu_s)
    show(asked, [stream, load, retrain, *cpu.values()])


if __name__ == "__main__":
    main()
