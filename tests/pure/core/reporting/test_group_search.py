from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import keys
from spinney.core.reporting.group_search import SEPARATOR, GroupSearch, shown_keys

KEYS = ['["AA","JFK"]', '["AA","LAX"]', '["B6","JFK"]', '["É%_","x"]', r'["ΟΔΟΣ","the \"Inn\" c:\\d"]']
STATES = ["fresh", "stale", "fresh", "failed", "held"]
SEARCH = GroupSearch(pa.table({"group_key": KEYS, "state": STATES}))


@pytest.mark.parametrize(
    ("words", "state", "found"),
    [
        ("", None, KEYS),
        ("jfk", None, [KEYS[0], KEYS[2]]),
        ("jfk aa", None, [KEYS[0]]),
        ("aa", "stale", [KEYS[1]]),
        ("", "fresh", [KEYS[0], KEYS[2]]),
        ("é", None, [KEYS[3]]),
        ("%", None, [KEYS[3]]),
        (".*", None, []),
        ("AA · LAX", None, [KEYS[1]]),
        ('["AA","LAX"]', None, [KEYS[1]]),
        ('["', None, KEYS),
        ("ΟΔΟΣ", None, [KEYS[4]]),
        ('"inn"', None, [KEYS[4]]),
        (r"C:\d", None, [KEYS[4]]),
        (",", None, []),
        ("'; DROP", None, []),
    ],
)
def test_groups_are_found_by_parts_of_their_keys_and_by_state(words: str, state: str | None, found: list[str]) -> None:
    page = SEARCH.find(words, state=state)
    assert (page.rows.column("group_key").to_pylist(), page.found) == (found, len(found))


@given(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "a", "j"]))
def test_a_page_is_a_slice_of_all_that_was_found(offset: int, limit: int, words: str) -> None:
    whole, page = SEARCH.find(words), SEARCH.find(words, offset=offset, limit=limit)
    assert page.found == whole.found
    assert page.rows.to_pylist() == whole.rows.to_pylist()[offset : offset + limit]


TEXTS = (
    st.none() | st.sampled_from(["", "null", ",", '"', '","', "\\", "a · b", "[x]", "é\u2028"]) | st.text(max_size=6)
)


@given(st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=5))
def test_a_key_is_searched_as_its_values_are_shown(values: list[list[str | None]]) -> None:
    shown = shown_keys(pa.array([keys.encode(row) for row in values], pa.string()))
    assert shown.to_pylist() == [SEPARATOR.join("null" if text is None else text for text in row) for row in values]
