"""An example's data as the demo works with it: one frame, the injected change already in the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demo.story import Injected, Story
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import ConfigError, Finding


@dataclass(frozen=True)
class Rows:
    """What happened, and what was made up.

    frame: one row per event, by (event_time, event_id), from the history's beginning to the stream's end:
    group_key, event_id, event_time, the fleet's event columns, label (null where it never came), label_at.
    injected: keys of the groups whose labels are changed from `story.change_at` on.
    """

    frame: pd.DataFrame
    injected: frozenset[str]


def read_rows(folder: Path, story: Story, config: Config) -> Rows:
    """Return the rows of an example folder. Raises ConfigError: no such file, a column missing, too few groups."""
    path = folder / story.data
    try:
        data = pd.read_parquet(path)
    except OSError as error:
        remedy = "Give a Parquet file beside demo.toml."
        raise ConfigError(
            [Finding(f"{folder}/demo.toml", None, "data", "a Parquet file", str(error), remedy)]
        ) from error
    return make_rows(data, story, config, source=str(path))


def make_rows(data: pd.DataFrame, story: Story, config: Config, source: str = "data") -> Rows:
    """Return the rows of `data`, which has the fleet's own column names. source: the file's name, for messages."""
    fleet = config.fleet
    wanted = [fleet.event_id, fleet.event_time, fleet.target, *config.event_columns]
    wanted += [story.label_at] if story.label_at else []
    missing = sorted(set(wanted) - set(data.columns))
    if missing:
        got = f"no {', '.join(missing)}; it has {', '.join(map(str, data.columns))}"
        raise ConfigError([Finding(source, None, "", "the fleet's columns", got, "Correct fleet.toml or the file.")])
    times = pd.to_datetime(data[fleet.event_time], utc=True).astype("datetime64[us, UTC]")
    inside = (times >= story.since) & (times < story.end)
    data, times = data[inside], times[inside]
    frame = data[[name for name in config.event_columns if name != fleet.target]].copy()
    values = data[list(fleet.group)].astype(object).itertuples(index=False, name=None)
    frame.insert(0, "group_key", [keys.encode([_plain(value) for value in row]) for row in values])
    frame.insert(1, "event_id", data[fleet.event_id].astype(str))
    frame.insert(2, "event_time", times)
    frame["label"] = data[fleet.target]
    label_at = data[story.label_at] if story.label_at else data[fleet.event_time]
    frame["label_at"] = pd.to_datetime(label_at, utc=True).astype("datetime64[us, UTC]")
    never = frame["label"].isna() | frame["label_at"].isna()
    frame.loc[never, "label"] = None
    frame.loc[never, "label_at"] = pd.NaT
    frame = frame.sort_values(["event_time", "event_id"], ignore_index=True)
    if story.injected is None:
        return Rows(frame, frozenset())
    chosen = _chosen(frame, story, story.injected, source)
    at = frame["group_key"].isin(chosen) & (frame["event_time"] >= story.change_at) & frame["label"].notna()
    frame.loc[at, "label"] = [round(story.injected.change(float(label)), 6) for label in frame.loc[at, "label"]]
    return Rows(frame, chosen)


def _chosen(frame: pd.DataFrame, story: Story, injected: Injected, source: str) -> frozenset[str]:
    if not pd.api.types.is_numeric_dtype(frame["label"]):
        finding = Finding(source, None, "injected", "a target that is a number", "text", "Remove [injected].")
        raise ConfigError([finding])
    past = frame.loc[frame["event_time"] < story.start, "group_key"].value_counts()
    days = (story.start - story.since).days
    busy = sorted(past.index[past >= injected.min_events_per_day * days])
    if len(busy) < injected.groups:
        expected = f"{injected.groups} groups with {injected.min_events_per_day} events a day in the history"
        remedy = "Lower injected.groups or injected.min_events_per_day."
        raise ConfigError([Finding(source, None, "injected.groups", expected, str(len(busy)), remedy)])
    drawn = np.random.default_rng(story.seed).choice(len(busy), injected.groups, replace=False)
    return frozenset(busy[at] for at in drawn)


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own, a missing value as None."""
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
