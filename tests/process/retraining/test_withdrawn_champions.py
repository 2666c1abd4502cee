"""A champion that was fitted on wrong labels is withdrawn by the next round, which a crash does not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from edited_fleet import editor, no_spark, sell

from batch.weekly import NAME, retrain
from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.config import Config
from spinney.fleet import Fleet
from spinney.retraining.rounds import Rounds
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta

STORES, POISONED = 6, range(2)
KEYS = [f'["s{store:03}"]' for store in range(STORES)]


def interrupt_after(step: str) -> Callable[[str, int], None]:
    """In place of the end of the process."""

    def interrupt(announced: str, batch_id: int) -> None:
        if announced == step:
            raise KeyboardInterrupt

    return interrupt


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A fleet after two rounds. In the second, the new labels of some stores had the wrong sign; now they are right."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = editor(tmp_path)(recipe="[gate]\njump = inf")
    sell(config, STORES, rows=40)
    retrain(config, spark=no_spark)
    sell(config, POISONED, rows=15, first=40, slope=-10.0)
    sell(config, range(len(POISONED), STORES), rows=15, first=40)
    retrain(config, spark=no_spark)
    sell(config, STORES, rows=30, first=55)
    return config


def promotions(config: Config) -> list[dict[str, Any]]:
    rows = delta.read_table(FleetStore.of(config), tables.PROMOTIONS).to_pylist()
    return sorted(rows, key=lambda row: (row["batch_id"], row["group_key"], row["decision"]))


def champions(rows: Sequence[dict[str, Any]]) -> dict[str, str | None]:
    found = {}
    for key in KEYS:
        champion = select_champion(Promotion.from_row(row) for row in rows if row["group_key"] == key)
        found[key] = champion.model_id if champion else None
    return found


def test_a_champion_that_was_fitted_on_wrong_labels_is_withdrawn_and_the_one_before_answers_again(
    poisoned: Config,
) -> None:
    before = promotions(poisoned)
    first = champions([row for row in before if row["batch_id"] == 0])
    second = champions(before)
    assert all(second[key] != first[key] for key in KEYS), "the gate promoted what had learned the wrong labels"

    done = retrain(poisoned, spark=no_spark)
    assert done is not None
    rows = [row for row in promotions(poisoned) if row["batch_id"] == 2]
    withdrawn = {row["group_key"]: row for row in rows if row["decision"] == "withdrawn"}
    assert list(withdrawn) == KEYS[: len(POISONED)]
    assert done["withdrawn"] == len(POISONED)
    assert done["groups_in"] == done["fitted"] == STORES
    now = champions(promotions(poisoned))
    for key, row in withdrawn.items():
        assert (row["model_id"], now[key]) == (second[key], first[key])
        assert row["reason"].startswith("worse than the model it replaced: loss ")
        (beside,) = [each for each in rows if each["group_key"] == key and each["decision"] != "withdrawn"]
        assert beside["decision"] == "refused", "what is better than a bad champion only does not replace it"
        assert "not shown to be as good as the champion's predecessor" in beside["reason"]


def test_a_round_that_stops_after_any_step_goes_on_and_writes_each_row_once(poisoned: Config) -> None:
    with pytest.raises(KeyboardInterrupt), observed_by(interrupt_after("weekly.plan")):
        retrain(poisoned, spark=no_spark)
    signer = signing_key.load_signer(FleetStore.of(poisoned))
    for step in ("weekly.fit", "weekly.gate"):
        with pytest.raises(KeyboardInterrupt), observed_by(interrupt_after(step)):
            Rounds(no_spark, poisoned, signer, RoundKind.BATCH, NAME).carry_out(2)
    Rounds(no_spark, poisoned, signer, RoundKind.BATCH, NAME).carry_out(2)
    recorded = delta.read_table(FleetStore.of(poisoned), tables.ROUNDS).to_pylist()
    (done,) = [row for row in recorded if row["batch_id"] == 2]
    assert (done["fitted"], done["refused"], done["withdrawn"]) == (STORES, len(POISONED), len(POISONED))
    rows = [row for row in promotions(poisoned) if row["batch_id"] == 2]
    assert len(rows) == len({(row["group_key"], row["model_id"]) for row in rows}) == STORES + len(POISONED)


def test_no_machine_brings_a_withdrawn_model_back_and_the_group_says_why_it_waits(poisoned: Config) -> None:
    retrain(poisoned, spark=no_spark)
    withdrawn = {row["model_id"] for row in promotions(poisoned) if row["decision"] == "withdrawn"}
    sell(poisoned, STORES, rows=20, first=85)
    retrain(poisoned, spark=no_spark)
    assert not withdrawn & set(champions(promotions(poisoned)).values())
    reported = Fleet(poisoned).why(KEYS[0]).happened
    assert "withdrawn" in [entry["what"] for entry in reported]
