from __future__ import annotations

import pytest

from schemas.contract import Column, Contract

THINGS = Contract(
    "things",
    "One row per thing.",
    (Column("id", "string", "its name", nullable=False), Column("size", "array<double>", "how big", unit="m")),
    partitioned_by=("id",),
    directories=("here", "there"),
)


def test_a_column_says_its_ddl_quoted_and_whether_it_may_be_null() -> None:
    assert [column.ddl for column in THINGS.columns] == ["`id` string NOT NULL", "`size` array<double>"]


def test_a_contracts_ddl_leaves_every_column_nullable() -> None:
    assert THINGS.ddl == "`id` string, `size` array<double>"


def test_a_column_is_found_by_its_name() -> None:
    assert THINGS.column("size").unit == "m"
    assert THINGS.names == ("id", "size")


@pytest.mark.parametrize("ask", [THINGS.column, lambda name: THINGS.with_columns(after=name)])
def test_a_column_that_is_not_there_is_refused_with_those_that_are(ask) -> None:
    with pytest.raises(KeyError, match="contract things has no column 'colour'; it has id, size"):
        ask("colour")


def test_a_fleets_own_columns_are_put_in_where_they_belong() -> None:
    extra = Column("colour", "string", "declared"), Column("price", "double", "declared")
    wider = THINGS.with_columns(*extra, after="id")
    assert wider.names == ("id", "colour", "price", "size")
    assert (wider.name, wider.doc) == (THINGS.name, THINGS.doc)
    assert (wider.partitioned_by, wider.directories) == (THINGS.partitioned_by, THINGS.directories)
    assert THINGS.names == ("id", "size"), "a contract is never changed"
