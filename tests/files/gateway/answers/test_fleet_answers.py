"""Answers to requests of mixed groups. The oracle multiplies and adds, a row at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from handwritten_history import hour
from linear_fleet import FEATURES, LinearFleet, key_of, parent_of, promote, write_fleet
from oracles import DEPT, A, B, made, mixed, stream_answers

from spinney.core import keys
from spinney.core.errors import ContractError, StoreError
from spinney.fleet import Fleet
from spinney.gateway.answers import champion_refresh
from spinney.gateway.answers.champion_refresh import ChampionRefresh
from spinney.gateway.answers.fleet_answers import FleetAnswers, Records
from spinney.gateway.errors import RequestError, TooMuchError
from spinney.gateway.protocols.json_body import read_json
from spinney.serving import fleet_snapshot, model_cache
from spinney.serving.fleet_snapshot import FleetSnapshot, read_snapshot
from spinney.serving.model_cache import ModelCache, NotLoadedError
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import load_signer

GROUPS = 1_000
BEYOND = dict(zip(FEATURES, (1.7e308, 1.7e308, -1.7e308, 1.7e308), strict=True))
"""Features for which the model of group 1 has no finite answer."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> LinearFleet:
    return write_fleet(
        tmp_path_factory.mktemp("lines"), GROUPS, more="[gateway]\nmax_rows = 10_000\nmax_groups = 1_000"
    )


@pytest.fixture
def feed(fleet: LinearFleet) -> ChampionRefresh:
    return ChampionRefresh(FleetStore.of(fleet.config))


@pytest.fixture
def answers(fleet: LinearFleet, feed: ChampionRefresh) -> FleetAnswers:
    return answers_of(fleet, feed)


def answers_of(fleet: LinearFleet, feed: ChampionRefresh, cache: ModelCache | None = None) -> FleetAnswers:
    store = FleetStore.of(fleet.config)
    return FleetAnswers(fleet.config, load_signer(store), lambda: feed.current, cache or ModelCache())


def asked(records: list[Any], **more: Any) -> Records:
    body = read_json(json.dumps(records).encode())
    return Records(body.value, lambda: body.exact, check_names=body.require_unique_names, **more)


def record(n: int, **more: Any) -> dict[str, Any]:
    return {"shop": f"s{n}", "dept": f"d{n % 10}", **dict.fromkeys(FEATURES, 1.0), **more}


def test_ten_thousand_rows_of_a_thousand_groups_are_answered_each_by_its_own_model(
    fleet: LinearFleet, answers: FleetAnswers
) -> None:
    random = np.random.default_rng(11)
    records = [
        record(n, **dict(zip(FEATURES, random.normal(size=4).tolist(), strict=True)))
        for n in random.integers(0, GROUPS, 10_000).tolist()
    ]
    found = answers.answer(asked(records)).entries()
    for given, entry in zip(records, found, strict=True):
        key = keys.encode([given["shop"], given["dept"]])
        prediction, half = fleet.expected(key, given), (entry["upper"] - entry["lower"]) / 2
        assert half > 0
        assert (entry.pop("lower"), entry.pop("upper")) == pytest.approx((prediction - half, prediction + half))
        assert entry == {
            "prediction": prediction,
            "model_id": fleet.model_ids[key],
            "answered_by": "own",
            "status": "answered",
        }


def test_answers_are_those_of_fleet_predict_to_the_bit(fleet: LinearFleet, answers: FleetAnswers) -> None:
    records = [record(n, x0=n / 7, x3=None if n % 3 else 0.1) for n in (5, 3, 5, GROUPS + 4)]
    found = answers.answer(asked(records))
    expected = Fleet(fleet.config).predict(pd.DataFrame(records))
    names = ("prediction", "lower", "upper", "model_id", "answered_by")
    assert found.columns == {name: expected[name].tolist() for name in names}
    assert found.columns["answered_by"] == ["own", "own", "own", "parent"]


def test_bad_records_have_errors_of_their_own_at_their_places(fleet: LinearFleet, answers: FleetAnswers) -> None:
    found = answers.answer(asked([record(1, x0="much"), record(2), None, record(3, dept="nowhere")])).entries()
    assert [each["status"] for each in found] == ["invalid", "answered", "invalid", "no_model"]
    assert found[0] == {
        "prediction": None, "lower": None, "upper": None, "model_id": None, "answered_by": "none", "status": "invalid",
        "error": {"reason": "wrong_type", "field": "x0", "detail": 'x0: expected double; got the text "much"'},
    }  # fmt: skip
    assert found[1]["prediction"] == fleet.expected(key_of(2), record(2))
    assert found[3] == dict.fromkeys(found[3]) | {"answered_by": "none", "status": "no_model"}


