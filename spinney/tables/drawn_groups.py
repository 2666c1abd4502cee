"""Read the results of the groups that the stream's rounds drew at random.

After a year of random draws nearly every group of a fleet was drawn once. So a history is bounded by WINDOW, filtered
where it is stored, and read in pieces, of which only the last comparisons of such groups are kept. For 10,000 groups
with 50 attempts each in a year, that takes 0.3 GB instead of 1.4 GB, and 1.5 s instead of 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.champions.heldout_losses import LOSS_NAME
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.fit_metrics import parse_watched
from spinney.tables.lookup import ContainsText, NotAfter, NotBefore, RowFilter
from spinney.tables.loss_filter import keep_current_loss

WINDOW = timedelta(days=90)
"""Period over which the gain from retraining is computed, by the wall clock of the rounds that drew groups."""

ROWS_AT_ONCE = 50_000
"""Rows of a piece. Metrics take about 700 bytes a row, so a piece of them takes 35 MB."""


def read_retraining_gain(store: FleetStore, at: datetime | None = None) -> RetrainingGain | None:
    """Return the gain from retraining, by what had been decided at a time; None where no drawn group was compared.

    Only draws within WINDOW before the newest verdict count, and comparisons by the fleet's current loss. at: wall
    clock; None for now. Raises StoreError if a table does not exist.
    """
    newest = lookup.latest_time(store, tables.VERDICTS, "judged_at", at)
    if newest is None:
        return None
    since = newest - WINDOW
    champions = read_drawn_champions(store, since, at)
    if not champions.num_rows:
        return None
    within = _within("fitted_at", since, at)
    has_comparison = ContainsText("metrics", retraining_gain.COMPARED)
    columns, losses = ("group_key", "metrics", LOSS_NAME), charter.losses_of(store)
    batches = lookup.read_batches_where(store, tables.MODELS, columns, has_comparison, *within)
    compared: pa.Table | None = None
    for measures in (keep_current_loss(piece, losses) for piece in watched_of(champions, batches)):
        known = measures if compared is None else pa.concat_tables([compared, measures])
        compared = retraining_gain.last_comparisons(champions, known)
    return None if compared is None else retraining_gain.measure_gain(champions, compared)


class KeptGain:
    """The gain from retraining for a process that shows it again and again; read again once it may have changed.

    Only a fit brings a comparison, and a champion has none before a later fit. So while no fit is stored the gain stays
    the same, except for draws that leave WINDOW, which are seen within the hour. store: of the fleet.
    """

    def __init__(self, store: FleetStore) -> None:
        self.store = store
        self._known: tuple[tuple[object, ...], RetrainingGain | None] | None = None

    def read(self, now: datetime, *, again: bool = False) -> RetrainingGain | None:
        """Return the gain of `read_retraining_gain`. now: wall clock. again: read it although nothing has changed."""
        state = (*lookup.versions(self.store, tables.MODELS), now.replace(minute=0, second=0, microsecond=0))
        if again or self._known is None or self._known[0] != state:
            self._known = (state, read_retraining_gain(self.store))
        return self._known[1]


def read_drawn_champions(
    store: FleetStore, since: datetime, until: datetime | None = None, wanted: RowFilter | None = None
) -> pa.Table:
    """Return the new champions of groups drawn at random: group_key and champion_id.

    since, until: of the draw and of the promotion, both included, by the wall clock; None for now. wanted: the groups,
    MAX_LOOKUP_GROUPS at most; None for all. Raises StoreError if a table does not exist.
    """
    is_drawn, judged = ContainsText("numbers", retraining_gain.DRAWN), _within("judged_at", since, until)
    verdicts = lookup.read_batches_where(
        store, tables.VERDICTS, retraining_gain.VERDICT_COLUMNS, is_drawn, *judged, wanted=wanted
    )
    draws = [batch for batch in verdicts if batch.num_rows]
    found = [pa.table({"group_key": pa.array([], pa.string()), "champion_id": pa.array([], pa.string())})]
    if draws:
        drawn, decided = pa.Table.from_batches(draws), _within("decided_at", since, until)
        promotions = lookup.read_batches_where(
            store, tables.PROMOTIONS, retraining_gain.PROMOTION_COLUMNS, *decided, wanted=wanted
        )
        found += (retraining_gain.drawn_champions(drawn, piece) for piece in _pieces(promotions))
    return pa.concat_tables(found)


def watched_of(champions: pa.Table, attempts: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield `parse_watched` of the attempts in groups with such champions, in pieces.

    champions: from `read_drawn_champions`. attempts: rows of `models` with group_key and metrics, and others to keep.
    """
    keys = champions.column("group_key").combine_chunks()
    for piece in _pieces(attempts):
        known = piece.filter(pc.is_in(piece.column("group_key"), value_set=keys))
        if known.num_rows:
            yield parse_watched(known)


def _within(column: str, since: datetime, until: datetime | None) -> tuple[NotBefore, NotAfter | None]:
    return NotBefore(column, since), None if until is None else NotAfter(column, until)


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows as tables of ROWS_AT_ONCE or a few more."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(rows.num_rows for rows in waiting) >= ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)
