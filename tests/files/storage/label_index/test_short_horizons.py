from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from label_index import SHAPE, Row, predictions

from spinney.storage.label_index.arrived_rows import Arrived
from spinney.storage.label_index.label_index import IndexShape, LabelIndex


def test_a_backlog_of_an_hour_is_in_a_file_a_minute_however_short_the_horizon_is(tmp_path: Path) -> None:
    index = LabelIndex(tmp_path, IndexShape(timedelta(seconds=16), SHAPE.answers, SHAPE.label))
    rows = predictions([Row(n, 0, 1.0) for n in range(3_600)])
    index.add(Arrived(rows.ids, np.arange(3_600) * 1_000_000, rows.rows), None)
    assert len(list(tmp_path.iterdir())) == 60
    assert len(index) == 3_600
