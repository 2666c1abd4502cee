"""What a worker answers, with champions made by hand: frames as Spark hands them over, no session is started."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xxhash
from recipes import RIDGE

from spinney.core.champions.held_out_loss_codec import LOSS_NAME, loss_of, pack, unpack
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.features.encoding import NULL_TIME
from spinney.core.models.codec import load_signed
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.fitting import fit_groups
from spinney.serving.answers import _silent
from spinney.serving.model_cache import cache
from streaming.answer_encoding import COLUMN, answer_schema, decode_answers
from streaming.scorer import PROMOTION, PROMOTION_COLUMNS, Scorer, _decoded, answers, update_champions

START = datetime(2024, 5, 1, tzinfo=UTC)
SIGNER = Signer(b"k" * 32)
A, B, DEPT, ALL = '["a","1"]', '["b","1"]', '{"dept":"1"}', "{}"
SLOPES = {A: 2.0, B: -1.0, DEPT: 0.5, ALL: 0.1}


@pytest.fixture(autouse=True)
def a_fresh_worker() -> Iterator[None]:
    for clear in (cache.cache_clear, _decoded.clear, _silent.clear):
        clear()
    yield
    cache.cache_clear()


@pytest.fixture
def scorer(configured) -> Scorer:
    # Hardly any penalty: what a model answers can be told by hand.
    plain = ("[recipe]\n", "[recipe]\nparams = { alpha = 1e-9 }\n")
    return Scorer.of(configured(('["price", "stock"]', '["price"]'), plain), SIGNER)


def promoted(key: str, day: int = 1, slope: float | None = None, feature: str = "price") -> Promotion:
    """A model of sold = slope x price, fitted on rows through a day."""
    prices = np.linspace(-1.0, 1.0, 200)
    rows = pd.DataFrame({"group_key": key, "event_id": [f"{n}" for n in range(200)], feature: prices})
    rows["label"] = (SLOPES[key] if slope is None else slope) * prices
    rows["event_time"] = pd.Series([START + timedelta(days=day)] * 200).astype("datetime64[us, UTC]")
    clock = START + timedelta(days=day + 1)
    recipe = replace(RIDGE, params=(("alpha", "1e-9"),), features=(Feature(feature, "double"),))
    (row,) = fit_groups(rows, pd.DataFrame({"group_key": [key]}), recipe, clock, SIGNER).to_dict("records")
    carried = {name: row[name] for name in ("model_id", "codec", "payload", "signature")}
    return Promotion(revision=0, decision="promoted", trained_through=day, fitted_at=day, **carried)


def changed(row: Promotion, **changes) -> Promotion:
    fields = {name: getattr(row, name) for name in Promotion.__slots__}
    return Promotion(**{**fields, **changes})


def priced(group_keys: list[str], price: float | list[float]) -> pd.DataFrame:
    events = pd.DataFrame({"group_key": group_keys, "event_id": [f"e{n}" for n in range(len(group_keys))]})
    events = events.assign(event_time=pd.Timestamp(START), price=price, label=np.nan, topic="t", kafka_partition=0)
    return events.assign(kafka_offset=range(len(events)))


def asked(
    scorer: Scorer, promotions: list[tuple[str, Promotion]], *group_keys: str, price: float = 1.0
) -> pd.DataFrame:
    events = priced(list(group_keys), price)
    answered = pd.DataFrame(answers(0, events, Champions.empty().with_promotions(promotions), scorer))
    assert answered["event_id"].tolist() == events["event_id"].tolist()
    return answered


def test_each_row_is_answered_by_its_own_model_its_parent_or_the_global_one(scorer: Scorer) -> None:
    rows = {key: promoted(key) for key in (A, DEPT, ALL)}
    answered = asked(scorer, list(rows.items()), B, A, '["c","2"]', A)
    assert answered["answered_by"].tolist() == ["parent", "own", "global", "own"]
    assert answered["model_id"].tolist() == [rows[key].model_id for key in (DEPT, A, ALL, A)]
    np.testing.assert_allclose(answered["prediction"].astype(float), [0.5, 2.0, 0.1, 2.0], rtol=1e-6)


def test_nobody_answers_where_no_model_is(scorer: Scorer) -> None:
    answered = asked(scorer, [], A, B)
    assert answered["answered_by"].tolist() == ["none", "none"]
    assert answered["prediction"].isna().all()
    assert answered["model_id"].tolist() == [None, None]


def test_a_flipped_byte_leaves_the_champion_before_it_answering(scorer: Scorer) -> None:
    older, newer = promoted(A, day=1), promoted(A, day=2, slope=7.0)
    assert asked(scorer, [(A, older), (A, newer)], A)["model_id"].tolist() == [newer.model_id]
    cache.cache_clear()
    flipped = changed(newer, payload=newer.payload[:-1] + bytes([newer.payload[-1] ^ 1]))
    answered = asked(scorer, [(A, older), (A, flipped)], A)
    assert answered["model_id"].tolist() == [older.model_id]
    np.testing.assert_allclose(answered["prediction"].astype(float), [2.0], rtol=1e-6)
    assert asked(scorer, [(A, flipped), (DEPT, promoted(DEPT))], A)["answered_by"].tolist() == ["parent"]


@pytest.mark.parametrize("order", [(A, B), (B, A)])
@pytest.mark.parametrize("loaded_before", [True, False])
def test_another_groups_model_never_answers(scorer: Scorer, order: tuple[str, str], loaded_before: bool) -> None:
    """A row of `promotions` that names B's signed model as A's, newer than A's own."""
    mine, theirs = promoted(A, day=1), promoted(B, day=2)
    rows = [
        (A, mine),
        (B, promoted(B, day=1, slope=-3.0)),
        (B, theirs),
        (A, changed(theirs, trained_through=3)),
    ]
    if loaded_before:
        asked(scorer, [(B, theirs)], B)
    answered = asked(scorer, rows, *order).set_index("group_key")
    assert answered.loc[A, "model_id"] == mine.model_id
    assert answered.loc[A, "prediction"] == pytest.approx(2.0, rel=1e-6)
    assert answered.loc[B, "prediction"] < 0


