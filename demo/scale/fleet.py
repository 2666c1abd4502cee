"""The synthetic fleet: what its labels follow, its configuration, and the history that is loaded.

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
NOISE = 0.5
CHANGE = 5.0
ROWS = 30
"""History of each group: one row a day. Also `recipe.window_rows` and `staleness.error_rise.rows`."""

GROUPS_A_SHARD = 800
GROUPS_A_FILE = 20_000
DAY_US = 86_400_000_000

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def device(group: int) -> str:
    return f"d{group}"


def group_key(group: int) -> str:
    return keys.encode([device(group)])


@dataclass(frozen=True)
class Truth:
    """What the labels follow. seed: of the weights."""

    groups: int
    seed: int

    @cached_property
    def weights(self) -> Floats:
        """Shape (groups, features)."""
        return np.random.default_rng([self.seed, 1]).normal(size=(self.groups, len(FEATURES)))

    def labels(self, group: Numbers, x: Floats, noise: Floats, *, changed: npt.NDArray[np.bool_] | bool) -> Floats:
        """group: shape (n,). x: shape (n, features). noise: shape (n,), standard normal. Returns shape (n,)."""
        found: Floats = np.einsum("ij,ij->i", x, self.weights[group]) + group % 7 + noise * NOISE
        return found + np.where(changed, CHANGE, 0.0)


def configuration(groups: int, servers: str, root: Path) -> str:
    """The text of the fleet's `fleet.toml`."""
    text = resources.files("demo.scale").joinpath("fleet.toml").read_text(encoding="utf-8")
    shards = max(2, -(-groups // GROUPS_A_SHARD))
    for name, value in (("shards", str(shards)), ("servers", servers), ("root", root.as_posix())):
        text = text.replace("{" + name + "}", value)
    return text


def write_history(truth: Truth, folder: Path, until: datetime) -> int:
    """Write ROWS rows of each group as Parquet, the newest within the day before `until`. Returns how many rows."""
    folder.mkdir(parents=True)
    random = np.random.default_rng([truth.seed, 2])
    for file, first in enumerate(range(0, truth.groups, GROUPS_A_FILE)):
        group = np.repeat(np.arange(first, min(truth.groups, first + GROUPS_A_FILE)), ROWS)
        pq.write_table(history(truth, group, until, random), folder / f"part-{file:04}.parquet")
    return truth.groups * ROWS


def history(truth: Truth, group: Numbers, until: datetime, random: np.random.Generator) -> pa.Table:
    """Rows as the messages have them. group: of each row, ROWS times each."""
    x = random.normal(size=(len(group), len(FEATURES)))
    y = truth.labels(group, x, random.normal(size=len(group)), changed=False)
    days_ago = ROWS - 1 - np.arange(len(group)) % ROWS
    # Groups are spread over the day, so that not all of them have their rows at one moment.
    at = _microseconds(until) - days_ago * DAY_US - DAY_US // truth.groups * (group + 1)
    ids = group * ROWS + np.arange(len(group)) % ROWS
    return pa.table(
        {
            "device": _numbered("d", group),
            "id": _numbered("h", ids),
            "at": pa.array(at.astype("datetime64[us]"), pa.timestamp("us", "UTC")),
            **{name: x[:, at] for at, name in enumerate(FEATURES)},
            "y": y,
        }
    )


def _microseconds(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1e6)


def _numbered(prefix: str, numbers: Numbers) -> Any:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")
