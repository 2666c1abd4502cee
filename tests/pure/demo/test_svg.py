from __future__ import annotations

import pytest

from demo import svg
from demo.plots import running


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1.06, [0, 0.5, 1.0]), (3, 3, [3]), (0, 260, [0, 100, 200])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_a_scale_maps_its_ends_to_its_ends():
    scale = svg.Scale(0, 10, 300, 100)
    assert (scale(0), scale(5), scale(10)) == (300, 200, 100)


def test_labels_that_would_touch_are_moved_apart_and_keep_their_order():
    moved = svg.apart([100.0, 102.0, 50.0], 17)
    assert moved[1] - moved[0] == pytest.approx(17)
    assert moved[2] < moved[0]
    assert sum(moved) == pytest.approx(252)
    assert svg.apart([], 17) == []


def test_text_and_attributes_are_escaped():
    assert svg.text(1, 2, "a < b").endswith(">a &lt; b</text>")
    assert svg.tag("rect", class_='x"y', rx=1.5, fill=None) == '<rect class="x&quot;y" rx="1.5"/>'


def test_a_running_mean_begins_with_five_values():
    points = [(float(at), float(at)) for at in range(20)]
    line = running(points, 15)
    assert line[0] == (4.0, 2.0)
    assert line[-1] == (19.0, 12.0)
    assert running(points[:4]) == []
