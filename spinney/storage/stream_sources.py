"""Which directories each query reads as a stream."""

from __future__ import annotations

from schemas.vocabulary import QueryName
from spinney.core.champions.promotion import PEOPLE
from spinney.storage.layout import Directory

_BY_TABLE = {
    "predictions": (QueryName.LABELS,),
    "outcomes": (QueryName.LABELS,),
    "health": (QueryName.RETRAIN,),
    "models": (QueryName.RETRAIN,),
    "promotions": (QueryName.SCORE, QueryName.RETRAIN),
}

_BY_NOBODY = (f"models/{PEOPLE}",)
"""Of a table that is read otherwise: retrain looks for fits that failed, and people's models are all fitted ones."""


def readers(directory: Directory) -> tuple[QueryName, ...]:
    """Return the queries that read what is appended to this directory."""
    return () if directory.name in _BY_NOBODY else _BY_TABLE.get(directory.contract.name, ())
