"""The row of `rounds`, counted by hand from what a round stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from schemas.vocabulary import RoundKind
from spinney.core.errors import StoreError
from spinney.retraining.round_record import FinishedRound, RoundRecord, require_complete, require_kept
from spinney.retraining.round_request import RoundRequest

AT = datetime(2024, 5, 1, tzinfo=UTC)
REQUEST = RoundRequest("r", 10, 2, {"max_age": 8}, AT, AT, 60.0, 12.5, {"events": 3})
MODELS = pd.DataFrame(
    {
        "group_key": ["a", "b", "c", "d", "e", "f"],
        "status": ["fitted", "fitted", "fitted", "failed", "timed_out", "too_few_rows"],
        "fit_ms": [4.0, 2.0, 1.0, 5.0, 30.0, None],
    }
)
PROMOTIONS = pd.DataFrame(
    {
        "group_key": ["a", "b", "b", "c", "g"],
        "decision": ["promoted", "refused", "withdrawn", "kept", "kept"],  # c: promoted by the other path
        "challenger_loss": [1.0, 3.0, None, 2.0, None],
        "champion_loss": [2.0, 2.0, None, None, None],
        "loss_name": ["squared", "squared", "squared", None, None],
    }
)
RECORD = RoundRecord(REQUEST, RoundKind.BATCH, 7, MODELS, PROMOTIONS, "id", {"plan": 1.23456, "fit": 2.0}, untried=1)


def test_every_group_is_counted_once() -> None:
    row = RECORD.row()
    counts = {name: row[name] for name in ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred")}
    assert counts == {"groups_in": 10, "fitted": 3, "failed": 2, "too_few_rows": 1, "kept": 1, "deferred": 3}
    decisions = {name: row[name] for name in ("promoted", "unproven", "refused", "held", "withdrawn")}
    assert decisions == {"promoted": 1, "unproven": 0, "refused": 1, "held": 0, "withdrawn": 1}
    assert (row["mean_champion_loss"], row["mean_challenger_loss"], row["loss_name"]) == (2.0, 2.0, "squared")
    assert (row["kind"], row["batch_id"], row["recipe_id"]) == ("batch", 7, "id")
    assert (row["seconds"], row["reasons"], row["pins"]) == (
        '{"fit": 2.0, "plan": 1.235}',
        '{"max_age": 8}',
        '{"events": 3}',
    )


def test_a_recorded_round_has_the_times_of_its_fits_failed_ones_too() -> None:
    assert RECORD.finished() == FinishedRound(REQUEST, fit_ms=42.0, longest_ms=30.0)
    assert replace(RECORD, models=MODELS.head(0)).finished() == FinishedRound(REQUEST)


def test_a_round_that_stored_nothing_has_no_losses() -> None:
    nothing = replace(
        RECORD,
        request=replace(REQUEST, groups_in=3),
        models=MODELS.head(0),
        promotions=PROMOTIONS.head(0),
        recipe_id=None,
    )
    row = nothing.row()
    assert (row["fitted"], row["failed"], row["kept"], row["deferred"]) == (0, 0, 0, 3)
    assert (row["mean_champion_loss"], row["mean_challenger_loss"], row["loss_name"]) == (None, None, None)


@pytest.mark.parametrize(
    ("names", "means"),
    [
        (["squared", None], (2.0, 2.0, "squared")),  # the first part of an earlier version's round
        ([None, None], (2.0, 2.0, None)),
        (["squared", "absolute"], (None, None, None)),
    ],
)
def test_a_mean_has_losses_of_one_name_only(names: list[str | None], means: tuple[float | str | None, ...]) -> None:
    row = replace(RECORD, promotions=PROMOTIONS.assign(loss_name=[*names, None, None, None])).row()
    assert (row["mean_champion_loss"], row["mean_challenger_loss"], row["loss_name"]) == means


def test_counts_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(StoreError, match=r"expected its 10 groups .* got fitted 3, .* kept 1, deferred 2, together 9"):
        replace(RECORD, untried=0).row()


def test_a_report_must_account_for_every_request() -> None:
    report = pa.table({"rows": [3, 0], "kept": [0, 2]})
    assert require_complete("r", 5, report) == 2
    with pytest.raises(StoreError, match="round r: expected a result for each of 6 fit requests; got 3 models and 2"):
        require_complete("r", 6, report)


def test_a_group_without_a_model_must_be_one_that_was_kept() -> None:
    fitted_at = pa.array([AT, None, None, None], pa.timestamp("us", "UTC"))
    promotions = pa.table({"fitted_at": fitted_at, "decision": ["refused", "withdrawn", "kept", "kept"]})
    require_kept("r", 2, promotions)
    require_kept("r", None, promotions)  # a fit of an earlier version has not stored the number
    with pytest.raises(StoreError, match=r"round r: expected 1 groups without a model, .* got 2"):
        require_kept("r", 1, promotions)
