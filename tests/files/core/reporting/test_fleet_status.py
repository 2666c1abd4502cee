"""Where every group stands, against the function that takes one group at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.reporting.fleet_status import (
    ATTEMPT_COLUMNS,
    PROMOTION_COLUMNS,
    VERDICT_COLUMNS,
    derive_statuses,
    owners_with_champion,
)
from spinney.core.reporting.group_status import derive_status
from spinney.tables.arrow_schemas import arrow_schema

GROUPS = ['["a"]', '["b"]', '["c"]', '["é"]']
PARENTS = {'["a"]': ("{}",), '["b"]': ('{"x":"1"}', "{}"), '["c"]': ()}
ROUNDS = ["r0", "r1", "r2"]


def hour(n: int) -> datetime:
    return datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=n)


def times(values: list[int]) -> Any:
    return st.sampled_from(values).map(hour)


def table_rows(**columns: Any) -> Any:
    return st.lists(st.fixed_dictionaries(columns), max_size=12)


def differing(rows: list[dict[str, Any]], at: str) -> list[dict[str, Any]]:
    """Each row with a moment of its own: of two rows of one moment no rule says which is the newer."""
    return [{**row, at: row[at] + timedelta(seconds=place)} for place, row in enumerate(rows)]


PROMOTIONS = table_rows(
    group_key=st.sampled_from([*GROUPS[:3], "{}", '{"x":"1"}']),
    epoch=st.integers(0, 1),
    model_id=st.sampled_from(["m0", "m1", "m2"]),
    decision=st.sampled_from([each.value for each in Decision]),
    trained_through=st.none() | times([0, 1]),
    fitted_at=st.none() | times([0, 1]),
    decided_at=times([1, 2, 3]),
    round_id=st.sampled_from([*ROUNDS, "people-0"]),
    rows=st.none() | st.integers(1, 9),
    challenger_loss=st.none() | st.floats(0, 1),
)
VERDICTS = table_rows(
    group_key=st.sampled_from(GROUPS[:3]),
    decision=st.sampled_from([each.value for each in Staleness]),
    round_id=st.sampled_from(ROUNDS),
    reason=st.sampled_from(["old", "new"]),
    judged_at=times([1, 2, 3]),
)
ATTEMPTS = table_rows(
    group_key=st.sampled_from(GROUPS[:3]),
    status=st.sampled_from([each.value for each in ModelStatus]),
    model_id=st.none() | st.sampled_from(["m0", "m1", "m2"]),
    error=st.none() | st.just("no"),
    fitted_at=times([1, 2, 3]),
    round_id=st.sampled_from(ROUNDS),
)


ESTIMATORS = {"r" * 64: "ridge"}


def named(row: dict[str, Any]) -> dict[str, Any]:
    """A model is one group's and of one recipe: its name covers both."""
    name = row["model_id"]
    recipe = {None: "r" * 64, "m0": "r" * 64, "m1": "c" * 64, "m2": "imported:Ridge"}[name]
    return {**row, "model_id": name and f"{row['group_key']} {name}", "recipe_id": recipe}


def table(rows: list[dict[str, Any]], base: Any, names: tuple[str, ...]) -> pa.Table:
    kinds = arrow_schema(base)
    return pa.Table.from_pylist(rows, schema=pa.schema([kinds.field(name) for name in names]))


@given(PROMOTIONS, VERDICTS, ATTEMPTS)
def test_every_group_stands_where_the_rules_for_one_group_put_it(
    promotions: list[dict[str, Any]], verdicts: list[dict[str, Any]], attempts: list[dict[str, Any]]
) -> None:
    promotions, verdicts = differing(promotions, "decided_at"), differing(verdicts, "judged_at")
    attempts = [named(row) for row in differing(attempts, "fitted_at")]
    promotions = [named(row) for row in promotions]

    def answers(key: str) -> bool:
        return select_champion(Promotion.from_row(row) for row in promotions if row["group_key"] == key) is not None

    expected = [
        derive_status(
            key,
            *([row for row in rows if row["group_key"] == key] for rows in (promotions, verdicts, attempts)),
            ancestor_answers=any(answers(parent) for parent in PARENTS.get(key, ())),
            estimators=ESTIMATORS,
        )
        for key in GROUPS
    ]
    found = derive_statuses(
        pa.array(GROUPS),
        table(promotions, tables.PROMOTIONS, PROMOTION_COLUMNS),
        table(verdicts, tables.VERDICTS, VERDICT_COLUMNS),
        table(attempts, tables.MODELS, ATTEMPT_COLUMNS),
        lambda key: any(answers(parent) for parent in PARENTS.get(key, ())),
        ESTIMATORS,
    )
    keys = {row["group_key"] for row in promotions}
    assert owners_with_champion(table(promotions, tables.PROMOTIONS, PROMOTION_COLUMNS)) == {
        key for key in keys if answers(key)
    }
    assert found.to_pylist() == [{name: getattr(each, name) for name in found.column_names} for each in expected]


def test_a_round_that_withdraws_a_champion_leaves_the_group_as_its_challenger_was_decided() -> None:
    at = {"group_key": GROUPS[0], "epoch": 0, "rows": 9, "challenger_loss": None}
    promoted = [
        {**at, "model_id": f"m{n}", "decision": "promoted", "decided_at": hour(n), "round_id": f"r{n}"}
        | {"trained_through": hour(n), "fitted_at": hour(n)}
        for n in (0, 1)
    ]
    last = {**at, "decided_at": hour(2), "round_id": "r2", "trained_through": None, "fitted_at": None}
    refused = {**last, "model_id": "m2", "decision": "refused"}
    withdrawn = {**last, "model_id": "m1", "decision": "withdrawn"}
    for rows in ([*promoted, refused, withdrawn], [withdrawn, refused, *promoted]):
        one = derive_status(GROUPS[0], rows, (), (), ancestor_answers=False, estimators={})
        nothing = (table([], tables.VERDICTS, VERDICT_COLUMNS), table([], tables.MODELS, ATTEMPT_COLUMNS))
        stored = table(rows, tables.PROMOTIONS, PROMOTION_COLUMNS)
        (of_fleet,) = derive_statuses(pa.array(GROUPS[:1]), stored, *nothing, lambda _: False, {}).to_pylist()
        assert (one.state, one.model_id) == (of_fleet["state"], of_fleet["model_id"]) == ("refused", "m0")
