"""A round drawn: the drawing's own numbers are read back from it."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinney.tracking import plots

NAMES = ["losses.png", "fit_times.png", "outcomes.png"]


def table(rows: list[tuple]) -> pa.Table:
    names = ("status", "decision", "challenger_loss", "champion_loss", "fit_ms")
    types = (pa.string(), pa.string(), pa.float64(), pa.float64(), pa.float64())
    return pa.table({name: pa.array([row[at] for row in rows], types[at]) for at, name in enumerate(names)})


ROUND = table(
    [
        ("fitted", "promoted", 1.0, 2.0, 10.0),
        ("fitted", "refused", 5.0, 4.0, 20.0),
        ("fitted", "promoted", 3.0, None, 3000.0),
        ("kept", "kept", None, None, None),
        ("failed", None, None, None, 7.0),
        ("fitted", "some day", None, None, 1.0),
    ]
)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Every figure that was saved, in order."""
    saved: list[Figure] = []
    real = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: saved.append(self) or real(self, *a, **k))
    return saved


def draw(groups: pa.Table, loss: str = "absolute", target: str = "delay_min") -> dict[str, bytes]:
    return plots.draw(groups, title="flights, batch-3", loss=loss, target=target)


def texts(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [each.get_text() for each in (*figure.texts, *axes.texts) if each.get_text()]


def bars(axes: Axes) -> list[float]:
    return [patch.get_height() for patch in axes.patches if hasattr(patch, "get_height") and patch.get_height()]


def test_the_losses_of_groups_that_have_both_are_drawn_with_the_names_of_loss_and_target(drawn) -> None:
    draw(ROUND)
    figure = drawn[0]
    (axes,) = figure.axes
    assert texts(figure) == [
        "flights, batch-3",
        "Challenger against champion: better in 1 of 2 groups compared.",
        "challenger, median 3",
        "champion, median 3",
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mean absolute error of delay_min on held-out rows", "groups")
    assert sum(bars(axes)) == 2


def test_without_a_champion_the_challengers_are_drawn_alone(drawn) -> None:
    draw(ROUND.slice(2, 1), loss="squared", target="range_km")
    assert texts(drawn[0])[1:] == [
        "Challengers: 1; none had a champion to be compared with.",
        "challenger, median 3",
    ]
    assert drawn[0].axes[0].get_xlabel() == "mean squared error of range_km on held-out rows"


def test_times_that_span_magnitudes_are_drawn_by_magnitude_and_only_those_of_fits(drawn) -> None:
    draw(ROUND)
    figure = drawn[1]
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "time of one group's fit, ms"
    assert sum(bars(axes)) == 4
    # of 1, 10, 20, 3000: the middle is 15; 99 hundredths lie 0.97 of the way from 20 to 3000
    assert texts(figure)[1] == "Time of 4 fits: median 15 ms, 99 % take at most 2,911 ms; 3.03 s in sum."


def test_every_group_is_counted_under_what_became_of_it_known_or_not(drawn) -> None:
    found = plots.outcomes(ROUND)
    assert {name: count for name, count in found.items() if count} == {
        "promoted": 2, "refused": 1, "kept": 1, "failed": 1, "some day": 1,
    }  # fmt: skip
    assert list(found)[:2] == ["promoted", "unproven"]
    draw(ROUND)
    (axes,) = drawn[2].axes
    assert [round(patch.get_width()) for patch in axes.patches] == list(found.values())
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [name.replace("_", " ") for name in found]
    assert "2  (33.3%)" in [text.strip() for text in texts(drawn[2])]


@pytest.mark.parametrize("groups", [ROUND, ROUND.slice(0, 0), ROUND.slice(3, 1)])
def test_there_are_as_many_figures_whatever_there_is_to_draw(groups) -> None:
    found = draw(groups, loss="log", target="late")
    assert list(found) == NAMES
    for png in found.values():
        assert struct.unpack(">II", png[16:24]) == (1170, 624)
