"""One row of `promotions`: a decision about a model of a group.

The stored column `epoch` is the group's revision number, which only people raise. Code calls it `revision`, since an
epoch is something else in streaming and in training. Tables, messages and `--json` keep the name `epoch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.vocabulary import Decision
from spinney.core import timestamps
from spinney.core.champions import held_out_loss_codec

CHAMPION_COLUMNS = (
    "group_key", "epoch", "model_id", "decision", "trained_through", "fitted_at", "decided_at", "round_id",
)  # fmt: skip
"""Columns of `promotions` that decide which model of a group answers. States and manifests store this order."""

PAYLOAD_COLUMNS = ("codec", "payload", "signature")
"""Columns of `promotions` with the model itself; null where it is too large to be carried."""

TIME_COLUMNS = ("trained_through", "fitted_at", "decided_at")

PROMOTING_DECISIONS = frozenset({Decision.PROMOTED, Decision.UNPROVEN})
CHAMPION_DECISIONS = PROMOTING_DECISIONS | {Decision.PINNED, Decision.WITHDRAWN}
"""Decisions that can change which model answers. The others are only recorded."""

PEOPLE = "people"
"""Prefix of the round_id of a person's intervention; also the name of their directory and lease."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One row of `promotions`, without the columns that do not affect which model answers.

    revision: the column `epoch`. Times are microseconds since 1970. payload: None when it is not carried and must be
    read from `models` by model_id. heldout_losses: packed; the prequential losses where they are stored; None where
    there are none or they are not needed.
    """

    revision: int
    model_id: str
    decision: str
    trained_through: int
    fitted_at: int
    decided_at: int = 0
    round_id: str = ""
    codec: str | None = None
    payload: bytes | None = None
    signature: bytes | None = None
    heldout_losses: bytes | None = None

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Promotion:
        """Return the promotion of a row, or of some of its columns. Times: microseconds or datetimes; null is 0."""
        times: dict[str, Any] = {name: _integer_or_zero(row.get(name)) for name in TIME_COLUMNS}
        texts: dict[str, Any] = {name: _value_or_none(row.get(name)) or "" for name in _TEXT_COLUMNS}
        payload: dict[str, Any] = {name: _value_or_none(row.get(name)) for name in PAYLOAD_COLUMNS}
        known = (row.get(name) for name in held_out_loss_codec.LISTS)
        losses = next((of for of in known if of is not None and not isinstance(of, float)), None)  # a frame has NaN
        losses = held_out_loss_codec.pack(losses, _value_or_none(row.get(held_out_loss_codec.LOSS_NAME)))
        return cls(_integer_or_zero(row.get("epoch")), **times, **texts, **payload, heldout_losses=losses)

    def column(self, name: str) -> Any:
        """Return the value of one of CHAMPION_COLUMNS (except group_key) or PAYLOAD_COLUMNS, or the packed losses."""
        return self.revision if name == "epoch" else getattr(self, name)

    @property
    def order(self) -> tuple[int, int, str]:
        """Newer data is greater. Models of the same rows are ordered by when they were fitted, then by model_id."""
        return (self.trained_through, self.fitted_at, self.model_id)

    @property
    def is_by_person(self) -> bool:
        """Whether a person's intervention wrote it, not a round."""
        return self.round_id.startswith(f"{PEOPLE}-")


_TEXT_COLUMNS = ("model_id", "decision", "round_id")


def _value_or_none(value: Any) -> Any:
    """The value, with None for each way in which a frame or a table marks null."""
    return None if _is_null(value) else value


def _integer_or_zero(value: Any) -> int:
    if _is_null(value):
        return 0
    return timestamps.to_microseconds(value) if isinstance(value, datetime) else int(value)


def _is_null(value: Any) -> bool:
    """Whether it is None, NaN, NaT or NA. Does not import pandas, which takes a third of a second."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)  # noqa: PLR0124 - NaN, NaT
