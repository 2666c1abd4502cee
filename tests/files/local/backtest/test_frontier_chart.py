from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from spinney.core.backtest.comparison import Comparison, Ratio, Score
from spinney.local.backtest.frontier_chart import CHARACTER_PX, LABEL_OFFSET_PX, Mark, frontier_svg, place_labels
from spinney.local.reports.svg_chart import LABEL_GAP_PX

NAMES = ["never again", "weekly", "random, as many"]
MARKS = st.lists(
    st.builds(Mark, st.floats(0, 700), st.floats(0, 400), st.sampled_from(NAMES)),
    max_size=12,
)


def overlap(one: Mark, other: Mark, heights: tuple[float, float]) -> bool:
    left, right = sorted((one, other), key=lambda mark: mark.x)
    end = left.x + LABEL_OFFSET_PX + CHARACTER_PX * len(left.label)
    return end > right.x and abs(heights[0] - heights[1]) < LABEL_GAP_PX - 1e-6


@given(MARKS)
def test_no_two_labels_overlap(marks: list[Mark]) -> None:
    heights = place_labels(marks)
    for n, m in combinations(range(len(marks)), 2):
        assert not overlap(marks[n], marks[m], (heights[n], heights[m]))


def test_a_label_with_room_stays_beside_its_mark() -> None:
    marks = [Mark(0, 0, "a"), Mark(300, 5, "b"), Mark(300, 9, "c")]
    assert place_labels(marks) == [0, 7 - LABEL_GAP_PX / 2, 7 + LABEL_GAP_PX / 2]


def score(name: str, fits: int, loss: float) -> Score:
    return Score(name, loss, Ratio(loss / 2.0, 0.9 * loss / 2.0, 1.1 * loss / 2.0), 10, fits, {}, 0.0, 0.0, {}, 0)


def test_the_chart_names_every_candidate_and_is_the_same_each_time() -> None:
    comparison = Comparison(10, 5, 2, (score("as configured", 100, 2.0), score("never again", 3, 4.0)))
    text = frontier_svg(comparison, "squared")
    assert text == frontier_svg(comparison, "squared")
    texts = {element.text for element in ET.fromstring(text).iter() if element.tag.endswith("text")}
    assert {"as configured", "never again", "models fitted", "mean squared error"} <= texts