def test_a_model_that_overflows_leaves_its_row_to_the_next_in_line_and_spoils_no_other(scorer: Scorer) -> None:
    huge, older, dept = promoted(A, day=2, slope=1e150), promoted(A), promoted(DEPT)
    answered = asked(scorer, [(A, older), (A, huge), (DEPT, dept)], A, B, price=1e200)
    assert answered["model_id"].tolist() == [older.model_id, dept.model_id]
    assert answered["answered_by"].tolist() == ["own", "parent"]
    np.testing.assert_allclose(answered["prediction"].astype(float), [2e200, 0.5e200], rtol=1e-6)


def test_a_row_that_no_model_can_answer_is_answered_by_none_in_so_many_words(scorer: Scorer) -> None:
    rows = [(key, promoted(key, slope=1e150)) for key in (A, DEPT, ALL)]
    answered = asked(scorer, rows, A, B, price=1e200)
    assert answered["answered_by"].tolist() == ["none", "none"]
    assert answered["model_id"].tolist() == [None, None]
    assert answered["prediction"].isna().all()


def test_a_model_is_passed_over_only_for_the_rows_that_it_cannot_answer(scorer: Scorer) -> None:
    """A's own model overflows at the first price alone; the hall's, which takes over there, does at B's alone."""
    own, dept = promoted(A, slope=1e150), promoted(DEPT, slope=1e100)
    world = promoted(ALL)
    events = priced([A, A, B], [1e200, 1.0, 1e250])
    champions = Champions.empty().with_promotions([(A, own), (DEPT, dept), (ALL, world)])
    answered = answers(0, events, champions, scorer)
    assert answered["model_id"].tolist() == [dept.model_id, own.model_id, world.model_id]
    assert answered["answered_by"].tolist() == ["parent", "own", "global"]


