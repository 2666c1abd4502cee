"""Existing models become first champions: read, tried, signed, stored once; what cannot be is said."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from handwritten_history import Past, hour
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from skops import io as skops_io

from batch import load_models as loading
from batch.load_models import load_models, read_index
from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.errors import Busy, ContractError, StoreError
from spinney.core.models import codec
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.imported_model_checks import import_estimator
from spinney.fleet import Fleet
from spinney.operations import maintenance
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, carry_out_override
from spinney.serving.model_cache import cache
from spinney.storage import leases, signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta

TEXT = """\
[fleet]
name = "shops"
group = ["shop", "dept"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "stock"]
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
stock = "int"
sold = "double"
[kafka]
events = "sales"
[storage]
root = "{root}"
"""
A, B, C = '["a","1"]', '["b","1"]', '["c","2"]'
GROUPS = {"a": 1, "b": 1, "c": 2}
SAID = Attribution("ada", "from the old system")
ROWS = pd.DataFrame({"price": [1.0, 2.5, 4.0], "stock": [3, 1, 2]})


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    made = Past(parse(TEXT.format(root=tmp_path / "root"), "fleet.toml", {}))
    made.put(tables.EVENTS, "", *(event(shop, n) for shop in GROUPS for n in range(3)))
    return made


def event(shop: str, n: int) -> dict[str, object]:
    key = keys.encode([shop, GROUPS[shop]])
    row = {"shard": 0, "group_key": key, "event_id": f"{shop}{n}", "event_time": hour(n), "batch_id": 0}
    return {**row, "shop": shop, "dept": GROUPS[shop], **ROWS.iloc[n].to_dict(), "ingested_on": date(2024, 5, 1)}


def fitted(slope: float) -> LinearRegression:
    return LinearRegression().fit(ROWS, slope * ROWS["price"] - ROWS["stock"] + [0.1, 0.0, 0.2])


MODELS = {"a": fitted(1.0), "b": fitted(2.0), "c": fitted(3.0)}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A CSV file beside three skops files."""
    lines = ["shop,dept,model,trained_through,rows"]
    for shop, model in MODELS.items():
        (tmp_path / f"{shop}.skops").write_bytes(skops_io.dumps(model))
        lines.append(f"{shop},{GROUPS[shop]},{shop}.skops,,")
    file = tmp_path / "models.csv"
    file.write_text("\n".join(lines))
    return file


def whats(message) -> dict[str, str]:
    return {each.group_key: each.what.value for each in message}


def stored(past: Past, base) -> list[dict]:
    rows = [
        row
        for row in delta.read_table(FleetStore.of(past.config), base).to_pylist()
        if row["round_id"].startswith("people-")
    ]
    return sorted(rows, key=lambda row: row["group_key"])


def answers(past: Past) -> pd.DataFrame:
    frame = pd.concat([ROWS.assign(shop=shop, dept=dept) for shop, dept in GROUPS.items()], ignore_index=True)
    return Fleet(past.config).predict(frame)


def test_the_fleet_answers_with_exactly_what_scikit_learn_does(past: Past, index: Path) -> None:
    assert whats(load_models(past.config, str(index), SAID)) == dict.fromkeys((A, B, C), "imported")
    found = answers(past)
    expected = np.concatenate([model.predict(ROWS) for model in MODELS.values()])
    assert found["prediction"].tolist() == expected.tolist()
    assert set(found["answered_by"]) == {"own"}


