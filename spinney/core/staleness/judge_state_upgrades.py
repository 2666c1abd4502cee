"""Earlier versions of the judge's state, as the next version has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spinney.core.staleness import group_state, pending_labels
from spinney.core.staleness.error_evidence import ErrorEvidence
from spinney.core.state_codec import Body, add_missing_columns, join_sections, split_sections


def add_evidence(body: Body) -> bytes:
    """Version 1 to 2: the evidence that errors have risen, and the losses of pending labels. Both start empty."""
    clock, groups, champions, pending = split_sections(body)
    initial = {column.name: column.initial for column in group_state.STATE_COLUMNS}
    return join_sections(
        [
            bytes(clock),
            add_missing_columns(groups, group_state.SCHEMA, initial),
            bytes(champions),
            add_missing_columns(pending, pending_labels.SCHEMA, {"losses": None}),
            ErrorEvidence.empty().to_bytes(),
        ]
    )


UPGRADES: Mapping[int, Callable[[Body], bytes]] = {1: add_evidence}
"""Version -> function from the body of a state of that version to one of the next."""
