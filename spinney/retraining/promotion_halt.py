"""Halt a round, or a part of a batch, in which too many groups fail or get worse: it replaces no champion."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.champions.gate import is_shown_worse
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.round_halt_rule import HALTED, AttemptTally
from spinney.retraining.round_record import failed_count

_PROMOTING = pa.array([decision.value for decision in PROMOTING_DECISIONS])


def tally_attempts(models: pa.Table, decided: pa.Table) -> AttemptTally:
    """Count how attempts ended. models: rows of `models` with status and metrics. decided: rows of `promotions`."""
    status = models.column("status")
    fitted, failed = pc.sum(pc.equal(status, ModelStatus.FITTED.value)).as_py() or 0, failed_count(status.to_pandas())
    refused = decided.filter(pc.equal(decided.column("decision"), Decision.REFUSED.value)).column("group_key")
    metrics = models.filter(pc.is_in(models.column("group_key"), value_set=refused)).column("metrics").to_pylist()
    return AttemptTally(fitted + failed, failed, sum(is_shown_worse(json.loads(text or "{}")) for text in metrics))


def hold_replacements(decisions: pa.Table, plan: pd.DataFrame, why: str) -> pa.Table:
    """Return the decisions with each promotion that would replace a champion turned into `held`.

    Promotions in new groups stay. Withdrawals are removed, since the champion's newest labels may be what is broken.
    decisions: rows of `promotions`. plan: group_key and champion_id, null for a new group. why: reason of the halt.
    """
    decisions = decisions.filter(pc.not_equal(decisions.column("decision"), Decision.WITHDRAWN.value))
    with_champion = pa.array(plan.loc[plan["champion_id"].notna(), "group_key"], pa.string())
    is_held = pc.and_(
        pc.is_in(decisions.column("decision"), value_set=_PROMOTING),
        pc.is_in(decisions.column("group_key"), value_set=with_champion),
    )
    otherwise = pc.binary_join_element_wise(decisions.column("decision"), decisions.column("reason"), ", ")
    reason = pc.binary_join_element_wise(f"{HALTED}{why}. Without the halt: ", otherwise, "")
    held = {"decision": pa.scalar(Decision.HELD.value), "reason": reason}
    for name, value in held.items():
        place = decisions.schema.get_field_index(name)
        column = pc.if_else(is_held, value, decisions.column(name))
        decisions = decisions.set_column(place, decisions.schema.field(place), column)
    return decisions


def halt_of(reasons: pa.ChunkedArray) -> str | None:
    """Return why a round was halted, read from the reasons of its decisions; None if it was not halted."""
    halted = reasons.filter(pc.starts_with(reasons, HALTED))
    if not len(halted):
        return None
    return str(halted[0].as_py()).removeprefix(HALTED).partition(". Without the halt: ")[0]
