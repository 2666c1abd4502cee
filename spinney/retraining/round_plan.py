"""Derive a round's plan, its verdicts and groups, from the stored verdicts. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from schemas import tables
from schemas.vocabulary import ESTIMATED, PREDECESSOR, Staleness
from spinney.core.keys import is_parent, parent_values
from spinney.retraining.event_counting import EVENTS
from spinney.retraining.round_gate import PLAN_COLUMNS
from spinney.tables.arrow_schemas import arrow_schema

ROUND_COLUMNS = ("round_id", "pins", "batch_id")
"""The columns of `verdicts` that a round adds to those of its planned verdicts."""

PLANNED_SCHEMA = pa.schema([field for field in arrow_schema(tables.VERDICTS) if field.name not in ROUND_COLUMNS])
"""The columns of `verdicts` that `Rounds.plan` takes."""

VERDICT_COLUMNS = ("shard", "group_key", "model_id", "epoch", "numbers", "decision")
"""The columns of `verdicts` that make up a plan."""


def groups_to_fit(verdicts: pd.DataFrame, *, parents_by_columns: bool = True) -> pd.DataFrame:
    """Return the groups to fit, parents first, then by shard and key: PLAN_COLUMNS, EVENTS and is_group.

    parents_by_columns: whether parents with fewer columns come first, so that each comes after its own parents.

    verdicts: VERDICT_COLUMNS of one batch.
    """
    plan = verdicts[verdicts["decision"] == Staleness.FIT.value].rename(columns={"model_id": "champion_id"})
    numbers = parse_numbers(plan["numbers"])
    plan = plan.assign(**predecessor_columns(numbers, plan.index))
    plan["pinned"] = [bool(of_group.get("pinned")) for of_group in numbers]
    plan[EVENTS] = pd.array([of_group.get(EVENTS) for of_group in numbers], dtype="Int64")
    plan["is_group"] = ~plan["group_key"].map(is_parent).astype(bool)
    order = ["is_group", "shard", "group_key"]
    if parents_by_columns:
        plan["columns"] = [len(parent_values(key)) if is_parent(key) else 0 for key in plan["group_key"]]
        order.insert(1, "columns")
    in_order = plan.sort_values(order)
    groups: pd.DataFrame = in_order[[*PLAN_COLUMNS, EVENTS, "is_group"]].reset_index(drop=True)
    return groups


def pooling_ends(keys: Sequence[str], pooling_rows: float | str | None) -> list[int]:
    """Return where parts have to end, so that each model is fitted in a later part than the models it is pooled with.

    A part ends after the last parent and, if the weights are estimated, after the parents of each number of columns.
    keys: in the order of `groups_to_fit`. pooling_rows: of the recipe; None: no part has to end.
    """
    if pooling_rows is None:
        return []
    columns = [len(parent_values(key)) for key in keys if is_parent(key)]
    ends = [at for at in range(1, len(columns)) if columns[at] != columns[at - 1]]
    return [*(ends if pooling_rows == ESTIMATED else []), *([len(columns)] if columns else [])]


def champion_numbers(champion: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the numbers of a verdict that describe the champion, for plans without a judge.

    champion: pinned, predecessor_id and attempted_at of `current_champions`; empty for a group without a promotion.
    others: further numbers to include. Their keys come before the predecessor's in the result.
    """
    numbers: dict[str, Any] = {"pinned": bool(champion.get("pinned")), **(others or {})}
    predecessor, since = champion.get("predecessor_id"), champion.get("attempted_at")
    if predecessor is not None and since is not None:
        numbers[PREDECESSOR] = {"model_id": predecessor, "since": since}
    return numbers


def parse_numbers(texts: Iterable[str | None]) -> list[dict[str, Any]]:
    """Return the numbers of each verdict; empty for null. Equal texts share one object. texts: JSON objects."""
    listed = list(texts)
    parsed = {text: json.loads(text) if text else {} for text in set(listed)}
    return [parsed[text] for text in listed]


def predecessor_columns(numbers: Sequence[Mapping[str, Any]], index: pd.Index[Any]) -> dict[str, Any]:
    """Return the plan's columns predecessor_id and watched_since. numbers: of verdicts, parsed. index: of the plan."""
    found = [of_group.get(PREDECESSOR) or {} for of_group in numbers]
    return {
        "predecessor_id": pd.Series([predecessor.get("model_id") for predecessor in found], index, dtype=object),
        "watched_since": pd.array([predecessor.get("since") for predecessor in found], dtype="Int64"),
    }
