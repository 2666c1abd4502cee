"""What the benchmarks compute, and the load that they make. That they run is tested with Kafka."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from schemas import tables
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.config import parse
from spinney.core.models import codec
from spinney.core.recipes.recipe import Recipe
from spinney.storage.layout import FleetStore
from spinney.tables import delta

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import cold_start
import freshness
import intervals
import late_labels
import latency
import policies
from harness import online_regression
from harness.commands import Spinney
from harness.fleet import LabelModel, Rows, Settings, group_key, write_champions
from harness.process_tree import Usage, peak_mb, python, run
from harness.results import Measure
from harness.send import Turning, uniform
from stream import rate_of


def test_a_rate_leaves_out_the_first_batch_and_the_unknown_end_of_the_last() -> None:
    batches = [(0.0, 1000), (50.0, 300), (52.0, 500), (60.0, 40)]
    assert rate_of(batches, whole_s=99.0) == (300 + 500) / (60 - 50)


def test_a_rate_of_few_batches_is_that_of_the_whole_command() -> None:
    assert rate_of([(0.0, 30), (5.0, 30)], whole_s=10.0) == 6.0


def test_the_slope_is_that_of_a_line() -> None:
    at = np.array([0.0, 1.0, 5.0])
    assert latency.least_squares_slope(at, 3 - 2 * at) == pytest.approx(-2)


def test_the_benchmark_of_late_labels_joins_every_label_and_says_what_that_takes(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["late_labels.py"])
    late_labels.main(["--held", "2000", "--rows", "50", "--batches", "4", "--runs", "1", "--json"])
    found = {each["what"]: each["value"] for each in json.loads(capsys.readouterr().out)["results"]}
    assert 0 < found["a batch, CPU, p50"] <= found["a batch, CPU, p95"] <= found["a batch, CPU, longest"]
    assert found["files per prediction held"] > 20


def test_a_measure_compares_run_by_run() -> None:
    measure = Measure("fits", "s", peer="a loop")
    for ours, peer in ((10.0, 5.0), (30.0, 10.0), (8.0, 8.0)):
        measure.add(ours, peer=peer, peak_mb=ours)
    found = measure.as_json()
    assert (found["value"], found["value_least"], found["value_most"]) == (10, 8, 30)
    assert (found["ratio"], found["ratio_least"], found["ratio_most"]) == (2, 1, 3)
    assert found["peak_mb"] == 30


@pytest.fixture
def config(tmp_path: Path):
    return parse(Settings("f", 10).write(tmp_path).read_text(encoding="utf-8"), "fleet.toml", {})


def topics(monkeypatch: pytest.MonkeyPatch, module, config, events, predictions) -> None:
    held = {config.kafka.events: events, config.kafka.predictions: predictions}
    monkeypatch.setattr(module, "answers", lambda _, topic: iter(held[topic]))


def test_latency_is_counted_after_the_warm_up_from_event_to_first_prediction(tmp_path, config, monkeypatch) -> None:
    events = [(1000 * n, {"id": f"e{n}"}) for n in range(6)] + [(0, {"id": "first0"})]
    # e0 and e1 are warm-up; e3 is answered twice, e5 never.
    late = {"e0": 9000, "e1": 9000, "e2": 2500, "e3": 4000, "e4": 7000}
    predictions = [(at, {"event_id": name}) for name, at in late.items()] + [(99_000, {"event_id": "e3"})]
    topics(monkeypatch, latency, config, events, predictions)
    load = latency.Load(groups=10, rate=1, warm_up=2, seconds=4)
    load_test = latency.LoadTest(config, Spinney(tmp_path / "fleet.toml"), load, (config.kafka.predictions, "event_id"))
    memory = ((1.0, 50.0), (12.0, 100.0), (13.0, 110.0), (14.0, 120.0), (99.0, 500.0))
    found = load_test._evaluate(Usage(20.0, 1.0, memory), began=12.0)
    assert found.latency_s.tolist() == [0.5, 1.0, 3.0]
    assert found.unanswered == 1
    assert found.memory_growth_mb_per_minute == pytest.approx(600)


def test_a_group_waits_from_its_turning_event_to_the_first_answer_of_another_model(config, monkeypatch) -> None:
    events = [(1000, {"id": "turned-3"}), (2000, {"id": "turned-4"}), (2500, {"id": "rest-0-1"})]
    old = {group: f"{group:064x}" for group in (3, 4)}
    predictions = [
        (1800, {"event_id": "turned-3", "group_key": '["g3"]', "model_id": old[3]}),
        (2600, {"event_id": "turned-4", "group_key": '["g4"]', "model_id": old[4]}),
        (9000, {"event_id": "probe-8-3", "group_key": '["g3"]', "model_id": "new"}),
        (6000, {"event_id": "probe-5-3", "group_key": '["g3"]', "model_id": "new"}),
        (7000, {"event_id": "probe-5-4", "group_key": '["g4"]', "model_id": old[4]}),
        (7000, {"event_id": "rest-0-1", "group_key": '["g9"]', "model_id": "new"}),
    ]
    topics(monkeypatch, freshness, config, events, predictions)
    found = freshness.waits(config)
    assert found.answered.tolist() == [5.0]
    assert sorted(found.first.tolist()) == [0.6, 0.8]
    assert found.waiting == (4,)
    topics(monkeypatch, freshness, config, events, predictions)
    after_warm_up = freshness.waits(config, first_group=4)
    assert after_warm_up.answered.tolist() == []
    assert after_warm_up.first.tolist() == [0.6]


def test_champions_miss_the_true_weights_by_the_error_asked_for(tmp_path, monkeypatch) -> None:
    config = parse(Settings("f", 300).write(tmp_path).read_text(encoding="utf-8"), "fleet.toml", {})
    label_model = LabelModel(300)
    write_champions(config, label_model, error=0.5)
    rows = delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist()
    made = {row["group_key"]: codec.load(row["codec"], row["payload"]).estimator.coefficients[0] for row in rows}
    weights = np.array([made[group_key(group)] for group in range(300)])
    assert (weights - label_model.weights).std() == pytest.approx(0.5, rel=0.1)


def test_synthetic_rows_are_as_many_as_asked_for_and_one_group_has_its_share() -> None:
    (table,) = Rows(20, largest_share=0.3).chunks(LabelModel(71))
    counts = Counter(table["gid"].to_pylist())
    assert counts.pop("g0") == 600  # of 2,000
    assert len(counts) == 70
    assert set(counts.values()) == {20}
    assert len(set(table["id"].to_pylist())) == 2000


def test_labels_follow_the_linear_truth_of_their_group() -> None:
    label_model = LabelModel(3)
    (table,) = Rows(400).chunks(label_model)
    rows = table.to_pandas()
    rows = rows[rows["gid"] == "g2"]
    x = np.column_stack([rows[f"x{n}"] for n in range(8)] + [np.ones(len(rows))])
    found = np.linalg.lstsq(x, rows["y"], rcond=None)[0]
    assert found == pytest.approx([*label_model.weights[2], 2.0], abs=0.15)


def test_each_second_new_groups_get_all_their_events_and_those_before_are_asked_again() -> None:
    blocks = list(Turning(groups=100, seconds=2, rate=30, turn=2, rows=5, probe_seconds=6).blocks())
    assert len(blocks) == 8
    groups, ids = blocks[0]
    assert Counter(groups)[0] == Counter(groups)[1] == 5
    assert len(groups) == 30
    turned = {name: ids.index(name) for name in ids if name.startswith("turned-")}
    assert turned == {"turned-0": 8, "turned-1": 9}
    assert min(groups[10:]) >= 4  # nobody else's events make a group stale before its turn
    probes = [name for _, names in blocks for name in names if name.startswith("probe-")]
    assert Counter(name.rpartition("-")[2] for name in probes) == {"0": 2, "1": 2, "2": 2, "3": 2}
    every = [name for _, names in blocks for name in names]
    assert len(set(every)) == len(every)


def test_uniform_load_has_the_records_and_ids_asked_for() -> None:
    blocks = list(uniform(10, 25, "e", 10))
    assert [name for _, names in blocks for name in names] == [f"e{n}" for n in range(25)]
    assert all(0 <= group < 10 for groups, _ in blocks for group in groups)


def test_a_failing_command_is_an_error_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)tiny: exit code 3; its last lines:.*so it goes"):
        run(python("-c", "import sys; print('so it goes', file=sys.stderr); sys.exit(3)"), tmp_path, name="tiny")


def test_the_cost_of_a_command_has_its_children_in_it(tmp_path: Path) -> None:
    child = "import time; x = bytearray(60_000_000)\nwhile time.process_time() < 0.5: pass\ntime.sleep(1.5)"
    used = run(
        python("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"), tmp_path, name="n"
    )
    assert used.cpu_s >= 0.5
    if Path("/proc/self/smaps_rollup").exists():
        assert used.peak_mb >= 57
        assert peak_mb(used.memory_by_kind["Python workers"]) >= 57
        assert 0 < peak_mb(used.memory_by_kind["driver"]) < 57
        assert peak_mb(used.memory_by_kind["JVM"]) == 0


def test_the_benchmark_of_policies_compares_the_defaults_with_every_baseline() -> None:
    departures = pd.read_parquet(Path(__file__).parents[2] / "examples" / "flights" / "departures.parquet")
    is_wanted = departures["scheduled_departure"] < pd.Timestamp("2013-01-15", tz="UTC")
    is_wanted &= (departures["carrier"] == "US") & (departures["dest"] == "CLT")
    flights = departures[is_wanted].assign(flight=departures["event_id"].str[18:])
    case = policies.Case("route", "air_time_min", "squared")
    comparison = policies.run(case, flights)
    rows = list(policies.as_rows(case.name, comparison))
    assert len(rows) == 11
    assert (rows[0]["ratio"], rows[0]["low"], rows[0]["fits_to_own"]) == (1.0, 1.0, 1.0)
    never = next(row for row in rows if row["strategy"] == "never again")
    assert never["ratio"] == pytest.approx(rows[0]["loss"] / never["loss"])
    assert never["low"] <= never["ratio"] <= never["high"]
    table = policies.markdown(rows, comparison).splitlines()
    assert len(table) == 4 + len(rows)
    assert table[4].startswith("| as configured |")


class MeanOfLabels:
    """Stands for river's model: it answers with the mean of the labels that it has learned."""

    def __init__(self) -> None:
        self.labels: list[float] = []

    def learn_one(self, known: dict[str, float], label: float) -> None:
        assert "wind_speed_mph" not in known, "a value that is missing"
        self.labels.append(label)

    def predict_one(self, known: dict[str, float]) -> float:
        return float(np.mean(self.labels))


