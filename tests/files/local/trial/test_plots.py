"""What is drawn and written of a trial. The drawing's own numbers are read back from it."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from spinney.core.errors import SetupError
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.local.trial import output, plots, report_text
from spinney.local.trial.fit import Losses, Trial
from spinney.local.trial.page import page
from spinney.local.trial.plots import compare_with_constant, describe_losses, format_number

START = datetime(2024, 5, 1, tzinfo=UTC)


def trial(n: int = 40, heldout: int = 8, task: str = "regression", **changes: Any) -> Trial:
    draw = np.random.default_rng(3)
    actual = draw.normal(50, 10, n)
    points = pd.DataFrame(
        {
            "event_id": [f"<{at}>" for at in range(n)],
            "event_time": pd.to_datetime([START + timedelta(hours=7 * at) for at in range(n)]),
            "actual": actual,
            "predicted": actual + draw.normal(1, 4, n),
            "heldout": np.arange(n) >= n - heldout,
        }
    )
    points["loss"] = (points["actual"] - points["predicted"]).abs()
    if task == "classification":
        points["actual"] = np.where(np.arange(n) % 3, "fine", "worn")
        points["predicted"] = "fine"
        points["probability"] = draw.uniform(size=n)
        points["loss"] = -np.log(points["probability"])
    held = points[points["heldout"]]["loss"]
    made = Trial(
        group_key='["AA","JFK","<b>LAX</b>"]',
        group=("carrier", "origin", "dest"),
        recipe=Recipe(
            "ridge",
            (("alpha", "30.0"),),
            (Feature("distance_mi", "double"),),
            Feature("air_time_min" if task == "regression" else "wear", "double"),
            task,
            "absolute" if task == "regression" else "log",
            20,
            2000,
            timedelta(days=90),
        ),
        source="departures.parquet",
        left_out={"without a label": 3},
        clock=START,
        rows=n,
        heldout_rows=heldout,
        model_id="ab" * 32,
        codec="linear",
        payload_bytes=1234,
        fit_ms=0.26,
        losses=Losses(float(points[~points["heldout"]]["loss"].mean()), float(held.mean()) if heldout else None, 9.0),
        chosen=None,
        candidates={},
        points=points,
    )
    return replace(made, **changes)


def drawn(of: Trial) -> Figure:
    return plots._with_head(of)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_row_is_drawn_once_in_each_panel_inside_its_axes_held_out_ones_in_their_own_colour(task: str) -> None:
    of = trial(task=task)
    for axes in drawn(of).axes:
        dots: dict[str, int] = {}
        for collection in axes.collections:
            at = np.asarray(collection.get_offsets())
            colour = (
                "held out" if collection.get_facecolor()[0][1] > collection.get_facecolor()[0][0] * 2 else "fitted on"
            )
            dots[colour] = dots.get(colour, 0) + len(at)
            assert (at[:, 0] >= axes.get_xlim()[0]).all()
            assert (at[:, 0] <= axes.get_xlim()[1]).all()
            assert (at[:, 1] >= axes.get_ylim()[0]).all()
            assert (at[:, 1] <= axes.get_ylim()[1]).all()
        assert dots == {"held out": 8, "fitted on": 32}


def test_predicted_stands_against_actual_on_equal_axes_and_residuals_against_time() -> None:
    of = trial()
    left, right = drawn(of).axes
    held = of.points[of.points["heldout"]]
    np.testing.assert_allclose(left.collections[-1].get_offsets(), held[["actual", "predicted"]])
    assert left.get_xlim() == left.get_ylim()
    residuals = np.asarray(right.collections[-1].get_offsets())[:, 1]
    np.testing.assert_allclose(residuals, held["actual"] - held["predicted"])
    assert [axes.get_xlabel() or axes.get_title(loc="left") for axes in (left, right)] == [
        "actual air_time_min",
        "Residuals over time: actual minus predicted air_time_min",
    ]


def test_the_head_says_the_losses_the_rows_and_the_loss_of_a_constant_prediction() -> None:
    of = trial(losses=Losses(10.38, 12.89, 10.65))
    reported = [text.get_text() for text in drawn(of).texts]
    assert reported == [
        "AA · JFK · <b>LAX</b>",
        "air_time_min, by ridge",
        "Mean absolute error: 12.9 on the newest 8, held out; 10.4 on the 32 rows it was fitted on.",
        "The model is no better than the median of the older rows alone: 10.7 held out.",
    ]
    assert "The model is better" in compare_with_constant(trial(losses=Losses(10.0, 10.6, 10.7)))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_the_same_trial_is_the_same_png_of_a_size_and_the_same_page(task: str) -> None:
    one = plots.png(trial(task=task))
    assert one == plots.png(trial(task=task))
    assert one[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", one[16:24]) == (1980, 990)
    assert page(trial(task=task)) == page(trial(task=task))


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize(("n", "heldout"), [(1, 0), (2, 1), (3000, 600)])
def test_a_trial_of_one_row_or_of_thousands_is_drawn_as_well(n: int, heldout: int, task: str) -> None:
    losses = Losses(1.0, 1.0 if heldout else None, 1.0 if heldout else None)
    of = trial(n, heldout, task, losses=losses)
    assert plots.png(of)
    assert "</html>" in page(of)
    assert ("too few to hold any out" in describe_losses(of)) is (heldout == 0)


@pytest.mark.parametrize("hours", [1, 20, 60, 80, 97, 200, 5_000])
def test_rows_of_hours_days_or_months_are_drawn_without_a_warning(hours: int, recwarn: pytest.WarningsRecorder) -> None:
    of = trial()
    times = pd.date_range(START, START + timedelta(hours=hours), len(of.points))
    assert plots.png(replace(of, points=of.points.assign(event_time=times)))
    assert [str(each.message) for each in recwarn] == []


def test_a_group_whose_target_never_moves_is_drawn_as_well() -> None:
    of = trial()
    assert plots.png(replace(of, points=of.points.assign(actual=5.0, predicted=5.0, loss=0.0)))


def test_the_page_needs_nothing_else_and_shows_foreign_text_as_text() -> None:
    text = page(trial())
    assert "<b>LAX</b>" not in text
    assert "&lt;b&gt;LAX&lt;/b&gt;" in text
    assert not re.search(r'(src|href)="(?!#)', text)  # an SVG's own references stay inside it
    assert not re.search(r"url\((?!#)|@import|<script", text)
    assert text.count("<svg") == 1


def test_the_page_lists_the_held_out_rows_that_it_got_most_wrong() -> None:
    of = trial()
    expected = of.points[of.points["heldout"]].nlargest(8, "loss")["event_id"].tolist()
    assert [row["event_id"] for row in report_text.worst_rows(of, 10)] == expected
    assert re.findall(r"<td>&lt;(\d+)&gt;</td>", page(of)) == [name.strip("<>") for name in expected]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (-25.07, "−25.1"), (0.0951, "0.10"), (0.038, "0.038"), (None, "–"), (7.123, "7.12")],
)
def test_numbers_have_the_digits_that_matter(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_files_are_named_by_the_group_and_never_leave_the_folder(tmp_path: Path) -> None:
    assert output.file_stem('["AA","JFK","LAX"]') == "AA-JFK-LAX"
    keys = ['["../../etc/passwd"]', '["a/b"]', '["a_b"]', '["a","b"]', '["a-b"]', "[null]", '["null"]', '[""]']
    stems = [output.file_stem(key) for key in keys]
    assert len(set(stems)) == len(stems)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", stem) and not stem.startswith(".") for stem in stems)
    files = output.write_files(trial(group_key='["../x","y"]'), tmp_path / "deep" / "out")
    assert {Path(path).parent for path in files.values()} == {tmp_path / "deep" / "out"}
    assert all(Path(path).stat().st_size > 1000 for path in files.values())


def test_a_folder_that_cannot_be_written_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="Name another with --out"):
        output.write_files(trial(), tmp_path / "file")
