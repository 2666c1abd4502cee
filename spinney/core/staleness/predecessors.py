"""Add to the verdict of each due group the model that would answer if the champion were withdrawn: its predecessor.

The attempt compares both (`spinney.core.training.comparisons.predecessor_comparison`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.vocabulary import PREDECESSOR, Staleness
from spinney.core.staleness.encoded_champions import EncodedChampions
from spinney.core.staleness.group_state import GroupStates


def add_predecessors(rows: Sequence[Mapping[str, Any]], encoded: EncodedChampions, groups: GroupStates) -> None:
    """Add PREDECESSOR to the numbers of each verdict `fit` whose champion a machine may withdraw.

    rows: verdicts of a shard, VERDICT_COLUMNS, changed in place. The value of PREDECESSOR has two fields: `model_id`,
    and `since`, the fleet's clock at the last attempt in microseconds.
    """
    due = {row["group_key"]: row for row in rows if row["decision"] == Staleness.FIT and row["model_id"]}
    if not due:
        return
    found = encoded.predecessors_of(due)
    for key, at in zip(found, groups.positions_of(found), strict=True):
        due[key]["numbers"][PREDECESSOR] = {"model_id": found[key], "since": int(groups["attempted_at"][at])}
