from __future__ import annotations

import pytest

from spinney.core.champions.promotion import Promotion
from spinney.core.champions.withdrawals import is_still_withdrawn, withdrawn_model_ids


def row(revision: int, decision: str, model_id: str = "m") -> Promotion:
    return Promotion(revision, model_id, decision, trained_through=1, fitted_at=1, decided_at=1, round_id="stream-1")


@pytest.mark.parametrize(
    ("decisions", "is_withdrawn"),
    [
        ([(0, "promoted")], False),
        ([(0, "promoted"), (0, "withdrawn")], True),
        ([(0, "promoted"), (0, "withdrawn"), (1, "promoted")], False),
        ([(1, "promoted"), (0, "withdrawn"), (0, "promoted")], False),  # in any order
        ([(0, "promoted"), (0, "withdrawn"), (1, "promoted"), (1, "withdrawn")], True),
        ([(1, "withdrawn"), (1, "promoted"), (0, "withdrawn"), (0, "promoted")], True),
        ([(0, "withdrawn")], True),  # the row that promoted it was deleted
        ([], False),
    ],
)
def test_a_model_is_withdrawn_until_a_later_revision_promotes_it(
    decisions: list[tuple[int, str]], is_withdrawn: bool
) -> None:
    assert is_still_withdrawn([row(revision, decision) for revision, decision in decisions]) is is_withdrawn


def test_models_are_withdrawn_for_machines_whatever_revision_withdrew_them() -> None:
    rows = [row(0, "promoted", "a"), row(0, "withdrawn", "a"), row(1, "promoted", "a"), row(1, "promoted", "b")]
    assert withdrawn_model_ids((row.model_id, row.decision) for row in rows) == {"a"}
