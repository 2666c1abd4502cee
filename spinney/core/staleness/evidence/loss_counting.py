"""Count mature labels: rows of each group, the champion's recent mean loss, the evidence that its error has risen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.attempt_outcomes import DecisionRecord
from spinney.core.staleness.evidence.error_evidence import ErrorEvidence
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses
from spinney.core.staleness.evidence.loss_samples import Floats, Positions
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.label_rates import count_recent
from spinney.core.staleness.pending_labels import LabelRows

RECENT_ROWS = 30
"""Rows that the recent mean loss is averaged over, with exponential weights. It is shown and ranks groups."""

REFERENCE_LOSSES = 20
"""Least number of losses that a champion is compared with, if earlier champions of its group had as many.

Against two or three held-out losses no loss is unusual: a group that had an alarm, and a refit after few new rows,
would be without a test for weeks. Losses of earlier champions are added. They are a fair reference if the
alarm was false, and if the refit has cured the error. If it has not, they soon raise another alarm.
"""

MAX_LOSS = float(np.finfo(np.float32).max)

PredecessorsOf = Callable[[Sequence[str]], Mapping[str, str]]
"""group_keys -> the model_id that each group's champion has replaced, without groups that have none."""


@dataclass(frozen=True)
class CountSettings:
    """How labels are counted.

    patience: of `error_rise`; half_life: of the rates of labels; both in microseconds. tail_index: of the fleet's loss.
    """

    patience: int
    half_life: int
    tail_index: float


def start_samples(
    groups: GroupStates, evidence: ErrorEvidence, new_champions: Mapping[int, DecisionRecord | None]
) -> None:
    """Continue or replace the loss samples of groups with a new champion, in place.

    A group's first champion, and one that was fitted because the error had risen, is compared with its own held-out
    losses, and with earlier ones if these are few. Any other champion is compared with the losses of the champions
    before it, since its held-out rows may come from after a change.

    new_champions: position of a group -> the decision that measured its champion; None if that is not known.
    """
    positions = np.fromiter(new_champions, dtype=np.int64, count=len(new_champions))
    has_evidence = groups["evidence"][positions] > 0
    evidence.carry_on(positions[has_evidence])
    fresh = positions[~has_evidence]
    measured = [new_champions[at] for at in fresh.tolist()]
    references = [_as_losses(row.heldout_losses if row else ()) for row in measured]
    padded = np.full((len(fresh), max(map(len, references), default=0)), np.inf)
    for i, losses in enumerate(references):
        padded[i, : len(losses)] = losses
    clocks = np.array([row.clock if row else NEVER for row in measured], dtype=np.int64)
    evidence.restart(fresh, padded, clocks, least=REFERENCE_LOSSES)


def count_labels(
    groups: GroupStates,
    evidence: ErrorEvidence,
    mature: LabelRows,
    by: CountSettings,
    predecessors_of: PredecessorsOf,
) -> ErrorEvidence:
    """Add matured labelled rows, in place, and return the new evidence.

    mature: oldest first.
    """
    evidence.forget(groups["evidence"] == 0)
    if not len(mature):
        return evidence
    at = groups.positions_of(mature.group_key.tolist())
    np.add.at(groups["rows_since"], at, mature.labelled)
    np.add.at(groups["labelled"], at, mature.labelled)
    count_recent(groups, at, mature.last_event_time, mature.labelled, by.half_life)
    champions = groups["champion_id"][at]
    is_own = (mature.model_id == champions) & (champions != "")
    own = np.flatnonzero(is_own & np.isfinite(mature.loss))
    late = _late_rows(groups, at, mature, is_own, predecessors_of)
    tested = np.union1d(own, late)
    if not len(tested):
        return evidence
    _average_recent(groups, at[own], mature.take(own))
    losses = _counted_losses(groups, at[tested], mature.take(tested))
    evidence = evidence.counted(losses, groups.key_shares, by.patience, by.tail_index)
    groups["evidence"][:] = evidence.evidence
    return evidence


