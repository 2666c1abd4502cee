"""Count the rows that are not valid by what is wrong with them, and stop where there are too many."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spinney.core.errors import ContractError

HOPELESS_ROWS = 1_000
"""When so many rows are read and none of them is valid, the rest is not tried."""


@dataclass(frozen=True)
class Rejection:
    """One row that is not valid. row: its number in the file, from 1. field: the column, None where it is the row."""

    file: str
    row: int
    reason: str
    field: str | None
    detail: str

    @property
    def words(self) -> str:
        return f"{self.file} row {self.row:,}: {self.detail}"


@dataclass(frozen=True)
class MostRejected:
    """How many rows may be rejected before reading stops: a number, or a share of the rows read. None: any number."""

    rows: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> MostRejected:
        """``"100"``, ``"2%"`` or ``"0.5%"``. Raises ContractError for anything else."""
        if text is None:
            return cls()
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%|([0-9]+)", text.strip())
        if found is None or (found[1] and float(found[1]) > 100):
            raise ContractError(f"--max-rejected: expected a number of rows, or a share like 2%; got {text!r}")
        return cls(share=float(found[1]) / 100) if found[1] else cls(rows=int(found[2]))

    def exceeded(self, rejected: int, read: int, *, ended: bool) -> bool:
        """A share counts once there are enough rows to speak of one, or no more to come."""
        if self.rows is not None:
            return rejected > self.rows
        return self.share is not None and (ended or read >= HOPELESS_ROWS) and rejected > self.share * read


ANY_NUMBER = MostRejected()


class RejectionLimitError(ContractError):
    """Reading stopped because of what was rejected."""


class Rejections:
    """The rejected rows of a source, by reason and column, with the first of each as an example."""

    def __init__(self, most: MostRejected | None = None) -> None:
        self._most = most or MostRejected()
        self.rejected = 0
        self.counts: dict[tuple[str, str | None], int] = {}
        self.examples: dict[tuple[str, str | None], Rejection] = {}

    def add(self, found: Rejection) -> None:
        self.rejected += 1
        kind = (found.reason, found.field)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.examples.setdefault(kind, found)

    def check(self, source: str, read: int, *, ended: bool = False) -> None:
        """Raises RejectionLimitError: more than allowed, or without a limit every row so far. read: valid or not."""
        if self._most.exceeded(self.rejected, read, ended=ended):
            raise RejectionLimitError(f"{source}: more than --max-rejected: {self._words(read)}")
        hopeless = self._most == ANY_NUMBER and self.rejected == read >= HOPELESS_ROWS
        if hopeless and not ended:
            raise RejectionLimitError(
                f"{source}: stopped, since none of the first {read:,} rows is valid: {self._words(read)}. Compare "
                "[fleet.columns] and [fleet.fields] with the file, or pass --max-rejected 100% to read on"
            )

    def _words(self, read: int) -> str:
        (kind, count) = max(self.counts.items(), key=lambda each: each[1])
        reason, field = kind
        of = f" in column {field}" if field else ""
        return (
            f"{self.rejected:,} of {read:,} rows rejected; {count:,} for {reason}{of}, as {self.examples[kind].words}"
        )

    def listed(self) -> list[dict[str, object]]:
        """For people and JSON: the most frequent first."""
        ranked = sorted(self.counts.items(), key=lambda each: (-each[1], each[0][0], each[0][1] or ""))
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
