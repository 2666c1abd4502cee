from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from spinney.core.json_conversion import json_value
from spinney.core.reporting.group_status import State


@dataclass(frozen=True)
class Part:
    at: datetime
    loss: float


def test_values_become_those_that_json_can_hold() -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert json_value(Part(noon, float("nan"))) == {"at": "2024-05-01T12:00:00Z", "loss": None}
    assert json_value({1: (np.float64(0.5), np.int64(3), np.bool_(True), None, pd.NaT)}) == {
        "1": [0.5, 3, True, None, None]
    }
    assert json_value([State.FRESH, date(2024, 5, 1), float("inf"), b"x"]) == ["fresh", "2024-05-01", None, "b'x'"]