def test_each_is_a_model_and_a_first_champion_in_the_present_epoch_by_a_person(past: Past, index: Path) -> None:
    index.write_text(index.read_text().replace("a.skops,,", "a.skops,2024-04-30T12:00:00,812"))
    load_models(past.config, str(index), SAID)
    model, promotion = stored(past, tables.MODELS)[0], stored(past, tables.PROMOTIONS)[0]
    for row in (model, promotion):
        assert (row["group_key"], row["shard"], row["rows"]) == (A, keys.shard_of(A, past.config.fleet.shards), 812)
        assert row["trained_through"] == datetime(2024, 4, 30, 12, tzinfo=UTC)
        assert row["clock"] == hour(2)  # the newest event
    assert (model["status"], model["codec"]) == ("fitted", "sklearn-arrays")
    assert model["recipe_id"] == "imported:sklearn.linear_model._base.LinearRegression"
    assert json.loads(model["metrics"]) == {"origin": "a.skops"}
    assert (promotion["decision"], promotion["epoch"], promotion["by"]) == ("unproven", 0, "ada")
    assert promotion["reason"] == "imported: from the old system"
    assert stored(past, tables.PROMOTIONS)[1]["trained_through"] is None
    story = str(Fleet(past.config).why(A))
    assert f"{model['model_id'][:12]}, imported from a.skops, trained through 2024-04-30 12:00" in story
    assert "by ada: imported: from the old system; model" in story


def test_whatever_machines_fit_stands_above_a_model_of_unknown_age(past: Past, index: Path) -> None:
    load_models(past.config, str(index), SAID)
    machines = past.round(0.5, {A: 7.0})
    assert past.answers()[A] == machines[A]
    assert past.answers()[B] == stored(past, tables.MODELS)[1]["model_id"]


def test_the_same_import_again_adds_nothing(past: Past, index: Path) -> None:
    load_models(past.config, str(index), SAID)
    moved = index.with_name("again.jsonl")
    lines = [{"shop": shop, "dept": dept, "model": f"again/{shop}.skops"} for shop, dept in GROUPS.items()]
    moved.write_text("\n".join(map(json.dumps, lines)))
    (index.parent / "again").mkdir()
    for shop, model in MODELS.items():
        (index.parent / "again" / f"{shop}.skops").write_bytes(skops_io.dumps(model))
    past.round(1, {A: 7.0})
    assert whats(load_models(past.config, str(moved), SAID)) == dict.fromkeys((A, B, C), "there already")
    assert [len(stored(past, base)) for base in (tables.MODELS, tables.PROMOTIONS)] == [3, 3]


def test_an_import_cut_off_after_its_models_is_completed_by_the_next(past: Past, index: Path, monkeypatch) -> None:
    def crash(name: str, batch_id: int) -> None:
        raise KeyboardInterrupt

    with observed_by(crash), pytest.raises(KeyboardInterrupt):
        load_models(past.config, str(index), SAID)
    assert stored(past, tables.PROMOTIONS) == []
    assert whats(load_models(past.config, str(index), SAID)) == dict.fromkeys((A, B, C), "imported")
    assert [len(stored(past, base)) for base in (tables.MODELS, tables.PROMOTIONS)] == [3, 3]
    assert set(answers(past)["answered_by"]) == {"own"}


def test_a_group_whose_model_answers_already_keeps_it(past: Past, index: Path) -> None:
    mine = past.round(1, {A: 7.0})
    text = load_models(past.config, str(index), SAID)
    assert whats(text) == {A: "refused", B: "imported", C: "imported"}
    assert text[0].why == f"model {mine[A]} answers for it already; imported models are first champions only"
    assert past.answers()[A] == mine[A]


def test_an_imported_model_can_be_pinned_and_is_no_way_around_a_step_that_withdrew_it(past: Past, index: Path) -> None:
    load_models(past.config, str(index), SAID)
    name = past.answers()[A]
    carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.ROLLBACK, (A,), at=hour(0)), SAID
    )
    assert past.answers()[A] is None
    text = load_models(past.config, str(index), SAID)
    assert whats(text) == {A: "refused", B: "there already", C: "there already"}
    assert text[0].why == f"a person withdrew it; `spinney promote --model {name[:12]}` brings it back"
    assert past.answers()[A] is None
    carry_out_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PIN, (B,)), SAID)
    carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), model=name[:12]), SAID
    )
    assert past.answers()[A] == name
    assert set(whats(load_models(past.config, str(index), SAID)).values()) == {"there already"}


