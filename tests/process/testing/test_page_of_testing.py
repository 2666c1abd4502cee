"""The examples of docs/testing.md run on a small fleet."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from edited_fleet import no_spark

from spinney.spark import session
from spinney.storage.layout import FleetStore

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
FLEET = """\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
[fleet.columns]
store = "string"
x = "double"
sold = "double"
[recipe]
min_rows = 20
[kafka]
events = "sales"
[storage]
root = "root"
"""


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The names that each example defines, run where fleet.toml and history.csv are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINNEY_SIGNING_KEY", raising=False)
    monkeypatch.setattr(session, "session", no_spark)
    Path("fleet.toml").write_text(FLEET, encoding="utf-8")
    rows = [f"e{n},s1,2024-05-01T{n // 60:02}:{n % 60:02}:00Z,{n % 7},{2 * (n % 7)}" for n in range(100)]
    Path("history.csv").write_text("\n".join(["id,store,at,x,sold", *rows]), encoding="utf-8")
    found = []
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        names: dict[str, Any] = {}
        exec(block, names)
        found.append(names)
    return found


def test_the_requirements_of_an_estimator_and_of_policies_are_tests(examples: list[dict[str, Any]]) -> None:
    for name in ("test_my_estimator", "test_my_policies"):
        (mark,) = examples[0][name].pytestmark
        for point in mark.args[1]:
            examples[0][name](point)
    assert len(examples[0]["test_my_estimator"].pytestmark[0].args[1]) > 1
    assert examples[0]["test_my_rule"].pytestmark[0].args[1] == ()  # the fleet has the built-in one


def test_the_gate_decides_about_losses_of_a_test(examples: list[dict[str, Any]]) -> None:
    examples[1]["test_a_model_that_is_twice_as_bad_is_refused"]()


def test_a_group_is_judged_as_the_clock_is_advanced(examples: list[dict[str, Any]]) -> None:
    examples[2]["test_a_group_is_refitted_within_a_month"]()


def test_a_fleet_in_a_folder_is_loaded_fitted_and_answers(examples: list[dict[str, Any]], tmp_path: Path) -> None:
    examples[3]["test_a_store_is_answered_by_its_own_model"](tmp_path / "own")


def test_a_fleet_in_memory_is_loaded(examples: list[dict[str, Any]]) -> None:
    with contextmanager(examples[4]["fleet"].__wrapped__)() as config:
        examples[4]["test_every_row_of_the_history_is_valid"](config)
    assert not FleetStore.of(config).folder.exists()