def test_an_online_model_has_learned_the_labels_of_its_group_that_were_known_by_the_event(monkeypatch) -> None:
    at, hour = pd.Timestamp("2013-01-01", tz="UTC"), pd.Timedelta("1h")
    rows = [  # carrier, hour of the event, hour of its label, label
        ("AA", 0, 2, 10.0), ("AA", 1, 5, 30.0), ("AA", 2, 9, 50.0), ("AA", 6, 9, 25.0), ("DL", 7, 8, 0.0),
    ]  # fmt: skip
    flights = pd.DataFrame([row[0] for row in rows], columns=["carrier"]).assign(
        origin="JFK", dest="LAX", flight=1, distance_mi=1.0, temp_f=2.0, wind_speed_mph=np.nan, pressure_mbar=3.0,
        scheduled_departure=[at + row[1] * hour for row in rows], arrival=[at + row[2] * hour for row in rows],
        air_time_min=[row[3] for row in rows],
    )  # fmt: skip
    case = policies.Case("route", "air_time_min", "absolute")
    config = case.config()
    history = History.of(case.rows(flights), Recipe.of(config), LabelTiming.from_config(config))
    monkeypatch.setattr(online_regression, "_model_of", lambda loss: MeanOfLabels)
    found = online_regression.replay_online(history, "absolute")
    assert found.losses.tolist() == pytest.approx([np.nan, np.nan, 40.0, 5.0, np.nan], nan_ok=True)
    assert (found.fits, found.refits) == (0, 0)


