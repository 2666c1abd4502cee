from __future__ import annotations

import copy
from datetime import date

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinney.core.config import Config, parse
from spinney.core.errors import ContractError
from spinney.core.proposal import propose

ROWS = 120
SALES = pd.DataFrame(
    {
        "sale_id": [f"s{row}" for row in range(ROWS)],
        "at": [f"2024-01-01T{row % 24:02}:00:00" for row in range(ROWS)],
        "shop": ["north", "south", "east"] * (ROWS // 3),
        "price": [row / 7 for row in range(ROWS)],
        "sunny": [row % 2 == 0 for row in range(ROWS)],
        "sold": [float(row) if row % 5 else None for row in range(ROWS)],
    }
)


def proposed(frame: pd.DataFrame) -> Config:
    return parse(propose(frame, "my sales"), "proposed", {})


def test_a_sane_table_gives_a_configuration_that_is_accepted() -> None:
    config = proposed(SALES)
    assert config.fleet.name == "my-sales"
    assert config.fleet.group == ("shop",)
    assert config.fleet.event_id == "sale_id"
    assert config.fleet.event_time == "at"
    assert config.fleet.target == "sold"
    assert config.fleet.features == ("price", "sunny")
    assert config.fleet.columns == {"shop": "string", "price": "double", "sunny": "boolean", "sold": "double"}


def test_each_guess_says_why() -> None:
    text = propose(SALES, "sales")
    assert 'group = ["shop"]  # one model for each: 3 values, about 40 rows each' in text
    assert 'event_id = "sale_id"  # different in each of 120 rows' in text
    assert 'event_time = "at"  # a timestamp, the only one' in text
    assert 'target = "sold"  # the last number: is it what you want predicted?' in text
    assert 'sold = "double"  # missing in 24 of 120 rows' in text


def test_the_data_is_not_changed() -> None:
    before = copy.deepcopy(SALES)
    propose(SALES, "sales")
    pd.testing.assert_frame_equal(SALES, before)


def test_a_column_named_like_a_target_is_the_target() -> None:
    config = proposed(SALES.rename(columns={"price": "label"}))
    assert config.fleet.target == "label"


def test_a_target_of_words_is_classified() -> None:
    config = proposed(SALES.assign(target=["cat", "dog"] * (ROWS // 2)))
    assert (config.fleet.task, config.fleet.loss) == ("classification", "log")


def test_without_id_and_time_it_says_what_to_add_and_is_still_accepted() -> None:
    frame = SALES.drop(columns=["sale_id", "at", "price"]).assign(weight=1.5)
    text = propose(frame, "sales")
    assert 'event_id = "event_id"  # no column is unique: add one to each event' in text
    assert "no column reads as ISO 8601 times: add one" in text
    parse(text, "proposed", {})


def test_an_integer_is_a_group_where_no_text_is() -> None:
    assert proposed(SALES.assign(shop=[1, 2, 3] * (ROWS // 3))).fleet.group == ("shop",)


def test_dates_are_dates_and_not_times() -> None:
    frame = SALES.assign(day=["2024-01-31"] * ROWS, other=[date(2024, 1, 31)] * ROWS)
    columns = proposed(frame).fleet.columns
    assert (columns["day"], columns["other"]) == ("date", "date")


@pytest.mark.parametrize("name", ["topic", "Shard", "a b", "it's", "event_id", "PRICE", "x.y"])
def test_a_column_that_cannot_be_had_is_left_out_and_named(name: str) -> None:
    frame = SALES.assign(**{name: [1.5] * (ROWS - 1) + [2.5]})[[*SALES.columns[:5], name, "sold"]]
    text = propose(frame, "sales")
    assert name not in parse(text, "proposed", {}).fleet.columns
    assert "# left out: " in text


@pytest.mark.parametrize(
    "frame",
    [SALES.head(0), SALES[["sale_id", "at", "price", "sold"]], SALES[["shop"]], SALES[["shop", "sold"]]],
    ids=["no rows", "no group", "no target", "no feature"],
)
def test_data_that_cannot_make_a_fleet_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ContractError, match="init --from: expected"):
        propose(frame, "sales")


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            st.lists(st.sampled_from(["a", "b", None]), min_size=8, max_size=8),
            st.lists(st.sampled_from([1, 2, 3]), min_size=8, max_size=8),
            st.lists(st.floats(allow_infinity=False, width=32), min_size=8, max_size=8),
            st.lists(st.sampled_from([["x"], {"y": 1}, b"z"]), min_size=8, max_size=8),
        ),
        max_size=6,
    ),
    st.text(max_size=20),
)
def test_whatever_the_columns_are_called_the_proposal_is_accepted_or_refused_with_words(
    columns: dict[str, list[object]], name: str
) -> None:
    try:
        text = propose(pd.DataFrame(columns), name)
    except ContractError:
        return
    parse(text, "proposed", {})
