from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import durations


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("15m", timedelta(minutes=15)),
        ("7d", timedelta(days=7)),
        ("2h", timedelta(hours=2)),
        ("30s", timedelta(seconds=30)),
        ("500ms", timedelta(milliseconds=500)),
        ("0s", timedelta(0)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_number_and_a_unit_is_a_duration(text: str, length: timedelta) -> None:
    assert durations.parse(text) == length


@pytest.mark.parametrize(
    "text", ["", "15", "m", "-1d", "1.5h", " 15m", "15 m", "1h30m", "15M", "1w", "\uff11d", "15m\n"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        durations.parse(text)


@pytest.mark.parametrize("text", ["36501d", "999999999999999999d"])
def test_more_than_a_hundred_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 36500d"):
        durations.parse(text)


@given(st.integers(min_value=0, max_value=durations.LONGEST // timedelta(milliseconds=1)))
def test_what_is_rendered_is_read_back(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)
    assert durations.parse(durations.render(length)) == length


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(days=7), "7d"),
        (timedelta(minutes=90), "90m"),
        (timedelta(0), "0s"),
        (timedelta(seconds=1.5), "1500ms"),
    ],
)
def test_the_largest_unit_that_divides_it_is_used(length: timedelta, text: str) -> None:
    assert durations.render(length) == text


@pytest.mark.parametrize("length", [timedelta(microseconds=1), timedelta(seconds=-1), timedelta(days=-1)])
def test_what_cannot_be_written_is_refused(length: timedelta) -> None:
    with pytest.raises(ValueError, match="whole milliseconds"):
        durations.render(length)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("15 min", "15m"), ("90 days", "90d"), ("2H", "2h"), ("1w", "7d"), ("3 secs", "3s"), ("15", None), ("soon", None)],
)
def test_the_likely_spelling_is_suggested(text: str, meant: str | None) -> None:
    assert durations.suggest_spelling(text) == meant


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.306, "0.31 s"),
        (4.24, "4.2 s"),
        (59.9, "59.9 s"),
        (128, "2 min 08 s"),
        (3599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert durations.format_seconds(seconds) == words


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=2, hours=3, minutes=59), "2 days 3 hours"),
        (timedelta(days=1, hours=1), "1 day 1 hour"),
        (timedelta(days=7), "7 days"),
        (timedelta(days=7, minutes=59), "7 days"),
        (timedelta(hours=5, minutes=1), "5 hours 1 minute"),
        (timedelta(minutes=5), "5 minutes"),
        (timedelta(seconds=61), "1 minute 1 second"),
        (timedelta(seconds=1.9), "1 second"),
        (timedelta(milliseconds=3), "less than a second"),
        (timedelta(0), "no time"),
        (timedelta(days=-1), "no time"),
    ],
)
def test_in_a_sentence_a_length_of_time_has_its_two_largest_units(length: timedelta, words: str) -> None:
    assert durations.format_duration(length) == words
