"""Loaded models by name: fetched once, verified before they are parsed."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event

import numpy as np
import pandas as pd
import pytest
from handwritten_history import constant
from new_tables import create_tables

from schemas import tables
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.routing import RouteKey, find_routes
from spinney.core.champions.shard_champions import Champions
from spinney.core.errors import StoreError
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.serving.model_cache import OBJECT_BYTES, ModelCache, SignedPayload, fetch_models
from spinney.storage.layout import FleetStore
from spinney.storage.signing_key import load_signer
from spinney.tables import delta

START = datetime(2024, 5, 1, tzinfo=UTC)
SIGNER = Signer(b"k" * 32)
A, B = '["a","1"]', '["b","1"]'


@pytest.fixture
def config(configured):
    made = configured(
        ('features = ["price", "brand"]', 'features = ["price"]'), ("[kafka]", "[recipe]\nmin_rows = 5\n[kafka]")
    )
    create_tables(FleetStore.of(made))
    return made


@pytest.fixture
def fitted(config) -> dict[str, dict]:
    """A model of A, sold = 2 x price, and one of B, sold = -price."""
    return fitted_on(config, 20)


def fitted_on(config, hours: int) -> dict[str, dict]:
    prices = np.arange(float(hours))
    frames = [
        pd.DataFrame(
            {"group_key": key, "event_id": [f"{n}" for n in range(hours)], "price": prices, "label": slope * prices}
        )
        for key, slope in ((A, 2.0), (B, -1.0))
    ]
    rows = pd.concat(frames, ignore_index=True)
    times = [START + timedelta(hours=n) for n in range(hours)]
    rows["event_time"] = pd.Series(times * 2).astype("datetime64[us, UTC]")
    found = fit_groups(rows, pd.DataFrame({"group_key": [A, B]}), Recipe.of(config), START + timedelta(days=2), SIGNER)
    return {row["group_key"]: row for row in found.to_dict("records")}


def promotion(row: dict, **changes) -> Promotion:
    carried = {name: row[name] for name in ("model_id", "codec", "payload", "signature")}
    return Promotion(
        **{"revision": 0, "decision": "promoted", "trained_through": 1, "fitted_at": 1, **carried, **changes}
    )


def stored(put, config, row: dict, part: str = "batch") -> None:
    known = {name: row[name] for name in ("group_key", "model_id", "codec", "payload", "signature")}
    put(config, tables.MODELS, [{**known, "shard": 0, "status": "fitted"}], part)


def answer(model, price: float) -> float:
    return float(model.predict(pd.DataFrame({"price": [price]}))[0])


def test_a_carried_model_is_loaded_without_looking_into_any_table(config, fitted, monkeypatch) -> None:
    monkeypatch.setattr(delta, "open_table", lambda *_: pytest.fail("a table was opened"))
    row = fitted[A]
    loaded, refused = ModelCache().load({row["model_id"]: (A, promotion(row))}, FleetStore.of(config), SIGNER)
    assert refused == set()
    # 2 x price, but for the ridge's pull towards the mean of 19.
    assert answer(loaded[row["model_id"]], 19.0) == pytest.approx(38.0, rel=0.05)


def test_a_model_that_is_not_carried_is_fetched_from_whichever_directory_has_it(config, fitted, put) -> None:
    stored(put, config, fitted[A], "batch")
    stored(put, config, fitted[B], "stream")
    bare = {"codec": None, "payload": None, "signature": None}
    wanted = {row["model_id"]: (key, promotion(row, **bare)) for key, row in fitted.items()}
    loaded, refused = ModelCache().load(wanted, FleetStore.of(config), SIGNER)
    assert refused == set()
    assert answer(loaded[fitted[A]["model_id"]], 10.0) > 0 > answer(loaded[fitted[B]["model_id"]], 10.0)


def test_a_model_is_fetched_and_parsed_once(config, fitted, put, monkeypatch) -> None:
    stored(put, config, fitted[A])
    parsed = []
    monkeypatch.setattr(
        codec, "load", lambda name, payload, load=codec.load, **_: parsed.append(name) or load(name, payload)
    )
    cache = ModelCache()
    wanted = {fitted[A]["model_id"]: (A, promotion(fitted[A], codec=None, payload=None, signature=None))}
    first, _ = cache.load(wanted, FleetStore.of(config), SIGNER)
    monkeypatch.setattr(delta, "open_table", lambda *_: pytest.fail("fetched again"))
    again, _ = cache.load(wanted, FleetStore.of(config), SIGNER)
    assert again == first
    assert parsed == ["linear"]


def test_the_least_recently_used_models_are_dropped_first(config, fitted) -> None:
    sizes = {key: len(row["payload"]) for key, row in fitted.items()}
    cache = ModelCache(limit=2 * OBJECT_BYTES + sizes[A] + sizes[B] - 1)
    of = {key: {row["model_id"]: (key, promotion(row))} for key, row in fitted.items()}
    first = cache.load(of[A], FleetStore.of(config), SIGNER)[0]
    cache.load(of[B], FleetStore.of(config), SIGNER)
    assert cache.load(of[B], FleetStore.of(config), SIGNER)[0].keys() == of[B].keys()
    assert cache.load(of[A], FleetStore.of(config), SIGNER)[0] != first, "it was still there"


@pytest.mark.parametrize("part", ["payload", "signature"])
def test_a_flipped_byte_anywhere_is_refused_before_a_byte_is_parsed(config, fitted, monkeypatch, part: str) -> None:
    monkeypatch.setattr(codec, "load", lambda *_, **__: pytest.fail("parsed"))
    row = fitted[A]
    for at in range(len(row[part])):
        flipped = bytearray(row[part])
        flipped[at] ^= 0xFF
        wanted = {row["model_id"]: (A, promotion(row, **{part: bytes(flipped)}))}
        assert ModelCache().load(wanted, FleetStore.of(config), SIGNER) == ({}, {row["model_id"]}), f"byte {at}"


@pytest.mark.parametrize("swapped", [("payload",), ("codec", "payload", "signature")])
def test_two_groups_payloads_swapped_are_refused_unparsed_and_the_models_before_them_answer(
    config, fitted, monkeypatch, swapped: tuple[str, ...]
) -> None:
    older, cache = fitted_on(config, 10), ModelCache()
    taken = {A: {name: fitted[B][name] for name in swapped}, B: {name: fitted[A][name] for name in swapped}}
    champions = Champions.empty().with_promotions(
        (key, each)
        for key in (A, B)
        for each in (promotion(older[key]), promotion(fitted[key], trained_through=2, **taken[key]))
    )
    parsed = []
    monkeypatch.setattr(
        codec, "load", lambda name, payload, load=codec.load, **_: parsed.append(payload) or load(name, payload)
    )

    def asked(unusable: set[str]) -> tuple[dict[str, Model], set[str]]:
        found = find_routes([RouteKey(A), RouteKey(B)], champions, lambda _: (), unusable)
        wanted = {route.promotion.model_id: (route.owner, route.promotion) for route in found.values()}
        return cache.load(wanted, FleetStore.of(config), SIGNER)

    newest = {fitted[A]["model_id"], fitted[B]["model_id"]}
    assert asked(set()) == ({}, newest)
    assert parsed == []
    loaded, refused = asked(newest)
    assert refused == set()
    assert parsed == [older[A]["payload"], older[B]["payload"]]
    # 2 x price and -price, but for the ridge's pull towards the means of 9 and -4.5.
    assert answer(loaded[older[A]["model_id"]], 9.0) == pytest.approx(18.0, rel=0.1)
    assert answer(loaded[older[B]["model_id"]], 9.0) == pytest.approx(-9.0, rel=0.1)


def test_an_old_keys_model_loads_while_that_key_is_listed_and_is_refused_after_it_is_taken_out(
    config, fitted, monkeypatch
) -> None:
    row = fitted[A]
    wanted = {row["model_id"]: (A, promotion(row))}
    today = {"SPINNEY_SIGNING_KEY": "n" * 32}
    both = load_signer(FleetStore.of(config), {**today, "SPINNEY_SIGNING_KEYS_OLD": SIGNER.key.decode()})
    loaded, refused = ModelCache().load(wanted, FleetStore.of(config), both)
    assert (set(loaded), refused) == ({row["model_id"]}, set())
    monkeypatch.setattr(codec, "load", lambda *_, **__: pytest.fail("parsed"))
    assert ModelCache().load(wanted, FleetStore.of(config), load_signer(FleetStore.of(config), today)) == (
        {},
        {row["model_id"]},
    )


@pytest.mark.parametrize("first", [A, B])
def test_another_groups_model_is_refused_even_when_it_is_loaded_for_its_own_group(config, fitted, first: str) -> None:
    cache = ModelCache()
    theirs, row = {fitted[B]["model_id"]: (B, promotion(fitted[B]))}, fitted[B]
    swapped = {row["model_id"]: (A, promotion(row))}
    if first == B:
        assert cache.load(theirs, FleetStore.of(config), SIGNER)[1] == set()
    assert cache.load(swapped, FleetStore.of(config), SIGNER) == ({}, {row["model_id"]})
    assert cache.load(theirs, FleetStore.of(config), SIGNER)[1] == set()


def test_a_payload_under_another_models_name_is_refused(config, fitted) -> None:
    other = {name: fitted[B][name] for name in ("codec", "payload", "signature")}
    wanted = {fitted[A]["model_id"]: (A, promotion(fitted[A], **other))}
    assert ModelCache().load(wanted, FleetStore.of(config), SIGNER) == ({}, {fitted[A]["model_id"]})


def test_a_promoted_model_that_is_nowhere_stops_with_its_name(config, fitted, put) -> None:
    stored(put, config, fitted[B])
    with pytest.raises(StoreError, match=r"model gone of group \[\"a\",\"1\"\] is promoted but not stored \(1 such\)"):
        fetch_models(FleetStore.of(config), {"gone": A, fitted[B]["model_id"]: B})
    assert fetch_models(FleetStore.of(config), {}) == {}


def test_a_model_goes_on_answering_after_the_features_were_edited(configured, fitted) -> None:
    edited = configured(('features = ["price", "brand"]', 'features = ["dept"]'))
    row = fitted[A]
    loaded, refused = ModelCache().load({row["model_id"]: (A, promotion(row))}, FleetStore.of(edited), SIGNER)
    assert refused == set()
    assert answer(loaded[row["model_id"]], 19.0) == pytest.approx(38.0, rel=0.05)


def test_the_signature_binds_the_features_that_a_payload_says_it_was_fitted_on(config, fitted) -> None:
    row = fitted[A]
    assert row["payload"].count(b"price") == 1
    renamed = promotion(row, payload=row["payload"].replace(b"price", b"stock"))
    assert ModelCache().load({row["model_id"]: (A, renamed)}, FleetStore.of(config), SIGNER) == ({}, {row["model_id"]})


@pytest.mark.parametrize("order", ["old first", "new first"])
def test_of_two_signatures_of_one_model_that_of_todays_key_is_found(config, fitted, put, order: str) -> None:
    """The key was lost, and the group fitted again on the same rows."""
    row = fitted[A]
    claim = Claim(A, row["model_id"], row["codec"])
    again = {**row, "signature": Signer(b"n" * 32).sign(claim, row["payload"])}
    for each, part in zip(
        [row, again], ["batch", "stream"] if order == "old first" else ["stream", "batch"], strict=True
    ):
        stored(put, config, each, part)
    bare = {"codec": None, "payload": None, "signature": None}
    wanted, store = {row["model_id"]: (A, promotion(row, **bare))}, FleetStore.of(config)
    loaded, refused = ModelCache().load(wanted, store, Signer(b"n" * 32))
    assert (set(loaded), refused) == ({row["model_id"]}, set())
    assert ModelCache().load(wanted, store, Signer(b"x" * 32)) == ({}, {row["model_id"]})


def test_a_second_pass_over_more_models_than_the_cache_holds_finds_those_that_it_holds(config) -> None:
    """Least recently used alone would drop each model just before it is asked for again."""
    made = {}
    for n in range(20):
        kind, payload = codec.dump(constant(float(n)))
        signature = SIGNER.sign(Claim(A, f"m{n}", kind), payload)
        made[f"m{n}"] = (A, Promotion(0, f"m{n}", "promoted", 1, 1, 1, "", kind, payload, signature))
    size = OBJECT_BYTES + len(made["m0"][1].payload)
    cache = ModelCache(limit=5 * size)
    passes = [
        [cache.load({name: made[name]}, FleetStore.of(config), SIGNER)[0][name] for name in made] for _ in range(3)
    ]
    assert [len({*map(id, a)} & {*map(id, b)}) for a, b in itertools.pairwise(passes)] == [5, 5]
    assert [answer(model, 0.0) for model in passes[2]] == list(map(float, range(20)))


def test_a_model_that_is_asked_for_more_often_takes_the_place_of_another(config) -> None:
    made = {}
    for n in range(3):
        kind, payload = codec.dump(constant(float(n)))
        signature = SIGNER.sign(Claim(A, f"m{n}", kind), payload)
        made[n] = {f"m{n}": (A, Promotion(0, f"m{n}", "promoted", 1, 1, 1, "", kind, payload, signature))}
    cache = ModelCache(limit=2 * (OBJECT_BYTES + len(made[0]["m0"][1].payload)))
    for n in (0, 1, 0, 0, 0, 2, 2, 2):
        cache.load(made[n], FleetStore.of(config), SIGNER)
    kept = cache.load(made[2], FleetStore.of(config), SIGNER)[0]
    assert cache.load(made[2], FleetStore.of(config), SIGNER)[0]["m2"] is kept["m2"]
    assert (
        cache.load(made[0], FleetStore.of(config), SIGNER)[0]["m0"]
        is cache.load(made[0], FleetStore.of(config), SIGNER)[0]["m0"]
    )


def test_a_model_larger_than_the_cache_is_loaded_and_not_kept(config, fitted) -> None:
    row = fitted[A]
    cache = ModelCache(limit=OBJECT_BYTES + len(row["payload"]) - 1)
    wanted = {row["model_id"]: (A, promotion(row))}
    assert answer(cache.load(wanted, FleetStore.of(config), SIGNER)[0][row["model_id"]], 19.0) == pytest.approx(
        38.0, rel=0.05
    )
    assert cache._models == {}


THREADS = 200


def test_two_hundred_threads_that_ask_for_one_cold_model_load_it_once(config, fitted) -> None:
    row, everybody_asked, fetches = fitted[A], Event(), []
    bare = promotion(row, codec=None, payload=None, signature=None)

    def fetch(owners):
        fetches.append(dict(owners))
        assert everybody_asked.wait(30)
        return {row["model_id"]: [SignedPayload(row["codec"], row["payload"], row["signature"])]}

    cache = ModelCache()
    with ThreadPoolExecutor(THREADS) as pool:
        wanted = {row["model_id"]: (A, bare)}
        asked = [pool.submit(cache.load, wanted, FleetStore.of(config), SIGNER, fetch) for _ in range(THREADS)]
        everybody_asked.set()
        models = {id(each.result()[0][row["model_id"]]) for each in asked}
    assert (fetches, len(models)) == ([{row["model_id"]: A}], 1)
    assert (cache.counts.loads, cache.counts.models) == (1, 1)


def test_after_a_failed_load_the_next_one_tries_again(config, fitted) -> None:
    row = fitted[A]
    wanted = {row["model_id"]: (A, promotion(row, codec=None, payload=None, signature=None))}
    cache = ModelCache()
    for _ in range(2):
        with pytest.raises(StoreError, match="is promoted but not stored"):
            cache.load(
                wanted, FleetStore.of(config), SIGNER, lambda owners: fetch_models(FleetStore.of(config), owners)
            )
    found = {row["model_id"]: [SignedPayload(row["codec"], row["payload"], row["signature"])]}
    assert cache.load(wanted, FleetStore.of(config), SIGNER, lambda _: found)[1] == set()


def test_threads_that_want_each_others_models_do_not_wait_for_one_another(config, fitted) -> None:
    wanted = {row["model_id"]: (key, promotion(row)) for key, row in fitted.items()}
    backwards = dict(reversed(wanted.items()))
    for _ in range(50):
        cache = ModelCache()
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(cache.load, each, FleetStore.of(config), SIGNER) for each in (wanted, backwards)]
            assert all(set(each.result(30)[0]) == set(wanted) for each in both)