def test_a_request_without_any_valid_record_is_answered_with_an_error_for_each(answers: FleetAnswers) -> None:
    found = answers.answer(asked([3, None])).entries()
    assert [(each["status"], each["error"]["reason"]) for each in found] == [("invalid", "not_an_object")] * 2


def test_too_many_records_or_groups_are_refused(answers: FleetAnswers) -> None:
    with pytest.raises(
        TooMuchError, match=r"at most 10000 records; got 10001\. Send several requests, or raise gateway\.max"
    ):
        answers.answer(asked([record(1)] * 10_001))
    with pytest.raises(TooMuchError, match="at most 1000 groups; got 1001"):
        answers.answer(asked([record(n) for n in range(1_001)]))


def test_a_name_that_is_twice_in_a_record_is_refused_whatever_its_texts_hold(answers: FleetAnswers) -> None:
    whole = record(1, note='a "quoted" \\ text')
    text = json.dumps([whole])
    for given, refused in ((text, False), (text.replace('"x0": 1.0', '"x0": 1.0, "x0": 2.0'), True)):
        body = read_json(given.encode())
        records = Records(body.value, lambda body=body: body.exact, check_names=body.require_unique_names)
        if refused:
            with pytest.raises(RequestError, match='expected each name once in an object; got "x0" twice'):
                answers.answer(records)
        else:
            assert answers.answer(records).entries()[0]["status"] == "answered"


def test_a_feature_that_no_record_has_is_refused(answers: FleetAnswers) -> None:
    with pytest.raises(ContractError, match="records: field x2: expected it in some record"):
        answers.answer(asked([{name: value for name, value in record(1).items() if name != "x2"}]))


def test_a_promotion_answers_after_the_next_look(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, 20)
    feed = ChampionRefresh(FleetStore.of(fleet.config))
    answers = answers_of(fleet, feed)
    before = answers.answer(asked([record(4), record(5)]))

    names = promote(fleet.config, {key_of(4): np.zeros(5)}, hour=2)
    assert answers.answer(asked([record(4), record(5)])) == before, "nobody looked yet"
    feed.refresh()
    after = answers.answer(asked([record(4), record(5)]))
    assert after.columns["model_id"] == [names[key_of(4)], before.columns["model_id"][1]]
    assert after.columns["prediction"][0] == 0.0


def test_a_request_takes_one_snapshot_and_sees_no_other(fleet: LinearFleet, feed: ChampionRefresh) -> None:
    taken = []
    store = FleetStore.of(fleet.config)
    answers = FleetAnswers(fleet.config, load_signer(store), lambda: taken.append(1) or feed.current, ModelCache())
    taken.clear()
    answers.answer(asked([record(n) for n in (1, 2, GROUPS + 3)]))
    assert taken == [1]


def test_intervals_by_new_champions_are_calibrated_before_these_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = write_fleet(tmp_path, 200, more="[intervals]\ncoverage = 0.8")
    store = FleetStore.of(fleet.config)
    feed = ChampionRefresh(store)
    answers = answers_of(fleet, feed)
    feed.prepare = answers.prepare
    records = [record(n) for n in range(20)]
    before = answers.answer(asked(records))
    promote(fleet.config, {key_of(n): np.full(5, 7.0) for n in range(100)}, hour=2)
    feed.refresh()
    with monkeypatch.context() as patched:
        patched.setattr(FleetSnapshot, "pools", lambda *_, **__: pytest.fail("a request calibrated"))
        after = answers.answer(asked(records))
    expected = answers_of(fleet, ChampionRefresh(store)).answer(asked(records))
    assert after == expected
    assert after.columns["lower"][0] is not None
    assert after.columns["lower"] != before.columns["lower"]


