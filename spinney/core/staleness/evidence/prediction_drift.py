"""Evidence that a champion's predictions have moved away from the predictions that were stored with it. Needs no
labels.

The reference is a sample of predictions for held-out rows, made by a model that had not seen them. If there are fewer
than LEAST_HELD_OUT of them, the champion's predictions on its training rows are used. A prediction's distance is
|prediction - median of the reference|. The sequential test of `error_evidence` finds whether the distances of new
events are larger than those of the reference: the conformal test martingale of Vovk et al. 2021, with the distance as
its nonconformity measure, added up as an e-detector (Shin, Ramdas and Rinaldo 2022). A group whose predictions do not
change reaches the limit at most once per `patience` on average, if they are exchangeable with those of the reference.
What most groups of a shard have in common, such as a season, is not counted.

Predictions on training rows are not exchangeable with later ones if the estimator is flexible: a random forest is surer
of the class of a row that it has seen, and its predictions of numbers lie farther apart there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spinney.core.errors import Corrupt
from spinney.core.staleness.attempt_outcomes import DecisionRecord
from spinney.core.staleness.evidence.error_evidence import ErrorEvidence
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses
from spinney.core.staleness.evidence.loss_samples import BY_RANK_ALONE, Floats
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.verdicts import DRIFT
from spinney.core.state_codec import REMEDY, join_sections, split_sections

LEAST_HELD_OUT = 12
"""Number of held-out predictions from which they are used as the reference."""

MAX_DISTANCE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PredictionDrift:
    """The state of the tests of a shard's groups, in the order of its groups.

    centres: median of the reference of each group's champion, shape (n_groups,); NaN if it has none.
    evidence: of the distances.
    """

    centres: Floats
    evidence: ErrorEvidence

    @classmethod
    def empty(cls, groups: int = 0) -> PredictionDrift:
        """Return the state of this many groups of which nothing is known."""
        return cls(np.full(groups, np.nan), ErrorEvidence.empty(groups))

    def resized(self, groups: int) -> PredictionDrift:
        """Return a copy that can be written into, with new groups at the end."""
        new = np.full(groups - len(self.centres), np.nan)
        return PredictionDrift(np.concatenate([self.centres, new]), self.evidence.resized(groups))

    def start(self, groups: GroupStates, new_champions: Mapping[int, DecisionRecord | None]) -> None:
        """Compare new champions with the predictions that were stored with them, in place.

        new_champions: position of a group -> the decision that measured its champion; None if that is not known.
        """
        at = np.fromiter(new_champions, dtype=np.int64, count=len(new_champions))
        references = [_reference_of(champion) for champion in new_champions.values()]
        clocks = np.array(
            [champion.clock if champion else NEVER for champion in new_champions.values()], dtype=np.int64
        )
        padded = np.full((len(at), max(map(len, references), default=0)), np.inf)
        for i, values in enumerate(references):
            self.centres[at[i]] = np.median(values) if len(values) else np.nan
            padded[i, : len(values)] = _clipped(np.abs(values - self.centres[at[i]]))
        self.evidence.counted_at[at], self.evidence.sums[at] = NEVER, 0
        self.evidence.restart(at, padded, clocks)
        groups[DRIFT][at] = np.where(np.isfinite(self.centres[at]), 0.0, np.nan)

    def counted(self, groups: GroupStates, health: HealthRows, patience: int) -> PredictionDrift:
        """Return the state with the predictions of these rows of health, counted in place; sets `drift` of `groups`.

        health: rows of groups, in any order. Only predictions of a group's champion count. patience: microseconds.
        """
        self.evidence.forget(groups[DRIFT] == 0)
        rows = self._of_champions(groups, health)
        if not len(rows):
            return self
        at = groups.positions_of(rows.group_key.tolist())
        lists = rows.drift.tolist()
        lengths = np.array([len(predictions) for predictions in lists], dtype=np.int64)
        predictions = np.concatenate(lists, dtype=np.float64)
        distances = _clipped(np.abs(predictions - np.repeat(self.centres[at], lengths)))
        is_evidence = np.ones(len(rows), dtype=np.bool_)
        counted = CountedLosses(at, lengths, distances, rows.last_event_time, is_evidence)
        # Probabilities end at 1: the largest distance is near to any larger one, however much has changed.
        evidence = self.evidence.counted(counted, groups.key_shares, patience, BY_RANK_ALONE)
        groups[DRIFT][:] = np.where(np.isfinite(self.centres), evidence.evidence, np.nan)
        return PredictionDrift(self.centres, evidence)

    def _of_champions(self, groups: GroupStates, health: HealthRows) -> HealthRows:
        """The rows with predictions of a champion whose reference is known, oldest first."""
        rows = health.take(health.has_predictions)
        at = groups.positions_of(rows.group_key.tolist())
        is_own = rows.model_id == groups["champion_id"][at]
        return _sorted_by_time(rows.take(is_own & np.isfinite(self.centres[at])))

    def to_bytes(self) -> bytes:
        """Encode as sections of plain numbers, little-endian."""
        return join_sections([self.centres.astype("<f8").tobytes(), self.evidence.to_bytes()])

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> PredictionDrift:
        """Decode the result of `to_bytes`. Raises Corrupt for other bytes."""
        try:
            centres, evidence = split_sections(blob)
            return cls(np.frombuffer(centres, "<f8"), ErrorEvidence.from_bytes(evidence))
        except ValueError as error:
            raise Corrupt(f"state: expected the drift of a shard's groups; got {error}. {REMEDY}") from error


def _sorted_by_time(rows: HealthRows) -> HealthRows:
    """Sort by event time, then by group and predictions, so that the order of arrival does not matter."""
    times = rows.last_event_time
    order = np.argsort(times, kind="stable")
    if not (np.diff(times[order]) > 0).all():
        columns = (times.tolist(), rows.group_key.tolist(), map(tuple, rows.drift.tolist()))
        whole = list(zip(*columns, strict=True))
        order = np.array(sorted(range(len(rows)), key=whole.__getitem__), dtype=np.int64)
    return rows.take(order)


def _reference_of(champion: DecisionRecord | None) -> Floats:
    """The predictions with which those for new events are compared, shape (n,); empty if none are known."""
    if champion is None:
        return np.empty(0)
    held_out = _finite(champion.heldout_predictions)
    return held_out if len(held_out) >= LEAST_HELD_OUT else _finite(champion.training_predictions)


def _finite(values: tuple[float, ...]) -> Floats:
    found = np.array(values, dtype=np.float64)
    return found[np.isfinite(found)]


def _clipped(distances: Floats) -> Floats:
    return np.clip(distances, 0.0, MAX_DISTANCE)
