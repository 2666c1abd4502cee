"""The groups of a round's plan, from verdicts written by hand."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from spinney.retraining.round_plan import VERDICT_COLUMNS, groups_to_fit, parse_numbers, pooling_ends

WATCHED = '{"pinned":false,"events":7,"predecessor":{"model_id":"older","since":5}}'
VERDICTS: list[tuple[Any, ...]] = [
    (1, '["b"]', "b1", 2, '{"pinned":true,"events":9}', "fit"),
    (0, '["c"]', "c1", 0, WATCHED, "fit"),
    (0, '["a"]', None, 0, None, "fit"),
    (3, "{}", "p1", 0, '{"predecessor":null}', "fit"),
    (0, '["d"]', "d1", 0, WATCHED, "deferred"),
]


def test_parents_come_first_and_what_a_verdict_does_not_say_is_null() -> None:
    plan = groups_to_fit(pd.DataFrame(VERDICTS, columns=list(VERDICT_COLUMNS)))
    names = ["group_key", "champion_id", "predecessor_id", "watched_since", "epoch", "pinned", "events", "is_group"]
    rows = plan[names].astype(object).where(plan[names].notna(), None).values.tolist()
    assert rows == [
        ["{}", "p1", None, None, 0, False, None, False],
        ['["a"]', None, None, None, 0, False, None, True],
        ['["c"]', "c1", "older", 5, 0, False, 7, True],
        ['["b"]', "b1", None, None, 2, True, 9, True],
    ]


def test_the_numbers_of_each_planned_group_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    def loads(text: str) -> Any:
        parsed.append(text)
        return json.JSONDecoder().decode(text)

    monkeypatch.setattr(json, "loads", loads)
    groups_to_fit(pd.DataFrame(VERDICTS, columns=list(VERDICT_COLUMNS)))
    of_numbers = [text for text in parsed if text != "{}"]  # which is a parent's key
    assert sorted(of_numbers) == sorted(row[4] for row in VERDICTS if row[4] and row[5] == "fit")


def test_each_parent_comes_after_its_own_parents_and_a_part_ends_before_what_is_pooled_with_it() -> None:
    keys = ['["n","a","1"]', '{"region":"n","city":"a"}', '{"region":"n"}', "{}", '{"region":"m"}']
    verdicts = [(n, key, None, 0, None, "fit") for n, key in enumerate(keys)]
    planned = groups_to_fit(pd.DataFrame(verdicts, columns=list(VERDICT_COLUMNS)))["group_key"].tolist()
    assert planned == ["{}", '{"region":"n"}', '{"region":"m"}', '{"region":"n","city":"a"}', '["n","a","1"]']
    assert pooling_ends(planned, "estimated") == [1, 3, 4]
    assert pooling_ends(planned, 20.0) == [4]
    assert pooling_ends(planned, None) == pooling_ends(planned[-1:], "estimated") == []


def test_a_plan_of_an_earlier_version_keeps_its_order_in_which_its_parts_are_noted() -> None:
    keys = ['{"region":"a","city":"0"}', '{"region":"a"}', "{}", '["n"]']
    verdicts = pd.DataFrame([(n, key, None, 0, None, "fit") for n, key in enumerate(keys)], columns=[*VERDICT_COLUMNS])
    assert groups_to_fit(verdicts, parents_by_columns=False)["group_key"].tolist() == keys
    assert groups_to_fit(verdicts)["group_key"].tolist() == ["{}", keys[1], keys[0], keys[3]]


def test_verdicts_without_numbers_have_none() -> None:
    assert parse_numbers([None, "", "{}"]) == [{}, {}, {}]
