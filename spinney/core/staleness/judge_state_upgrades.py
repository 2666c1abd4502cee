"""Upgrades of the judge's stored state, each from one version to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spinney.core.staleness import group_state, pending_labels
from spinney.core.staleness.evidence.error_evidence import ErrorEvidence
from spinney.core.staleness.evidence.prediction_drift import PredictionDrift
from spinney.core.state_codec import Body, add_missing_columns, join_sections, split_sections

INITIAL = {column.name: column.initial for column in group_state.STATE_COLUMNS}


def add_evidence(body: Body) -> bytes:
    """Upgrade 1 to 2: adds the evidence that errors have risen, and the losses of pending labels. Both start empty."""
    clock, groups, champions, pending = split_sections(body)
    return join_sections(
        [
            bytes(clock),
            add_missing_columns(groups, group_state.SCHEMA, INITIAL),
            bytes(champions),
            add_missing_columns(pending, pending_labels.SCHEMA, {"losses": None}),
            ErrorEvidence.empty().to_bytes(),
        ]
    )


def add_drift(body: Body) -> bytes:
    """Upgrade 2 to 3: adds drift, and the rows of the last model: both unknown until each group's next attempt."""
    clock, groups, *others = split_sections(body)
    return join_sections(
        [
            bytes(clock),
            add_missing_columns(groups, group_state.SCHEMA, INITIAL),
            *map(bytes, others),
            PredictionDrift.empty().to_bytes(),
        ]
    )


def add_rates(body: Body) -> bytes:
    """Upgrade 3 to 4: adds the recent rates of labels, unknown until the next labels. Earlier ones have no times."""
    clock, groups, *others = split_sections(body)
    added = add_missing_columns(groups, group_state.SCHEMA, INITIAL)
    return join_sections([bytes(clock), added, *map(bytes, others)])


def add_loss_name(body: Body) -> bytes:
    """Upgrade 4 to 5: adds the name of the loss. Empty: the loss that the fleet was made with, as none could change."""
    return join_sections([*map(bytes, split_sections(body)), b""])


UPGRADES: Mapping[int, Callable[[Body], bytes]] = {1: add_evidence, 2: add_drift, 3: add_rates, 4: add_loss_name}
"""Version -> function from the body of a state of that version to one of the next."""
