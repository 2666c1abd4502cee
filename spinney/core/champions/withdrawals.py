"""The withdrawal rule: which models may not answer.

A row with the decision `withdrawn` applies to its model

- in its own revision: to every promotion of the model;
- in later revisions: to promotions by machines only. A machine that fits the same rows again makes the same model
  again, and must not bring it back. A person who promotes the model in a later revision does.

Every caller that asks whether a model is withdrawn uses a function of this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from schemas.vocabulary import Decision
from spinney.core.champions.promotion import Promotion

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Ints = npt.NDArray[np.int64]
    _Bools = npt.NDArray[np.bool_]


def without_withdrawn(promotions: Iterable[Promotion], withdrawals: Iterable[Promotion]) -> list[Promotion]:
    """Return the promotions of one group whose models are not withdrawn.

    promotions: of the group's greatest revision. withdrawals: the `withdrawn` rows of all revisions.
    """
    any_revision: set[str] = set()
    same_revision: set[tuple[int, str]] = set()
    for row in withdrawals:
        any_revision.add(row.model_id)
        same_revision.add((row.revision, row.model_id))
    return [
        row
        for row in promotions
        if not ((row.revision, row.model_id) in same_revision if row.is_by_person else row.model_id in any_revision)
    ]


def mark_withdrawn(model: _Ints, is_withdrawal: _Bools, is_current: _Bools, is_by_person: _Bools) -> _Bools:
    """For each row of `promotions`, whether its model is withdrawn: `without_withdrawn` for many groups at once.

    model: a number for the row's group and model_id. is_withdrawal: whether its decision is `withdrawn`. is_current:
    whether it is of its group's greatest revision. All have shape (n_rows,).
    """
    import numpy as np  # `spinney --help` imports this module and must not load NumPy

    same_revision = np.isin(model, model[is_withdrawal & is_current])
    any_revision = np.isin(model, model[is_withdrawal])
    return np.where(is_by_person, same_revision, any_revision)


def withdrawn_model_ids(decisions: Iterable[tuple[str, str]]) -> set[str]:
    """Return the models that have ever been withdrawn. No gate promotes them again; only a person can.

    decisions: model_id and decision of each row of `promotions`.
    """
    return {model_id for model_id, decision in decisions if decision == Decision.WITHDRAWN}


def is_still_withdrawn(promotions: Sequence[Promotion]) -> bool:
    """Whether a model was withdrawn and no later revision promoted it again. promotions: all rows of this model."""
    withdrawn = max((row.revision for row in promotions if row.decision == Decision.WITHDRAWN), default=-1)
    return withdrawn >= max((row.revision for row in promotions if row.decision != Decision.WITHDRAWN), default=0)