def test_only_the_shards_of_new_champions_are_calibrated_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = write_fleet(tmp_path, 200, more="[intervals]\ncoverage = 0.8")
    shards = fleet.config.fleet.shards
    feed = ChampionRefresh(FleetStore.of(fleet.config))
    answers = answers_of(fleet, feed)
    feed.prepare = answers.prepare
    records = [record(n) for n in range(200)]
    before = answers.answer(asked(records))
    read: list[int] = []
    pools = FleetSnapshot.pools
    monkeypatch.setattr(
        FleetSnapshot, "pools", lambda self, wanted, n_shards: (read.extend(wanted), pools(self, wanted, n_shards))[1]
    )
    promote(fleet.config, {key_of(3): np.full(5, 7.0)}, hour=2)
    feed.refresh()
    changed = keys.shard_of(key_of(3), shards)
    assert read == [changed]
    after = answers.answer(asked(records))
    assert read == [changed]
    assert after == answers_of(fleet, ChampionRefresh(FleetStore.of(fleet.config))).answer(asked(records))
    widths = [np.subtract(found.columns["upper"], found.columns["lower"]) for found in (before, after)]
    others = [n for n in range(200) if keys.shard_of(key_of(n), shards) != changed]
    np.testing.assert_allclose(widths[0][others], widths[1][others], rtol=1e-12)
    assert not np.allclose(widths[0], widths[1])


