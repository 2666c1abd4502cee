"""Every number below is worked out by hand: rounds come every six hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd

from demo.refits_in_turn import fit_in_turn

START = datetime(2020, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def known(rows: list[tuple[str, float]]) -> pd.Series:
    """rows: group and the hour from which a row of it may be used."""
    times = pd.to_datetime([at(hours) for _, hours in rows]).astype("datetime64[us, UTC]")
    return pd.Series(times, index=[key for key, _ in rows])


class Fits:
    """Remembers which groups were fitted when. unfit: groups that cannot be fitted."""

    def __init__(self, unfit: str = "") -> None:
        self.unfit, self.calls = unfit, []

    def __call__(self, when, group_keys):
        self.calls.append((int((when - START) / timedelta(hours=1)), sorted(group_keys)))
        return {key: f"{key} {when}" for key in group_keys if key not in self.unfit}


def test_the_groups_that_have_waited_longest_come_first_and_the_fits_are_spread_evenly() -> None:
    hourly = known([(key, hours) for key in "abc" for hours in range(30)])
    fits = Fits()
    made = fit_in_turn(hourly, (START, at(30)), 4, fits)
    assert sorted(made) == [at(6), at(12), at(18), at(24)]
    first, second, third, fourth = (keys for _, keys in fits.calls)
    assert [len(keys) for keys in (first, second, third, fourth)] == [1, 1, 1, 1]
    assert sorted(first + second + third) == ["a", "b", "c"]
    assert fourth == first


def test_a_group_without_a_new_row_waits_and_later_rounds_take_more() -> None:
    # Two fits are due by 6 h, four by 12 h, and so on. Only a has a new row by 6 h; b and c have theirs by 12 h.
    fits = Fits()
    fit_in_turn(known([("a", -1), ("b", -1), ("c", -1), ("a", 6), ("b", 7), ("c", 12)]), (START, at(18)), 4, fits)
    assert fits.calls == [(6, ["a"]), (12, ["b", "c"])]


def test_an_attempt_that_fits_nothing_is_no_fit_and_is_not_repeated_without_a_new_row() -> None:
    fits = Fits(unfit="a")
    made = fit_in_turn(known([("a", 1), ("a", 13), ("b", 14)]), (START, at(24)), 3, fits)
    assert fits.calls == [(6, ["a"]), (18, ["a", "b"])]
    assert [sorted(models) for models in made.values()] == [[], [], ["b"]]


def test_without_fits_nothing_is_fitted() -> None:
    fits = Fits()
    made = fit_in_turn(known([("a", 1)]), (START, at(24)), 0, fits)
    assert (list(made.values()), fits.calls) == ([{}, {}, {}], [])
