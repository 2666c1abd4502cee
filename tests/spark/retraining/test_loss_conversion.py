"""What the judge reads after a change of the loss: rows of the former one converted, or without a loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from schemas import tables
from spinney.core.config import Config
from spinney.core.migration import LossHistory, convert_losses
from spinney.core.migration.loss_function_history import LossChange
from spinney.retraining import judge_input
from spinney.retraining.loss_conversion import health_in_current_loss, promotions_in_current_loss
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming import retrain, score

AT = datetime(2024, 5, 1, tzinfo=UTC)
TO_SQUARED = LossHistory("squared", (LossChange(AT, "absolute", "squared"),))
BACK = LossHistory("absolute", (*TO_SQUARED.changes, LossChange(AT, "squared", "absolute")))

HEALTH = [
    (0, 1, 2.0, None, "absolute"),
    (1, 1, 2.0, None, "squared"),
    (2, 1, 2.0, None, None),
    (3, 0, 0.0, None, "absolute"),
    (4, 3, 6.0, [1.0, 2.0, 3.0], "absolute"),
    (5, 3, 6.0, [1.0, 2.0, 3.0], "squared"),
    (6, 4, 9.0, [1.0, 3.0], "absolute"),
    (7, 4, 9.0, [1.0, 3.0], "squared"),
    (8, 2, 3.0, None, None),
]
"""n, labelled, loss, losses (of some rows only where there are fewer), loss_name."""


def expected_health(losses: LossHistory) -> list[tuple[float | None, list[float] | None]]:
    found: list[tuple[float | None, list[float] | None]] = []
    for _, labelled, loss, listed, name in HEALTH:
        was = name or losses.first
        if was == losses.now:
            found.append((loss, listed))
            continue
        single = None if listed is None else convert_losses(np.array(listed), was, losses.now).tolist()
        total = {0: 0.0, 1: float(convert_losses(np.array([loss]), was, losses.now)[0])}.get(labelled)
        if single is not None and len(single) == labelled:
            total = sum(single)
        found.append((total, single))
    return found


@pytest.mark.parametrize("losses", [TO_SQUARED, BACK])
def test_a_row_of_health_has_the_current_loss_or_none(spark, losses: LossHistory) -> None:
    rows = spark.createDataFrame(
        HEALTH, "n int, labelled bigint, loss double, losses array<float>, loss_name string"
    ).coalesce(1)
    found = health_in_current_loss(rows, losses)
    assert found.dtypes == rows.dtypes
    for row, (loss, listed) in zip(found.orderBy("n").collect(), expected_health(losses), strict=True):
        assert row.loss == (None if loss is None else pytest.approx(loss))
        assert row.losses == (None if listed is None else pytest.approx(listed))


def test_the_mean_of_a_promotion_is_that_of_its_converted_losses(spark) -> None:
    rows = spark.createDataFrame(
        [(1.9, [1.0, 3.0]), (1.9, None), (None, [1.0, 3.0]), (1.9, [])],
        "challenger_loss double, heldout_losses array<float>",
    ).coalesce(1)  # of a table that no writer of this version has opened
    found = [tuple(row)[:2] for row in promotions_in_current_loss(rows, TO_SQUARED).collect()]
    assert found == [(5.0, [1.0, 9.0]), (None, None), (None, [1.0, 9.0]), (None, [])]


def changed(config: Config) -> Config:
    """The configuration after the loss of its fleet was changed from absolute to squared."""
    made = charter.ensure_charter(FleetStore.of(config))
    migration = charter.Migration("m", AT.isoformat(), {}, {}, loss_before="absolute", loss_after="squared")
    fixed = {**made.fixed, "fleet.loss": "squared"}
    charter.write_charter(FleetStore.of(config), replace(made, fixed=fixed, migrations=(migration,)))
    return config.model_copy(update={"fleet": config.fleet.model_copy(update={"loss": "squared"})})


def test_the_workers_of_the_stream_get_the_losses_of_the_fleet(spark, world, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, made = world(), []
    config = changed(fleet.config)
    for module, name in ((score, "Scorer"), (retrain, "ShardJudge")):
        worker = getattr(module, name)

        class Recorded(worker):
            def function(self) -> Any:
                made.append(self)
                return super().function()

        monkeypatch.setattr(module, name, Recorded)
    score.query(spark, config, fleet.signer, ())
    retrain.query(spark, config, fleet.signer, once=True)
    scorer, judge = made
    assert scorer.rule.loss == "absolute"  # of losses without a name
    assert judge.settings.losses == charter.losses_of(FleetStore.of(config)) == TO_SQUARED


def test_the_judge_reads_every_table_by_the_current_loss(spark, world) -> None:
    fleet = world()
    group = '["a","1"]'
    same: dict[str, Any] = {"shard": 1, "group_key": group, "model_id": "m", "batch_id": 0}
    counted = same | {"labelled": 1, "rows": 1, "last_event_time": AT, "observed_on": AT.date()}
    for loss, name in ((3.0, None), (5.0, "squared")):
        fleet.put(tables.HEALTH, [counted | {"loss": loss, "loss_name": name}], "score")
    decided = {"epoch": 0, "decision": "promoted", "by": "stream", "decided_at": AT, "clock": AT, "round_id": "r"}
    measured = {"challenger_loss": 2.0, "heldout_losses": [1.0, 3.0], "loss_name": "absolute"}
    fleet.put(tables.PROMOTIONS, [same | decided | measured], "stream")
    store = FleetStore.of(changed(fleet.config))
    frame = judge_input.union_frame(store, partial(delta.spark_frame, spark)).toPandas()
    inputs = judge_input.parse_frames([frame])
    assert sorted(inputs.health.loss) == [5.0, 9.0]
    (record,) = inputs.decided
    assert (record.loss, record.heldout_losses, record.usual_loss) == (5.0, (1.0, 9.0), 5.0)