def test_a_model_that_raises_is_named_once_and_its_parent_answers(scorer: Scorer, monkeypatch, caplog) -> None:
    class Raises:
        def predict(self, matrix: object) -> object:
            raise ValueError("never seen this")

    own, dept = promoted(A), promoted(DEPT)
    loaded = cache()
    load = loaded.load

    def broken(*asked, **message):
        models, refused = load(*asked, **message)
        return {name: replace(each, estimator=Raises()) if name == own.model_id else each
                for name, each in models.items()}, refused  # fmt: skip

    monkeypatch.setattr(loaded, "load", broken)
    for _ in range(2):
        answered = asked(scorer, [(A, own), (DEPT, dept)], A, A, B)
        assert answered["model_id"].tolist() == [dept.model_id] * 3
        assert answered["answered_by"].tolist() == ["parent"] * 3
        np.testing.assert_allclose(answered["prediction"].astype(float), [0.5] * 3, rtol=1e-6)
    (warned,) = caplog.messages
    assert warned.startswith(f"group {A}: expected an answer of model {own.model_id[:12]}; got ValueError: never seen")


def test_a_champion_fitted_before_the_features_were_edited_goes_on_answering(scorer: Scorer, configured) -> None:
    row = promoted(A)
    edited = Scorer.of(configured(('["price", "stock"]', '["stock"]')), SIGNER)
    answered = asked(edited, [(A, row)], A, price=3.0)
    assert answered["model_id"].tolist() == [row.model_id]
    np.testing.assert_allclose(answered["prediction"].astype(float), [6.0], rtol=1e-6)


def test_a_fleets_own_columns_may_be_called_like_those_of_a_promotion(configured) -> None:
    """As Spark hands them over: every column of either kind, null where the row is of the other."""
    own = ('price = "double"\n', 'price = "double"\npayload = "double"\nepoch = "string"\n')
    config = configured(
        ('["price", "stock"]', '["payload"]'), own, ("[recipe]\n", "[recipe]\nparams = { alpha = 1e-9 }\n")
    )
    scorer = Scorer.of(config, SIGNER)
    row = promoted(A, feature="payload")
    event = {"event_id": "e", "payload": 2.0, "epoch": "early"}
    event |= {"label": np.nan, "topic": "t", "kafka_partition": 0, "kafka_offset": 0}
    promotion = {PROMOTION: as_json(row)}
    frame = pd.DataFrame([{"group_key": A, "event_time": 0, **each} for each in (event, promotion)])
    answered = answered_by_worker(scorer, frame)
    np.testing.assert_allclose(answered["prediction"].to_numpy(), [4.0], rtol=1e-6)


def test_times_beyond_nanoseconds_are_asked_about_as_they_were_fitted(configured) -> None:
    """The oracle is the same model, asked for Python's own times."""
    own = ('price = "double"\n', 'price = "double"\nvalid_to = "timestamp"\nborn = "date"\n')
    config = configured(('["price", "stock"]', '["at", "valid_to", "born"]'), own)
    scorer = Scorer.of(config, SIGNER)
    ends = [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, 0, 7, tzinfo=UTC), None]
    days = [date(9999, 12, 31), None, date(1, 1, 1)]
    features = pd.DataFrame({"at": pd.Series([START] * 3, dtype=object), "valid_to": ends, "born": days}, dtype=object)
    rows = pd.concat([features] * 20, ignore_index=True).assign(
        group_key=A, event_id=[f"{n}" for n in range(60)], label=[1.0, 7.0, 3.0] * 20
    )
    rows["event_time"] = pd.Series([START] * 60).astype("datetime64[us, UTC]")
    asks = pd.DataFrame({"group_key": [A]})
    (fitted,) = fit_groups(rows, asks, Recipe.of(config), START + timedelta(days=1), SIGNER).to_dict("records")
    carried = {name: fitted[name] for name in ("model_id", "codec", "payload", "signature")}
    champion = Promotion(revision=0, decision="promoted", trained_through=1, fitted_at=1, **carried)
    claim = Claim(A, carried["model_id"], carried["codec"])
    model = load_signed(SIGNER, claim, carried["payload"], carried["signature"])
    # Microseconds since 1970, as Python counts them; null is the least whole number.
    at = [1_714_521_600_000_000] * 3
    whole = {"valid_to": [253_402_300_799_000_000, -62_135_596_380_000_000, NULL_TIME]}
    whole |= {"born": [253_402_214_400_000_000, NULL_TIME, -62_135_596_800_000_000], "at": at, "event_time": at}
    frame = priced([A] * 3, 1.0).assign(**whole, **{PROMOTION: None})
    arrived = pd.concat([frame, pd.DataFrame([{"group_key": A, PROMOTION: as_json(champion),
                         **dict.fromkeys(whole, NULL_TIME)}])], ignore_index=True)  # fmt: skip
    answered = answered_by_worker(scorer, arrived)
    np.testing.assert_array_equal(answered["prediction"], model.predict(features))
    assert len(set(answered["prediction"].to_pylist())) == 3
    assert answered["event_time"].cast("int64").to_pylist() == at
    assert answered["scored_at"].cast("int64").to_pylist() == [1_714_557_600_000_000] * 3
    assert answered["scored_on"].to_pylist() == [date(2024, 5, 1)] * 3