def test_one_that_a_person_left_for_an_older_model_is_refused_as_withdrawn(past: Past, index: Path) -> None:
    index.write_text(index.read_text().replace("a.skops,,", "a.skops,2024-05-01T01:00:00,"))
    load_models(past.config, str(index), SAID)
    imported = past.answers()[A]
    older = past.round(1.5, {A: 7.0})[A]  # trained through hour 0.5
    carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PROMOTE, (A,), model=older), SAID
    )
    text = load_models(past.config, str(index), SAID)
    assert whats(text)[A] == "refused"
    assert text[0].why == f"a person withdrew it; `spinney promote --model {imported[:12]}` brings it back"
    assert past.answers()[A] == older


def test_a_pickle_is_refused_unread_without_the_word_for_it(past: Past, index: Path) -> None:
    ran = index.with_name("ran")

    class Runs:
        def __reduce__(self):
            return (Path.touch, (ran,))

    index.with_name("a.pkl").write_bytes(pickle.dumps(Runs()))
    joblib.dump(MODELS["b"], index.with_name("b.joblib"))
    index.write_text(index.read_text().replace("a.skops", "a.pkl").replace("b.skops", "b.joblib"))
    text = load_models(past.config, str(index), SAID)
    assert whats(text) == {A: "refused", B: "refused", C: "imported"}
    assert text[0].why == (
        "reading a pickle runs whatever code it holds: allow it by --allow-pickle, for files that you trust"
    )
    assert not ran.exists()
    text = load_models(past.config, str(index), SAID, allow_pickle=True)
    assert whats(text) == {A: "refused", B: "imported", C: "there already"}
    assert ran.exists()
    assert text[0].why == "expected a fitted scikit-learn estimator or pipeline; got NoneType"
    # What is stored is no pickle: reading it runs nothing.
    assert {row["codec"] for row in stored(past, tables.MODELS)} == {"sklearn-arrays"}
    assert answers(past)["prediction"][3:6].tolist() == MODELS["b"].predict(ROWS).tolist()


class Mine(LinearRegression):
    """Of a type that no one listed."""


def test_one_of_a_type_that_may_not_be_stored_is_refused_and_the_others_go_on(past: Past, index: Path) -> None:
    joblib.dump(Mine().fit(ROWS, [1.0, 2.0, 3.5]), index.with_name("a.joblib"))
    index.with_name("b.skops").write_bytes(b"no zip file")
    index.write_text(index.read_text().replace("a.skops", "a.joblib"))
    text = load_models(past.config, str(index), SAID, allow_pickle=True)
    assert whats(text) == {A: "refused", B: "refused", C: "imported"}
    assert "codec skops: Imported: expected allowed types; got ['" in text[0].why
    assert "Mine']" in text[0].why
    assert text[1].why.startswith("codec skops: expected bytes that can be read; got BadZipFile")


def test_one_that_answers_otherwise_from_its_stored_bytes_is_refused(past: Past, index: Path, monkeypatch) -> None:
    monkeypatch.setattr(codec, "load", lambda *_, **__: import_estimator(MODELS["c"], Recipe.of(past.config)))
    text = load_models(past.config, str(index), SAID)
    assert whats(text) == {A: "refused", B: "refused", C: "imported"}
    assert text[0].why == "expected the same predictions after storing and loading it; got different ones"


def test_a_large_model_is_not_carried_by_its_promotion_and_answers_all_the_same(past: Past, index: Path) -> None:
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=ROWS.columns)
    forest = RandomForestRegressor(30, random_state=0).fit(many, many["price"])
    index.with_name("a.skops").write_bytes(skops_io.dumps(forest))
    load_models(past.config, str(index), SAID)
    carried = {
        row["group_key"]: row["payload"]
        for row in delta.read_table(FleetStore.of(past.config), tables.PROMOTIONS).to_pylist()
    }
    assert [carried[key] is None for key in (A, B, C)] == [True, False, False]
    assert answers(past)["prediction"][:3].tolist() == forest.predict(ROWS).tolist()


