"""A contract: the columns of one table or message, said once.

The Spark schema, the validation, the page in the docs and the tests are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    type: a Spark SQL type as DDL writes it (``"string"``, ``"bigint"``, ``"array<double>"``).
    unit: what a number counts or measures; None where the type says it all.
    """

    name: str
    type: str
    doc: str
    unit: str | None = None
    nullable: bool = True

    @property
    def ddl(self) -> str:
        null = "" if self.nullable else " NOT NULL"
        return f"`{self.name}` {self.type}{null}"


@dataclass(frozen=True)
class Contract:
    """The columns of one table or message, in order.

    directories: below ``tables/<name>/``, the directories whose union is the table. One writing
    process each; empty where the table is its own single directory.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    partitioned_by: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def ddl(self) -> str:
        """The schema as Spark SQL DDL. Every column is nullable: Delta stores it so on append."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    def column(self, name: str) -> Column:
        """Raises KeyError when there is none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        msg = f"contract {self.name} has no column {name!r}; it has {', '.join(self.names)}"
        raise KeyError(msg)

    def with_columns(self, *extra: Column, after: str) -> Contract:
        """This contract with a fleet's own columns put in after the column named `after`.

        Raises KeyError when there is none of that name.
        """
        at = self.columns.index(self.column(after)) + 1
        columns = self.columns[:at] + extra + self.columns[at:]
        return Contract(self.name, self.doc, columns, self.partitioned_by, self.directories)
