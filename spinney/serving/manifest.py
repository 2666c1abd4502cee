"""A manifest: a fleet at one time as a self-contained folder of its champions, signed models and configuration.

It predicts without access to the fleet's root, and after `tidy` has deleted the models. `champions.parquet` has the
promotions of all groups, with the payloads of models that may answer. Payloads are read on demand and verified before a
byte is parsed. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spinney.core import keys
from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import CHAMPION_COLUMNS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config, parse
from spinney.core.config.without_secrets import without_secrets
from spinney.core.errors import Corrupt, SetupError, StoreError
from spinney.core.intervals.champion_intervals import FleetIntervals, IntervalRule, Pool, pools_of
from spinney.core.migration import FormerColumn, LossHistory, convert_losses
from spinney.core.models.signing import Claim, Signer
from spinney.core.stored_formats import MANIFEST
from spinney.serving import model_cache
from spinney.serving.answers import answer_frame
from spinney.serving.model_cache import ModelSource, SignedPayload
from spinney.serving.promotion_histories import PromotionHistories
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore

FOLDER = "manifest"
"""Name of the folder among the artifacts of a registered version."""

CHAMPIONS, CONFIG, FORMER = "champions.parquet", "fleet.toml", "former.json"
PART_GROUPS, PART_BYTES = 1000, 32 << 20
"""Maximum groups, and payload bytes, of one row group of the file. Reading one group reads its whole row group."""

FIRST_FETCHED, FETCHED_BYTES = 125, 256 << 20
"""Number of groups fetched at first. Afterwards as many are fetched as fit into FETCHED_BYTES of payloads."""

FEW = 8
"""Number of models of one row group whose signatures are tried to check a key."""

ANSWERING: dict[str, Any] = {"fleet": True, "storage": {"root"}, "intervals": True}
"""Configuration keys that predictions depend on. `storage.root` is included for the signing key, which lies below it.
"""

_TIME = pa.timestamp("us", "UTC")
_SCHEMA = pa.schema(
    [
        pa.field("group_key", pa.string(), nullable=False),
        pa.field("rank", pa.int32()),  # 0: the champion; 1: answers if that one cannot, …; null: never answers
        ("epoch", pa.int64()),
        ("model_id", pa.string()),
        ("decision", pa.string()),
        ("trained_through", _TIME),
        ("fitted_at", _TIME),
        ("decided_at", _TIME),
        ("round_id", pa.string()),
        ("codec", pa.string()),
        ("payload", pa.binary()),
        ("signature", pa.binary()),
        (held_out_loss_codec.COLUMN, pa.list_(pa.float32())),
    ]
)

_WITHOUT_LOSSES = _SCHEMA.remove(_SCHEMA.get_field_index(held_out_loss_codec.COLUMN))
"""Schema of a manifest of version 1."""


@dataclass(frozen=True)
class ManifestSummary:
    """The content of a manifest. refused: number of champions with an invalid signature, in whose place other models
    answer.

    bytes: size of the file with the models. digest: SHA-256 of everything that predictions depend on.
    """

    groups: int
    parents: int
    models: int
    refused: int
    bytes: int
    digest: str


def write_manifest(config: Config, champions: Champions, folder: Path) -> ManifestSummary:
    """Write the manifest of these champions into an empty folder; return its summary.

    Raises StoreError if a champion is not stored, SetupError without a signing key.
    """
    store = FleetStore.of(config)
    signer = signing_key.load_signer(store)
    (folder / CONFIG).write_text(without_secrets(config), encoding="utf-8")
    former = charter.former_columns_of(store)
    if former:
        by_name = {name: asdict(column) for name, column in sorted(former.items())}
        (folder / FORMER).write_text(json.dumps(by_name), encoding="utf-8")
    answering = {key: history for key, history in sorted(champions.promotions.items()) if select_champion(history)}
    count = refused = 0
    plain = [name for name in _SCHEMA.names if name not in {"payload", "signature"}]
    schema = _SCHEMA.with_metadata(MANIFEST.metadata)
    with pq.ParquetWriter(folder / CHAMPIONS, schema, compression="zstd", write_statistics=plain) as file:
        for rows in _parts(_groups(store, answering, signer)):
            count += sum(row["payload"] is not None for row in rows)
            first = [row for row in rows if row["rank"] == 0]
            refused += sum(
                not _has_valid_signature(row["group_key"], row["model_id"], _of_row(row), signer) for row in first
            )
            table = pa.Table.from_pylist(rows, schema=_SCHEMA)
            file.write_table(table, row_group_size=max(1, table.num_rows))
    digest = hashlib.sha256(config.model_dump_json(include=ANSWERING).encode())
    if former:
        digest.update((folder / FORMER).read_bytes())
    with (folder / CHAMPIONS).open("rb") as written_file:
        digest.update(hashlib.file_digest(written_file, "sha256").digest())
    parents = sum(keys.is_parent(key) for key in answering)
    size = (folder / CHAMPIONS).stat().st_size
    return ManifestSummary(len(answering) - parents, parents, count, refused, size, digest.hexdigest())


class Manifest:
    """An opened manifest. Groups and models are read on demand.

    Raises SetupError without a signing key, or if the key signed none of the sampled models; Corrupt if
    `write_manifest` did not write the file.
    """

    def __init__(self, folder: Path) -> None:
        self._file = pq.ParquetFile(folder / CHAMPIONS, memory_map=True, pre_buffer=False)
        version = MANIFEST.check_metadata(self._file.schema_arrow.metadata, folder)
        self.config = parse((folder / CONFIG).read_text(encoding="utf-8"), str(folder / CONFIG), {})
        self._former = _former(folder / FORMER)
        if not self._file.schema_arrow.equals(_WITHOUT_LOSSES if version == 1 else _SCHEMA):
            raise Corrupt(f"manifest {folder}: expected {CHAMPIONS} as Spinney writes it; got other columns")
        ends = [self._file.metadata.row_group(at).num_rows for at in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *ends])
        self._losses = [held_out_loss_codec.COLUMN] if version > 1 else []
        self._histories = PromotionHistories(self._file.read([*CHAMPION_COLUMNS, *self._losses]))
        self._signer = self._key()
        rule = IntervalRule.of(self.config.fleet, self.config.intervals.coverage) if self._losses else None
        self._intervals = FleetIntervals(rule, self.config.fleet.shards, self._pools) if rule else None

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predict as `Fleet.predict` does, with the champions of this manifest."""
        champions = Champions(self._histories)
        models = ModelSource(FleetStore.of(self.config), self._signer, self.fetch)
        return answer_frame(
            frame, lambda _: champions, self.config.record_schema, models, self._intervals, self._former
        )

    def _pools(self, shards: Collection[int]) -> dict[int, Pool]:
        """Return the pools of all shards, whichever are asked for: reading a few takes nearly as long."""
        del shards
        rows = self._file.read(["group_key", "rank", *self._losses])
        return pools_of(rows.filter(pc.equal(rows["rank"], 0)), self.config.fleet.shards)

    def fetch(self, owners: Mapping[str, str]) -> dict[str, list[SignedPayload]]:
        """Return payloads by model_id; empty if there is none. owners: model_id -> its group or parent."""
        places: dict[int, str] = {}
        for model_id, owner in owners.items():
            first = self._histories.first(owner)
            for at, row in enumerate(self._histories.get(owner, ())):
                if row.model_id == model_id:
                    places[first + at] = model_id
        found: dict[str, list[SignedPayload]] = {name: [] for name in owners}
        for place, (codec, payload, signature) in self._signed(sorted(places)):
            if payload is not None:
                found[places[place]].append(SignedPayload(codec, payload, signature))
        return found

    def _signed(self, places: list[int]) -> Iterator[tuple[int, tuple[str, bytes, bytes]]]:
        """Yield codec, payload and signature of these rows, reading one row group at a time."""
        parts: dict[int, list[int]] = defaultdict(list)
        for place, part in zip(places, np.searchsorted(self._starts, places, side="right") - 1, strict=True):
            parts[int(part)].append(place)
        for part, of_part in parts.items():
            read = self._file.read_row_group(part, columns=["codec", "payload", "signature"])
            rows = read.take(pa.array([place - self._starts[part] for place in of_part], pa.int64()))
            yield from zip(of_part, zip(*(column.to_pylist() for column in rows.columns), strict=True), strict=True)

    def _key(self) -> Signer:
        """Return the signer. Raises SetupError if its key signed none of the models that are sampled."""
        fleet = self.config.fleet.name
        named = f"fleet {fleet}: expected the key by which its models were signed in {signing_key.KEY}"
        remedy = "Set it where models are loaded (for Spark's workers: extra_env of spark_udf, or spark.executorEnv)"
        try:
            signer = signing_key.load_signer(FleetStore.of(self.config))
        except SetupError as error:
            raise SetupError(f"{named}; got none. {remedy}") from error
        looked_at = 0
        for row in self._samples():
            if _has_valid_signature(row["group_key"], row["model_id"], _of_row(row), signer):
                return signer
            looked_at += 1
        if looked_at:
            got = f"one that signed none of {looked_at} models, some of each part and the newest"
            raise SetupError(f"{named}; got {got}. {remedy}")
        return signer

    def _samples(self) -> Iterator[dict[str, Any]]:
        """Yield a few models of each row group, then the newest of all, in case the key was replaced recently."""
        names = ["group_key", "model_id", "codec", "payload", "signature"]
        for part in range(self._file.num_row_groups):
            batches = self._file.iter_batches(FEW, row_groups=[part], columns=names)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from islice((row for row in rows if row["payload"] is not None), FEW)
        known = self._file.read(["group_key", "model_id", "rank", "fitted_at"])
        ranked = np.flatnonzero(known.column("rank").is_valid().to_numpy())
        fitted_at = known.column("fitted_at").cast(pa.int64()).to_numpy()[ranked]
        newest = sorted(int(place) for place in ranked[np.argsort(fitted_at, kind="stable")[-FEW:]])
        for place, signed in self._signed(newest):
            (of,) = known.slice(place, 1).to_pylist()
            if signed[1] is not None:
                yield of | dict(zip(("codec", "payload", "signature"), signed, strict=True))


