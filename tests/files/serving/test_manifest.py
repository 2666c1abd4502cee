"""A manifest answers as the fleet did, to the bit, without the fleet's tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handwritten_history import Past, constant
from oracles import DEPT, A, B, C, Shops, made, mixed

from spinney.core.champions.shard_champions import Champions
from spinney.core.config import parse
from spinney.core.config.without_secrets import without_secrets
from spinney.core.errors import Corrupt, SetupError, StoreError
from spinney.core.models import codec
from spinney.core.models.signing import Claim, Signer
from spinney.serving import manifest, model_cache
from spinney.serving.manifest import Manifest, ManifestSummary
from spinney.serving.model_cache import cache


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "k" * 32)
    cache.cache_clear()
    yield
    cache.cache_clear()


@pytest.fixture
def shops(tmp_path: Path) -> Shops:
    return made(tmp_path / "root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "manifest"
    place.mkdir()
    return place


def written(shops: Shops, folder: Path, as_of: str | None = None) -> ManifestSummary:
    return manifest.write_manifest(shops.past.config, shops.fleet.champions(as_of), folder)


def alone(shops: Shops, folder: Path) -> Manifest:
    """Opened where the fleet's tables are gone and no model is loaded yet."""
    shutil.rmtree(shops.past.config.storage.root)
    cache.cache_clear()
    return Manifest(folder)


@pytest.mark.parametrize("classes", [False, True])
def test_it_answers_mixed_rows_as_the_fleet_does_when_the_tables_are_gone(
    tmp_path: Path, folder: Path, classes: bool
) -> None:
    shops = made(tmp_path / "root", classes=classes)
    shops.round(30, A, B, DEPT)
    shops.round(50, A, flipped=True)  # passed over for the one before it
    shops.round(60, C, flipped=True)  # passed over for its parent
    frame = mixed()
    wanted = shops.fleet.predict(frame)
    assert set(wanted["answered_by"]) == {"own", "parent", "none"}
    counted = written(shops, folder)
    assert (counted.groups, counted.parents, counted.models, counted.refused) == (3, 1, 5, 2)
    assert counted.bytes == (folder / manifest.CHAMPIONS).stat().st_size
    pd.testing.assert_frame_equal(alone(shops, folder).predict(frame), wanted, check_exact=True)


def test_a_manifest_of_then_answers_as_the_fleet_did_then(shops: Shops, folder: Path) -> None:
    shops.round(30, A, DEPT)
    shops.round(50, A, B)
    frame = mixed()
    wanted = shops.fleet.predict(frame, as_of="stream-30")
    written(shops, folder, as_of="stream-30")
    pd.testing.assert_frame_equal(alone(shops, folder).predict(frame), wanted, check_exact=True)


