"""The judge's state of a shard after a change of the fleet's loss.

The sample of each champion's losses holds losses of single rows. They are converted, so the evidence of `error_rise`
continues. Its test depends on the order of losses, which the conversion keeps, and on which of them are equal, for
which the sample tolerates rounding (`TIE`). Between merged knots, however, it interpolates in units of the loss. Labels
that are not mature yet are converted if the losses of their single rows are known. The others still count as labels,
but not for the champion's loss. Means restart: the recent loss, and the loss on held-out rows that it is compared with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spinney.core.migration import LossHistory, convert_losses
from spinney.core.staleness.evidence.error_evidence import ErrorEvidence
from spinney.core.staleness.evidence.loss_counting import MAX_LOSS
from spinney.core.staleness.group_state import GroupStates
from spinney.core.staleness.pending_labels import PendingLabels

if TYPE_CHECKING:
    from spinney.core.staleness.judge import ShardState


def in_current_loss(shard: ShardState, losses: LossHistory) -> ShardState:
    """Return the state with losses converted to the fleet's current loss; the same object if nothing has to be
    converted.
    """
    was, now = losses.name_of(shard.loss_name), losses.now
    if was == now:
        return shard
    evidence = converted_evidence(shard.encoded_evidence.value, was, now)
    return replace(
        shard,
        groups=restart_means(shard.groups),
        encoded_pending=shard.encoded_pending.with_value(converted_labels(shard.pending, was, now)),
        encoded_evidence=shard.encoded_evidence.with_value(evidence),
        loss_name=now,
    )


def restart_means(groups: GroupStates) -> GroupStates:
    """Return a copy of the groups without the means of their champions' losses."""
    changed = groups.copy()
    changed["baseline"][:] = np.nan
    for name in ("recent_weight", "recent_loss"):
        changed[name][:] = 0
    return changed


def converted_evidence(evidence: ErrorEvidence, was: str, now: str) -> ErrorEvidence:
    """Return the evidence with its samples converted to another loss. was, now: absolute or squared."""
    values = evidence.samples.values
    losses = np.minimum(convert_losses(values.astype(np.float64), was, now), MAX_LOSS).astype(np.float32)
    unused = ~np.isfinite(values)
    samples = replace(evidence.samples, values=np.where(unused, values, losses))
    return replace(evidence, samples=samples)


def converted_labels(pending: PendingLabels, was: str, now: str) -> PendingLabels:
    """Return the labels with their losses converted to another loss; NaN if the losses of single rows are not known."""
    rows = pending.rows
    if not len(rows):
        return pending
    losses = np.full(len(rows), None, dtype=object)
    sums = np.where(rows.labelled == 1, convert_losses(rows.loss, was, now), np.nan)
    for at, listed in enumerate(rows.losses.tolist()):
        if listed is not None:
            losses[at] = convert_losses(np.asarray(listed, dtype=np.float64), was, now)
            if len(listed) == rows.labelled[at]:
                sums[at] = losses[at].sum()
    return PendingLabels(replace(rows, loss=sums, losses=losses))
