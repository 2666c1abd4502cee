"""What a challenger's held-out losses show against its champion's and against a constant's, as metrics of the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.held_out_loss import mean_per_group


@dataclass(frozen=True)
class ComparedLosses:
    """Losses on the rows that were compared, each of shape (n_rows,), those of the first group first.

    champion: NaN for a group without one. counts: shape (groups,), the rows of each group.
    """

    challenger: Floats
    champion: Floats
    constant: Floats
    counts: Integers

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of each group, as `fit_groups` describes them; null if there are no rows or it is not finite."""
        columns: dict[str, list[Any]] = {
            "heldout_rows": self.counts.tolist(),
            "challenger_loss": mean_per_group(self.challenger, self.counts),
        }
        for name, losses in (("champion", self.champion), ("constant", self.constant)):
            differences, errors = winsorized_differences(self.challenger - losses, self.counts)
            columns[f"{name}_loss"] = mean_per_group(losses, self.counts)
            columns[f"{name}_difference"] = _finite(differences)
            columns[f"{name}_difference_se"] = _finite(errors)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _finite(values: Floats) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
