"""Make the data of this example: `python generate.py FOLDER` writes history.parquet and stream.jsonl there.

Synthetic: no machine was harmed. Twelve machines report every hour; each has its own way to wear. What the tests count
on: machine 12 never leaves "fine", machine 99 appears in the stream only.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 7
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
HISTORY_HOURS = 10 * 24
STREAM_HOURS = 2 * 24
MACHINES = range(1, 13)
NEVER_WORN = 12
NEWCOMER = 99
SHIFTS = ("night", "early", "late")
GAPS = 0.03  # share of temperatures that the sensor lost


def machine(number: int, draw: np.random.Generator) -> pd.DataFrame:
    """One machine's readings, one an hour. vibration_mm_s: mm/s; temp_c: degrees Celsius; stopped: within the hour."""
    hours = np.arange(HISTORY_HOURS + STREAM_HOURS)
    times = pd.DatetimeIndex([BEGIN + timedelta(hours=int(hour)) for hour in hours])
    shift = np.array(SHIFTS)[times.hour.to_numpy() // 8]
    vibration = draw.gamma(4.0, 0.6, len(hours))
    temperature = draw.normal(48.0 + number / 4, 6.0, len(hours))
    # What wears a machine out is its own: how much heat counts, and whether nights are hard on it.
    stress = vibration + (temperature - 50) * 0.05 * (number % 4) + (shift == "night") * 0.8 * (number % 3)
    stress = stress + draw.normal(0.0, 0.4, len(hours))
    wear = np.select([stress > 5.0, stress > 3.0], ["faulty", "worn"], "fine")
    if number == NEVER_WORN:
        wear = np.full(len(hours), "fine")
    return pd.DataFrame(
        {
            "reading_id": [f"{number}-{hour}" for hour in hours],
            "read_at": times,
            "machine_id": np.int64(number),
            "shift": shift,
            "vibration_mm_s": vibration.round(3),
            "temp_c": np.where(draw.random(len(hours)) < GAPS, np.nan, temperature.round(2)),
            "wear": wear,
            "stopped": wear == "faulty",
        }
    )


def generate(folder: Path) -> None:
    """Write history.parquet (ten days) and stream.jsonl (the two days after them) into `folder`."""
    draw = np.random.default_rng(SEED)
    readings = pd.concat([machine(number, draw) for number in (*MACHINES, NEWCOMER)])
    readings = readings.sort_values(["read_at", "machine_id"], ignore_index=True)
    until = pd.Timestamp(BEGIN + timedelta(hours=HISTORY_HOURS))
    past = (readings["read_at"] < until) & (readings["machine_id"] != NEWCOMER)
    folder.mkdir(parents=True, exist_ok=True)
    readings[past].to_parquet(folder / "history.parquet", index=False)
    with (folder / "stream.jsonl").open("w", encoding="utf-8") as lines:
        for row in readings[readings["read_at"] >= until].to_dict("records"):
            row["read_at"] = row["read_at"].isoformat()
            lines.write(json.dumps({name: None if pd.isna(value) else value for name, value in row.items()}) + "\n")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
