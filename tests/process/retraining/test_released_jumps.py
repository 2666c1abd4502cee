"""Rounds hold challengers that jump, and promote one once the jump has lasted; not if the labels are right again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edited_fleet import decided, editor, no_spark, sell

from batch.weekly import retrain
from spinney.core.config import Config
from spinney.storage import signing_key

LASTS, IS_REPAIRED, UNCHANGED = range(1), range(1, 2), range(2, 3)
KEYS = ['["s000"]', '["s001"]', '["s002"]']


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A fleet after one round, with a row an hour: labels of 40 hours."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = editor(tmp_path)(recipe='[gate]\njump_hold = "1d"')
    sell(config, 3, rows=40)
    retrain(config, spark=no_spark)
    return config


def decide_after(config: Config, first: int, changed: list[range], unchanged: list[range]) -> dict[str, dict[str, Any]]:
    """The decisions after 30 more hours, in which the labels of some stores are a thousand times as large."""
    for stores in changed:
        sell(config, stores, rows=30, first=first, slope=10_000.0)
    for stores in unchanged:
        sell(config, stores, rows=30, first=first)
    retrain(config, spark=no_spark)
    return {row["group_key"]: row for row in decided(config)}


def test_a_jump_that_lasts_is_held_and_then_promoted_and_one_of_repaired_labels_is_not(config: Config) -> None:
    held = decide_after(config, 40, [LASTS, IS_REPAIRED], [UNCHANGED])
    assert [held[key]["decision"] for key in KEYS[:2]] == ["held", "held"]
    assert held[KEYS[0]]["reason"].startswith("jump: its predictions are ")
    assert [held[key]["about_jump"] for key in KEYS] == [True, True, False]
    later = decide_after(config, 70, [LASTS], [IS_REPAIRED, UNCHANGED])
    assert later[KEYS[0]]["decision"] == "unproven"
    assert later[KEYS[0]]["reason"].endswith("the first challenger was held 1 day 6 hours ago")
    assert later[KEYS[1]]["decision"] == "refused", "the newest labels contradict those that made it jump"
    assert [later[key]["about_jump"] for key in KEYS] == [True, False, False]
    third = decide_after(config, 100, [LASTS], [IS_REPAIRED, UNCHANGED])
    assert third[KEYS[0]]["decision"] == "unproven", "it may jump further without another wait"
