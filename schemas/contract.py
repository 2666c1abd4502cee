"""Contracts: the columns of a table or message.

Spark schemas, validation, docs/tables.md and tests are derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    type: a Spark SQL type as DDL writes it (``"string"``, ``"bigint"``, ``"array<double>"``). doc: its meaning. unit:
    of a number; None if it has none.
    """

    name: str
    type: str
    doc: str
    unit: str | None = None
    nullable: bool = True

    @property
    def ddl(self) -> str:
        """The column in a schema of Spark SQL DDL."""
        null = "" if self.nullable else " NOT NULL"
        return f"`{self.name}` {self.type}{null}"


@dataclass(frozen=True)
class Contract:
    """The columns of one table or message, in order.

    doc: the meaning of a row. partitioned_by: names of columns. directories: names of the directories below
    ``tables/<name>/`` whose union is the table, with one writing process each; empty if the table is one directory.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    partitioned_by: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def ddl(self) -> str:
        """The schema as Spark SQL DDL. Every column is nullable: Delta stores it so on append."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column of this name. Raises KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        msg = f"contract {self.name} has no column {name!r}; it has {', '.join(self.names)}"
        raise KeyError(msg)

    def with_columns(self, *extra: Column, after: str) -> Contract:
        """Return this contract with more columns after the column named `after`.

        Raises:
            KeyError: there is no column of that name.
        """
        at = self.columns.index(self.column(after)) + 1
        columns = self.columns[:at] + extra + self.columns[at:]
        return Contract(self.name, self.doc, columns, self.partitioned_by, self.directories)
