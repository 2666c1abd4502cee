"""The outcome of a check of something of a user's own: an estimator, a policy, a rule of the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from spinney.core.errors import ContractError

Case = TypeVar("Case")


@dataclass(frozen=True)
class FailedPoint:
    """A point that is not fulfilled. message: what was observed. remedy: what to do."""

    point: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.point}: {self.message}. {self.remedy}"


class PointFailed(Exception):  # noqa: N818 - becomes a `FailedPoint`
    """Raised by a check, with the message and the remedy."""


def check_named_point(
    points: Mapping[str, Callable[[Case], None]], case: Case, point: str, remedy: str
) -> FailedPoint | None:
    """Check one of these points. Returns None if it is fulfilled.

    remedy: what to do if the user's code breaks its contract, so that it raises ContractError.
    """
    try:
        points[point](case)
    except PointFailed as error:
        message, what_to_do = error.args
        return FailedPoint(point, message, what_to_do)
    except ContractError as error:
        return FailedPoint(point, str(error), remedy)
    return None
