"""The vectorised champions against the function that decides one group at a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import condense, is_pinned, select_champion, select_predecessor
from spinney.core.champions.fleet_champion_selection import INPUT_COLUMNS, SCHEMA, condense_rows, select_champions
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import ContractError

TYPES = {
    "shard": pa.int32(), "group_key": pa.string(), "epoch": pa.int64(), "model_id": pa.string(),
    "decision": pa.string(), "round_id": pa.string(), "trained_through": pa.int64(), "fitted_at": pa.int64(),
    "decided_at": pa.int64(), "fit_ms": pa.float64(), "codec": pa.string(), "clock": pa.int64(), "by": pa.string(),
}  # fmt: skip
SMALL = st.integers(0, 2)
TIMES = st.none() | SMALL
"""Few values, so that most histories have ties, repeated rows and withdrawals that hit."""


def histories(*model_ids: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries(
            {
                "shard": st.just(3),
                "group_key": st.sampled_from(['["a"]', '["é"]', "{}"]),
                "epoch": SMALL,
                "model_id": st.sampled_from(model_ids),
                "decision": st.sampled_from([each.value for each in Decision]),
                "round_id": st.sampled_from(["", "batch-1", "stream-2", "people-3", "peoples"]),
                "trained_through": TIMES,
                "fitted_at": TIMES,
                "decided_at": SMALL,
                "fit_ms": st.none() | st.sampled_from([0.5, 2.0]),
                "codec": st.none() | st.just("linear"),
                "clock": TIMES,
                "by": st.sampled_from(["stream", "batch", "alice"]),
            }
        ),
        max_size=25,
    )


HISTORIES = histories("m0", "m1", "m2")


def table(rows: list[dict[str, Any]], names: tuple[str, ...] = INPUT_COLUMNS) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], TYPES[name]) for name in names})


def row(model_id: str, decision: str = "promoted", **more: Any) -> dict[str, Any]:
    return {"shard": 0, "group_key": '["a"]', "epoch": 0, "model_id": model_id, "decision": decision, **more}


@given(HISTORIES)
def test_every_history_has_the_champion_that_the_rules_for_one_group_give(rows: list[dict[str, Any]]) -> None:
    grouped = defaultdict(list)
    for each in rows:
        grouped[each["group_key"]].append(each)
    expected = []
    for key in sorted(grouped):
        history = [Promotion.from_row(each) for each in grouped[key]]
        current = select_champion(history)
        costs = [(each["decided_at"], each["fit_ms"]) for each in grouped[key] if each["fit_ms"] is not None]
        previous = select_predecessor(history)
        machines = [each["clock"] for each in grouped[key] if each["by"] != "alice" and each["clock"] is not None]
        expected.append(
            {
                "shard": 3,
                "group_key": key,
                "model_id": current.model_id if current else None,
                "epoch": max(each.revision for each in history),
                "pinned": is_pinned(history),
                "fit_ms": max(costs)[1] if costs else None,
                "predecessor_id": previous.model_id if previous else None,
                "attempted_at": max(machines, default=None),
            }
        )
    found = select_champions(table(rows))
    assert found.schema == SCHEMA
    assert found.to_pylist() == expected


def test_times_may_be_timestamps_of_any_unit() -> None:
    at = [datetime(2024, 5, day, tzinfo=UTC) for day in (2, 1)]
    rows = table([row("new"), row("old")])
    for unit in ("s", "ms", "us", "ns"):
        for name in ("trained_through", "fitted_at", "decided_at"):
            times = pa.array(at, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))
            rows = rows.set_column(rows.column_names.index(name), name, times)
        assert select_champions(rows).column("model_id").to_pylist() == ["new"]


def test_of_models_alike_in_their_times_the_greater_name_answers_in_whatever_pieces_the_rows_come() -> None:
    pieces = [table([row("b", group_key="g"), row("z", group_key="h")]), table([row("c", group_key="g")]), table([])]
    found = select_champions(pa.concat_tables(pieces))
    assert found.column("model_id").to_pylist() == ["c", "z"]


def test_no_rows_are_no_groups() -> None:
    assert select_champions(table([])).to_pylist() == []


def test_a_row_of_no_group_is_refused() -> None:
    with pytest.raises(ContractError, match="promotions: expected a group_key in each of 2 rows; got null in 1"):
        select_champions(table([row("a"), row("b", group_key=None)]))


def condensed(rows: pa.Table) -> dict[str, tuple[Promotion, ...]]:
    found = defaultdict(list)
    for each in condense_rows(rows).to_pylist():
        found[each["group_key"]].append(Promotion.from_row(each | {"payload": each["codec"] and b"model"}))
    return {key: condense(history) for key, history in found.items()}


def with_codec(rows: list[dict[str, Any]]) -> pa.Table:
    return table(rows, (*INPUT_COLUMNS, "codec"))


@given(histories("m0", "m1", "m2", "m3", "m4"))
def test_the_rows_left_are_those_that_the_state_of_a_shard_keeps(rows: list[dict[str, Any]]) -> None:
    grouped = defaultdict(list)
    for each in rows:
        grouped[each["group_key"]].append(Promotion.from_row(each | {"payload": each["codec"] and b"model"}))
    kept = condense_rows(with_codec(rows)).to_pylist()
    assert [each["group_key"] for each in kept] == sorted(each["group_key"] for each in kept)
    expected = {key: found for key, history in grouped.items() if (found := condense(history))}
    assert sum(map(len, expected.values())) == len(kept)
    assert condensed(with_codec(rows)) == expected


@given(HISTORIES, HISTORIES)
def test_rows_that_arrive_later_or_again_change_no_champion(
    first: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    whole = with_codec([*first, *later])
    stepwise = condense_rows(pa.concat_tables([condense_rows(with_codec(first)), with_codec([*later, *first])]))
    champions = {key: select_champion(history) for key, history in condensed(whole).items()}
    assert {key: select_champion(history) for key, history in condensed(stepwise).items()} == champions
