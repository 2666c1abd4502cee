"""The synthetic fleet: how its labels are generated, its configuration, and the history to load.

The label of a row of group g is ``x · W[g] + g mod 7 + noise``; features and weights are standard normal, the noise has
the standard deviation NOISE. After the change, CHANGE is added to the labels of the groups that change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spinney.core import keys

FEATURES = ("x0", "x1", "x2", "x3")
NOISE_STD = 0.5
LABEL_SHIFT = 5.0
ROWS_PER_GROUP = 30
"""Number of rows in the history of each group, one row a day. It is also `recipe.window_rows`."""

GROUPS_PER_SHARD = 800
GROUPS_PER_FILE = 20_000
DAY_US = 86_400_000_000

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def device_name(group: int) -> str:
    """Return the value of the key column: ``d7``."""
    return f"d{group}"


def group_key(group: int) -> str:
    """Return the encoded key of a group, by its number."""
    return keys.encode([device_name(group)])


@dataclass(frozen=True)
class LabelModel:
    """The function that generates labels. seed: of the weights."""

    groups: int
    seed: int

    @cached_property
    def weights(self) -> Floats:
        """Weights of each group, shape (groups, features)."""
        return np.random.default_rng([self.seed, 1]).normal(size=(self.groups, len(FEATURES)))

    def labels(self, group: Numbers, x: Floats, noise: Floats, *, changed: npt.NDArray[np.bool_] | bool) -> Floats:
        """Return labels, shape (n,).

        group: shape (n,). x: shape (n, features). noise: shape (n,), standard normal. changed: one for each row, or one
        for all.
        """
        labels: Floats = np.einsum("ij,ij->i", x, self.weights[group]) + group % 7 + noise * NOISE_STD
        return labels + np.where(changed, LABEL_SHIFT, 0.0)


def fleet_toml(groups: int, servers: str, root: Path) -> str:
    """Return the text of `fleet.toml`. servers: bootstrap servers. root: folder of the tables."""
    text = resources.files("demo.scale").joinpath("fleet.toml").read_text(encoding="utf-8")
    shards = max(2, -(-groups // GROUPS_PER_SHARD))
    for name, value in (("shards", str(shards)), ("servers", servers), ("root", root.as_posix())):
        text = text.replace("{" + name + "}", value)
    return text


def write_history(label_model: LabelModel, folder: Path, until: datetime) -> int:
    """Write ROWS_PER_GROUP rows of each group as Parquet, the newest within the day before `until`.

    Returns the number of rows.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng([label_model.seed, 2])
    for file, first in enumerate(range(0, label_model.groups, GROUPS_PER_FILE)):
        group = np.repeat(np.arange(first, min(label_model.groups, first + GROUPS_PER_FILE)), ROWS_PER_GROUP)
        pq.write_table(history_rows(label_model, group, until, random), folder / f"part-{file:04}.parquet")
    return label_model.groups * ROWS_PER_GROUP


def history_rows(label_model: LabelModel, group: Numbers, until: datetime, random: np.random.Generator) -> pa.Table:
    """Return rows with the columns of the messages. group: group number of each row, ROWS_PER_GROUP times each."""
    x = random.normal(size=(len(group), len(FEATURES)))
    y = label_model.labels(group, x, random.normal(size=len(group)), changed=False)
    days_ago = ROWS_PER_GROUP - 1 - np.arange(len(group)) % ROWS_PER_GROUP
    # Groups are spread over the day, so that their rows do not all have the same time.
    at = _microseconds(until) - days_ago * DAY_US - DAY_US // label_model.groups * (group + 1)
    ids = group * ROWS_PER_GROUP + np.arange(len(group)) % ROWS_PER_GROUP
    return pa.table(
        {
            "device": _prefixed("d", group),
            "id": _prefixed("h", ids),
            "at": pa.array(at.astype("datetime64[us]"), pa.timestamp("us", "UTC")),
            **{name: x[:, at] for at, name in enumerate(FEATURES)},
            "y": y,
        }
    )


def _microseconds(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1e6)


def _prefixed(prefix: str, numbers: Numbers) -> Any:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")
