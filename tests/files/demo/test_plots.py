from __future__ import annotations

from demo.plots import running_mean


def test_a_running_mean_begins_with_five_values():
    points = [(float(at), float(at)) for at in range(20)]
    line = running_mean(points, 15)
    assert line[0] == (4.0, 2.0)
    assert line[-1] == (19.0, 12.0)
    assert running_mean(points[:4]) == []