def test_without_river_the_benchmark_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(SystemExit, match=r"pip install river==0\.26\.1"):
        online_regression._model_of("absolute")


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [(0.9, 0.99, "better"), (0.99, 1.005, "equal"), (0.99, 1.02, "not shown"), (1.001, 1.02, "worse")],
)
def test_a_verdict_is_that_of_the_interval(low: float, high: float, message: str) -> None:
    assert policies.verdict(low, high) == message


def test_the_score_of_an_interval_is_its_width_and_ten_times_twice_what_lies_outside() -> None:
    assert intervals.winkler(np.array([1.0, 5.0]), np.array([3.0, 3.0])) == pytest.approx((6 + 6 + 20 * 2) / 2)


def test_the_flights_of_a_day_count_as_one_observation() -> None:
    inside, day = np.array([True] * 10 + [False] * 10), np.repeat([1, 2], 10)
    assert intervals.standard_error(inside, day) == pytest.approx(np.sqrt(2 * 5**2) / 20)


def test_a_decile_of_nominal_coverage_is_missed_beyond_two_errors_and_three_points() -> None:
    """Of a normal variable 4.55 % lie beyond two standard errors, 0.27 % beyond three."""
    assert intervals.missed_by_chance(0.02) == pytest.approx(0.0455, abs=1e-4)
    assert intervals.missed_by_chance(0.01) == pytest.approx(0.0027, abs=1e-4)
    assert intervals.missed_by_chance(0.0) == 0


