from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.migration import LossHistory, Migration, are_convertible, convert_losses

LOSSES = st.lists(st.floats(0, 1e100), max_size=20).map(np.array)


def migration(at: str, before: str | None = None, after: str | None = None) -> Migration:
    return Migration("m", at, {}, {}, loss_before=before, loss_after=after)


@given(LOSSES)
def test_a_loss_of_a_row_becomes_the_other_and_back(losses: np.ndarray) -> None:
    squared = convert_losses(losses, "absolute", "squared")
    np.testing.assert_array_equal(squared, [loss * loss for loss in losses.tolist()])
    np.testing.assert_allclose(convert_losses(squared, "squared", "absolute"), losses, rtol=1e-15, atol=1e-150)
    assert convert_losses(losses, "squared", "squared") is losses


@given(LOSSES)
def test_the_order_of_losses_stays(losses: np.ndarray) -> None:
    ascending = np.sort(losses)
    for was, now in (("absolute", "squared"), ("squared", "absolute")):
        assert (np.diff(convert_losses(ascending, was, now)) >= 0).all()


def test_a_loss_that_does_not_determine_another_gives_none() -> None:
    assert np.isnan(convert_losses(np.array([0.5]), "log", "absolute")).all()
    assert are_convertible("absolute", "squared")
    assert are_convertible("squared", "absolute")
    assert not are_convertible("log", "absolute")
    assert not are_convertible("squared", "squared")


def test_a_fleet_whose_columns_alone_were_migrated_has_one_loss() -> None:
    history = LossHistory.of("absolute", [migration("2024-05-01T00:00:00+00:00")])
    assert (history.first, history.is_changed, history.begun_anew) == ("absolute", False, None)
    assert history.name_at(datetime(2024, 4, 1, tzinfo=UTC)) == "absolute"


def test_a_loss_that_was_changed_back_is_known_at_each_time() -> None:
    history = LossHistory.of(
        "absolute",
        [
            migration("2024-05-01T00:00:00+00:00", "absolute", "squared"),
            migration("2024-05-02T00:00:00+00:00"),
            migration("2024-05-03T10:30:00+00:00", "squared", "absolute"),
        ],
    )
    assert (history.first, history.other, history.is_changed) == ("absolute", "squared", True)
    assert history.begun_anew == "since the loss changed at 2024-05-03 10:30 UTC"
    moments = (datetime(2024, 4, 30, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC), datetime(2024, 5, 4, tzinfo=UTC))
    assert [history.name_at(moment) for moment in moments] == ["absolute", "squared", "absolute"]
    assert [history.name_of(stored) for stored in (None, "", "squared")] == ["absolute", "absolute", "squared"]


@pytest.mark.parametrize("losses", [(None, None), ("squared", "absolute")])
def test_a_migration_is_read_as_it_was_stored(losses: tuple[str | None, str | None]) -> None:
    stored = migration("2024-05-01T00:00:00+00:00", *losses)
    assert Migration.from_data(stored.as_data()) == stored
    assert ("loss_after" in stored.as_data()) == stored.changes_loss == (losses[1] is not None)
