"""Fleets of the flights of New York, and their histories: labels are known at the arrival."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from spinney.core import keys
from spinney.core.config import Config, parse

FEATURES = ("distance_mi", "temp_f", "wind_speed_mph", "pressure_mbar")
TARGETS = ("air_time_min", "arrival_delay_min")
TEXT = """
[fleet]
group = {group}
event_id = "event_id"
event_time = "event_time"
target = "{target}"
features = {features}
label_delay = "6h"
{fleet}
[fleet.columns]
{columns}
[kafka]
events = "flights"
[storage]
root = "unused"
{sections}
"""


def flights_config(group: Sequence[str], target: str, *, fleet: str = "", sections: str = "") -> Config:
    """Return the configuration of a fleet. fleet: TOML lines for `[fleet]`. sections: whole sections as TOML."""
    types = dict.fromkeys(group, "string") | dict.fromkeys((*FEATURES, target), "double")
    columns = "\n".join(f'{name} = "{kind}"' for name, kind in types.items())
    listed = {"group": json.dumps(list(group)), "features": json.dumps(FEATURES)}
    return parse(TEXT.format(target=target, columns=columns, fleet=fleet, sections=sections, **listed), "flights", {})


def labelled_flights(flights: pd.DataFrame, group: Sequence[str], target: str) -> pd.DataFrame:
    """Return the flights that have a label and a key, as `History.of` takes them."""
    known = flights.dropna(subset=[*group, target])
    when = known["scheduled_departure"].astype("datetime64[us, UTC]")
    ids = when.dt.strftime("%Y-%m-%dT%H:%M ") + known["carrier"] + known["flight"].astype(str) + known["origin"]
    return known[list(FEATURES)].astype("float64").assign(
        group_key=[keys.encode(row) for row in known[list(group)].itertuples(index=False, name=None)],
        event_id=ids,
        event_time=when,
        label=known[target].astype("float64"),
        observed_at=known["arrival"].astype("datetime64[us, UTC]"),
    )  # fmt: skip