def test_the_first_request_to_a_shard_calibrates_nothing(
    fleet: LinearFleet, feed: ChampionRefresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ModelCache()
    expected = answers_of(fleet, feed, cache).answer(asked([record(1), record(2)]))  # loads the models
    assert keys.shard_of(key_of(1), fleet.config.fleet.shards) != keys.shard_of(key_of(2), fleet.config.fleet.shards)
    answers = answers_of(fleet, feed, cache)
    monkeypatch.setattr(FleetSnapshot, "pools", lambda *_, **__: pytest.fail("a request calibrated"))
    assert answers.answer_at_once(asked([record(1), record(2)])) == expected
    assert expected.columns["lower"][0] is not None


def test_a_few_records_are_answered_at_once_as_they_are_in_a_thread(fleet: LinearFleet, answers: FleetAnswers) -> None:
    whole = asked([record(n, x0=n / 7, x3=None if n % 3 else 0.1) for n in (5, 3, 5, GROUPS + 4, 3)])
    nobody = asked([record(3, dept="nowhere"), record(4)])
    for records in (whole, nobody, asked([])):
        expected = answers.answer(records)
        found = answers.answer_at_once(records)
        assert found == expected
        assert found.entries() == expected.entries()
    assert [float(value).hex() for value in answers.answer_at_once(whole).columns["upper"]] == [
        float(value).hex() for value in answers.answer(whole).columns["upper"]
    ]


@pytest.mark.parametrize(
    "records",
    [
        asked([record(1, x0="much")]),
        asked([record(1), 7]),
        asked([{name: value for name, value in record(1).items() if name != "x2"}]),
        asked([record(1)] * 9),
        asked([record(1)], as_of="2024-05-02T00:00Z"),
        asked([record(2), record(1, **BEYOND)]),
    ],
)
def test_what_needs_more_than_plain_arithmetic_gets_a_thread(
    fleet: LinearFleet, feed: ChampionRefresh, records: Records
) -> None:
    answers = answers_of(fleet, feed)
    answers.answer(asked([record(1), record(2)]))
    assert not np.isfinite(fleet.expected(key_of(1), record(1, **BEYOND)))
    with pytest.raises(NotLoadedError):
        answers.answer_at_once(records)


def test_a_name_that_is_twice_is_refused_at_once_too(fleet: LinearFleet, answers: FleetAnswers) -> None:
    answers.answer(asked([record(1)]))
    text = json.dumps([record(1)]).replace('"x0": 1.0', '"x0": 1.0, "x0": 2.0')
    body = read_json(text.encode())
    with pytest.raises(RequestError, match='"x0" twice'):
        answers.answer_at_once(Records(body.value, lambda: body.exact, check_names=body.require_unique_names))


def test_between_calibration_and_the_change_of_champions_nothing_is_answered_at_once(
    fleet: LinearFleet, feed: ChampionRefresh
) -> None:
    answers = answers_of(fleet, feed)
    expected = answers.answer(asked([record(1)]))
    later = read_snapshot(FleetStore.of(fleet.config))
    answers.prepare(later)
    with pytest.raises(NotLoadedError):
        answers.answer_at_once(asked([record(1)]))
    assert answers.answer(asked([record(1)])) == expected
    feed.current = later
    assert answers.answer_at_once(asked([record(1)])) == answers.answer(asked([record(1)]))


def test_the_first_request_to_a_shard_sorts_no_champions(
    fleet: LinearFleet, feed: ChampionRefresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_of(fleet, feed)
    later = read_snapshot(FleetStore.of(fleet.config))
    answers.prepare(later)
    feed.current = later
    monkeypatch.setattr(fleet_snapshot, "integer_values", lambda *_: pytest.fail("a request sorted the champions"))
    assert answers.answer(asked([record(1)])).columns["lower"][0] is not None


def test_the_background_thread_sees_a_promotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion_refresh, "POLL_S", 0.01)
    fleet = write_fleet(tmp_path, 3)
    feed = ChampionRefresh(FleetStore.of(fleet.config))
    feed.start()
    names = promote(fleet.config, {key_of(1): np.zeros(5)}, hour=2)
    for _ in range(3_000):
        if (found := feed.current.champion_of(key_of(1))) is not None and found.model_id == names[key_of(1)]:
            break
        feed._stopped.wait(0.01)
    feed.stop()
    assert feed.current.champion_of(key_of(1)).model_id == names[key_of(1)]


def test_all_is_read_again_after_an_hour_and_where_a_file_is_gone(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, 3)
    now = [0.0]
    feed = ChampionRefresh(FleetStore.of(fleet.config), clock=lambda: now[0])
    first = feed.current
    feed.refresh()
    assert feed.current is first
    now[0] = champion_refresh.REREAD_S
    assert feed.age_s == champion_refresh.REREAD_S
    feed.refresh()
    assert feed.current is not first
    assert feed.age_s == 0.0


def test_as_of_an_earlier_time_the_model_of_then_answers(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, 3)
    names = promote(fleet.config, {key_of(1): np.zeros(5)}, hour=30)
    answers = answers_of(fleet, ChampionRefresh(FleetStore.of(fleet.config)))
    now, then = (answers.answer(asked([record(1)], as_of=as_of)) for as_of in (None, "2024-05-01T12:00Z"))
    assert (now.columns["model_id"], then.columns["model_id"]) == ([names[key_of(1)]], [fleet.model_ids[key_of(1)]])
    assert then.columns["prediction"] == [fleet.expected(key_of(1), record(1))]
    with pytest.raises(StoreError, match="expected a moment from 2024-05-01T01:00"):
        answers.answer(asked([record(1)], as_of="2020-01-01"))


def test_memory_holds_no_more_than_the_cache_while_ten_times_as_many_models_answer(
    fleet: LinearFleet, feed: ChampionRefresh
) -> None:
    limit = 100 * (model_cache.OBJECT_BYTES + 400)
    cache = ModelCache(limit)
    answers = answers_of(fleet, feed, cache)
    for start in range(0, GROUPS, 50):
        records = [record(n) for n in range(start, start + 50)]
        found = answers.answer(asked(records))
        assert found.columns["prediction"] == [fleet.expected(key_of(n), records[0]) for n in range(start, start + 50)]
        assert cache.counts.bytes <= limit
    assert cache.counts.loads == GROUPS


def test_groups_nobody_heard_of_leave_nothing_behind(fleet: LinearFleet, feed: ChampionRefresh) -> None:
    answers = answers_of(fleet, feed)
    records = [record(n) for n in range(GROUPS, 2 * GROUPS)]
    found = answers.answer(asked(records))
    assert found.columns["model_id"] == [fleet.model_ids[parent_of(n)] for n in range(GROUPS, 2 * GROUPS)]
    assert len(feed.current.settled._champions) == 10
    assert answers.cache.counts.models == 10


@pytest.mark.parametrize("classes", [False, True])
def test_the_stream_stores_the_same_predictions_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: bool
) -> None:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    model_cache.cache.cache_clear()
    shops = made(tmp_path, classes=classes)
    shops.round(30, A, B, DEPT)
    rows = mixed().reset_index(drop=True)
    group_keys = [keys.encode([shop, dept]) for shop, dept in zip(rows["shop"], rows["dept"], strict=True)]
    events = rows.assign(
        group_key=group_keys, event_id="e", event_time=hour(0), label=None if classes else np.nan, topic="t",
        kafka_partition=0, kafka_offset=0,
    )  # fmt: skip
    config, signer = shops.past.config, shops.past.signer
    stored = stream_answers(shops, events)
    feed = ChampionRefresh(FleetStore.of(config))
    answers = FleetAnswers(config, signer, lambda: feed.current, ModelCache())
    found = answers.answer(asked(rows.to_dict("records"))).columns
    assert list(found) == [
        "prediction",
        *(["probabilities"] if classes else ["lower", "upper"]),
        "model_id",
        "answered_by",
    ]
    for name, values in found.items():
        expected = stored[name].astype(object).where(stored[name].notna(), None)
        assert values == expected.tolist()
