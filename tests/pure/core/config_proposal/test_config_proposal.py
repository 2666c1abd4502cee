from __future__ import annotations

import copy
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core import durations
from spinney.core.config import Config, parse
from spinney.core.config_proposal import Choices, propose
from spinney.core.errors import ContractError
from spinney.core.training.estimators import kernel_for

ROWS = 120
START = datetime(2024, 1, 1, tzinfo=UTC)
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


@pytest.mark.parametrize("label", [["yes", "no"], [True, False], [0, 1]])
def test_classes_get_an_estimator_that_classifies_and_numbers_the_default(label: list[object]) -> None:
    for frame in (SALES.drop(columns="sold").assign(label=label * (ROWS // 2)), SALES):
        config = proposed(frame)
        kernel_for(config.recipe.estimator, config.fleet.task, config.recipe.params)  # else an error, as in `check`


def test_years_and_numbers_that_name_things_are_not_the_target_where_there_is_another_number() -> None:
    frame = SALES.assign(year=[2024, 2025] * (ROWS // 2), zipcode=[8000, 8001, 8002] * (ROWS // 3))
    assert proposed(frame).fleet.target == "sold"
    assert proposed(frame.drop(columns=["sold", "price"])).fleet.target == "zipcode"


def test_numbers_under_the_name_of_a_code_are_a_group_as_texts_are() -> None:
    frame = SALES.drop(columns="shop").assign(beds=[row % 5 for row in range(ROWS)])
    frame = frame.assign(zipcode=[8000, 8001, 8002] * (ROWS // 3), view=["sea", "hill"] * (ROWS // 2))
    assert proposed(frame).fleet.group == ("zipcode",)


def test_numbers_that_hardly_repeat_are_no_group() -> None:
    frame = SALES.drop(columns=["shop", "sunny"]).assign(volume=[max(1, row) for row in range(ROWS)])
    with pytest.raises(ContractError, match="text or integers, with several rows for most values; got sale_id"):
        propose(frame, "stocks")


def test_times_that_are_all_before_1970_are_no_event_time_and_it_says_why() -> None:
    frame = SALES.assign(born=[f"19{row % 60 + 10}-05-01T00:00:00" for row in range(ROWS)])
    text = propose(frame.rename(columns={"at": "seen", "born": "time"}), "sales")
    assert 'event_time = "seen"' in text
    text = propose(frame.drop(columns="at").rename(columns={"born": "time"}), "sales")
    assert "add one; 'time': only before 1970, where events are rejected" in text
    months = frame.drop(columns="at").assign(month=frame["born"].str.slice(0, 7)).drop(columns="born")
    assert "no column reads as ISO 8601 times: add one" in propose(months, "sales")


def test_unusable_columns_of_the_ids_and_times_names_are_left_out() -> None:
    frame = SALES.drop(columns=["sale_id", "at"]).assign(
        event_time="05/13/2024 10:00", event_id=[1.5, 2.5] * (ROWS // 2), label=SALES["sold"]
    )
    text = propose(frame, "sales")
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.event_id, fleet.event_time, fleet.features) == ("event_id", "event_time", ("price", "sunny", "sold"))
    assert '# left out: "event_time", its values are no ISO 8601 times' in text
    assert '# left out: "event_id", its values are no event\'s id' in text


def test_columns_of_the_ids_and_times_names_that_are_something_else_leave_those_other_names() -> None:
    frame = SALES.drop(columns=["sale_id", "at"]).assign(
        event_time=["n", "s"] * (ROWS // 2), event_id=[1.5, 2.5] * (ROWS // 2)
    )
    said = Choices(("event_time",), "event_id")
    fleet = parse(propose(frame, "sales", choices=said), "proposed", {}).fleet
    assert (fleet.event_id, fleet.event_time) == ("event_id_2", "event_time_2")
    assert (fleet.fields[fleet.group[0]], fleet.fields[fleet.target]) == ("event_time", "event_id")


def test_a_column_that_a_person_gave_another_role_is_not_taken_for_the_time() -> None:
    fleet = parse(propose(SALES, "sales", choices=Choices(target="at")), "proposed", {}).fleet
    assert (fleet.target, fleet.event_time) == ("at", "event_time")


def test_without_id_and_time_it_says_what_to_add_and_is_still_accepted() -> None:
    frame = SALES.drop(columns=["sale_id", "at", "price"]).assign(weight=1.5)
    text = propose(frame, "sales")
    assert 'event_id = "event_id"  # no column is unique' in text
    assert "no column reads as ISO 8601 times: add one" in text
    parse(text, "proposed", {})


def test_without_an_id_and_with_times_that_repeat_the_id_is_a_hash_of_the_row_and_copies_are_counted() -> None:
    frame = SALES.drop(columns=["sale_id"])
    frame = pd.concat([frame, frame.head(2)], ignore_index=True)
    text = propose(frame, "sales")
    config = parse(text, "proposed", {})
    assert (config.fleet.event_id, config.fleet.fields) == ("event_id", {"event_id": "*"})
    assert f"2 of {ROWS + 2} rows equal an earlier one and count as its copies" in text


def test_a_column_called_event_id_that_repeats_is_read_as_the_id_and_no_hash_takes_its_place() -> None:
    frame = SALES.drop(columns=["sale_id"]).assign(event_id="same")
    fleet = parse(propose(frame, "sales"), "proposed", {}).fleet
    assert (fleet.event_id, dict(fleet.fields)) == ("event_id", {})


def test_an_id_that_a_row_of_totals_lacks_is_still_the_id() -> None:
    frame = pd.concat([SALES, pd.DataFrame([{"shop": "Total", "sold": 9.0}])], ignore_index=True)
    text = propose(frame, "sales")
    assert 'event_id = "sale_id"  # different in each row that has one; 1 row is rejected: no id' in text
    assert parse(text, "proposed", {}).fleet.features == ("price", "sunny")


def test_texts_of_dates_without_dashes_are_the_time_by_their_name_and_numbers_are_not() -> None:
    days = [f"202401{1 + row % 28:02}" for row in range(ROWS)]
    frame = SALES.drop(columns=["at"]).assign(date=days)
    assert parse(propose(frame, "sales", frozenset({"date"})), "proposed", {}).fleet.event_time == "date"
    other = frame.rename(columns={"date": "lot"})
    said = Choices(time="lot")
    assert parse(propose(other, "sales", frozenset({"lot"}), said), "proposed", {}).fleet.event_time == "lot"
    assert proposed(frame.assign(date=[int(day) for day in days])).fleet.event_time == "event_time"


def test_an_id_is_found_although_some_rows_are_there_twice_and_they_are_counted() -> None:
    text = propose(pd.concat([SALES, SALES.head(3)], ignore_index=True), "sales")
    said = f"different in each of {ROWS} rows; 3 of {ROWS + 3} rows equal an earlier one and count as its copies"
    assert f'event_id = "sale_id"  # {said}\n' in text
    assert parse(text, "proposed", {}).fleet.features == ("price", "sunny")


def test_words_for_no_value_among_the_numbers_of_a_typed_file_are_missing() -> None:
    prices = [row / 7 if row % 9 else "N/A" for row in range(ROWS)]
    fleet = proposed(SALES.assign(price=pd.Series(prices, dtype=object))).fleet
    assert (fleet.columns["price"], fleet.missing) == ("double", ("", "N/A"))
    assert proposed(SALES.assign(shop=SALES["shop"].replace("east", "NA"))).fleet.missing == ("",)


@pytest.mark.parametrize("word", ["\\N", "<NA>", "#N/A", "#DIV/0!", "NaT", ".", "..", "--"])
def test_words_that_programs_write_for_no_value_are_missing_among_numbers(word: str) -> None:
    frame = SALES.assign(price=[word, *(f"{row % 50}.5" for row in range(1, ROWS))])
    for texts in (frozenset[str](), frozenset({"price"})):
        fleet = parse(propose(frame, "sales", texts), "proposed", {}).fleet
        assert (fleet.columns["price"], fleet.missing) == ("double", ("", word))


def test_whole_numbers_that_pandas_stored_as_fractions_are_a_group_where_nothing_else_is() -> None:
    frame = SALES.drop(columns=["sunny"]).assign(shop=[1.0, 2.0, 3.0] * (ROWS // 3))
    fleet = proposed(frame).fleet
    assert (fleet.group, fleet.columns["shop"]) == (("shop",), "bigint")


def test_an_integer_is_a_group_where_no_text_is() -> None:
    assert proposed(SALES.assign(shop=[1, 2, 3] * (ROWS // 3))).fleet.group == ("shop",)


def test_dates_are_dates_and_not_times() -> None:
    frame = SALES.assign(day=["2024-01-31"] * ROWS, other=[date(2024, 1, 31)] * ROWS)
    columns = proposed(frame).fleet.columns
    assert (columns["day"], columns["other"]) == ("date", "date")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("topic", "topic_"), ("Shard", "Shard_"), ("a b", "a_b"), ("it's", "it_s"), ("event_id", "event_id_"),
        ("PRICE", "PRICE_2"), ("x.y", "x_y"), ("Größe (m²)", "grosse_m2"), ("()", "column"),
        ("_Spinney_x", "spinney_x"),
    ],
)  # fmt: skip
def test_a_column_whose_name_cannot_be_stored_gets_one_that_can(name: str, stored: str) -> None:
    frame = SALES.assign(**{name: [1.5] * (ROWS - 1) + [2.5]})[[*SALES.columns[:5], name, "sold"]]
    fleet = proposed(frame).fleet
    assert fleet.columns[stored] == "double"
    assert fleet.fields[stored] == name
    assert stored in fleet.features


@pytest.mark.parametrize(
    ("id_name", "time_name"), [("event_id", "event_time"), ("kafka_offset", "topic"), ("#", "label")]
)
def test_id_and_time_may_have_the_tables_own_names_for_them_and_no_other(id_name: str, time_name: str) -> None:
    frame = SALES.rename(columns={"sale_id": id_name, "at": time_name}).assign(observed_at=SALES["at"])
    text = propose(frame, "sales", choices=Choices(identity=id_name, time=time_name))
    fleet = parse(text, "proposed", {}).fleet
    assert fleet.fields.get(fleet.event_id, fleet.event_id) == id_name
    assert fleet.fields.get(fleet.event_time, fleet.event_time) == time_name
    assert '# left out: "observed_at", when a late label became known' in text


@pytest.mark.parametrize("name", ["Unnamed: 0", "__index_level_0__"])
def test_pandas_numbering_of_rows_is_no_feature_and_an_id_only_where_there_is_no_other(name: str) -> None:
    frame = SALES.assign(**{name: range(ROWS)})
    text = propose(frame, "sales")
    assert f'# left out: "{name}", pandas' in text
    assert parse(text, "proposed", {}).fleet.event_id == "sale_id"
    text = propose(frame.drop(columns="sale_id"), "sales")
    fleet = parse(text, "proposed", {}).fleet
    assert fleet.fields.get(fleet.event_id, fleet.event_id) == name
    assert "give later events ids of their own" in text


TEXTS = pd.DataFrame(
    {
        "id": [f"{row}" for row in range(ROWS)],
        "when": [f"2024-05-01 {row % 24:02}:00:00+02:00" for row in range(ROWS)],
        "store": ["007", "07", "8"] * (ROWS // 3),
        "floor": ["1", "-2", "3"] * (ROWS // 3),
        "open": ["True", "false"] * (ROWS // 2),
        "day": ["2024-05-01"] * ROWS,
        "price": ["1.50", "", "n/a", "2"] * (ROWS // 4),
        "code": ["1e5", "x"] * (ROWS // 2),
        "sold": [f"{row}" for row in range(ROWS)],
    }
)


def test_cells_of_text_have_the_type_that_all_of_them_have() -> None:
    text = propose(TEXTS, "sales", frozenset(TEXTS.columns))
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.group, fleet.event_id, fleet.event_time, fleet.target) == (("store",), "id", "when", "sold")
    assert fleet.columns == {
        "store": "string", "floor": "bigint", "open": "boolean", "day": "date", "price": "double", "code": "string",
        "sold": "bigint",
    }  # fmt: skip
    assert fleet.missing == ("", "n/a")


def test_a_word_that_is_somebodys_value_is_not_taken_for_nothing() -> None:
    frame = TEXTS.assign(store=["n/a", "x"] * (ROWS // 2))
    assert parse(propose(frame, "sales", frozenset(frame.columns)), "proposed", {}).fleet.missing == ("",)


def test_a_word_for_no_number_that_also_stands_in_features_of_text_is_said_with_their_names() -> None:
    frame = TEXTS.assign(code=["n/a", "x"] * (ROWS // 2))
    text = propose(frame, "sales", frozenset(frame.columns))
    assert 'missing = ["", "n/a"]  # texts that mean no value; in a CSV also in code' in text


def test_numbers_that_are_text_in_json_are_numbers_unless_all_are_whole() -> None:
    frame = SALES.assign(
        price=["12.50", "3", ""] * (ROWS // 3), code=["7", "8", "9"] * (ROWS // 3), n=[7, "8", None] * (ROWS // 3)
    )
    columns = proposed(frame).fleet.columns
    assert (columns["price"], columns["code"], columns["n"]) == ("double", "string", "bigint")


def whole_texts(**others: object) -> pd.DataFrame:
    """Rows as Debezium sends them: numbers are texts, and none has a fraction."""
    return pd.DataFrame(
        {
            "sale_id": [f"{10**6 + row}" for row in range(ROWS)],
            "at": [f"2024-01-01T{row % 24:02}:00:00" for row in range(ROWS)],
            "store": [["7", "8", "9"][row % 3] for row in range(ROWS)],
            "kind": ["007" if row % 2 else "12" for row in range(ROWS)],
            "zip": [f"{28400 + row % 60}" for row in range(ROWS)],
            "visits": [f"{row % 50}" if row else "" for row in range(ROWS)],
            "amount": [f"{28418 + row % 60}" for row in range(ROWS)],
            **others,
        },
        dtype=object,
    )


def test_texts_of_whole_numbers_are_amounts_or_names_by_their_use_their_name_and_their_number() -> None:
    text = propose(whole_texts(), "sales", choices=Choices(group=("store",)))
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.event_id, fleet.target, fleet.task) == ("sale_id", "amount", "regression")
    assert fleet.columns == {
        "store": "string", "kind": "string", "zip": "string", "visits": "double", "amount": "double",
    }  # fmt: skip
    said = "texts of whole numbers,"
    assert f'store = "string"  # {said} 3 different ones, taken for names as they are\n' in text
    assert 'kind = "string"\n' in text  # leading zeros
    assert f'visits = "double"  # missing in 1 of 120 rows; {said} 50 different ones, taken for numbers\n' in text
    assert f'amount = "double"  # {said} 60 different ones, taken for numbers\n' in text
    assert 'target = "amount"  # the last texts of numbers: is it what you want predicted?\n' in text


@pytest.mark.parametrize(
    ("others", "choices", "kind", "task"),
    [
        ({}, Choices(target="zip"), "double", "regression"),
        ({"label": ["1", "2", "3"] * (ROWS // 3)}, Choices(), "double", "regression"),
        ({"label": ["0", "1"] * (ROWS // 2)}, Choices(), "bigint", "classification"),
        ({"class": ["1", "2", "3"] * (ROWS // 3)}, Choices(), "string", "classification"),
        ({"class": [f"{row % 60}" for row in range(ROWS)]}, Choices(), "double", "regression"),
        ({"label": ["01", "2", "3"] * (ROWS // 3)}, Choices(), "string", "classification"),
    ],
)
def test_a_target_of_texts_of_whole_numbers_is_a_number_unless_its_name_says_classes(
    others: dict[str, object], choices: Choices, kind: str, task: str
) -> None:
    fleet = parse(propose(whole_texts(**others), "sales", choices=choices), "proposed", {}).fleet
    assert (fleet.columns[fleet.target], fleet.task) == (kind, task)
    assert fleet.columns[fleet.group[0]] == "string"


def test_a_time_may_be_a_text_of_its_number() -> None:
    times = [f"{1_714_564_800_000 + 3_600_000 * row}" for row in range(ROWS)]
    frame = whole_texts(ts=times).drop(columns="at")
    text = propose(frame, "sales")
    assert parse(text, "proposed", {}).fleet.event_time == "ts"
    assert 'ts = "timestamp(ms)"\n' in text


def test_of_values_that_no_type_takes_together_those_of_most_rows_decide() -> None:
    frame = SALES.assign(price=[1.5] * (ROWS - 1) + [True], sunny=[True, "true"] * (ROWS // 2))
    columns = proposed(frame).fleet.columns
    assert (columns["price"], columns["sunny"]) == ("double", "boolean")


def test_a_few_values_that_no_column_takes_decide_about_nothing() -> None:
    odd = [[1], {"a": 1}, b"\xff"]
    frame = SALES.assign(
        shop=["north", "south", "east"] * (ROWS // 3 - 1) + odd,
        price=[*SALES["price"][3:], *odd],
        sunny=[1, True, 0, "false"] * (ROWS // 4),
        sold=[*SALES["sold"][1:], "much"],
    ).astype({"sunny": object, "price": object, "sold": object})
    fleet = parse(propose(frame, "sales", choices=Choices(group=("shop",))), "proposed", {}).fleet
    assert dict(fleet.columns) == {"price": "double", "sunny": "boolean", "sold": "double", "shop": "string"}


def test_times_among_numbers_since_1970_are_only_rows_that_are_rejected() -> None:
    at = ["2024-05-01T12:00:00Z", *(1_714_521_600_000.5 + row for row in range(1, ROWS))]
    frame = SALES.drop(columns="at").assign(at=pd.Series(at, dtype=object))
    assert proposed(frame).fleet.columns["at"].declared == "timestamp(ms)"


def test_what_json_cannot_say_is_left_out() -> None:
    frame = SALES.assign(took=pd.Timedelta(1, "h"), raw=b"x", boxes=[[1]] * ROWS)
    text = propose(frame, "sales")
    assert [f'# left out: "{name}", no plain value' in text for name in ("took", "raw", "boxes")] == [True] * 3


def test_a_group_is_typically_large_enough_and_not_only_on_average() -> None:
    remarks = [f"remark {row}" if row < 5 else "NA" for row in range(ROWS)]
    assert proposed(SALES.assign(remark=remarks)).fleet.group == ("shop",)


def test_a_number_that_never_changes_is_not_what_is_predicted() -> None:
    assert proposed(SALES.assign(version=1)).fleet.target == "sold"


def test_time_alone_is_a_feature_where_there_is_no_other() -> None:
    assert proposed(SALES[["sale_id", "at", "shop", "sold"]]).fleet.features == ("at",)


def test_rows_whose_time_is_rejected_are_counted_beside_the_column() -> None:
    frame = SALES.assign(at=["1969-12-31T00:00:00Z", "soon", *SALES["at"][2:]])
    text = propose(frame, "sales", choices=Choices(time="at"))
    said = "as you said; 1 row is rejected: no ISO 8601 time; 1 row is rejected: before 1970"
    assert said in text
    assert "a time by its name; 1 row is rejected" in propose(frame, "sales")
    frame = SALES.assign(at=["soon", "later", *SALES["at"][2:]])
    assert "a time by its name; 2 rows are rejected" in propose(frame, "sales")


@pytest.mark.parametrize(("size", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us")])
def test_numbers_since_1970_are_times_where_their_name_says_so(size: int, unit: str) -> None:
    frame = SALES.drop(columns="at").assign(timestamp=[(1_714_521_600 + row) * size for row in range(ROWS)])
    fleet = proposed(frame).fleet
    assert fleet.event_time == "timestamp"
    assert fleet.columns["timestamp"].declared == f"timestamp({unit})"


def test_a_time_that_64_bits_do_not_hold_is_only_a_row_that_is_rejected() -> None:
    at = [10**25, *(1_714_521_600_000 + row for row in range(1, ROWS))]
    frame = SALES.drop(columns="at").assign(at=pd.Series(at, dtype=object))
    assert proposed(frame).fleet.columns["at"].declared == "timestamp(ms)"


def test_dates_are_the_time_where_there_is_no_other() -> None:
    fleet = proposed(SALES.assign(at=[f"2024-01-{row % 28 + 1:02}" for row in range(ROWS)])).fleet
    assert fleet.event_time == "at"


def test_amounts_that_are_all_different_by_chance_are_no_ids_but_features() -> None:
    people = [int(10 ** (3 + row * 37 % ROWS / 20)) + row for row in range(ROWS)]
    assert len({*people}) == ROWS
    fleet = proposed(SALES.drop(columns=["sale_id", "sold"]).assign(people=people, sold=SALES["sold"])).fleet
    assert (fleet.event_id, "people" in fleet.features) == ("event_id", True)


RANDOM_IDS = [row * 0x9E3779B97F4A7C15 % 2**63 + 1 if row else 5 for row in range(ROWS)]


@pytest.mark.parametrize("name", ["order_number", "orderNo", "phone", "id"])
def test_random_whole_numbers_under_the_name_of_an_id_are_the_id_and_no_feature(name: str) -> None:
    fleet = proposed(SALES.drop(columns=["sale_id"]).assign(**{name: RANDOM_IDS})).fleet
    assert (fleet.event_id, name in fleet.features, fleet.target) == (name, False, "sold")
    both = proposed(SALES.assign(**{name: RANDOM_IDS})).fleet
    assert name not in (*both.features, both.target)


def test_random_whole_numbers_under_another_name_are_said_to_be_unique_but_like_amounts() -> None:
    frame = SALES.drop(columns=["sale_id", "sold"]).assign(ticket=RANDOM_IDS, sold=SALES["sold"])
    text = propose(frame, "sales")
    said = "only columns like amounts are unique: ticket; or name one of these with --id"
    assert f'event_id = "event_id"  # a hash of each row\'s values, since {said}\n' in text
    assert 'ticket = "bigint"  # different in each row, but looks like amounts: or is it an id?\n' in text


@pytest.mark.parametrize(
    "numbers",
    [
        [row + 1 for row in range(ROWS)],
        [10**row // 10 + row for row in range(18)],
        [10**9 + row * 7919 % 10**6 for row in range(ROWS)],
    ],
    ids=["numbering", "in order", "of one magnitude"],
)
def test_whole_numbers_that_are_all_different_are_ids(numbers: list[int]) -> None:
    frame = SALES.drop(columns=["sale_id", "sold"]).head(len(numbers))
    fleet = proposed(frame.assign(bill=numbers, sold=SALES["sold"])).fleet
    assert (fleet.event_id, "bill" in fleet.features) == ("bill", False)


@pytest.mark.parametrize(("name", "said"), [("sold_date", None), ("orderDate", None), ("day_no", "day_no")])
def test_days_since_1970_are_the_time_under_the_name_of_a_date_or_where_a_person_says_so(
    name: str, said: str | None
) -> None:
    frame = SALES.drop(columns="at").assign(**{name: [19_000 + row % 24 for row in range(ROWS)]})
    text = propose(frame, "sales", choices=Choices(time=said))
    assert "a number of days since 1970" in text
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.event_time, fleet.columns[fleet.event_time].declared) == (name, "timestamp(d)")


@pytest.mark.parametrize(("name", "first"), [("day_no", 19_000), ("sold_date", 45_400)], ids=["no name", "spreadsheet"])
def test_numbers_that_may_be_days_of_another_kind_are_no_time(name: str, first: int) -> None:
    frame = SALES.drop(columns="at").assign(**{name: [first + row % 24 for row in range(ROWS)]})
    assert "no column reads as ISO 8601 times" in propose(frame, "sales")


@pytest.mark.parametrize("said", [None, "year"])
def test_years_are_the_time_where_there_is_no_other_and_those_before_1970_are_counted(said: str | None) -> None:
    frame = SALES.drop(columns="at").assign(year=[1966 + row % 24 for row in range(ROWS)])
    text = propose(frame, "sales", choices=Choices(time=said))
    assert "each is taken as its beginning; 20 rows are rejected: before 1970" in text
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.event_time, fleet.columns["year"].declared) == ("year", "timestamp(year)")


def test_years_that_are_mostly_before_1970_are_no_time_and_it_says_why() -> None:
    frame = SALES.drop(columns="at").assign(year=[1932 + row % 52 for row in range(ROWS)])
    said = "'year' has years, most of them before 1970, where events are rejected"
    assert f"no column reads as ISO 8601 times: add one; {said}" in propose(frame, "sales")
    with pytest.raises(ContractError, match=f"year has values like '1932'; {said}"):
        propose(frame, "sales", choices=Choices(time="year"))


def test_a_panel_of_years_has_the_year_as_time_and_id_and_a_window_of_years() -> None:
    frame = pd.DataFrame({"country": ["a", "b", "c"] * 30, "year": [1990 + row // 3 for row in range(90)]})
    frame["gdp"] = [row * row / 7 for row in range(90)]
    text = propose(frame, "panel")
    fleet = parse(text, "proposed", {}).fleet
    assert (fleet.group, fleet.event_time, fleet.fields) == (("country",), "year", {"event_id": "year"})
    assert parse(text, "proposed", {}).recipe.window == timedelta(days=50 * 365)  # 30 rows, one a year: all of them


def test_what_is_nearly_a_time_is_shown() -> None:
    text = propose(SALES.drop(columns="at").assign(date=["31.01.2024"] * ROWS), "sales")
    assert (
        "no column reads as ISO 8601 times: add one; 'date' has values like '31.01.2024', which is no such time" in text
    )


def test_what_a_person_says_goes_before_every_guess() -> None:
    frame = SALES.assign(region=["x", "y"] * (ROWS // 2), seen=SALES["at"], number=range(ROWS))
    said = Choices(group=("shop", "region"), target="price", identity="number", time="seen")
    fleet = parse(propose(frame, "sales", choices=said), "proposed", {}).fleet
    assert (fleet.group, fleet.target, fleet.event_id, fleet.event_time) == (
        ("shop", "region"),
        "price",
        "number",
        "seen",
    )
    assert "at" in fleet.features


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Choices(group=("shp",)), "--group: expected a column of the data; got 'shp'. Did you mean `shop`"),
        (Choices(group=("price",)), "--group: expected a column of string, .*; got price of type double"),
        (Choices(time="shop"), "--time: expected ISO 8601 times, .*; shop has values like 'north'"),
        (Choices(target="nothing"), "--target: expected a column of the data"),
        (Choices(identity="nothing"), "--id: expected a column of the data"),
        (Choices(identity="sale_id", target="sale_id"), "--id: expected another column than --target; got 'sale_id'"),
        (Choices(("shop",), identity="shop"), "--id: expected another column than --group; got 'shop'"),
        (Choices(("shop", "shop")), "--group: expected another column than --group; got 'shop'"),
        (Choices(target="at", time="at"), "--time: expected another column than --target; got 'at'"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(said: Choices, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        propose(SALES, "sales", choices=said)


def test_a_group_of_floats_with_gaps_is_one_of_integers() -> None:
    frame = SALES.assign(store=[3.0, 7.0, None] * (ROWS // 3))
    assert parse(propose(frame, "s", choices=Choices(group=("store",))), "p", {}).fleet.columns["store"] == "bigint"


def test_an_id_may_be_unique_in_its_group_only() -> None:
    frame = SALES.assign(sale_id=[row // 3 for row in range(ROWS)])
    text = propose(frame, "sales")
    assert 'event_id = "sale_id"  # different in each row of a group' in text


def every(days_between: int, rows: int) -> pd.DataFrame:
    """Rows of three shops, sorted by time: each has one every so many days."""
    days = [day for day in range(rows) for _ in range(3)]
    at = [START + timedelta(days=days_between * day) for day in days]
    return pd.DataFrame({"id": range(3 * rows), "at": at, "shop": ["a", "b", "c"] * rows, "price": 1.5, "sold": 2.5})


@pytest.mark.parametrize(
    ("days_between", "rows", "window", "min_rows"),
    [
        # 300 rows of a typical group, by the shortest window that has them.
        (1, 500, "365d", 20),
        (2, 500, "730d", 20),
        (7, 500, "3650d", 20),
        (30, 500, "18250d", 20),
        # Fewer than 300 rows: the shortest window that has all.
        (1, 200, "365d", 20),
        (30, 200, "7300d", 20),
        (91, 200, "18250d", 20),
        (1, 40, "90d", 20),
        (7, 40, "365d", 20),
        (30, 40, "1825d", 20),
        # Fewer than a model needs.
        (1, 12, "90d", 6),
        (30, 12, "365d", 6),
    ],
)
def test_the_window_holds_enough_rows_of_a_typical_group(
    days_between: int, rows: int, window: str, min_rows: int
) -> None:
    recipe = proposed(every(days_between, rows)).recipe
    assert (recipe.window, recipe.min_rows) == (durations.parse(window), min_rows)


@pytest.mark.parametrize(
    ("days_between", "rows", "window"),
    [
        (1, 14, "365d"),  # 14 rows in 13 days: 96 in the default, 193 in half a year, 393 in one
        (7, 14, "3650d"),  # 14 rows in 91 days: 280 in five years, 561 in ten
        (30, 2, "7300d"),  # 2 rows in 30 days: 243 in ten years, 486 in twenty
    ],
)
def test_the_window_of_data_of_which_only_the_beginning_was_read_goes_by_the_rate_of_its_rows(
    days_between: int, rows: int, window: str
) -> None:
    frame = every(days_between, rows)
    recipe = parse(propose(frame, "shops", is_beginning=True, choices=Choices(group=("shop",))), "p", {}).recipe
    assert (recipe.window, recipe.min_rows) == (durations.parse(window), 20)


def test_rows_that_were_cut_off_are_of_other_groups_if_the_data_is_sorted_by_group() -> None:
    frame = every(1, 12).sort_values(["shop", "at"], ignore_index=True)
    recipe = parse(propose(frame, "shops", is_beginning=True, choices=Choices(group=("shop",))), "p", {}).recipe
    assert (recipe.window, recipe.min_rows) == (timedelta(days=90), 6)


def test_rows_that_are_rejected_for_their_time_count_in_no_window() -> None:
    frame = pd.DataFrame({"shop": [f"s{row % 10}" for row in range(ROWS)], "x": [1.5] * ROWS})
    frame["sold"] = frame.index / 7
    frame["at"] = [f"{1962 + row // 10}-01-01" for row in range(ROWS)]
    assert "a typical group has 4 rows here" in propose(frame, "s")


def test_a_label_of_nothing_but_0_and_1_is_classified() -> None:
    assert proposed(SALES.assign(label=[0, 1] * (ROWS // 2))).fleet.task == "classification"


def test_a_column_without_any_value_is_left_out() -> None:
    text = propose(SALES.assign(empty=[None] * ROWS), "sales")
    assert '# left out: "empty", no value in any row' in text


@pytest.mark.parametrize(
    "frame",
    [SALES.head(0), SALES[["sale_id", "at", "price", "sold"]], SALES[["shop"]], SALES[["shop", "sold"]]],
    ids=["no rows", "no group", "no target", "no feature"],
)
def test_data_that_cannot_make_a_fleet_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ContractError, match="init --from: expected"):
        propose(frame, "sales")


@examples(60)
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


_MIXED = (
    *(0, 1, 3.5, -1, 2**63, 10**399, float("inf"), float("nan"), "1", " 2.5", "007", True, "true", None, pd.NA, pd.NaT),
    *("a", "NA", "", "\ud83d", "2024-05-01", "2013", "soon", date(2024, 5, 1), datetime(9999, 12, 31, tzinfo=UTC)),
    *([1], {"a": 1}, b"\xff", timedelta(1), np.int64(3)),
)


@examples(60)
@given(
    st.dictionaries(
        st.sampled_from(["store", "at", "id", "x", "event_time", "event_id", "year", "y", "*", "a.b"]),
        st.lists(st.sampled_from(_MIXED), min_size=12, max_size=12),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, "at", "year", "x"]),
)
def test_whatever_values_are_mixed_the_proposal_is_accepted_or_refused_with_words(
    columns: dict[str, list[object]], time: str | None
) -> None:
    usual = {"shop": ["n", "s"] * 6, "sale": [f"s{row}" for row in range(12)]}
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in (columns | usual).items()})
    try:
        text = propose(frame, "mixed", choices=Choices(group=("shop",), time=time))
    except ContractError:
        return
    parse(text, "proposed", {})


def test_integers_that_64_bits_with_a_sign_do_not_hold_are_texts_and_may_be_the_id() -> None:
    hashes = pd.Series([2**64 - 1 - row * 10**15 for row in range(ROWS)], dtype="uint64")
    config = proposed(SALES.assign(sale_id=hashes, visitors=pd.Series(range(ROWS), dtype="uint64") % 7))
    assert config.fleet.event_id == "sale_id"
    assert config.fleet.columns["visitors"] == "bigint"
    shops = proposed(SALES.assign(shop=hashes % 3 + (2**64 - 9)))
    assert (shops.fleet.group, shops.fleet.columns["shop"]) == (("shop",), "string")


@pytest.mark.parametrize("name", ["*", "\ud83d"])
def test_a_name_that_no_field_can_have_is_left_out_and_said(name: str) -> None:
    text = propose(SALES.rename(columns={"price": name}), "sales")
    assert parse(text, "proposed", {}).fleet.features == ("sunny",)
    assert f'# left out: "{name if name.isprintable() else "?"}", a name that cannot be used here' in text
    assert text.encode()


def test_a_time_that_is_also_the_id_may_be_called_like_the_id() -> None:
    frame = SALES.drop(columns=["sale_id", "at"]).assign(
        event_id=[(START + timedelta(hours=row)).isoformat() for row in range(ROWS)]
    )
    fleet = proposed(frame).fleet
    assert fleet.event_time != "event_id"
    assert (fleet.fields[fleet.event_time], fleet.fields[fleet.event_id]) == ("event_id", "event_id")


def test_bytes_beside_rows_without_an_id_are_left_out() -> None:
    frame = SALES.drop(columns="sale_id").assign(at="2024-01-01T00:00:00", photo=[b"\xff", b"\x00"] * (ROWS // 2))
    text = propose(pd.concat([frame, frame[:3]], ignore_index=True), "sales")
    assert parse(text, "proposed", {}).fleet.fields == {"event_id": "*"}
    assert '# left out: "photo", no plain value' in text
    assert "3 of 123 rows equal an earlier one" in text


def test_integers_of_any_length_are_numbers_beside_negative_ones_and_texts() -> None:
    at = [2**63, -1, "007", 10**400, *(1_714_521_600_000 + row for row in range(4, ROWS))]
    frame = SALES.drop(columns="at").assign(ts=pd.Series(at, dtype=object))
    assert proposed(frame).fleet.columns["ts"].declared == "timestamp(ms)"
