"""Read the results of the groups that the stream's rounds drew at random.

After a year of random draws nearly every group of a fleet was drawn once. So only the WINDOW is read, rows are filtered
while they are read, and reading is done in pieces, of which only the last comparisons of drawn groups are kept. For
10,000 groups with 50 attempts each in a year, that takes 0.3 GB instead of 1.4 GB, and 1.5 s instead of 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.champions.held_out_loss_codec import LOSS_NAME
from spinney.core.migration import LossHistory
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import ContainsText, NotAfter, NotBefore, RowFilter
from spinney.tables.readers.fit_metrics import parse_watched
from spinney.tables.readers.loss_function_filter import keep_current_loss

WINDOW = timedelta(days=90)
"""Period over which the gain from retraining is computed, by the wall clock of the rounds that drew groups."""

ROWS_AT_ONCE = 50_000
"""Rows of a piece. Metrics take about 700 bytes a row, so a piece of them takes 35 MB."""

ATTEMPT_COLUMNS = ("group_key", "metrics", LOSS_NAME)
"""Columns of `models` that are read."""


def _no_rows(names: Sequence[str]) -> pa.Table:
    return pa.schema([(name, pa.string()) for name in names]).empty_table()


def read_retraining_gain(store: FleetStore, at: datetime | None = None) -> RetrainingGain | None:
    """Return the gain from retraining, estimated on stale groups that a random draw chose for a refit.

    Counts draws of the last WINDOW before the newest verdict, and comparisons that use the fleet's current loss
    function. None if no drawn group was compared. at: wall-clock time up to which decisions count; None: the present.
    Raises StoreError if a table does not exist.
    """
    return read_comparisons(store, at).gain()


@dataclass(frozen=True)
class DrawnComparisons:
    """The data from which the gain from retraining is computed.

    drawn: VERDICT_COLUMNS of the groups that rounds drew. champions: group_key and champion_id that these rounds
    promoted. compared: MEASURE_COLUMNS of the last comparison of each of these champions; those without a comparison
    are left out.
    """

    drawn: pa.Table = field(default_factory=partial(_no_rows, retraining_gain.VERDICT_COLUMNS))
    champions: pa.Table = field(default_factory=partial(_no_rows, retraining_gain.CHAMPION_COLUMNS))
    compared: pa.Table | None = None

    def gain(self) -> RetrainingGain | None:
        """Return the gain from retraining; None if nothing was compared."""
        return None if self.compared is None else retraining_gain.measure_gain(self.champions, self.compared)

    def with_champions(self, drawn: pa.Table, promotions: Iterable[pa.RecordBatch]) -> DrawnComparisons:
        """Return this data with further draws and promotions. drawn: VERDICT_COLUMNS. promotions: PROMOTION_COLUMNS."""
        every_draw = pa.concat_tables([self.drawn, drawn.cast(self.drawn.schema)])
        found = [retraining_gain.drawn_champions(every_draw, piece) for piece in _pieces(promotions)]
        return replace(self, drawn=every_draw, champions=pa.concat_tables([self.champions, *found]))

    def with_attempts(self, attempts: Iterable[pa.RecordBatch], losses: LossHistory) -> DrawnComparisons:
        """Return this data with further attempts; only those measured by the current loss count.

        attempts: ATTEMPT_COLUMNS.
        """
        compared = self.compared
        for piece in watched_of(self.champions, attempts):
            measures = keep_current_loss(piece, losses)
            known = measures if compared is None else pa.concat_tables([compared, measures])
            compared = retraining_gain.last_comparisons(self.champions, known)
        return replace(self, compared=compared)


def read_comparisons(store: FleetStore, at: datetime | None = None) -> DrawnComparisons:
    """Return the data for `read_retraining_gain`. Arguments and errors are the same."""
    newest = lookup.latest_time(store, tables.VERDICTS, "judged_at", at)
    if newest is None:
        return DrawnComparisons()
    since = newest - WINDOW
    found = _read_champions(store, since, at)
    if not found.champions.num_rows:
        return found
    has_comparison, within = ContainsText("metrics", retraining_gain.COMPARED), _within("fitted_at", since, at)
    attempts = lookup.read_batches_where(store, tables.MODELS, ATTEMPT_COLUMNS, has_comparison, *within)
    return found.with_attempts(attempts, charter.losses_of(store))


def read_drawn_champions(
    store: FleetStore, since: datetime, until: datetime | None = None, wanted: RowFilter | None = None
) -> pa.Table:
    """Return the new champions of groups drawn at random: group_key and champion_id.

    since, until: bounds of the draw and of the promotion, both included, by the wall clock; until None: now. wanted:
    the groups, at most MAX_LOOKUP_GROUPS; None for all. Raises StoreError if a table does not exist.
    """
    return _read_champions(store, since, until, wanted).champions


def _read_champions(
    store: FleetStore, since: datetime, until: datetime | None = None, wanted: RowFilter | None = None
) -> DrawnComparisons:
    is_drawn, judged = ContainsText("numbers", retraining_gain.DRAWN), _within("judged_at", since, until)
    verdicts = lookup.read_batches_where(
        store, tables.VERDICTS, retraining_gain.VERDICT_COLUMNS, is_drawn, *judged, wanted=wanted
    )
    draws = [batch for batch in verdicts if batch.num_rows]
    if not draws:
        return DrawnComparisons()
    promotions = lookup.read_batches_where(
        store, tables.PROMOTIONS, retraining_gain.PROMOTION_COLUMNS, *_within("decided_at", since, until), wanted=wanted
    )
    return DrawnComparisons().with_champions(pa.Table.from_batches(draws), promotions)


def watched_of(champions: pa.Table, attempts: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield, in pieces, the comparisons with predecessors that attempts in the groups of these champions have stored.

    champions: from `read_drawn_champions`. attempts: rows of `models` with group_key and metrics; other columns are
    kept.
    """
    keys = champions.column("group_key").combine_chunks()
    for piece in _pieces(attempts):
        known = piece.filter(pc.is_in(piece.column("group_key"), value_set=keys))
        if known.num_rows:
            yield parse_watched(known)


def _within(column: str, since: datetime, until: datetime | None) -> tuple[NotBefore, NotAfter | None]:
    return NotBefore(column, since), None if until is None else NotAfter(column, until)


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows as tables of ROWS_AT_ONCE rows or a few more."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(rows.num_rows for rows in waiting) >= ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)
