"""Files of Arrow, Feather and ORC, and types that few writers use, with the rows that each gives, written by hand."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from file_cases import CLASSIC, NOON, Case, Dead, Fleet, delta_table, parquet
from pyarrow import feather, ipc, orc

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES = {"store": "string", "id": "string", "at": "timestamp", "x": "double"}
_FIRST, _SECOND = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e"), uuid.UUID(int=7)
_PLAIN = {
    "store": ["a", "Köln", None],
    "id": ["1", "2", "3"],
    "at": [NOON] * 3,
    "x": [1.5, float("nan"), 2.5],
    "price": pa.array([Decimal("1.10"), None, None], pa.decimal128(10, 2)),
    "day": pa.array([date(2024, 5, 1), None, None], pa.date32()),
    "flag": [True, None, None],
    "box": [{"tag": "q"}, None, {"tag": None}],
    "sold": [2.0, 3.0, 4.0],
}
_PLAIN_ROWS = {
    "1": {
        "store": "a", "x": 1.5, "price": Decimal("1.10"), "day": date(2024, 5, 1), "flag": True, "note": "q",
        "sold": 2.0,
    },
    "2": {"store": "Köln", "sold": 3.0},
}  # fmt: skip
_TAGGED = Fleet(fields={"note": "box.tag"})


def arrow(columns: Mapping[str, Any], name: str = "a.arrow", **how: Any) -> Callable[[Path], Path]:
    """One batch for each row, in the file format or, for a name in .arrows, as a stream."""

    def write(folder: Path) -> Path:
        table = pa.table(dict(columns))
        opened = ipc.new_stream if name.endswith(".arrows") else ipc.new_file
        with opened(folder / name, table.schema, options=ipc.IpcWriteOptions(**how)) as out:
            out.write_table(table, max_chunksize=1)
        return folder / name

    return write


def _feather(folder: Path) -> Path:
    feather.write_feather(pa.table(_PLAIN), folder / "a.feather", compression="lz4")
    return folder / "a.feather"


def _compressed(folder: Path) -> Path:
    whole = arrow(_PLAIN)(folder)
    (folder / "a.arrow.gz").write_bytes(gzip.compress(whole.read_bytes()))
    return folder / "a.arrow.gz"


def _orc(columns: Mapping[str, Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        orc.write_table(pa.table(dict(columns)), folder / "a.orc", stripe_size=1)
        return folder / "a.orc"

    return write


def _orc_parts(folder: Path) -> Path:
    """As Spark writes a table with a partition, without a time zone in its times."""
    naive = pa.table(_PLAIN | {"at": pa.array([NOON.replace(tzinfo=None)] * 3, pa.timestamp("ms"))})
    for row, value in enumerate(("a", "K%C3%B6ln", "__HIVE_DEFAULT_PARTITION__")):
        place = folder / "t" / f"store={value}" / "part-00000.snappy.orc"
        place.parent.mkdir(parents=True)
        # By take(): Arrow's writer takes the objects of a slice from the first row on.
        orc.write_table(naive.drop_columns("store").take([row]), place)
    return folder / "t"


def _uuids(*values: uuid.UUID | None) -> pa.Array:
    return pa.array([None if each is None else each.bytes for each in values], pa.binary(16)).cast(pa.uuid())


def _twice_in_an_object(folder: Path) -> Path:
    box = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4]), pa.array(["q", "q"])], ["n", "n", "tag"])
    columns = {"store": ["a"] * 2, "id": ["1", "2"], "at": [NOON] * 2, "x": [1.5] * 2, "box": box, "sold": [2.0] * 2}
    pq.write_table(pa.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


_RARE = {
    "store": pa.array(["a", "a"], pa.string_view()),
    "id": _uuids(_FIRST, _SECOND),
    "at": pa.array([NOON] * 2, pa.timestamp("ns", "Europe/Berlin")),
    "x": pa.array(np.array([1.5, np.nan], np.float16)),
    "n": pa.array([3, None], pa.uint64()),
    "flag": pa.array([1, 0], pa.int8()).cast(pa.bool8()),
    "note": pc.run_end_encode(pa.array(["r", None])),
    "price": pa.array(["1.10", "-2.25"]).cast(pa.decimal32(5, 2)),
    "day": pa.array([date(2024, 5, 1), None], pa.date64()),
    "seen": pa.array([NOON, None], pa.timestamp("s")),
    "sold": pa.array(["2.5", "3"]).cast(pa.decimal256(60, 20)),
    "box": pa.array([{"tag": "v"}, None], pa.struct({"tag": pa.string_view()})),
    "spans": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "parts": pa.array([[1], None], pa.list_view(pa.int8())),
    "tags": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
}
_RARE_ROWS = {
    str(_FIRST): {
        "store": "a", "x": 1.5, "n": 3, "flag": True, "note": "r", "price": Decimal("1.10"), "day": date(2024, 5, 1),
        "seen": NOON, "sold": 2.5,
    },
    str(_SECOND): {"store": "a", "flag": False, "price": Decimal("-2.25"), "sold": 3.0},
}  # fmt: skip
_RARE_FEATURES = ("x", "n", "flag", "note", "price", "day", "seen")

_MAPPED = Fleet(fields={"note": "tags.kind", "x": "sizes.big", "seen": "more.k.seen"})


def _map_of(item: pa.DataType, *rows: dict[str, Any] | None) -> pa.Array:
    return pa.array([None if row is None else list(row.items()) for row in rows], pa.map_(pa.string(), item))


_MAPS = {
    "store": ["a"] * 3,
    "id": ["1", "2", "3"],
    "at": [NOON] * 3,
    "tags": _map_of(pa.string(), {"kind": "q", "other": "r"}, {"other": "r"}, None),
    "sizes": _map_of(pa.float32(), {"big": 1.5, "small": 0.5}, {"big": None}, {}),
    "more": _map_of(pa.struct({"seen": pa.timestamp("ms", "UTC")}), {"k": {"seen": NOON}}, {"k": None}, None),
    "sold": [2.0, 3.0, 4.0],
}


def _maps_in_lines(folder: Path) -> Path:
    """As Spark's to_json writes maps."""
    rows = pa.table(_MAPS).to_pylist(maps_as_pydicts="strict")
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row, default=str) for row in rows))
    return folder / "a.jsonl"