def _former(file: Path) -> dict[str, FormerColumn]:
    """Read the renamed and dropped columns; a fleet that was never migrated has no such file."""
    if not file.exists():
        return {}
    return {name: FormerColumn(**column) for name, column in json.loads(file.read_text(encoding="utf-8")).items()}


def _groups(
    store: FleetStore, histories: Mapping[str, tuple[Promotion, ...]], signer: Signer
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each group. The number fetched at once depends on the payload sizes so far."""
    listed = list(histories.items())
    at, fetched = 0, min(FIRST_FETCHED, PART_GROUPS)
    while at < len(listed):
        rows = _rows(store, dict(listed[at : at + fetched]), signer)
        for _, of_group in groupby(rows, key=lambda row: row["group_key"]):
            yield list(of_group)
        at += fetched
        room = fetched * FETCHED_BYTES // max(1, _bytes(rows))
        fetched = max(1, min(2 * fetched, PART_GROUPS, room))


def _parts(groups: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows of whole groups, up to the limits of one row group of the file."""
    part: list[dict[str, Any]] = []
    count = held = 0
    for rows in groups:
        size = _bytes(rows)
        if part and (count == PART_GROUPS or held + size > PART_BYTES):
            yield part
            part, count, held = [], 0, 0
        part += rows
        count, held = count + 1, held + size
    if part:
        yield part


def _bytes(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(len(row["payload"] or b"") for row in rows)


def _usable_promotions(history: tuple[Promotion, ...]) -> list[Promotion]:
    """Return the promotions that may answer, in order: the champion, then the one that answers if the champion cannot,
    etc.
    """
    line: list[Promotion] = []
    while (row := select_champion(history, [promotion.model_id for promotion in line])) is not None:
        line.append(row)
    return line


def _rows(store: FleetStore, histories: Mapping[str, tuple[Promotion, ...]], signer: Signer) -> list[dict[str, Any]]:
    """Return the promotions of each group; those that may answer have a rank and their payloads."""
    lines = {key: _usable_promotions(history) for key, history in histories.items()}
    elsewhere = {row.model_id: key for key, line in lines.items() for row in line if row.payload is None}
    fetched = model_cache.read_stored_models(store, elsewhere)
    rows, losses = [], charter.losses_of(store)
    for key, history in histories.items():
        ranks = {id(row): rank for rank, row in enumerate(lines[key])}
        for row in history:
            rank = ranks.get(id(row))
            signed = None if rank is None else _signed(key, row, fetched, signer)
            if rank == 0 and signed is None:
                raise StoreError(
                    f"models: expected model {row.model_id}, the champion of group {key}; it is not stored. "
                    "Restore the table, or fit the group again: spinney retrain --group"
                )
            columns = {name: row.column(name) for name in CHAMPION_COLUMNS[1:]}
            columns[held_out_loss_codec.COLUMN] = _in_current_loss(row.heldout_losses, losses)
            rows.append({"group_key": key, "rank": rank, **columns, **(asdict(signed) if signed else {})})
    return [{name: row.get(name) for name in _SCHEMA.names} for row in rows]


def _in_current_loss(packed: bytes | None, losses: LossHistory) -> list[float] | None:
    """Return held-out losses converted to the current loss, which is that of the manifest's configuration."""
    stored = held_out_loss_codec.unpack(packed)
    if stored is None:
        return None
    was = losses.name_of(held_out_loss_codec.loss_of(packed))
    return [float(loss) for loss in convert_losses(np.array(stored, dtype=np.float64), was, losses.now)]


def _signed(
    key: str, row: Promotion, fetched: Mapping[str, list[SignedPayload]], signer: Signer
) -> SignedPayload | None:
    """Return the payload from the promotion, or else from `models`, preferring one signed by this key."""
    if row.payload is not None:
        return SignedPayload(row.codec or "", row.payload, row.signature or b"")
    stored = fetched.get(row.model_id, [])
    return next(
        (payload for payload in stored if _has_valid_signature(key, row.model_id, payload, signer)),
        stored[0] if stored else None,
    )


def _has_valid_signature(key: str, model_id: str, signed: SignedPayload, signer: Signer) -> bool:
    try:
        signer.verify(Claim(key, model_id, signed.codec), signed.payload, signed.signature)
    except Corrupt:
        return False
    return True


def _of_row(row: Mapping[str, Any]) -> SignedPayload:
    return SignedPayload(row["codec"], row["payload"], row["signature"])
