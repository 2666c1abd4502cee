"""A model that always says the newest label it was fitted on makes every number below work out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from demo.refit_comparison import (
    GroupHierarchy,
    StreamWindow,
    compare_refits,
    mature,
    refit_times,
    summarize_comparison,
)

START = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FAMILY = GroupHierarchy(("name",), ((),))
A, B = '["a"]', '["b"]'
REPLAYED = ("in_turn", "daily", "weekly", "never")


class LastLabel:
    """Fits nothing but the newest label of each group; remembers every refit."""

    def __init__(self):
        self.calls, self.labels = [], {}

    @property
    def fitted(self):
        return self

    def fit(self, rows, clock):
        self.calls.append((clock, frozenset(rows["event_id"])))
        made = {}
        for key, part in rows.sort_values("event_time").groupby("group_key"):
            made[key] = f"{key} {clock}"
            self.labels[made[key]] = part["label"].iloc[-1]
        return made

    def answer(self, frame, ids):
        return np.array([self.labels.get(one) for one in ids], dtype=object)


def absolute(labels, answers):
    given = np.array([np.nan if one is None else one for one in answers], dtype=float)
    return np.abs(labels.to_numpy(dtype=float) - given)


def window(days=10, delay=timedelta(0), **changes):
    return StreamWindow(START, START + days * DAY, delay, **changes)


def events(label_of, key=A, days=range(-2, 10), known=timedelta(hours=1)):
    """One event at noon of each day, its label known an hour later."""
    rows = [(key, f"{key}{day}", START + day * DAY + DAY / 2, float(label_of(day))) for day in days]
    frame = pd.DataFrame(rows, columns=["group_key", "event_id", "event_time", "label"])
    frame["event_time"] = frame["event_time"].astype("datetime64[us, UTC]")
    frame["label_at"] = frame["event_time"] + known
    return frame


def says(frame, value):
    return pd.Series(value, index=pd.MultiIndex.from_frame(frame[["group_key", "event_id"]]), dtype=object)


def step(day):
    return 10 if day < 3 else 20


def test_never_weekly_daily_and_in_turn_are_what_they_are_by_hand():
    # From day 3 on the label is 20 for 10. Never: wrong by 10 on seven days; weekly: until the refit of day 7, four
    # days; daily: on day 3 alone. The fleet says 15 throughout: wrong by 5. In turn, with two fits: the
    # first at the midnight before day 5, when more than half of the 39 times have passed; until then wrong by 10 on
    # days 3 and 4. The second comes after the last event.
    rows = events(step)
    recoveries = summarize_comparison(
        compare_refits(rows, says(rows, 15.0), window(), FAMILY, (LastLabel(), absolute), 2), window()
    )
    assert recoveries["mean_loss"] == {"fleet": 5.0, "in_turn": 2.0, "daily": 1.0, "weekly": 4.0, "never": 7.0}
    assert (recoveries["events"], recoveries["left_out"], recoveries["groups"]) == (10, 0, 1)
    assert recoveries["fits"] == {"fleet": 2, "in_turn": 2, "daily": 9, "weekly": 1, "never": 0}
    assert [day["daily"] for day in recoveries["daily"]] == [0, 0, 0, 10, 0, 0, 0, 0, 0, 0]
    assert [day["in_turn"] for day in recoveries["daily"]] == [0, 0, 0, 10, 10, 0, 0, 0, 0, 0]
    assert [day["weekly"] for day in recoveries["daily"]] == [0, 0, 0, 10, 10, 10, 10, 0, 0, 0]
    assert recoveries["daily"][0]["day"] == "2020-01-01"


def test_no_refit_sees_a_row_that_is_not_mature_or_a_label_that_had_not_come():
    # Old enough after 36 hours: the noon of day 3 is known at the midnight of day 5.
    rows = events(step)
    late = window(delay=timedelta(hours=36))
    recoveries = compare_refits(rows, says(rows, 20.0), late, FAMILY, (LastLabel(), absolute), 0)
    assert recoveries.frame["daily"].tolist()[:6] == [0, 0, 0, 10, 10, 0]
    # A label that comes after 60 hours is seen at the midnight of day 6.
    slow = events(step, days=range(-5, 10), known=timedelta(hours=60))
    recoveries = compare_refits(slow, says(slow, 20.0), window(), FAMILY, (LastLabel(), absolute), 0)
    assert recoveries.frame["daily"].tolist()[:7] == [0, 0, 0, 10, 10, 10, 0]


def test_a_fitter_is_given_mature_rows_only():
    fitter, rows = LastLabel(), events(step)
    compare_refits(rows, says(rows, 1.0), window(delay=timedelta(hours=36)), FAMILY, (fitter, absolute), 0)
    times = dict(zip(rows["event_id"], rows["event_time"], strict=True))
    assert all(times[one] + timedelta(hours=36) <= clock for clock, seen in fitter.calls for one in seen)


def test_a_group_without_a_model_is_answered_by_its_parent_until_it_has_one():
    # b comes on day 5 only; until the daily fleet fits it at day 6, the global model says a's newest label.
    rows = pd.concat([events(lambda _: 10), events(lambda _: 30, B, range(5, 10))], ignore_index=True)
    recoveries = compare_refits(rows, says(rows, 0.0), window(), FAMILY, (LastLabel(), absolute), 0).frame
    mine = recoveries[recoveries["group_key"] == B]
    assert mine["daily"].tolist() == [20, 0, 0, 0, 0]
    assert mine["never"].tolist() == [20, 20, 20, 20, 20]


def test_a_group_that_a_refit_could_not_fit_keeps_the_model_it_had():
    class OnlyTheFirst(LastLabel):
        def fit(self, rows, clock):
            return super().fit(rows, clock) if clock == START else {}

    rows = events(step)
    recoveries = compare_refits(rows, says(rows, 15.0), window(), FAMILY, (OnlyTheFirst(), absolute), 0)
    assert recoveries.frame["daily"].tolist() == [0, 0, 0, 10, 10, 10, 10, 10, 10, 10]


def test_an_event_that_one_of_the_fleets_did_not_answer_is_judged_for_none():
    rows = events(step)
    answers = says(rows, 15.0)
    answers.iloc[4] = None
    recoveries = compare_refits(
        rows, answers.drop(index=(A, rows["event_id"].iloc[5])), window(), FAMILY, (LastLabel(), absolute), 0
    )
    assert (len(recoveries.frame), recoveries.left_out) == (8, 2)


def test_events_without_a_label_are_not_judged():
    rows = events(step)
    rows.loc[rows["event_id"] == f"{A}4", ["label", "label_at"]] = [None, pd.NaT]
    recoveries = compare_refits(rows, says(rows, 15.0), window(), FAMILY, (LastLabel(), absolute), 0)
    assert (len(recoveries.frame), recoveries.left_out) == (9, 0)


def test_refits_begin_at_the_start_and_end_before_the_end():
    assert refit_times(window(), None) == (START,)
    assert refit_times(window(14), 7 * DAY) == (START, START + 7 * DAY)
    assert len(refit_times(window(), DAY)) == 10


def test_a_row_is_mature_exactly_when_it_is_old_enough_and_its_label_is_there():
    rows = events(step, days=[0])
    noon = START + DAY / 2
    assert len(mature(rows, window(delay=timedelta(hours=2)), noon + timedelta(hours=2))) == 1
    assert len(mature(rows, window(delay=timedelta(hours=2)), noon + timedelta(minutes=119))) == 0
    assert len(mature(rows, window(), noon + timedelta(minutes=59))) == 0


def test_changed_groups_are_distinguished_from_what_was():
    changed = window(change_at=START + 3 * DAY, injected=frozenset({A}))
    rows = pd.concat([events(step), events(lambda _: 30, B)], ignore_index=True)
    recoveries = summarize_comparison(
        compare_refits(rows, says(rows, 15.0), changed, FAMILY, (LastLabel(), absolute), 0), changed
    )
    assert recoveries["mean_loss_without_injected"] == {"fleet": 15.0, **dict.fromkeys(REPLAYED, 0.0)}
    assert recoveries["mean_loss"]["fleet"] == 10.0
    assert recoveries["injected"]["groups"] == [A]
    assert recoveries["injected"]["events_after"] == 7
    assert recoveries["injected"]["before"] == {"fleet": 5.0, **dict.fromkeys(REPLAYED, 0.0)}


def test_the_worst_groups_are_those_of_the_fleet_itself_with_ten_events_at_least():
    rows = pd.concat([events(lambda _: 10), events(lambda _: 30, B), events(lambda _: 99, '["c"]', range(5, 10))])
    recoveries = summarize_comparison(
        compare_refits(rows, says(rows, 15.0), window(), FAMILY, (LastLabel(), absolute), 0), window()
    )
    assert [(one["group_key"], one["fleet"], one["events"]) for one in recoveries["worst"]] == [
        (B, 15.0, 10),
        (A, 5.0, 10),
    ]


def test_without_verdicts_the_comparison_is_empty():
    rows = events(step)
    recoveries = summarize_comparison(
        compare_refits(rows, says(rows, None), window(), FAMILY, (LastLabel(), absolute), 0), window()
    )
    assert recoveries["events"] == 0
    assert recoveries["mean_loss"] == dict.fromkeys(["fleet", *REPLAYED])


def test_rows_are_not_changed():
    rows = events(step)
    before = rows.copy(deep=True)
    compare_refits(rows, says(rows, 15.0), window(), FAMILY, (LastLabel(), absolute), 0)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize("key", [A, B])
def test_a_chain_begins_with_the_group_and_ends_with_its_farthest_parent(key):
    assert FAMILY.chain(key) == (key, "{}")
