"""What a later version of Spinney stored is refused by name, and none of it is overwritten."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, write_deltalake
from handwritten_history import constant, fleet_toml

from schemas import tables
from spinney import Fleet
from spinney.core import state_codec
from spinney.core.champions import shard_champions
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config, parse
from spinney.core.errors import Corrupt, UnknownFormat
from spinney.core.models import codec
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.staleness import encoded_champions, judge
from spinney.core.staleness.encoded_champions import EncodedChampions
from spinney.core.staleness.judge import ShardState
from spinney.core.state_codec import Body, StateCodec
from spinney.core.stored_formats import ALL, METADATA_KEY, StoredFormat
from spinney.kafka import topic_ids
from spinney.operations import maintenance
from spinney.operations.dead_letters import ledger, purge
from spinney.operations.dead_letters.letters import IDENTITY
from spinney.serving import manifest
from spinney.serving.manifest import Manifest
from spinney.storage import (
    api_keys,
    charter,
    kept_since,
    last_configuration,
    reported_offsets,
    retrain_requests,
    signing_key,
)
from spinney.storage.api_keys import KeyRing
from spinney.storage.label_index.label_index import IndexShape, LabelIndex, ReadThrough
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store, unverified_recipes
from spinney.tables.arrow_schemas import arrow_schema

FUTURE = 99
DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
Reader = Callable[[], Any]


@dataclass
class Root:
    """The root of a fleet whose tables are made."""

    config: Config
    signer: Signer

    @property
    def store(self) -> FleetStore:
        return FleetStore.of(self.config)

    @property
    def edited(self) -> Config:
        """The configuration with another range and another recipe."""
        more = "[fleet.ranges]\nprice = [0, 10]\n[recipe]\nmin_rows = 7\n"
        return parse(fleet_toml(self.config.storage.root, more=more), "fleet.toml", {})

    def write_json(self, name: str, content: Any) -> None:
        file = self.store.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**content, "format": FUTURE}), encoding="utf-8")

    def files(self) -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in self.store.folder.rglob("*") if file.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    config = parse(fleet_toml(tmp_path / "root"), "fleet.toml", {})
    delta.create_tables(FleetStore.of(config))
    charter.ensure_charter(FleetStore.of(config))
    signing_key.ensure_key(FleetStore.of(config), {})
    return Root(config, signing_key.load_signer(FleetStore.of(config), {}))


def of_charter(root: Root) -> list[Reader]:
    root.write_json("charter.json", {"rules": []})
    fleet = Fleet(root.config)
    writing = (charter.amend_charter, charter.check_unchanged, delta.create_tables)
    reading = (fleet.groups, fleet.champions, fleet.shadow, partial(fleet.why, '["a","1"]'))
    return [*(partial(each, FleetStore.of(root.edited)) for each in writing), *reading]


def of_topics(root: Root) -> list[Reader]:
    root.write_json("topics.json", {"ids": {"sales": "first"}})
    return [partial(topic_ids.known_ids, root.store), partial(topic_ids.ensure_same, root.store, root.config.kafka, {})]


def of_last_configuration(root: Root) -> list[Reader]:
    last_configuration.write_last_configuration(root.config)
    file = root.store.folder / "last.toml"
    file.write_text(file.read_text().replace("Format: 1", f"Format: {FUTURE}"))
    return [
        partial(last_configuration.read_last_configuration, root.store),
        partial(last_configuration.write_last_configuration, root.edited),
    ]


def of_recipes(root: Root) -> list[Reader]:
    recipe = Recipe.of(root.config)
    root.write_json(f"recipes/{recipe.recipe_id}.json", {"text": recipe.text})
    return [
        partial(recipe_store.store_recipe, root.store, root.signer, recipe),
        partial(recipe_store.load_recipes, root.store, root.signer),
        partial(unverified_recipes.read_estimators, root.store),
    ]


def of_replays(root: Root) -> list[Reader]:
    place = root.store.folder / "replays"
    place.mkdir()
    rows = pa.table({name: ["other"] for name in IDENTITY}).replace_schema_metadata({METADATA_KEY: b"99"})
    for name in ("a.parquet", "b.sending.parquet"):
        pq.write_table(rows, place / name)
    return [partial(ledger.read_replayed, root.store), partial(ledger.unfinished_replays, root.store)]


def of_requests(root: Root) -> list[Reader]:
    root.write_json("purge/request", {"id": "a"})
    root.write_json("tidy/request", {"id": "a"})
    root.write_json("tidy/score.served", {"id": "a"})
    root.write_json("retrain_requests/a.json", {"id": "a"})
    return [
        partial(purge.serve_purge, root.store, threading.Lock()),
        partial(maintenance.pending_request, root.store, "ingest"),
        partial(maintenance.read_answer, root.store, "score"),
        partial(retrain_requests.read_requests, root.store),
    ]


def of_commits(root: Root) -> list[Reader]:
    place = root.store.directory(tables.OUTCOMES)
    row = {"format": FUTURE, "query": "ingest", "steps": ["outcomes", "events"]}
    rows = arrow_schema(place.contract).empty_table()
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(row)})
    write_deltalake(place.uri, rows, mode="append", commit_properties=properties)
    return [partial(delta.DirectoryWriter, place, "ingest", "c1")]


def of_the_judges_state(root: Root) -> list[Reader]:
    blob = bytes([FUTURE]) + ShardState.empty().to_bytes()[1:]
    return [partial(ShardState.from_bytes, blob), partial(ShardState.clock_of, blob)]


def of_the_champions_state(root: Root) -> list[Reader]:
    return [partial(Champions.from_bytes, bytes([FUTURE]) + Champions.empty().to_bytes()[1:])]


def of_models(root: Root) -> list[Reader]:
    _, payload = codec.dump(constant(2.5))
    return [partial(codec.load, each, bytes([FUTURE]) + payload[1:], allow_pickle=True) for each in codec.CODECS]


def of_manifests(root: Root) -> list[Reader]:
    folder = root.store.folder / "a manifest"
    folder.mkdir()
    manifest.write_manifest(root.config, Champions.empty(), folder)
    file = folder / manifest.CHAMPIONS
    pq.write_table(pq.read_table(file).replace_schema_metadata({METADATA_KEY: b"99"}), file)
    return [partial(Manifest, folder)]


def of_api_keys(root: Root) -> list[Reader]:
    root.write_json("api_keys.json", {"keys": []})
    (root.store.folder / "api_keys.lock").touch()
    return [
        partial(api_keys.list_keys, root.store),
        partial(api_keys.add_key, root.store, "ada", ["read"]),
        partial(api_keys.revoke_key, root.store, "00000000"),
        partial(KeyRing(root.store).find, "spinney_00000000_x"),
    ]


def of_offsets(root: Root) -> list[Reader]:
    root.write_json("offsets/score.json", {"ends": {}})
    return [partial(reported_offsets.read_lag, root.store, "score")]


def of_the_label_index(root: Root) -> list[Reader]:
    folder = root.store.folder / "index"
    root.write_json("index/manifest.json", {"runs": {}})
    shape = IndexShape(timedelta(hours=1), pa.schema([]), pa.float64())
    return [partial(LabelIndex.open, folder, shape, ReadThrough("c", 0, []))]


def of_kept_since(root: Root) -> list[Reader]:
    root.write_json("kept_since/promotions-stream.json", {"from": "2024-05-01"})
    place = root.store.directory(tables.PROMOTIONS, "stream")
    at = datetime(2024, 5, 1, tzinfo=UTC)
    return [
        partial(kept_since.read_kept_since, root.store),
        partial(kept_since.write_kept_since, root.store, place, at),
    ]


STORED_LATER = {
    "charter.json": of_charter,
    "topics.json": of_topics,
    "last.toml": of_last_configuration,
    "recipes": of_recipes,
    "replays": of_replays,
    "requests": of_requests,
    "commits": of_commits,
    "state of the judge": of_the_judges_state,
    "state of champions": of_the_champions_state,
    "models": of_models,
    "manifest": of_manifests,
    "api_keys.json": of_api_keys,
    "offsets": of_offsets,
    "label index": of_the_label_index,
    "kept_since": of_kept_since,
}


@pytest.mark.parametrize("name", [each.name for each in ALL])
def test_a_later_version_is_refused_by_every_reader_and_nothing_is_overwritten(root: Root, name: str) -> None:
    readers = STORED_LATER[name](root)
    before = root.files()
    for read in readers:
        with pytest.raises(UnknownFormat) as raised:
            read()
        text = str(raised.value)
        assert re.search(rf"expected {name} in format 1.*, which this version of Spinney reads; got format 99\. ", text)
        assert text.endswith("A later version of Spinney wrote it: upgrade Spinney to that version or a later one")
    assert root.files() == before


def test_the_page_lists_every_format_with_the_version_that_is_written() -> None:
    rows = re.findall(r"^\| `?([^|`]+?)`? \| (\d+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(each.name, str(each.version)) for each in ALL]


@pytest.mark.parametrize("found", [None, 1, 2, "1", "2"])
def test_every_version_up_to_the_present_one_is_read(found: object) -> None:
    assert StoredFormat("things", 2).check(found, "here") == int(str(found or 1))


@pytest.mark.parametrize("found", [0, -1, "", "two", True, 1.0, b"1"])
def test_what_is_no_version_is_damaged(found: object) -> None:
    with pytest.raises(
        Corrupt, match=r"^here: expected things in format 1 to 2, .*Restore it from a backup$"
    ) as raised:
        StoredFormat("things", 2).check(found, "here")
    assert not isinstance(raised.value, UnknownFormat)


def test_ids_of_topics_from_before_they_had_a_version_are_read_and_stored_anew(root: Root) -> None:
    file = root.store.folder / "topics.json"
    file.write_text('{"sales": "first", "format": "second"}')  # a topic may have this name
    assert topic_ids.known_ids(root.store) == {"sales": "first", "format": "second"}


def test_a_last_configuration_from_before_it_had_a_version_is_read(root: Root) -> None:
    last_configuration.write_last_configuration(root.config)
    file = root.store.folder / "last.toml"
    first, rest = file.read_text().split("\n", 1)
    assert first == "# Spinney stores this file. Format: 1"
    file.write_text(rest)
    found = last_configuration.read_last_configuration(root.store)
    assert found is not None
    assert found.fleet == root.config.fleet
    last_configuration.write_last_configuration(root.config)
    assert file.read_text() == f"{first}\n{rest}"


CHARTER_OF_THEN = """{
 "fleet_id": "5aff241a-f02f-4a26-af80-79a260701dcb",
 "fixed": {"fleet.group": ["shop", "dept"], "fleet.columns": {"price": "double"}},
 "editions": [
  {"ranges": {}, "since": {}},
  {"ranges": {"price": [0, 10]}, "sources": {"price": "p"}, "units": {"at": "s"}, "coerce": true, "missing": ["NA"],
   "undeclared": ["size"], "types": {"stock": "int"}, "dropped": {"old": "string"}, "since": {"sales": {"0": 7}}}],
 "migrations": [{"id": "m1", "at": "2026-05-01T12:00:00+00:00", "before": {"cost": "float", "old": "string"},
                 "after": {"price": "double"}, "renamed": {"cost": "price"}, "version": 4}],
 "begun": {"id": "m2", "at": "2026-05-02T12:00:00+00:00", "before": {"price": "double"},
           "after": {"price": "double", "size": "int"}, "renamed": {}, "version": null}
}"""
"""As the first version wrote it. Its names are those of fields in the code; they stay what they are."""


def test_a_charter_with_migrations_from_before_it_had_a_version_is_read(root: Root) -> None:
    (root.store.folder / "charter.json").write_text(CHARTER_OF_THEN)
    found = charter.load_charter(root.store)
    assert found is not None
    assert [edition.since for edition in found.editions] == [{}, {"sales": {"0": 7}}]
    (ended,) = found.migrations
    assert (ended.id, ended.renamed, ended.version) == ("m1", {"cost": "price"}, 4)
    assert charter.former_columns_of(root.store)["cost"].now == "price"
    assert found.unfinished_migration is not None
    assert found.unfinished_migration.added == ("size",)


def test_a_charter_is_written_with_the_names_of_then(root: Root) -> None:
    file = root.store.folder / "charter.json"
    file.write_text(CHARTER_OF_THEN)
    found = charter.load_charter(root.store)
    assert found is not None
    charter.write_charter(root.store, found)
    written, then = json.loads(file.read_text()), json.loads(CHARTER_OF_THEN)
    assert written.pop("format") == 1
    assert written.keys() == then.keys()
    assert written["editions"][1] == then["editions"][1]
    added_since = {
        "sources": {},
        "units": {},
        "coerce": False,
        "missing": [],
        "undeclared": [],
        "types": {},
        "dropped": {},
    }
    assert written["editions"][0] == then["editions"][0] | added_since
    assert (written["migrations"], written["begun"]) == (then["migrations"], then["begun"])


def test_commits_of_others_are_passed_over_whatever_they_say_of_a_format(root: Root) -> None:
    place = root.store.directory(tables.OUTCOMES)
    properties = CommitProperties(custom_metadata={"userMetadata": '{"format": "parquet"}'})
    write_deltalake(place.uri, arrow_schema(place.contract).empty_table(), mode="append", commit_properties=properties)
    assert delta.DirectoryWriter(place, "ingest", "c1").last_commit("outcomes") is None


def clock_in_seconds(body: Body) -> Body:
    """What a version 6 could make of a state of the judge."""
    clock, *others = state_codec.split_sections(body)
    seconds = int.from_bytes(clock, "little", signed=True) // 1_000_000
    return state_codec.join_sections([seconds.to_bytes(8, "little", signed=True), *map(bytes, others)])


def without_null_codecs(body: Body) -> Body:
    """What a version 4 could make of a state of champions."""
    batch = state_codec.decode_batch(body, shard_champions.SCHEMA)
    place = batch.schema.get_field_index("codec")
    codecs = pc.fill_null(batch.column(place), "stored")
    return state_codec.encode_batch(batch.set_column(place, batch.schema.field(place), codecs))


def test_states_are_read_after_a_change_of_their_formats_and_stored_in_the_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    champions = Champions.empty().with_promotions([("a", Promotion(0, "m", "promoted", 1, 2))])
    judged = replace(ShardState.empty(), clock=5_000_000, encoded_champions=EncodedChampions.of(champions)).to_bytes()
    scored = champions.to_bytes()
    assert (judged[0], scored[0]) == (5, 3)
    upgrades = {**judge.UPGRADES, 5: clock_in_seconds}
    monkeypatch.setattr(judge, "CODEC", StateCodec(StoredFormat("judge", 6), upgrades))
    for module in (shard_champions, encoded_champions):
        later = {**shard_champions.CODEC.upgrades, 3: without_null_codecs}
        monkeypatch.setattr(module, "CODEC", StateCodec(StoredFormat("champions", 4), later))

    changed = {"a": (Promotion(0, "m", "promoted", 1, 2, codec="stored"),)}
    shard = ShardState.from_bytes(judged)
    assert (shard.clock, ShardState.clock_of(judged), shard.champions.promotions) == (5, 5, changed)
    assert shard.encoded_champions.select(["a"]).promotions == Champions.from_bytes(scored).promotions == changed
    again = ShardState.from_bytes(shard.to_bytes())
    assert (shard.to_bytes()[0], again.clock, again.champions.promotions) == (6, 5, changed)
    assert Champions.from_bytes(scored).to_bytes()[0] == 4
