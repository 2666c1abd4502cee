"""Which queries read each directory as a stream."""

from __future__ import annotations

from schemas.vocabulary import QueryName
from spinney.core.champions.promotion import PEOPLE
from spinney.storage.layout import Directory

_QUERIES_OF_TABLE = {
    "predictions": (QueryName.LABELS,),
    "outcomes": (QueryName.LABELS,),
    "health": (QueryName.RETRAIN,),
    "models": (QueryName.RETRAIN,),
    "promotions": (QueryName.SCORE, QueryName.RETRAIN),
}

_NOT_STREAMED = (f"models/{PEOPLE}",)
"""`retrain` reads `models` to learn of failed fits. Imported models never fail, so their directory is not streamed."""


def reading_queries(directory: Directory) -> tuple[QueryName, ...]:
    """Return the queries that read what is appended to this directory."""
    return () if directory.name in _NOT_STREAMED else _QUERIES_OF_TABLE.get(directory.contract.name, ())
