"""When to refit, on other data than flights: what `spinney init --from` proposes, against the baselines of a backtest.

The fleets are those of `harness/other_fleets.py`: prescriptions a month, trips a quarter, rain, baskets, hires,
metrics of servers, and two synthetic ones. Their files are public; `SOURCES` there says where each comes from.
Nothing is tuned: each fleet has the configuration that is proposed for its first 100,000 rows, and its label delay.
The table is that of `policies.py`.

Run: ``python benchmarks/other_data.py files --fleet tourism``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from harness.other_fleets import FLEETS, OtherFleet
from harness.other_series import KEY, LABEL, TIME, share_of_keys
from policies import as_rows, markdown

from spinney.cli.progress_line import ProgressLine
from spinney.core import durations, keys
from spinney.core.backtest.baselines import replay_baselines
from spinney.core.backtest.comparison import Comparison, compare
from spinney.core.backtest.history import MICROSECOND, History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps
from spinney.core.backtest.run import Progress, replay_all
from spinney.core.backtest.strategy import Strategy
from spinney.core.config import Config, parse
from spinney.core.config_proposal import Choices, propose
from spinney.core.recipes.recipe import Recipe
from spinney.local.backtest.run import OWN, read_candidate
from spinney.sources.sample import SAMPLE_ROWS

CHOICES = Choices(group=(KEY,), target=LABEL, identity="event_id", time=TIME)


@dataclass(frozen=True)
class Case:
    """A fleet with its rows. Its name is that in FLEETS."""

    name: str
    fleet: OtherFleet
    rows: pd.DataFrame

    @classmethod
    def of(cls, name: str, folder: Path, share: float = 1.0) -> Case:
        """Load the rows of a share of a fleet's groups, in the order of time."""
        rows = share_of_keys(FLEETS[name].load(folder), share)
        rows = rows.sort_values([TIME, KEY], kind="stable", ignore_index=True)
        return cls(name, FLEETS[name], rows.assign(event_id=[f"e{n}" for n in range(len(rows))]))

    @property
    def proposal(self) -> str:
        """What is proposed for the rows, with the label delay of the fleet."""
        is_cut, name = len(self.rows) > SAMPLE_ROWS, self.name.replace(" ", "-")
        text = propose(self.rows.head(SAMPLE_ROWS), name, choices=CHOICES, is_beginning=is_cut)
        return text.replace("\ntask = ", f'\nlabel_delay = "{self.fleet.label_delay}"\ntask = ')

    @property
    def history(self) -> pd.DataFrame:
        """The rows as `History.of` takes them."""
        return self.rows.assign(group_key=[keys.encode((key,)) for key in self.rows[KEY]])


def run(case: Case, config: Config, candidates: Sequence[str] = (), *, has_baselines: bool = True) -> Comparison:
    """Replay a fleet with all baselines, or with the candidates only."""
    line, cores = ProgressLine(seconds_between=5.0), os.cpu_count() or 1

    def show(progress: Progress) -> None:
        text = f"{case.name}: {progress.strategy}, step {progress.done:,} of {progress.steps:,}"
        line.show(text, is_last=progress.done == progress.steps)

    strategies = [Strategy.from_config(config, OWN, cores)]
    strategies += [Strategy.from_config(read_candidate(config, file), Path(file).stem, cores) for file in candidates]
    history = History.of(case.history, Recipe.of(config), LabelTiming.from_config(config))
    steps = Steps.covering(history, durations.parse(case.fleet.step) // MICROSECOND)
    settings = ReplaySettings(steps, config.staleness.max_age // MICROSECOND)
    replays = replay_all(history, strategies, settings, show)
    if has_baselines:
        replays += replay_baselines(history, strategies[0], replays[0], settings, show)
    return compare(history, replays)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the files")
    parser.add_argument("--fleet", choices=FLEETS, action="append", help="repeatable [default: all]")
    parser.add_argument("--share", type=float, default=1.0, help="of the groups, by a hash [default: all]")
    parser.add_argument("--candidate", action="append", default=[], help="as of `spinney backtest`; repeatable")
    parser.add_argument("--no-baselines", action="store_true", help="the proposal and the candidates only")
    parser.add_argument("--json", action="store_true", help="print one object per strategy and line")
    asked = parser.parse_args()
    for name in asked.fleet or FLEETS:
        began, case = time.process_time(), Case.of(name, asked.folder, asked.share)
        comparison = run(case, parse(case.proposal, name, {}), asked.candidate, has_baselines=not asked.no_baselines)
        rows = list(as_rows(name, comparison))
        print("\n".join(map(json.dumps, rows)) if asked.json else markdown(rows, comparison), flush=True)
        print(f"{name}: {time.process_time() - began:.0f} CPU s", file=sys.stderr)


if __name__ == "__main__":
    main()
