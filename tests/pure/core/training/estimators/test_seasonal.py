from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinney.core.errors import ContractError, Corrupt
from spinney.core.features.encoding import minutes_of_week, to_columns
from spinney.core.models.codec import dump, load
from spinney.core.models.model import Model
from spinney.core.models.seasonal_table import Cells
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import KernelInput, KernelResult

FEATURES = (Feature("x", "double"), Feature("s", "string"), Feature("at", "timestamp"), Feature("day", "date"))
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = ("hour_of_week", "hour_of_day")


def rows(seed: int = 4, n: int = 1500) -> pd.DataFrame:
    """Rows at any minute of ten weeks, a daily and a weekly rhythm, noise, and gaps in the time."""
    draw = np.random.default_rng(seed)
    at = pd.Series(pd.Timestamp(MONDAY) + pd.to_timedelta(draw.integers(0, 70 * 1440, n), unit="min"))
    label = at.dt.hour * 2.0 + at.dt.dayofweek * 10.0 + draw.normal(size=n)
    frame = pd.DataFrame({"x": draw.normal(size=n), "s": "a", "at": at, "day": at.dt.date, "label": label})
    frame.loc[::50, "at"] = pd.NaT
    return frame


def stack(frame: pd.DataFrame, labels: Any = None, weights: Any = None) -> KernelInput:
    values = frame["label"].to_numpy() if labels is None else np.asarray(labels)
    return KernelInput(('["a"]',), to_columns(frame, FEATURES), np.array([0, len(frame)]), values, weights)


def attempt(of: KernelInput, task: str = "regression", **params: Any) -> KernelResult:
    (result,) = kernel_for("seasonal", task, params).fit(of, lambda: 0.0)
    return result


def fit(of: KernelInput, task: str = "regression", **params: Any) -> Model:
    model = attempt(of, task, **params).model
    assert model is not None
    return model