TYPED_FILE_CASES = (
    *(
        Case(
            f"maps with fields of the fleet in {kind}",
            _MAPPED,
            write,
            {
                "1": {"store": "a", "x": 1.5, "note": "q", "seen": NOON, "sold": 2.0},
                "2": {"store": "a", "sold": 3.0},
                "3": {"store": "a", "sold": 4.0},
            },
            {"store": "string", "id": "string", "at": "timestamp", "sold": "double"},
            features=("x", "note", "seen"),
        )
        for kind, write in (
            ("Parquet", parquet(_MAPS)),
            ("an Arrow file", arrow(_MAPS)),
            ("ORC", _orc(_MAPS)),
            ("Delta", delta_table(_MAPS)),
            ("JSON lines", _maps_in_lines),
        )
    ),
    *(
        Case(
            f"every common type in {kind}",
            _TAGGED,
            write,
            _PLAIN_ROWS,
            {**_TYPES, "price": "double", "day": "date", "flag": "boolean", "box.tag": "string", "sold": "double"},
            dead=(Dead("null_key", "store", row),),
            features=("x", "price", "day", "flag", "note"),
        )
        for kind, write, row in (
            ("an Arrow file", arrow(_PLAIN), 3),
            ("an Arrow file with compressed buffers", arrow(_PLAIN, compression="zstd"), 3),
            ("a compressed Arrow file", _compressed, 3),
            ("an Arrow stream", arrow(_PLAIN, "a.arrows"), 3),
            ("an Arrow file without an ending", arrow(_PLAIN, "part-0"), 3),
            ("Feather", _feather, 3),
            ("ORC", _orc(_PLAIN), 3),
            ("a folder of ORC with a partition", _orc_parts, 1),
        )
    ),
    Case(
        "types of Arrow that few writers use, and undeclared ones that JSON does not have",
        CLASSIC,
        arrow(_RARE),
        _RARE_ROWS,
        {
            "store": "string", "id": "string", "at": "timestamp", "x": "double", "n": "double", "flag": "boolean",
            "note": "string", "price": "double", "day": "date", "seen": "timestamp", "sold": "double",
            "box.tag": "string", "spans": None, "parts": None, "tags": None,
        },
        features=_RARE_FEATURES,
    ),
    Case(
        "UUIDs and bits in Parquet",
        CLASSIC,
        parquet({name: _RARE[name] for name in ("id", "at", "x", "n", "flag")} | {"store": ["a"] * 2, "sold": [1, 2]}),
        {
            str(_FIRST): {"store": "a", "x": 1.5, "n": 3, "flag": True, "sold": 1.0},
            str(_SECOND): {"store": "a", "flag": False, "sold": 2.0},
        },
        {"id": "string", "flag": "boolean"},
        features=("x", "n", "flag"),
    ),
    Case(
        "an id that is a UUID, with gaps",
        CLASSIC,
        arrow(
            {"store": ["a"] * 11, "id": _uuids(None, *map(uuid.UUID, (f"{n:032}" for n in range(10)))),
             "at": [NOON] * 11, "x": [1.5] * 11, "sold": [2.0] * 11}
        ),
        {str(uuid.UUID(f"{n:032}")): {"store": "a", "x": 1.5, "sold": 2.0} for n in range(10)},
        {"id": "string"},
        dead=(Dead("missing_field", "id", 1, "a"),),
    ),
    Case(
        "dictionaries that differ from batch to batch, of texts and of whole numbers",
        CLASSIC,
        arrow(
            {
                "store": pa.chunked_array([pa.array([each]).dictionary_encode() for each in ("a", "b", "a")]),
                "id": pa.chunked_array([pa.array([each]).dictionary_encode() for each in (1, 2, 3)]),
                "at": [NOON] * 3,
                "x": [1.5] * 3,
                "sold": [2.0] * 3,
            },
            "a.arrows",
        ),
        {
            "1": {"store": "a", "x": 1.5, "sold": 2.0},
            "2": {"store": "b", "x": 1.5, "sold": 2.0},
            "3": {"store": "a", "x": 1.5, "sold": 2.0},
        },
        {"store": "string", "x": "double"},
    ),
    *(
        Case(
            f"nanoseconds before 1970 in {kind}, which are cut off as those of texts are",
            Fleet(fields={"seen": "box.seen"}),
            write(
                {
                    "store": ["a"] * 2,
                    "id": ["1", "2"],
                    "at": [NOON] * 2,
                    "x": [1.5] * 2,
                    "box": pa.StructArray.from_arrays([pa.array([-1, -1001], pa.timestamp("ns"))], ["seen"]),
                    "sold": [2.0] * 2,
                }
            ),
            {
                str(n): {
                    "store": "a",
                    "x": 1.5,
                    "seen": EPOCH_START - timedelta(microseconds=n),
                    "sold": 2.0,
                }
                for n in (1, 2)
            },
            {"box.seen": "timestamp"},
            features=("x", "seen"),
        )
        for kind, write in (("Parquet", parquet), ("Arrow", arrow), ("ORC", _orc))
    ),
    Case(
        "a field twice in an object of Parquet, which the fleet does not declare",
        _TAGGED,
        _twice_in_an_object,
        {
            "1": {"store": "a", "x": 1.5, "note": "q", "sold": 2.0},
            "2": {"store": "a", "x": 1.5, "note": "q", "sold": 2.0},
        },
        {**_TYPES, "x": "double", "box.n": None, "box.tag": "string"},
        features=("x", "note"),
    ),
)  # fmt: skip
