"""Delta tables with deletion vectors and column mapping, written by hand as the protocol describes them."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spinney.core.errors import ContractError
from spinney.sources import open_source

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
FEATURES = ("deletionVectors", "columnMapping")
TIMES = [datetime(2024, 5, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None]


def deletion_vector(rows: Sequence[int]) -> dict[str, Any]:
    """An inline vector: a 64-bit roaring bitmap with one array container, in Z85."""
    header = struct.pack("<iiHH", 12346, 1, 0, len(rows) - 1)
    bitmap = header + struct.pack("<I", len(header) + 4) + struct.pack(f"<{len(rows)}H", *rows)
    raw = struct.pack("<iqi", 1681511377, 1, 0) + bitmap
    words = struct.unpack(f">{-(-len(raw) // 4)}I", raw + b"\0" * (-len(raw) % 4))
    text = "".join(Z85[word // 85**power % 85] for word in words for power in (4, 3, 2, 1, 0))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(raw), "cardinality": len(rows)}


def delta_table(folder: Path, features: Sequence[str] = FEATURES) -> Path:
    """Four rows, of which the third is deleted. The files call every column `col-` and its name."""
    (folder / "_delta_log").mkdir(parents=True)
    part = folder / "col-store=07" / "part.parquet"
    part.parent.mkdir()
    inside = pa.StructArray.from_arrays([pa.array(["q", "r", "s", "t"])], ["col-tag"])
    columns = {
        "col-at": pa.array(TIMES, pa.timestamp("us", "UTC")),
        "col-x y": pa.array([1, 2, 3, 4]),
        "col-in": inside,
    }
    pq.write_table(pa.table(columns), part, use_deprecated_int96_timestamps=True)

    def field(number: int, name: str, kind: Any) -> dict[str, Any]:
        mapping = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{name}"}
        return {"name": name, "type": kind, "nullable": True, "metadata": mapping}

    nested = {"type": "struct", "fields": [field(4, "tag", "string")]}
    kinds = {"at": "timestamp", "x y": "long", "in": nested, "store": "string"}
    schema = {"type": "struct", "fields": [field(n, name, kind) for n, (name, kind) in enumerate(kinds.items())]}
    settings = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "4"}
    actions = (
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features,
                      "writerFeatures": features}},
        {"metaData": {"id": "m", "format": {"provider": "parquet", "options": {}}, "createdTime": 0,
                      "schemaString": json.dumps(schema), "partitionColumns": ["store"], "configuration": settings}},
        {"add": {"path": "col-store=07/part.parquet", "partitionValues": {"col-store": "07"}, "dataChange": True,
                 "size": part.stat().st_size, "modificationTime": 0, "stats": json.dumps({"numRecords": 4}),
                 "deletionVector": deletion_vector([2])}},
    )  # fmt: skip
    (folder / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return folder


def test_deleted_rows_are_left_out_and_columns_have_the_names_of_the_table(tmp_path: Path) -> None:
    source = open_source(delta_table(tmp_path / "t"))
    assert source.columns is not None
    assert {name: str(kind) for name, kind in source.columns.items()} == {
        "at": "timestamp[us, tz=UTC]", "x y": "int64", "in": "struct<tag: string>", "store": "string",
    }  # fmt: skip
    (batch,) = source.batches()
    assert batch.columns is not None
    assert batch.columns.to_pylist() == [
        {"at": TIMES[0], "x y": 1, "in": {"tag": "q"}, "store": "07"},
        {"at": TIMES[1], "x y": 2, "in": {"tag": "r"}, "store": "07"},
        {"at": TIMES[3], "x y": 4, "in": {"tag": "t"}, "store": "07"},
    ]


def test_a_feature_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = delta_table(tmp_path / "t", (*FEATURES, "catalogManaged9"))
    with pytest.raises(ContractError, match=r"catalogManaged9.*write its rows to Parquet"):
        list(open_source(folder).batches())