def at(*times: object) -> pd.DataFrame:
    """Rows of which nothing but the time is known."""
    stamps = pd.Series(pd.to_datetime(list(times), utc=True))
    return pd.DataFrame({"x": np.nan, "s": None, "at": stamps, "day": stamps.dt.date})


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_it_is_what_pandas_groups_by_hour_of_the_week_and_then_by_hour_of_the_day(statistic: str) -> None:
    known = rows()
    stamped = known.dropna(subset=["at"])
    hour = [stamped["at"].dt.dayofweek, stamped["at"].dt.hour]
    of_week = stamped.groupby(hour)["label"].agg(["size", statistic])
    of_day = stamped.groupby(stamped["at"].dt.hour)["label"].agg(["size", statistic])
    assert (of_week["size"] < 7).any()
    assert (of_week["size"] >= 7).any()
    asked = at(*pd.date_range(MONDAY, periods=7 * 24, freq="h") + pd.Timedelta("59min"))
    expected = [
        of_week.loc[key, statistic] if of_week.loc[key, "size"] >= 7 else of_day.loc[key[1], statistic]
        for key in zip(asked["at"].dt.dayofweek, asked["at"].dt.hour, strict=True)
    ]
    given = fit(stack(known), cells=list(HOURS), cell_rows=7, statistic=statistic).predict(asked)
    np.testing.assert_allclose(given, expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_where_no_cell_has_enough_rows_or_the_time_is_missing_it_is_the_constant(statistic: str) -> None:
    known = rows(n=40)
    whole = fit(stack(known), cell_rows=100, statistic=statistic).predict(at("2024-03-01 08:00", None))
    np.testing.assert_allclose(whole, [known["label"].agg(statistic)] * 2)
    assert fit(stack(rows()), statistic=statistic).predict(at(None)).tolist() == [
        pytest.approx(rows()["label"].agg(statistic))
    ]


def test_weights_by_age_count_in_every_cell_and_rows_without_weight_do_not() -> None:
    frame = at(*["2024-01-01 08:10"] * 3, *["2024-01-01 09:10"] * 3)
    weights = np.array([1.0, 1.0, 2.0, 1.0, 0.0, 0.0])
    of = stack(frame, [1.0, 2.0, 6.0, 50.0, 60.0, 70.0], weights)
    # 8 h: (1 + 2 + 2·6) / 4. 9 h: one row that counts is too few, so (1 + 2 + 12 + 50) / 5 of all.
    answers = fit(of, cells="hour_of_day", cell_rows=2).predict(at("2024-02-02 08:59", "2024-02-02 09:00"))
    assert answers.tolist() == [3.75, 13.0]


def test_a_class_is_its_share_in_the_cell_with_one_row_of_the_coarser_cells_shares() -> None:
    frame = at(*["2024-01-01 08:10"] * 3, "2024-01-01 20:00")
    model = fit(
        stack(frame, np.array(["b", "b", "b", "a"], dtype=object)), "classification", cells=["hour_of_day"], cell_rows=2
    )
    given = model.probabilities(at("2024-01-08 08:00", "2024-01-08 20:00", None))
    assert given is not None
    assert given[0] == ("a", "b")
    # All: a 1/4, b 3/4. 8 h: (0 + 1/4) / 4 and (3 + 3/4) / 4. 20 h has too few rows.
    np.testing.assert_allclose(given[1], [[1 / 16, 15 / 16], [1 / 4, 3 / 4], [1 / 4, 3 / 4]])


@pytest.mark.parametrize(
    ("text", "period", "step"), [("12h/30m", 720, 30), ("7d/12h", 10080, 720), ("1d/15m", 1440, 15)]
)
def test_a_period_of_ones_own_repeats_through_the_week(text: str, period: int, step: int) -> None:
    known = rows().dropna(subset=["at"])
    minute = known["at"].dt.dayofweek * 1440 + known["at"].dt.hour * 60 + known["at"].dt.minute
    means = known.groupby(minute % period // step)["label"].mean()
    asked = at(*pd.date_range("2024-05-06", periods=period // step, freq=f"{step}min"))
    given = fit(stack(known), cells=text, cell_rows=1).predict(asked)
    for cell, answer in enumerate(given):
        assert answer == pytest.approx(means.get(cell, known["label"].mean()))


def test_a_date_has_days_of_the_week_and_refuses_hours() -> None:
    known = rows()
    given = fit(stack(known), cells="day_of_week", time="day").predict(at("2024-01-02 23:59", "2024-01-07 00:00"))
    means = known.groupby(pd.to_datetime(known["day"]).dt.dayofweek)["label"].mean()
    np.testing.assert_allclose(given, [means[1], means[6]])
    assert "expected whole days, since day is a date" in str(attempt(stack(known), time="day").error)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_it_survives_its_codec_as_arrays_and_answers_the_same_bits(task: str) -> None:
    labels = None if task == "regression" else np.where(rows()["label"] > 40, "high", "low").astype(object)
    model = fit(stack(rows(), labels), task)
    name, payload = dump(model)
    back = load(name, payload)
    assert (name, back.classes) == ("seasonal", model.classes)
    np.testing.assert_array_equal(back.predict(rows()), model.predict(rows()))
    assert dump(back) == (name, payload)
    assert len(payload) < 169 * 8 * (1 if task == "regression" else 2) + 200


def test_a_row_asked_alone_is_answered_as_among_others() -> None:
    model, frame = fit(stack(rows())), rows()
    alone = [model.predict(frame.iloc[[at]])[0] for at in range(0, 1500, 100)]
    np.testing.assert_array_equal(alone, model.predict(frame)[::100])


@pytest.mark.parametrize("at_byte", [0, 1, 3, 7, 9, 13, 17, -1])
def test_a_changed_byte_of_the_layout_or_a_missing_one_is_corrupt(at_byte: int) -> None:
    name, payload = dump(fit(stack(rows())))
    broken = payload[:-1] if at_byte < 0 else payload[:at_byte] + b"\xfe" + payload[at_byte + 1 :]
    with pytest.raises(Corrupt):
        load(name, broken)


def test_cells_that_nobody_could_hold_are_corrupt_before_memory_is_taken() -> None:
    name, payload = dump(fit(stack(rows())))
    start = struct.Struct("<BHIHIII")
    fields = list(start.unpack_from(payload))
    with pytest.raises(Corrupt, match="one must divide the other"):
        load(name, start.pack(*fields[:4], 2**31, 1, fields[6]) + payload[start.size :])


def test_without_a_time_among_the_features_it_says_what_to_do() -> None:
    of = KernelInput(
        ('["a"]',), to_columns(rows(), FEATURES[:2]), np.array([0, 1500]), rows()["label"].to_numpy(), None
    )
    assert "ame the event's time in fleet.features" in str(attempt(of).error)
    assert "got 'x'" in str(attempt(stack(rows()), time="x").error)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"cells": "hour"}, "hour_of_week"),
        ({"cells": []}, "hour_of_week"),
        ({"cells": "5d/1h"}, "divide the week"),
        ({"cells": "1d/90s"}, "whole minutes"),
        ({"cells": ["hour_of_day", "hour_of_week"]}, "put the finest first"),
        ({"cells": ["1d/2h", "1d/3h"]}, "put the finest first"),
        ({"cell_rows": 0}, "whole number"),
        ({"cell_rows": True}, "whole number"),
        ({"statistic": "mode"}, '"median"'),
        ({"season": 7}, "cell_rows"),
    ],
)
def test_wrong_params_are_refused_in_a_sentence(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        kernel_for("seasonal", "regression", params)


def test_every_minute_of_a_year_finds_its_hour_of_the_week() -> None:
    minutes = pd.date_range("2024-01-01", "2025-01-01", freq="min", tz="UTC", inclusive="left")
    frame = pd.DataFrame({"at": minutes})
    columns = to_columns(frame, (Feature("at", "timestamp"),))
    expected = minutes.dayofweek * 24 + minutes.hour
    np.testing.assert_array_equal(Cells.named("hour_of_week").of(minutes_of_week(columns.numbers)), expected)