def test_groups_are_found_in_every_part_of_the_file(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_GROUPS", 3)
    shops = made(tmp_path / "root")
    numbers = {f'["s{n}","1"]': float(n) for n in range(10)}
    shops.past.round(1, {key: number + 100 for key, number in numbers.items()})
    shops.past.round(2, numbers, big=True)  # their payloads are in `models` alone
    written(shops, folder)
    frame = pd.DataFrame({"shop": [f"s{n % 10}" for n in range(7, 40)], "dept": 1, "price": 0.0, "stock": 1})
    answered = alone(shops, folder).predict(frame)
    assert answered["prediction"].tolist() == [float(n % 10) for n in range(7, 40)]
    assert set(answered["answered_by"]) == {"own"}


def test_parts_are_cut_by_the_bytes_of_their_payloads_and_few_are_fetched_at_once(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f'["s{n:02}","1"]' for n in range(40)]
    shops.past.round(1, {key: float(n) for n, key in enumerate(keys)}, big=True)
    frame = pd.DataFrame({"shop": [f"s{n:02}" for n in range(40)], "dept": 1, "price": 0.0, "stock": 1})
    wanted = shops.fleet.predict(frame)
    size = len(codec.dump(constant(1.0))[1])
    fetched: list[int] = []
    stored = model_cache.read_stored_models
    monkeypatch.setattr(
        model_cache, "read_stored_models", lambda config, owners: fetched.append(len(owners)) or stored(config, owners)
    )
    monkeypatch.setattr(manifest, "PART_BYTES", 3 * size)
    monkeypatch.setattr(manifest, "FIRST_FETCHED", 4)
    monkeypatch.setattr(manifest, "FETCHED_BYTES", 10 * size)
    written(shops, folder)
    file = pq.ParquetFile(folder / manifest.CHAMPIONS)
    assert [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] == [3] * 13 + [1]
    assert fetched == [4, 8, 10, 10, 8]
    pd.testing.assert_frame_equal(alone(shops, folder).predict(frame), wanted, check_exact=True)


def test_to_open_one_few_payloads_are_read(shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shops.past.round(1, {f'["s{n}","1"]': float(n) for n in range(100)})
    written(shops, folder)
    tried: list[str] = []
    verify = Signer.verify

    def counted(self: Signer, claim: Claim, payload: bytes, signature: bytes | None) -> None:
        tried.append(claim.model_id)
        verify(self, claim, payload, signature)

    def refuses(*_: object, **__: object) -> None:
        raise AssertionError("a whole part was read")

    monkeypatch.setattr(Signer, "verify", counted)
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", refuses)
        Manifest(folder)
    assert len(tried) == 1
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "another key of sixteen")
    with pytest.raises(SetupError, match="none of 16 models"):
        Manifest(folder)


@pytest.mark.parametrize("groups_a_part", [3, 1000])
def test_it_is_opened_when_few_models_are_of_the_key_that_is_here(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch, groups_a_part: int
) -> None:
    """In a late part behind others, and in the midst of one part."""
    monkeypatch.setattr(manifest, "PART_GROUPS", groups_a_part)
    retired = Past(shops.past.config, Signer(b"o" * 32))
    retired.round(1, {f'["s{n:02}","1"]': float(n) for n in range(30)})
    shops.past.round(2, {'["s20","1"]': 7.0})
    written(shops, folder)
    frame = pd.DataFrame({"shop": ["s20", "s21"], "dept": 1, "price": 0.0, "stock": 1})
    assert alone(shops, folder).predict(frame)["prediction"].tolist()[0] == 7.0


def test_it_is_opened_with_a_key_that_signed_old_models_of_a_late_part_alone(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PART_GROUPS", 3)
    shops.past.round(1, {'["s99","1"]': 7.0})
    Past(shops.past.config, Signer(b"n" * 32)).round(2, {f'["s{n:02}","1"]': float(n) for n in range(30)})
    written(shops, folder)
    frame = pd.DataFrame({"shop": ["s99"], "dept": 1, "price": 0.0, "stock": 1})
    assert alone(shops, folder).predict(frame)["prediction"].tolist() == [7.0]


def test_a_person_who_steps_in_and_pins_is_heeded(shops: Shops, folder: Path) -> None:
    first = shops.past.round(1, {A: 1.0, B: 1.5})
    shops.past.round(2, {A: 2.0, B: 2.5})
    shops.past.round(3, {A: 1.0}, decision="pinned", epoch=1)
    shops.past.round(3.5, {B: 2.5}, decision="withdrawn", epoch=1)
    frame = pd.DataFrame({"shop": ["a", "b"], "dept": 1, "price": 0.0, "stock": 1})
    wanted = shops.fleet.predict(frame)
    assert wanted["model_id"].tolist() == [first[A], None]
    counted = written(shops, folder)
    assert (counted.groups, counted.models) == (1, 1), "no model that cannot answer is carried"
    pd.testing.assert_frame_equal(alone(shops, folder).predict(frame), wanted, check_exact=True)


def test_a_byte_that_was_changed_in_the_file_takes_a_model_out_of_the_line(shops: Shops, folder: Path) -> None:
    first, second = shops.past.round(1, {A: 1.0, B: 1.5}), shops.past.round(2, {A: 2.0, B: 2.5})
    written(shops, folder)
    rows = pq.read_table(folder / manifest.CHAMPIONS)
    payloads = [
        payload[:-1] + bytes([payload[-1] ^ 1]) if model == second[A] else payload
        for model, payload in zip(rows["model_id"].to_pylist(), rows["payload"].to_pylist(), strict=True)
    ]
    at = rows.column_names.index("payload")
    pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(payloads)), folder / manifest.CHAMPIONS)
    frame = pd.DataFrame({"shop": ["a", "b"], "dept": 1, "price": 0.0, "stock": 1})
    assert alone(shops, folder).predict(frame)["model_id"].tolist() == [first[A], second[B]]