def test_flights_are_replayed_with_intervals_of_nominal_coverage(tmp_path, monkeypatch, capsys) -> None:
    random, hours = np.random.default_rng(4), 24 * 45
    times = pd.date_range("2013-02-15", periods=hours, freq="h", tz="UTC").repeat(20)
    flights = pd.DataFrame(
        {"scheduled_departure": times, "origin": "JFK", "carrier": "AA", "flight": range(len(times))}
    )
    flights["dest"] = np.tile([f"D{n}" for n in range(20)], hours)
    flights[list(intervals.FEATURES)] = random.normal(size=(len(times), 4))
    noise = random.normal(scale=np.tile(np.arange(1, 21), hours))
    flights["air_time_min"] = 20 * flights["temp_f"] + noise  # otherwise the gate would refuse first models
    flights.to_parquet(tmp_path / "flights.parquet")
    monkeypatch.setattr(intervals, "END", intervals.FIRST_FIT + pd.Timedelta("14D"))
    asked = ["--target", "air_time_min", "--group", "route", "--schedule", "weekly", "--json"]
    intervals.main([str(tmp_path / "flights.parquet"), *asked])
    (result,) = json.loads(capsys.readouterr().out)
    assert result["flights"] == 2 * 7 * 24 * 20
    assert result["coverage"] == pytest.approx(0.9, abs=0.02)
    assert result["winkler"] < result["winkler_one_width"]
    assert result["unbounded"] == 0


def test_the_benchmark_of_the_cold_start_compares_the_ladder_with_own_and_global_models() -> None:
    departures = pd.read_parquet(Path(__file__).parents[2] / "examples" / "flights" / "departures.parquet")
    is_wanted = departures["scheduled_departure"] < pd.Timestamp("2013-01-07", tz="UTC")
    is_wanted &= departures["dest"].isin(["CLT", "BOS"])
    flights = departures[is_wanted].assign(flight=departures["event_id"].str[18:])
    case = cold_start.Case("route", "air_time_min", 20.0)
    result = cold_start.run(case, flights, warm_up=3)
    assert result.losses.shape == (len(result.day), len(cold_start.METHODS))
    assert result.day.min() == 3
    rows = list(cold_start.as_rows(case, result, beside="ladder"))
    thin = {row["method"]: row for row in rows if row["rows_so_far"] == "fewer than 20"}
    assert thin.keys() == set(cold_start.METHODS)
    assert (thin["ladder"]["ratio"], thin["ladder"]["low"]) == (1.0, 1.0)
    few = result.losses[(result.rows < 20) & np.isfinite(result.losses).all(axis=1)]
    assert thin["global only"]["loss"] == pytest.approx(few[:, cold_start.METHODS.index("global only")].mean())
    assert thin["own only"]["ratio"] == pytest.approx(thin["own only"]["loss"] / thin["ladder"]["loss"])
    # A group with fewer rows than it needs for a model is answered by its parent, pooled or not.
    none = result.losses[result.rows < cold_start.MIN_ROWS_POOLED]
    np.testing.assert_array_equal(none[:, 0], none[:, cold_start.METHODS.index("pooled")])
    assert len(cold_start.markdown(rows).splitlines()) == 2 + len(rows)
    assert result.fleets["parents of estimated"].champions["{}"].model.estimator.group_variances.shape == (2, 7)
    (first, *_) = cold_start.as_rows(case, result, beside="estimated")
    assert (first["method"], first["ratio"]) == ("estimated", 1.0)
    # Seasons that are added up: the same mean loss, on days of their own.
    (twice, *_) = cold_start.as_rows(case, cold_start.together([result, result]), beside="estimated")
    assert (twice["events"], twice["loss"]) == (2 * first["events"], pytest.approx(first["loss"]))
    assert len(np.unique(cold_start.together([result, result]).day)) == 2 * len(np.unique(result.day))