def _late_rows(
    groups: GroupStates,
    at: Positions,
    mature: LabelRows,
    is_own: npt.NDArray[np.bool_],
    predecessors_of: PredecessorsOf,
) -> Positions:
    """Return the rows that the champion before answered, if they come before the first row of the champion.

    The evidence is about the group, so a refit by another policy must not hide the losses of the days before it. In a
    group whose evidence has restarted they do not count: they led to the refit. at: position of each row's group.
    is_own: whether its champion answered each row.
    """
    is_open = (groups["champion_rows"] == 0) & (groups["evidence"] > 0) & (groups["champion_id"] != "")
    rows = np.flatnonzero(is_open[at] & ~is_own & np.isfinite(mature.loss))
    if not len(rows):
        return rows
    own = np.flatnonzero(is_own & np.isfinite(mature.loss))
    first = np.full(len(groups), len(mature))
    np.minimum.at(first, at[own], own)
    rows = rows[rows < first[at[rows]]]
    keys = mature.group_key[rows].tolist()
    predecessors = predecessors_of(sorted(set(keys)))
    is_known = [predecessors.get(key) == model_id for key, model_id in zip(keys, mature.model_id[rows], strict=True)]
    return rows[np.array(is_known, dtype=np.bool_)]


def _average_recent(groups: GroupStates, at: Positions, rows: LabelRows) -> None:
    """Add rows to the exponentially weighted recent error, oldest first. at: position of each row's group.

    The newest label of a group weighs 1, and each one before it 1 - 1 / RECENT_ROWS of the next. The labels of a row
    count with its mean loss.
    """
    counts, sums = rows.labelled, rows.loss
    decay = 1 - 1 / RECENT_ROWS
    added = np.bincount(at, counts, minlength=len(groups)).astype(np.int64)
    weights = (1 - decay**counts) * RECENT_ROWS * decay ** _labels_after(at, counts)
    groups["champion_rows"][:] += added
    for name, new in (("recent_weight", weights), ("recent_loss", weights * sums / counts)):
        groups[name][:] = groups[name] * decay**added + np.bincount(at, new, minlength=len(groups))


def _labels_after(at: Positions, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many labels of its group come in later rows, for each row. counts: labels of each row."""
    backwards = np.lexsort((-np.arange(len(at)), at))
    sums = np.cumsum(counts[backwards]) - counts[backwards]
    first = np.flatnonzero(np.diff(at[backwards], prepend=-1))
    after = np.empty(len(at), dtype=np.int64)
    after[backwards] = sums - np.repeat(sums[first], np.diff(first, append=len(at)))
    return after


def _counted_losses(groups: GroupStates, at: Positions, rows: LabelRows) -> CountedLosses:
    """Return the single losses of these rows, without rows of several labels whose single losses are not known.

    Labels that were mature before the group's last attempt only enter the sample: the attempt has already used their
    evidence. This occurs when the state is computed from tables.
    """
    many = np.array([i for i, losses in enumerate(rows.losses.tolist()) if losses is not None], dtype=np.int64)
    lengths = (rows.labelled == 1).astype(np.int64)
    listed = [_as_losses(losses) for losses in rows.losses[many]]
    lengths[many] = [len(losses) for losses in listed]
    losses = np.repeat(_clipped(rows.loss), lengths)
    if listed:
        of_row = np.repeat(np.arange(len(rows)), lengths)
        losses[np.isin(of_row, many)] = np.concatenate(listed)
    has_losses = np.flatnonzero(lengths)
    is_evidence = (rows.mature_at > groups["attempted_at"][at])[has_losses]
    return CountedLosses(at[has_losses], lengths[has_losses], losses, rows.last_event_time[has_losses], is_evidence)


def _as_losses(values: object) -> Floats:
    """Return values as finite losses of at least 0 that a float32 can hold."""
    losses = np.asarray(values, dtype=np.float64)
    return _clipped(losses[np.isfinite(losses)])


def _clipped(losses: Floats) -> Floats:
    return np.clip(losses, 0.0, MAX_LOSS)
