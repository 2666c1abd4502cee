"""Count rejected rows by reason and column, and stop reading if there are too many."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spinney.core.errors import ContractError

MIN_ROWS_TO_STOP = 1_000
"""Reading stops if none of this many rows is valid."""


@dataclass(frozen=True)
class Rejection:
    """A rejected row. row: its number in the file, from 1. field: the column at fault; None if it is the whole row."""

    file: str
    row: int
    reason: str
    field: str | None
    detail: str

    @property
    def description(self) -> str:
        """File, row number and detail, as one sentence."""
        return f"{self.file} row {self.row:,}: {self.detail}"


@dataclass(frozen=True)
class RejectionLimit:
    """Limit of rejected rows at which reading stops.

    rows: a number. share: a share of the rows read. None: no limit of this kind.
    """

    rows: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> RejectionLimit:
        """Parse ``"100"``, ``"2%"`` or ``"0.5%"``. Raises ContractError for anything else."""
        if text is None:
            return cls()
        rejection = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%|([0-9]+)", text.strip())
        if rejection is None or (rejection[1] and float(rejection[1]) > 100):
            raise ContractError(f"--max-rejected: expected a number of rows, or a share like 2%; got {text!r}")
        return cls(share=float(rejection[1]) / 100) if rejection[1] else cls(rows=int(rejection[2]))

    def exceeded(self, rejected: int, read: int, *, ended: bool) -> bool:
        """Return whether the limit is exceeded. A share is checked from MIN_ROWS_TO_STOP rows on, and at the end.

        rejected, read: numbers of rows so far. ended: whether all rows were read.
        """
        if self.rows is not None:
            return rejected > self.rows
        return self.share is not None and (ended or read >= MIN_ROWS_TO_STOP) and rejected > self.share * read


NO_LIMIT = RejectionLimit()


class RejectionLimitError(ContractError):
    """Reading stopped because too many rows were rejected."""


class Rejections:
    """The rejected rows of a source, counted by reason and column, with the first of each as an example."""

    def __init__(self, limit: RejectionLimit | None = None) -> None:
        self._limit = limit or RejectionLimit()
        self.rejected = 0
        self.counts: dict[tuple[str, str | None], int] = {}
        self.examples: dict[tuple[str, str | None], Rejection] = {}

    def add(self, rejection: Rejection) -> None:
        """Count a rejected row."""
        self.rejected += 1
        key = (rejection.reason, rejection.field)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.examples.setdefault(key, rejection)

    def check(self, source: str, read: int, *, ended: bool = False) -> None:
        """Raise RejectionLimitError if more rows were rejected than allowed or, without a limit, if every row so far
        was rejected.

        read: rows read so far, valid or not.
        """
        if self._limit.exceeded(self.rejected, read, ended=ended):
            raise RejectionLimitError(f"{source}: more than --max-rejected: {self._summary(read)}")
        hopeless = self._limit == NO_LIMIT and self.rejected == read >= MIN_ROWS_TO_STOP
        if hopeless and not ended:
            raise RejectionLimitError(
                f"{source}: stopped, since none of the first {read:,} rows is valid: {self._summary(read)}. Compare "
                "[fleet.columns] and [fleet.fields] with the file, or pass --max-rejected 100% to read on"
            )

    def _summary(self, read: int) -> str:
        (key, count) = max(self.counts.items(), key=lambda item: item[1])
        reason, field = key
        of = f" in column {field}" if field else ""
        example = self.examples[key].description
        return f"{self.rejected:,} of {read:,} rows rejected; {count:,} for {reason}{of}, as {example}"

    def as_dicts(self) -> list[dict[str, object]]:
        """Return the counts for people and JSON, most frequent first."""
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or ""))
        return [
            {
                "reason": reason,
                "field": field,
                "rows": count,
                "file": self.examples[reason, field].file,
                "row": self.examples[reason, field].row,
                "example": self.examples[reason, field].detail,
            }
            for (reason, field), count in ranked
        ]