@pytest.mark.parametrize("loss_name", [None, "squared"])
def test_a_shard_without_events_has_no_answers_and_keeps_its_champions(scorer: Scorer, loss_name: str | None) -> None:
    row = changed(promoted(A), heldout_losses=pack([0.1, 1e-30, float("inf")], loss_name))
    state = State()
    frame = pd.DataFrame([{"group_key": A, PROMOTION: as_json(row)}])
    assert list(scorer.function()((0,), iter([frame]), state)) == []
    assert Champions.from_bytes(state.get[0]).champion_of(A) == row


def as_json(row: Promotion) -> str:
    """A promotion as Spark's `to_json` writes it: bytes in base 64, nothing of a null, infinity as a text."""
    values = {name: row.column(name) for name in PROMOTION_COLUMNS if name != LOSS_NAME}
    binary = {name: b64encode(values[name]).decode() for name in ("payload", "signature")}
    losses = [each if np.isfinite(each) else "Infinity" for each in unpack(row.heldout_losses) or []]
    expected = {**values, **binary, "heldout_losses": losses or None, LOSS_NAME: loss_of(row.heldout_losses)}
    return json.dumps({name: value for name, value in expected.items() if value is not None})


def answered_by_worker(scorer: Scorer, frame: pd.DataFrame) -> pa.Table:
    """What the driver reads of a shard's answers."""
    (yielded,) = scorer.function()((0,), iter([frame]), State())
    return decode_answers(map(pa.py_buffer, yielded[COLUMN]), answer_schema(scorer.store))


class State:
    """Spark's GroupState, as far as the scorer uses it."""

    def __init__(self) -> None:
        self.get: tuple[bytes, ...] = ()

    @property
    def exists(self) -> bool:
        return bool(self.get)

    def update(self, value: tuple[bytes]) -> None:
        self.get = value

    def getCurrentProcessingTimeMs(self) -> int:  # noqa: N802 - Spark's name
        return 1_714_557_600_000


def test_a_worker_keeps_one_generation_of_champions_for_each_shard(scorer: Scorer) -> None:
    state, rows = State(), [promoted(A, day=day) for day in (1, 2, 3)]
    for row in rows:
        promotions = pd.DataFrame([{"group_key": A, **{name: getattr(row, name) for name in Promotion.__slots__}}])
        update_champions(7, state, promotions)
    assert [digest for digest, _ in _decoded.values()] == [xxhash.xxh64_intdigest(state.get[0])]
    found = update_champions(7, state, pd.DataFrame())
    assert found is _decoded[7][1]
    assert found.promotions == Champions.empty().with_promotions([(A, row) for row in rows]).promotions
