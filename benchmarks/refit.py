"""The cost of refitting: the whole fleet twice, a few groups, and the peers, for each size of `--groups`.

Rows are made and loaded (`spinney load`), then `retrain --all` (first models), then for each run: `--new-rows` rows of
each group are loaded, `retrain --all` (each group is fitted, compared on held-out rows with its champion and decided
upon), `retrain --group` of 2 groups and of `--scattered` groups spread over the fleet. All are whole commands: JVM,
Spark, tables, MLflow. The peers fit the same rows in the same run, each group once, without gate or tables; joblib and
Spark a fleet of `--peer-groups` groups, extrapolated by the group. Polars is a peer where it is installed (``pip
install polars``; not a dependency of Spinney).

Targets: 50,000 groups × 50 rows, second round ≤ 30 s; a million groups ≤ 200 s and ≤ 12 GB, cost per group within
1.5 × from 10,000 groups to a million; `retrain --group` of 2 groups, of 10, and of 100 out of a million ≤ 15 s.
Run: ``python benchmarks/refit.py --groups 10000 --groups 50000 --groups 1000000``
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from harness.commands import Commands, Spinney
from harness.fleet import LabelModel, Rows, Settings, group_key
from harness.process_tree import Usage
from harness.results import Measure, arguments, show, work_folder

TARGETS = {50_000: "≤ 30 s", 1_000_000: "≤ 200 s, ≤ 12 GB"}
FEW = 2
PEERS = ("joblib", "spark", "polars") if find_spec("polars") else ("joblib", "spark")
SAMPLED = ("joblib", "spark")
"""Peers that are timed on a smaller fleet."""


@dataclass
class OfSize:
    """The measures of a fleet of `groups` groups."""

    groups: int
    scattered_groups: int
    first: Measure = field(init=False)
    second: Measure = field(init=False)
    cpu: Measure = field(init=False)
    per_group: Measure = field(init=False)
    few: Measure = field(init=False)
    scattered: Measure = field(init=False)
    peers: dict[str, Measure] = field(init=False)

    def __post_init__(self) -> None:
        size, target = f"{self.groups:,}", TARGETS.get(self.groups, "")
        self.first = Measure(f"retrain --all, first, {size}", "s")
        self.second = Measure(f"retrain --all, with gate, {size}", "s", target=target)
        self.cpu = Measure(f"  CPU of it, {size}", "CPU s")
        self.per_group = Measure(f"  of it per group, {size}", "ms", target="within 1.5 × of the smallest fleet's")
        self.few = Measure(f"retrain --group, {FEW} groups of {size}", "s", target="≤ 15 s")
        self.scattered = Measure(f"retrain --group, {self.scattered_groups} groups of {size}", "s", target="≤ 15 s")
        self.peers = {
            name: Measure(f"retrain --all, with gate, {size}", "s", peer=f"{name}, fit only") for name in PEERS
        }

    @property
    def measures(self) -> list[Measure]:
        """All measures, in the order of the table."""
        return [self.first, self.second, self.cpu, self.per_group, *self.peers.values(), self.few, self.scattered]


def retrained(spinney: Spinney, words: Sequence[str], groups: int) -> Usage:
    """Run `retrain` once and return its cost. Raises RuntimeError: a group was neither fitted nor kept."""
    usage, printed = spinney.run("retrain", *words, "--json")
    found = json.loads(printed)
    if found["fitted"] + found["kept"] != groups or found["groups_in"] != groups:
        counts = {name: found[name] for name in ("groups_in", "fitted", "kept", "failed", "too_few_rows", "deferred")}
        raise RuntimeError(f"retrain {words[0]}: expected {groups} groups fitted or kept, found {counts}")
    return usage


def group_options(keys: Sequence[int]) -> list[str]:
    """Return the command-line options that name these groups."""
    return [word for group in keys for word in ("--group", group_key(group))]


def peer_seconds(spinney: Spinney, name: str, folder: Path, groups: int) -> float:
    """Return a peer's seconds for fitting `groups` groups once. folder: has ``rows`` and ``some`` (a smaller fleet)."""
    rows = folder / ("some" if name in SAMPLED else "rows")
    done = json.loads(spinney.run_module("harness.peers", name, str(rows), str(folder / f"peer-{name}"))[1])
    shutil.rmtree(folder / f"peer-{name}")
    return float(done["seconds"] / done["models"] * groups)


def measure(folder: Path, found: OfSize, asked: argparse.Namespace, commands: Commands) -> None:
    """Run every measurement once for a size of fleet, and add the results."""
    groups, label_model = found.groups, LabelModel(found.groups)
    spinney = commands(Settings("refit", groups, spark=tuple(asked.spark)).write(folder))
    rows = folder / "rows"
    Rows(asked.rows, largest_share=asked.largest_share).write(label_model, rows)
    sample = min(groups, asked.peer_groups)
    Rows(asked.rows).write(LabelModel(sample), folder / "some")
    spinney.run("load", str(rows))
    usage = retrained(spinney, ["--all"], groups)
    found.first.add(usage.wall_s, peak_mb=usage.peak_mb)
    for run in range(1, asked.runs + 1):
        new = folder / f"new-{run}"
        Rows(asked.new_rows, batch=run).write(label_model, new)
        spinney.run("load", str(new))
        for file in new.iterdir():
            file.rename(rows / f"{new.name}-{file.name}")
        usage = retrained(spinney, ["--all"], groups)
        found.second.add(usage.wall_s, peak_mb=usage.peak_mb)
        found.cpu.add(usage.cpu_s)
        found.per_group.add(usage.wall_s / groups * 1000)
        for name, against in found.peers.items():
            against.add(usage.wall_s, peer=peer_seconds(spinney, name, folder, groups))
        # Other groups at each run: what was refitted just now with the same rows is kept without a fit.
        few = [(run * FEW + n) % groups for n in range(FEW)]
        usage = retrained(spinney, group_options(few), FEW)
        found.few.add(usage.wall_s, peak_mb=usage.peak_mb)
        scattered = [(n * (groups // asked.scattered) + run) % groups for n in range(asked.scattered)]
        usage = retrained(spinney, group_options(scattered), asked.scattered)
        found.scattered.add(usage.wall_s, peak_mb=usage.peak_mb)


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
    usual = {"rows": 50, "new_rows": 10, "peer_groups": 5_000, "largest_share": 0.0, "scattered": 10}
    parser = arguments(__doc__ or "", usual, needs_broker=False)
    parser.add_argument("--groups", type=int, action="append", help="size of a fleet; may be repeated [50000]")
    asked = parser.parse_args(arguments_given)
    asked.groups = asked.groups or [50_000]
    notes = [] if "polars" in PEERS else ["Polars is not installed: `pip install polars` adds that peer"]
    found = [OfSize(groups, asked.scattered) for groups in asked.groups]
    for fleet in found:
        with work_folder() as folder:
            measure(folder, fleet, asked, commands)
    if len(found) > 1:
        costs = [fleet.per_group.as_json()["value"] for fleet in found]
        notes.append(f"cost per group, most over least: {max(costs) / min(costs):.2f} (target: 1.5)")
    show(asked, [measure for fleet in found for measure in fleet.measures], notes)


if __name__ == "__main__":
    main()
