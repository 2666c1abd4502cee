"""Weekly batches of a fleet in which some groups' labels jump: who is held, and who goes live once a jump has lasted.

The first batch fits the history. From the second on, the labels of one group in fifty are three times as large. A batch
a week brings `--new-rows` rows of each group, so with the default of `gate.jump_hold` of 14 days the challengers of
these groups are held twice and can go live in the fourth batch. The fleet has one parent, the global model.

Decisions are read from the table `promotions`, by the column `about_jump`. In each batch each group must be fitted and
must have exactly one decision, the round must count as many as the table has, and only groups whose labels jumped may
go live because of that; everything else is an error.

Run: ``python benchmarks/jump_holds.py --groups 50000``
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from harness.commands import Commands, Spinney
from harness.fleet import LabelModel, Rows, Settings, group_key
from harness.process_tree import Usage
from harness.results import Measure, arguments, show, work_folder

from schemas import tables
from spinney.core.config import parse
from spinney.storage.layout import FleetStore
from spinney.tables import delta

BATCHES = 4
ONE_IN, FACTOR = 50, 3.0
LEVEL = 100.0
"""Added to all labels, so that three times as much is far away."""

DECISIONS = ("promoted", "unproven", "refused", "held")


def is_jumping(group: np.ndarray) -> np.ndarray:
    """Return which groups' labels jump."""
    return np.asarray(group % ONE_IN == ONE_IN - 1)


def write_rows(rows: Rows, label_model: LabelModel, folder: Path) -> None:
    """Write the rows of a batch, with the labels of the groups that jump."""
    folder.mkdir()
    for number, chunk in enumerate(rows.chunks(label_model)):
        group = np.array([int(name[1:]) for name in chunk.column("gid").to_pylist()])
        labels = chunk.column("y").to_numpy() + LEVEL
        if rows.batch:
            labels = np.where(is_jumping(group), FACTOR * labels, labels)
        changed = chunk.set_column(chunk.schema.get_field_index("y"), "y", pa.array(labels))
        pq.write_table(changed, folder / f"part-{number:04}.parquet")


def settings(folder: Path, groups: int, spark: Sequence[str]) -> Path:
    """Write the configuration: a global model, and time that passes as the events say. Returns its file."""
    file = Settings("jumps", groups, spark=tuple(spark)).write(folder)
    text = file.read_text(encoding="utf-8")
    text = text.replace('group = ["gid"]\n', 'group = ["gid"]\nparents = [[]]\nclock = "event"\n')
    text = text.replace("min_rows = 20\n", "min_rows = 20\nparents = { max_rows = 20000 }\n")
    file.write_text(text, encoding="utf-8")
    return file


def decisions_of(file: Path, round_id: str) -> pd.DataFrame:
    """Return the decisions of a round about its challengers: group_key, decision, about_jump."""
    config = parse(file.read_text(encoding="utf-8"), "fleet.toml", {})
    columns = ["group_key", "round_id", "decision", "about_jump"]
    rows = delta.read_table(FleetStore.of(config), tables.PROMOTIONS, columns).to_pandas()
    return rows[(rows["round_id"] == round_id) & (rows["decision"] != "withdrawn")]


def checked(found: pd.DataFrame, said: Mapping[str, object], groups: int) -> None:
    """Raise RuntimeError unless each group and the global model have one decision, and the round counts them so."""
    counts = found["decision"].value_counts()
    expected = {name: int(counts.get(name, 0)) for name in DECISIONS} | {"fitted": groups + 1, "groups_in": groups + 1}
    if len(found) != groups + 1 or found["group_key"].nunique() != groups + 1:
        raise RuntimeError(
            f"promotions: expected one decision about each of {groups + 1} groups and parents; "
            f"found {len(found)} about {found['group_key'].nunique()}"
        )
    if expected != {name: said[name] for name in expected}:
        raise RuntimeError(f"rounds: expected {expected}, as promotions has it; found {said}")


def batch(spinney: Spinney, folder: Path, rows: Rows, label_model: LabelModel) -> tuple[Usage, dict[str, int]]:
    """Load the rows of a week and retrain the fleet. Returns the cost of the batch, and its decisions."""
    groups, new = label_model.groups, folder / "rows"
    write_rows(rows, label_model, new)
    spinney.run("load", str(new))
    shutil.rmtree(new)
    usage, printed = spinney.run("retrain", "--all", "--json")
    said = json.loads(printed)
    found = decisions_of(spinney.file, said["round_id"])
    checked(found, said, groups)
    jumping = {group_key(int(group)) for group in np.flatnonzero(is_jumping(np.arange(groups)))}
    of_jumping, is_about = found["group_key"].isin(jumping), found["about_jump"].eq(True)
    is_held = found["decision"] == "held"
    if (wrong := found[is_about & ~is_held & ~of_jumping]).size:
        others = wrong.to_dict("records")
        raise RuntimeError(f"promotions: expected jumps of {len(jumping)} groups only; found {others}")
    return usage, {
        "held because of a jump": int((of_jumping & is_about & is_held).sum()),
        "live because the jump has lasted": int((of_jumping & is_about & ~is_held).sum()),
        "decided without regard to a jump": int((of_jumping & ~is_about).sum()),
        "held, of the other groups": int((~of_jumping & is_held).sum()),
    }


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
    sizes = {"groups": 50_000, "rows": 40, "new_rows": 14}
    asked = arguments(__doc__ or "", sizes, needs_broker=False).parse_args(arguments_given)
    label_model, measures = LabelModel(asked.groups), dict[str, Measure]()
    for _ in range(asked.runs):
        with work_folder() as folder:
            spinney = commands(settings(folder, asked.groups, asked.spark))
            for number in range(BATCHES):
                rows = Rows(asked.new_rows if number else asked.rows, batch=number)
                usage, counts = batch(spinney, folder, rows, label_model)
                name = f"batch {number + 1}: CPU of retrain --all"
                measures.setdefault(name, Measure(name, "CPU s")).add(usage.cpu_s, peak_mb=usage.peak_mb)
                for what, count in counts.items():
                    name = f"batch {number + 1}: {what}"
                    measures.setdefault(name, Measure(name, "groups")).add(count)
    jumping = int(is_jumping(np.arange(asked.groups)).sum())
    show(asked, list(measures.values()), [f"{jumping:,} groups jump in batch 2; each batch decided about every group"])


if __name__ == "__main__":
    main()
