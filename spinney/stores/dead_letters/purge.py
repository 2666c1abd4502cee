"""Forgetting dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.vocabulary import QueryName
from spinney.core import moments
from spinney.core.config import Config
from spinney.stores import leases
from spinney.stores.dead_letters.letters import IDENTITY, Choice, Letters


def purge(config: Config, choice: Choice) -> int:
    """Forget the chosen dead letters; return how many.

    Their files are removed by `spinney tidy`, a week later. Raises Busy while another process writes dead letters.
    """
    with leases.held(config, [QueryName.INGEST]):
        letters = Letters.opened(config, choice)
        rows = count(letters)
        if rows:
            letters.table.delete(" AND ".join(_conditions(choice)) or None)
    return rows


def count(letters: Letters) -> int:
    """How many dead letters are chosen."""
    return sum(rows.num_rows for rows in letters.batches(IDENTITY[:1]))


def _conditions(choice: Choice) -> Iterator[str]:
    """The choice as SQL."""
    if choice.reasons:
        yield f"reason IN ({_texts(choice.reasons)})"
    if choice.fields:
        yield f"field IN ({_texts(choice.fields)})"
    for sign, at in ((">=", choice.since), ("<", choice.before)):
        if at is not None:
            kind = """'Timestamp(Microsecond, Some("UTC"))'"""
            yield f"ingested_at {sign} arrow_cast({moments.microseconds(at)}, {kind})"


def _texts(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