def test_a_flipped_byte_is_refused_and_the_group_has_no_answer_of_its_own(past: Past, index: Path) -> None:
    load_models(past.config, str(index), SAID)
    mine = ds.field("group_key") == A
    (row,) = delta.read_table(FleetStore.of(past.config), tables.PROMOTIONS, where=mine).to_pylist()
    flipped = bytearray(row["payload"])
    flipped[-1] ^= 1
    past.put(tables.PROMOTIONS, "people", {**row, "payload": bytes(flipped), "decided_at": datetime.now(UTC)})
    cache.cache_clear()  # a model that was verified in this process is not read again
    assert answers(past)["answered_by"].tolist() == ["none"] * 3 + ["own"] * 6


def test_a_dry_run_tries_and_says_it_all_and_writes_nothing(past: Past, index: Path) -> None:
    index.with_name("b.skops").unlink()
    text = load_models(past.config, str(index), SAID, dry_run=True)
    assert whats(text) == {A: "imported", B: "refused", C: "imported"}
    assert text[1].why == f"expected a file; got nothing at {index.with_name('b.skops')}"
    assert stored(past, tables.MODELS) == stored(past, tables.PROMOTIONS) == []
    assert not (Path(past.config.storage.root) / "charter.json").exists()


def test_many_models_are_written_in_parts_and_reported_in_the_order_of_the_index(
    past, index: Path, monkeypatch
) -> None:
    monkeypatch.setattr(loading, "MODELS_PER_WRITE", 2)
    index.with_name("b.skops").unlink()
    text = load_models(past.config, str(index), SAID)
    assert [(each.group_key, each.what.value) for each in text] == [(A, "imported"), (B, "refused"), (C, "imported")]
    assert {row["round_id"] for row in stored(past, tables.PROMOTIONS)} == {"people-0", "people-1"}


@pytest.mark.parametrize("clock", ["event", "wall"])
def test_a_training_that_lies_ahead_of_the_fleets_clock_is_refused_and_does_not_move_it(past, index, clock) -> None:
    """The newest event is of hour 2; on the wall's clock hour 3 has long been."""
    past = Past(parse(past.config.text.replace("[fleet]", f'[fleet]\nclock = "{clock}"'), "fleet.toml", {}))
    ahead = {"event": "2024-05-01T03:00:00", "wall": "2999-01-01"}[clock]
    index.write_text(
        index.read_text()
        .replace("a.skops,,", f"a.skops,{ahead},")
        .replace("b.skops,,", f"b.skops,{hour(2).isoformat()},")
    )
    began = datetime.now(UTC)
    text = load_models(past.config, str(index), SAID, dry_run=True)
    again = load_models(past.config, str(index), SAID)
    # The wall's clock stands in the reason to the second.
    assert (text == again) if clock == "event" else (whats(text) == whats(again))
    assert whats(text) == {A: "refused", B: "imported", C: "imported"}
    assert text[0].why.startswith("trained_through: expected a time not after the fleet's clock, 20")
    assert text[0].why.endswith(f"; got {datetime.fromisoformat(ahead).replace(tzinfo=UTC)}")
    (moved,) = {row["clock"] for row in stored(past, tables.PROMOTIONS)}
    assert moved == hour(2) if clock == "event" else began <= moved <= datetime.now(UTC)


def test_a_clock_that_was_reported_before_is_not_taken_over_by_an_import(past: Past, index: Path) -> None:
    past.round(500, {'["z","1"]': 7.0})
    load_models(past.config, str(index), SAID)
    assert {row["clock"] for row in stored(past, tables.PROMOTIONS)} == {hour(2)}


def test_another_persons_step_and_an_unknown_clock_are_reported(past: Past, index: Path) -> None:
    with leases.held(FleetStore.of(past.config), ["people"]), pytest.raises(Busy):
        load_models(past.config, str(index), SAID)
    DeltaTable(FleetStore.of(past.config).directory(tables.EVENTS).uri).delete()
    with pytest.raises(StoreError, match=r"fleet shops: expected a stored event, .* got none. Load"):
        load_models(past.config, str(index), SAID)
    assert stored(past, tables.MODELS) == []


