"""Which changes of columns there are, which are possible, and what they leave behind."""

from __future__ import annotations

import pandas as pd
import pytest

from spinney.core.errors import StoreError
from spinney.core.migration import (
    ColumnChange,
    ColumnChangeKind,
    FormerColumn,
    Migration,
    add_former_columns,
    column_changes,
    former_columns,
    is_widening,
    likely_renames,
    retired_columns,
    settings_before,
)
from spinney.core.records.rules import ValidationSettings

BEFORE = {"shop": "string", "x": "int", "y": "double"}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("tinyint", "smallint"),
        ("tinyint", "bigint"),
        ("int", "bigint"),
        ("int", "double"),
        ("bigint", "double"),
        ("float", "double"),
        ("decimal(5,2)", "decimal(7,2)"),
        ("decimal(5,2)", "decimal(7,4)"),
    ],
)
def test_a_wider_type_holds_each_value_and_the_narrower_one_does_not(before: str, now: str) -> None:
    assert is_widening(before, now)
    assert not is_widening(now, before)
    assert not is_widening(before, before)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("int", "float"),
        ("int", "string"),
        ("decimal(5,2)", "decimal(6,4)"),
        ("decimal(5,2)", "double"),
        ("date", "timestamp"),
    ],
)
def test_a_type_that_loses_or_changes_values_is_not_wider(before: str, now: str) -> None:
    assert not is_widening(before, now)


def test_each_kind_of_change_is_found_in_the_order_of_the_configuration() -> None:
    now = {"rate": "float", "size": "bigint", "shop": "string"}
    assert column_changes(BEFORE, now, {"x": "size"}, {}, {}) == [
        ColumnChange(ColumnChangeKind.ADDED, "rate", None, "float"),
        ColumnChange(ColumnChangeKind.RENAMED, "size", "int", "bigint", "x"),
        ColumnChange(ColumnChangeKind.DROPPED, "y", "double", None),
    ]
    assert column_changes(BEFORE, {**BEFORE, "x": "double"}, {}, {}, {}) == [
        ColumnChange(ColumnChangeKind.WIDENED, "x", "int", "double")
    ]
    assert column_changes(BEFORE, dict(reversed(BEFORE.items())), {}, {}, {}) == []


def test_a_column_that_may_have_got_another_name_is_pointed_out() -> None:
    found = column_changes(BEFORE, {"shop": "string", "x": "int", "z": "double"}, {}, {}, {})
    assert list(likely_renames(found)) == [("y", "z")]


