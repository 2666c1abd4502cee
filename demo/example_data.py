"""An example's data as one frame, with the injected change applied to the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demo.scenario import InjectedChange, Scenario
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import ConfigError, Finding


@dataclass(frozen=True)
class ExampleData:
    """The events of an example, and which groups were changed.

    frame: one row per event, sorted by (event_time, event_id), from the history's beginning to the stream's end:
    group_key, event_id, event_time, the fleet's event columns, label (null if it never arrived), label_at (when the
    label became known). injected: keys of the groups whose labels are changed from `scenario.change_at` on.
    """

    frame: pd.DataFrame
    injected: frozenset[str]


def read_example_data(folder: Path, scenario: Scenario, config: Config) -> ExampleData:
    """Read the data of an example folder. Raises ConfigError: no such file, a column missing, too few groups."""
    path = folder / scenario.data
    try:
        data = pd.read_parquet(path)
    except OSError as error:
        remedy = "Give a Parquet file beside demo.toml."
        raise ConfigError(
            [Finding(f"{folder}/demo.toml", None, "data", "a Parquet file", str(error), remedy)]
        ) from error
    return build_example_data(data, scenario, config, source=str(path))


def build_example_data(data: pd.DataFrame, scenario: Scenario, config: Config, source: str = "data") -> ExampleData:
    """Build the frame from `data`, which has the fleet's column names. source: the file's name, for messages.

    Raises ConfigError: a column is missing, or too few groups have enough events for the injected change.
    """
    fleet = config.fleet
    wanted = [fleet.event_id, fleet.event_time, fleet.target, *config.record_schema.event_columns]
    wanted += [scenario.label_at] if scenario.label_at else []
    missing = sorted(set(wanted) - set(data.columns))
    if missing:
        got = f"no {', '.join(missing)}; it has {', '.join(map(str, data.columns))}"
        raise ConfigError([Finding(source, None, "", "the fleet's columns", got, "Correct fleet.toml or the file.")])
    times = pd.to_datetime(data[fleet.event_time], utc=True).astype("datetime64[us, UTC]")
    in_scenario = (times >= scenario.history_start) & (times < scenario.stream_end)
    data, times = data[in_scenario], times[in_scenario]
    frame = data[[name for name in config.record_schema.event_columns if name != fleet.target]].copy()
    values = data[list(fleet.group)].astype(object).itertuples(index=False, name=None)
    frame.insert(0, "group_key", [keys.encode([_to_python(value) for value in row]) for row in values])
    frame.insert(1, "event_id", data[fleet.event_id].astype(str))
    frame.insert(2, "event_time", times)
    frame["label"] = data[fleet.target]
    label_at = data[scenario.label_at] if scenario.label_at else data[fleet.event_time]
    frame["label_at"] = pd.to_datetime(label_at, utc=True).astype("datetime64[us, UTC]")
    has_no_label = frame["label"].isna() | frame["label_at"].isna()
    frame.loc[has_no_label, "label"] = None
    frame.loc[has_no_label, "label_at"] = pd.NaT
    frame = frame.sort_values(["event_time", "event_id"], ignore_index=True)
    if scenario.injected is None:
        return ExampleData(frame, frozenset())
    chosen = _choose_groups(frame, scenario, scenario.injected, source)
    is_changed = frame["group_key"].isin(chosen) & (frame["event_time"] >= scenario.change_at) & frame["label"].notna()
    frame.loc[is_changed, "label"] = [
        round(scenario.injected.apply(float(label)), 6) for label in frame.loc[is_changed, "label"]
    ]
    return ExampleData(frame, chosen)


def _choose_groups(frame: pd.DataFrame, scenario: Scenario, injected: InjectedChange, source: str) -> frozenset[str]:
    """Draw the groups that change, by seed. Raises ConfigError: too few groups have enough events."""
    if not pd.api.types.is_numeric_dtype(frame["label"]):
        finding = Finding(source, None, "injected", "a target that is a number", "text", "Remove [injected].")
        raise ConfigError([finding])
    past = frame.loc[frame["event_time"] < scenario.stream_start, "group_key"].value_counts()
    days = (scenario.stream_start - scenario.history_start).days
    busy = sorted(past.index[past >= injected.min_events_per_day * days])
    if len(busy) < injected.groups:
        expected = f"{injected.groups} groups with {injected.min_events_per_day} events a day in the history"
        remedy = "Lower injected.groups or injected.min_events_per_day."
        raise ConfigError([Finding(source, None, "injected.groups", expected, str(len(busy)), remedy)])
    drawn = np.random.default_rng(scenario.seed).choice(len(busy), injected.groups, replace=False)
    return frozenset(busy[at] for at in drawn)


def _to_python(value: Any) -> Any:
    """Return a numpy scalar as a Python value, and a missing value as None."""
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
