"""The gain from retraining, for a process that shows it repeatedly: it reads only the rows of new files.

Reading everything takes seconds if each of 50,000 groups has some ten attempts in the window, and a busy stream stores
fits every minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from spinney.core.migration import LossHistory
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage import charter
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files, table_log
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.readers.random_draws import ATTEMPT_COLUMNS, DrawnComparisons, read_comparisons

READ = (tables.MODELS, tables.VERDICTS, tables.PROMOTIONS)
"""The tables in the order in which they are read. Models come first: a comparison is stored after the verdict and the
promotion of its champion, so these are read too.
"""


@dataclass(frozen=True)
class _Known:
    """What has been read. versions: of each directory, up to which its rows are known.

    hour, losses: everything is read again when one of these changes.
    """

    hour: datetime
    losses: LossHistory
    versions: Mapping[str, int]
    comparisons: DrawnComparisons
    gain: RetrainingGain | None


class IncrementalGain:
    """The gain from retraining of a fleet, kept up to date.

    A comparison is made only by a fit, and a champion is first compared by a later fit. So the gain stays the same
    until a fit is stored, except for draws that leave the window and rows that `spinney tidy` removes; these are
    noticed within an hour.
    """

    def __init__(self, store: FleetStore) -> None:
        self.store = store
        self._known: _Known | None = None

    def read(self, now: datetime, *, again: bool = False) -> RetrainingGain | None:
        """Return the gain of `read_retraining_gain`. now: wall clock. again: read all rows, not only new ones."""
        hour, losses, known = now.replace(minute=0, second=0, microsecond=0), charter.losses_of(self.store), self._known
        if again or known is None or (known.hour, known.losses) != (hour, losses):
            self._known = self._read_all(hour, losses)
        else:
            try:
                self._known = self._advanced(known)
            except FileNotFoundError:  # a file was replaced since its commit
                self._known = self._read_all(hour, losses)
        return self._known.gain

    def _read_all(self, hour: datetime, losses: LossHistory) -> _Known:
        # Before the rows: what is committed meanwhile is read again, and counts once all the same.
        places = [place for base in READ for place in self.store.directories(base)]
        versions = {place.name: delta.current_version(place) for place in places}
        comparisons = read_comparisons(self.store)
        return _Known(hour, losses, versions, comparisons, comparisons.gain())

    def _advanced(self, known: _Known) -> _Known:
        versions, gain = dict(known.versions), retraining_gain
        is_compared = pc.match_substring(ds.field("metrics"), gain.COMPARED)
        attempts = self._read_new(tables.MODELS, versions, ATTEMPT_COLUMNS, is_compared)
        if versions == known.versions:
            return known
        is_drawn = pc.match_substring(ds.field("numbers"), gain.DRAWN)
        drawn = self._read_new(tables.VERDICTS, versions, gain.VERDICT_COLUMNS, is_drawn)
        promotions = self._read_new(tables.PROMOTIONS, versions, gain.PROMOTION_COLUMNS)
        found = known.comparisons.with_champions(drawn, promotions.to_batches())
        found = found.with_attempts(attempts.to_batches(), known.losses)
        return replace(known, versions=versions, comparisons=found, gain=found.gain())

    def _read_new(
        self, base: Contract, versions: dict[str, int], columns: Sequence[str], where: ds.Expression | None = None
    ) -> pa.Table:
        """Read the rows of files that were added after these versions, and set these to the newest."""
        found = []
        for place in self.store.directories(base):
            schema = arrow_schema(place.contract)
            versions[place.name], paths = table_log.read_new_files(place, versions[place.name])
            files = table_files.dataset_of_paths(local_folder(place.uri), paths, schema)
            found.append(files.to_table(list(columns), filter=where))
        return pa.concat_tables(found)