@pytest.mark.parametrize(
    ("now", "renames", "says"),
    [
        ({"z": "int"}, {"w": "z"}, "--rename w=z: expected a column that the fleet has; it has shop, x, y"),
        ({**BEFORE, "z": "int"}, {"x": "z"}, "expected x to be gone"),
        ({"shop": "string"}, {"x": "z"}, r"expected z in \[fleet.columns\]"),
        ({"shop": "string", "y": "double"}, {"x": "y"}, "the fleet has y already"),
        ({"z": "double"}, {"x": "z", "y": "z"}, "one name twice"),
        ({"z": "string"}, {"x": "z"}, "fleet.columns.z: was int and is string now"),
        ({**BEFORE, "old": "int"}, {}, "a column of this name was renamed to y"),
        ({**BEFORE, "gone": "string"}, {}, "fleet.columns.gone: was int and is string now"),
        ({"shop": "string", "gone": "int"}, {"x": "gone"}, "the table events still has a column of this name"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(now: dict[str, str], renames: dict[str, str], says: str) -> None:
    with pytest.raises(StoreError, match=says):
        column_changes(
            BEFORE,
            now,
            renames,
            {"old": FormerColumn("y", "double"), "gone": FormerColumn(None, "int")},
            {"gone": "int"},
        )


@pytest.mark.parametrize(
    ("now", "renames", "there"),
    [
        ({**BEFORE, "GONE": "int"}, {}, "gone"),
        ({**BEFORE, "Old": "double"}, {}, "old"),
        ({"shop": "string", "y": "double", "X": "int"}, {}, "x"),
        ({"shop": "string", "y": "double", "X": "int"}, {"x": "X"}, "x"),
        ({"shop": "string", "y": "double", "Gone": "int"}, {"x": "Gone"}, "gone"),
    ],
)
def test_a_name_that_differs_in_case_alone_from_an_earlier_one_is_refused(
    now: dict[str, str], renames: dict[str, str], there: str
) -> None:
    with pytest.raises(StoreError, match=rf"differs in more than case.*; it had {there}, .*Call it {there}, or"):
        column_changes(
            BEFORE,
            now,
            renames,
            {"old": FormerColumn("y", "double"), "gone": FormerColumn(None, "int")},
            {"gone": "int"},
        )


def migration(before: dict[str, str], after: dict[str, str], **renamed: str) -> Migration:
    return Migration("m", "2024-05-01T00:00:00+00:00", before, after, renamed)


def test_a_migration_is_read_back_from_what_it_wrote() -> None:
    made = migration({"x": "int"}, {"y": "int"}, x="y")
    assert Migration.from_data(made.as_data()) == made


def test_what_became_of_a_column_is_reported_across_migrations() -> None:
    one = migration({"x": "int", "y": "int"}, {"size": "int", "y": "int"}, x="size")
    two = migration({"size": "int", "y": "int"}, {"area": "bigint"}, size="area")
    assert former_columns([one]) == {"x": FormerColumn("size", "int")}
    assert former_columns([one, two]) == {
        "x": FormerColumn("area", "int"), "size": FormerColumn("area", "int"), "y": FormerColumn(None, "int"),
    }  # fmt: skip
    assert retired_columns([one, two]) == {"y": "int"}
    back = migration({"area": "bigint"}, {"x": "bigint", "y": "int"}, area="x")
    assert former_columns([one, two, back]) == {"size": FormerColumn("x", "int"), "area": FormerColumn("x", "bigint")}
    assert retired_columns([one, two, back]) == {}
    gone = migration({"area": "bigint"}, {})
    assert former_columns([one, two, gone])["x"] == FormerColumn(None, "int")


def test_models_of_before_a_rename_get_a_dropped_column_again_that_is_declared_again() -> None:
    renamed = migration({"sqft": "int"}, {"area": "int"}, sqft="area")
    dropped, again = migration({"area": "int"}, {}), migration({}, {"area": "bigint"})
    assert former_columns([renamed, dropped]) == {"sqft": FormerColumn(None, "int"), "area": FormerColumn(None, "int")}
    former = former_columns([renamed, dropped, again])
    assert former == {"sqft": FormerColumn("area", "int")}
    assert add_former_columns(pd.DataFrame({"area": [50]}), former)["sqft"].tolist() == [50]
    other = migration({}, {"rooms": "int"})
    assert former_columns([renamed, dropped, other])["sqft"] == FormerColumn(None, "int")
    moved = migration({"area": "bigint"}, {"size": "bigint"}, area="size")
    assert former_columns([renamed, dropped, again, moved])["sqft"] == FormerColumn("size", "int")
    assert former_columns([renamed, dropped, again, dropped, again])["sqft"] == FormerColumn("area", "int")


def test_a_model_of_before_gets_its_columns_by_their_old_names() -> None:
    rows = pd.DataFrame({"size": [1, 2], "z": [3, 4]})
    former = {"x": FormerColumn("size", "int"), "y": FormerColumn(None, "double"), "z": FormerColumn("size", "int")}
    found = add_former_columns(rows, former)
    assert found["x"].tolist() == [1, 2]
    assert found["y"].isna().all()
    assert found["z"].tolist() == [3, 4]
    assert list(rows) == ["size", "z"]
    assert add_former_columns(rows, {}) is rows


def test_rules_of_before_are_reported_of_the_columns_of_after() -> None:
    basis = ValidationSettings(ranges={"x": (0, 9), "y": (0, 1)}, sources={"y": "a.y"}, units={"t": "ms"})
    before = {"x": "int", "y": "double", "t": "timestamp"}
    after = {"size": "bigint", "when": "timestamp", "new": "int"}
    found = settings_before(basis, migration(before, after, x="size", t="when"))
    assert found == ValidationSettings(
        ranges={"size": (0, 9), "y": (0, 1)},
        sources={"size": "x", "when": "t", "y": "a.y"},
        units={"when": "ms"},
        undeclared=("new",),
        types={"size": "int"},
        dropped={"y": "double"},
    )
    # What is declared again was validated then, and what is dropped now was not there then.
    again = migration({"size": "bigint", "new": "int"}, {"size": "double", "y": "double"})
    later = settings_before(found, again)
    assert (later.undeclared, later.types, later.dropped) == ((), {"size": "int"}, {})
    assert later.sources == found.sources