def test_imported_models_are_tidied_and_a_champion_is_never_forgotten(past: Past, index: Path) -> None:
    for shop, dept in GROUPS.items():
        one = index.with_name(f"{shop}.csv")
        one.write_text(f"shop,dept,model\n{shop},{dept},{shop}.skops\n")
        load_models(past.config, str(one), SAID)
    place = FleetStore.of(past.config).directory(tables.MODELS, "people")
    with leases.held(FleetStore.of(past.config), [maintenance.lease_of(place)]):
        assert (
            maintenance.tidy_directory(
                FleetStore.of(past.config), past.config.retention, place, datetime.now(UTC)
            ).small
            == 3
        )
    assert len(stored(past, tables.MODELS)) == 3
    assert set(answers(past)["answered_by"]) == {"own"}


def lines(past: Past, file: Path):
    return [
        (each.group_key, each.named, each.trained_through, each.rows) for each in read_index(past.config.fleet, file)
    ]


def test_an_index_is_csv_json_lines_or_parquet(past: Past, tmp_path: Path) -> None:
    through = datetime(2024, 5, 1, 6, tzinfo=UTC)
    expected = [('["007","1"]', "x.skops", through, 40), ('["NA","2"]', "models:/shop@best", None, None)]
    csv_file = tmp_path / "i.csv"
    csv_file.write_text(
        "dept,shop,model,rows,trained_through\n1,007,x.skops,40,2024-05-01 06:00\n02,NA,models:/shop@best,,\n"
    )
    assert lines(past, csv_file) == expected
    rows = [
        {"shop": "007", "dept": 1, "model": "x.skops", "rows": 40, "trained_through": "2024-05-01T08:00:00+02:00"},
        {"shop": "NA", "dept": 2, "model": "models:/shop@best"},
    ]
    (tmp_path / "i.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert lines(past, tmp_path / "i.jsonl") == expected
    frame = pd.DataFrame({"shop": ["007", "NA"], "dept": [1, 2], "model": ["x.skops", "models:/shop@best"]})
    frame["rows"] = pd.array([40, None], dtype="Int64")
    frame["trained_through"] = pd.to_datetime(["2024-05-01T06:00:00Z", None])
    frame.to_parquet(tmp_path / "i.parquet")
    assert lines(past, tmp_path / "i.parquet") == expected


@pytest.mark.parametrize(
    ("name", "text", "error", "why"),
    [
        ("no.csv", None, StoreError, "expected an index file, .* with columns shop, dept, model; got nothing there"),
        ("", None, StoreError, "got a folder. Write one: each line names a group and its model"),
        ("i.txt", "x", ContractError, r"expected .csv, .jsonl or .parquet; got '.txt'"),
        ("i.csv", "shop,model\na,m\n", ContractError, "expected columns shop, dept, model; got none of dept"),
        ("i.csv", "shop,dept,model\na,1.5,m\n", ContractError, r"line 1: column dept: expected a whole; got '1.5'"),
        ("i.csv", "shop,dept,model\na,1,m\n,1,m\n", ContractError, r"line 2: column shop: expected a text; got None"),
        ("i.csv", "shop,dept,model\na,1,m\na,01,n\n", ContractError, r'group \["a","1"\]: expected it in one line'),
        ("i.jsonl", "[1]\n", ContractError, r"expected lines that can be read; got no JSON object: \[1\]"),
        ("i.jsonl", '{"shop": 7, "dept": 1, "model": "m"}\n', ContractError, "column shop: expected a text; got 7"),
        ("i.jsonl", '{"shop": "a", "dept": true, "model": "m"}\n', ContractError, "column dept: expected a whole; got"),
        ("i.parquet", "no", ContractError, "expected lines that can be read; got Could not open Parquet"),
    ],
)
def test_an_index_that_cannot_be_understood_is_refused_whole(past, tmp_path, name, text, error, why: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=why):
        read_index(past.config.fleet, tmp_path / name)
