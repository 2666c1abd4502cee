"""The page `docs/tables.md`, derived from the contracts; ``python -m schemas.reference`` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from schemas import tables, vocabulary
from schemas.contract import Contract
from schemas.messages import (
    EVENT,
    MAX_FUTURE_SECONDS,
    MAX_ID_CHARACTERS,
    MAX_RECORD_BYTES,
    OUTCOME,
    PREDICTION,
)

_BEFORE = f"""\
# Tables and messages

This page is derived from `schemas/` by `python -m schemas.reference`; a test compares them.

Tables are Delta, reader version 1, below `<storage.root>/tables/`: deltalake, DuckDB and Polars read them without
Spark. A table with several directories is their union; each directory has one writing process. Delta stores every
column as nullable; "never null" is what the writers promise.

Messages are JSON objects in UTF-8, keyed by `group_key`. Fields that no contract names are ignored. A record over
{MAX_RECORD_BYTES:,} bytes, an id over {MAX_ID_CHARACTERS} characters or an event time more than
{MAX_FUTURE_SECONDS:,} s after the record's own Kafka timestamp is a dead letter.
"""

_LISTS = (
    vocabulary.DeadLetterReason,
    vocabulary.AnsweredBy,
    vocabulary.Staleness,
    vocabulary.ModelStatus,
    vocabulary.Decision,
    vocabulary.RoundKind,
)


def reference() -> str:
    """Return the page: every table, every message and every closed list."""
    lines = [_BEFORE]
    for contract in tables.ALL:
        lines += _section(f"`{contract.name}`", contract)
    for contract in (EVENT, OUTCOME, PREDICTION):
        lines += _section(f"Message: {contract.name}", contract)
    lines += ["## Closed lists", ""]
    for values in _LISTS:
        lines.append(f"- **{values.__name__}**: {', '.join(f'`{value}`' for value in values)}")
    return "\n".join(lines) + "\n"


def _section(title: str, contract: Contract) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield contract.doc
    if contract.directories:
        yield f"Directories: {', '.join(f'`{contract.name}/{part}`' for part in contract.directories)}."
    if contract.partitioned_by:
        yield f"Partitioned by {', '.join(f'`{name}`' for name in contract.partitioned_by)}."
    yield ""
    yield "| column | type | null | meaning |"
    yield "|---|---|---|---|"
    for column in contract.columns:
        unit = f" [{column.unit}]" if column.unit else ""
        null = "" if column.nullable else "never"
        yield f"| `{column.name}` | {column.type} | {null} | {column.doc.replace('|', chr(92) + '|')}{unit} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(reference())