def test_only_the_models_that_rows_ask_for_are_opened(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = shops.past.round(1, {A: 1.0, B: 1.5, DEPT: 3.0})
    written(shops, folder)
    opened = alone(shops, folder)
    opened.predict(pd.DataFrame({"shop": ["a"], "dept": 1, "price": 0.0, "stock": 1}))
    cached = cache()._models
    assert list(cached) == [(A, names[A])]


@pytest.mark.parametrize("key", ["", "another key of sixteen"])
def test_without_the_key_it_is_not_opened(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    shops.past.round(1, {A: 1.0, B: 1.5})
    written(shops, folder)
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", key)
    got = "one that signed none of 4 models, some of each part and the newest" if key else "none"
    with pytest.raises(
        SetupError, match=rf"fleet shops: expected the key .* in SPINNEY_SIGNING_KEY; got {got}\. Set it"
    ):
        alone(shops, folder)


def test_models_signed_with_an_older_key_verify_while_both_are_there(
    shops: Shops, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops.past.round(1, {A: 1.0})
    written(shops, folder)
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "n" * 32)
    monkeypatch.setenv("SPINNEY_SIGNING_KEYS_OLD", "k" * 32)
    frame = pd.DataFrame({"shop": ["a"], "dept": 1, "price": 0.0, "stock": 1})
    assert alone(shops, folder).predict(frame)["prediction"].tolist() == [1.0]


def test_of_a_model_that_is_stored_under_two_keys_the_one_that_verifies_goes_along(shops: Shops, folder: Path) -> None:
    for signer in (Signer(b"o" * 32), shops.past.signer, Signer(b"p" * 32)):
        names = Past(shops.past.config, signer).round(1, {A: 1.0, B: 2.0}, big=True)
    assert written(shops, folder).refused == 0
    frame = pd.DataFrame({"shop": ["b", "a"], "dept": 1, "price": 0.0, "stock": 1})
    assert alone(shops, folder).predict(frame)["model_id"].tolist() == [names[B], names[A]]


def test_the_same_champions_make_the_same_digest_and_others_another(shops: Shops, tmp_path: Path) -> None:
    shops.past.round(1, {A: 1.0, B: 1.5})
    digests = []
    for n, at in enumerate((1, 1, 2)):
        if at == 2:
            shops.past.round(2, {A: 2.0})
        (tmp_path / f"{n}").mkdir()
        digests.append(written(shops, tmp_path / f"{n}").digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("[kafka]", "[budget]\nseconds = 3\n[retention]\nmodels = '90d'\n[kafka]", True),
        ("min_rows = 20", "min_rows = 30", True),
        ('features = ["price", "stock"]', 'features = ["price"]', False),
    ],
)
def test_the_digest_is_of_what_answers_depend_on(shops: Shops, tmp_path: Path, old: str, new: str, same: bool) -> None:
    shops.past.round(1, {A: 1.0, B: 1.5})
    assert shops.text.count(old) == 1
    edited = parse(shops.text.replace(old, new), "fleet.toml", {})
    digests = set()
    for n, config in enumerate((shops.past.config, edited)):
        (tmp_path / f"{n}").mkdir()
        digests.add(manifest.write_manifest(config, shops.fleet.champions(), tmp_path / f"{n}").digest)
    assert len(digests) == (1 if same else 2)


def test_a_champion_that_is_stored_nowhere_is_reported_and_nothing_is_written_for_it(
    shops: Shops, folder: Path
) -> None:
    name = shops.past.round(1, {A: 1.0}, big=True)[A]
    shutil.rmtree(Path(shops.past.config.storage.root) / "tables" / "models" / "stream")
    with pytest.raises(
        StoreError, match=rf'expected model {name}, the champion of group \["a","1"\]; it is not stored'
    ):
        written(shops, folder)


def test_a_file_of_another_make_is_refused(shops: Shops, folder: Path) -> None:
    shops.past.round(1, {A: 1.0})
    written(shops, folder)
    pq.write_table(pa.table({"group_key": [A]}), folder / manifest.CHAMPIONS)
    with pytest.raises(Corrupt, match=r"expected champions\.parquet as Spinney writes it; got other columns"):
        Manifest(folder)


def test_a_fleet_without_a_champion_is_a_manifest_that_answers_nothing(shops: Shops, folder: Path) -> None:
    assert manifest.write_manifest(shops.past.config, Champions.empty(), folder).groups == 0
    answered = alone(shops, folder).predict(mixed())
    assert set(answered["answered_by"]) == {"none"}


SECRET = """\
[tracking]
uri = "http://me:hush@tracking:5000"
[spark]
spark.hadoop.fs.s3a.secret.key = "hush"
[staleness]
max_age = "3d"
[kafka.options]
"sasl.jaas.config" = "hush"
"""


def test_the_configuration_goes_along_as_it_is_in_effect_and_without_secrets(shops: Shops) -> None:
    text = shops.text.replace(
        '[kafka]\nevents = "sales"', SECRET.replace("[kafka.options]", '[kafka]\nevents = "sales"\n[kafka.options]')
    )
    config = parse(text, "fleet.toml", {"SPINNEY_RECIPE__MIN_ROWS": "7"})
    reported = without_secrets(config)
    assert "hush" not in reported
    assert "[budget]" not in reported, "what was not set is not there"
    again = parse(reported, "fleet.toml", {})
    kept = ("fleet", "recipe", "staleness", "gate", "budget", "retention")
    assert {name: getattr(again, name) for name in kept} == {name: getattr(config, name) for name in kept}
    assert (again.recipe.min_rows, str(again.staleness.max_age)) == (7, "3 days, 0:00:00")
    assert (again.kafka.options, again.spark, again.tracking.mode) == ({}, {}, "round")
