"""The check by columns accepts a row exactly when `validate` takes its message, and stores the same.

The oracle is the other path of `load`: every row is doubtful, so that each is validated by itself.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from batch.load import load, loading, vectorized_validation
from schemas import tables
from spinney.core.config import parse
from spinney.storage.layout import FleetStore
from spinney.tables import delta

TEXT = """\
[fleet]
group = ["shop", "dept", "day"]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price"]
label_delay = "1h"
shards = 4
[fleet.columns]
shop = "string"
dept = "int"
day = "date"
price = "double"
weight = "float"
small = "tinyint"
stock = "int"
big = "bigint"
open = "boolean"
since = "date"
seen = "timestamp"
note = "string"
cost = "decimal(10,2)"
sold = "double"
[fleet.ranges]
stock = [0, 100]
weight = [-1e30, 1e30]
cost = [-5.5, 5.5]
[kafka]
events = "sales"
outcomes = "sold"
[storage]
root = "{root}"
"""

ROWS = 600
NOW = datetime.now(UTC)
NOT_COMPARED = ("kafka_partition", "kafka_offset", "ingested_at", "ingested_on", "batch_id")


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


TIMES = [
    *(micros(datetime(2024, 5, 1, 6, tzinfo=UTC) + timedelta(hours=n, microseconds=n)) for n in range(40)),
    0, 1, -1, -1_500_001, micros(NOW + timedelta(minutes=30)), micros(NOW + timedelta(hours=3)),
]  # fmt: skip
OLD_AND_FAR = [-5_000_000_000_000_000, 400_000_000_000_000_000]
TEXTS = ["a", "b", "", " ", 'q"uote', "back\\slash", "tab\there", "nul\0", "del\x7f", "é", "日本", "😀", "x" * 600]
DOUBLES = [
    0.0, -0.0, 0.1, 1 / 3, 0.12345678901234567, 1e-320, 5e-324, 1.7976931348623157e308, -2.5, 1e22, 123456789.123456789,
    math.nan, math.inf, -math.inf, -160043808.0, 16777217.0, 1e39, 3.4028235677973366e38, 1e-45, 1e-40, 0.001,
    9999999.0, 1e7, float(np.float32(0.1)) + 2.0**-28, 33554433 * 2.0**-45,
]  # fmt: skip
INTEGERS = [0, 1, 5, 99, 100, 101, -1, -128, 127, 128, 2**31 - 1, 2**31, 2**53 + 1, -(2**63), 2**63 - 1]
DAYS = [19_000, 0, -1, -130_000, -200_000, 2_932_896, 2_932_897]
ANSWERS = [1.5, -0.0, math.nan, math.inf, 0.1, 1e300]


class Frame:
    """Random columns, nulls among them; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def pick(self, values: list[Any], kind: pa.DataType, odd: float = 1.0, plain: Any = None) -> pa.Array:
        """Mostly one of the values; a tenth null. odd: the share of rows that are not `plain`."""
        at = self.random.integers(0, len(values), ROWS)
        rows = [values[n] if self.random.random() < odd else plain for n in at]
        return pa.array([None if self.random.random() < 0.03 else row for row in rows], kind)

    def numbers(self, kind: pa.DataType, odd: float = 0.3) -> pa.Array:
        if pa.types.is_floating(kind):
            with np.errstate(over="ignore"):
                drawn = self.random.choice(np.array(DOUBLES).astype(kind.to_pandas_dtype()), ROWS)
            column = np.where(self.random.random(ROWS) < odd, drawn, self.random.normal(size=ROWS).astype(drawn.dtype))
            return pa.array(column, mask=self.random.random(ROWS) < 0.03)
        info = np.iinfo(kind.to_pandas_dtype())
        return self.pick([n for n in INTEGERS if info.min <= n <= info.max], kind, odd, 7)

    def times(self, kind: pa.DataType, odd: float = 0.1) -> pa.Array:
        per = {"ms": 1000, "us": 1, "ns": 1}[kind.unit]
        values = [*TIMES, *(OLD_AND_FAR if kind.unit != "ns" else [])]
        drawn = self.pick(values, pa.int64(), odd, TIMES[3])
        ticks = [None if n is None else n // per for n in drawn.to_pylist()]
        if kind.unit == "ns":
            ticks = [None if n is None else n * 1000 + (n % 999) for n in ticks]
        return pa.array(ticks, pa.int64()).cast(kind)


def ids(frame: Frame, kind: pa.DataType) -> pa.Array:
    """Some twice, some odd."""
    some_twice = [f"s{n}" if n % 7 else f"s{n // 2}" for n in range(ROWS)]
    odd = frame.random.random(ROWS) > 0.9
    return pa.array([TEXTS[n % len(TEXTS)] if odd[n] else text for n, text in enumerate(some_twice)], kind)


def natural(frame: Frame) -> dict[str, pa.Array]:
    """Columns of the types that are declared."""
    return {
        "shop": frame.pick(TEXTS, pa.string(), 0.2, "a"),
        "dept": frame.numbers(pa.int32(), 0.1),
        "day": frame.pick(DAYS, pa.date32(), 0.1, 19_000),
        "sale": ids(frame, pa.string()),
        "at": frame.times(pa.timestamp("us", "UTC")),
        "price": frame.numbers(pa.float64()),
        "weight": frame.numbers(pa.float32()),
        "small": frame.numbers(pa.int8()),
        "stock": frame.numbers(pa.int32(), 0.1),
        "big": frame.numbers(pa.int64()),
        "open": frame.pick([True, False], pa.bool_()),
        "since": frame.pick(DAYS, pa.date32(), 0.2, 19_001),
        "seen": frame.times(pa.timestamp("us", "UTC"), 0.5),
        "note": frame.pick(TEXTS, pa.string()),
        "cost": frame.pick([Decimal("5.50"), Decimal("5.51"), Decimal("0.00"), Decimal("-1.25")], pa.decimal128(10, 2)),
        "sold": frame.numbers(pa.float64()),
        "prediction": frame.pick(ANSWERS, pa.float64()),
        "extra": frame.pick([b"", b"bytes"], pa.binary()),
    }


def other_types(frame: Frame) -> dict[str, pa.Array]:
    """Columns of other types than declared, that mean the same or that a record may not have."""
    return {
        **natural(frame),
        "shop": frame.pick(TEXTS, pa.string(), 0.2, "a").dictionary_encode(),
        "dept": frame.numbers(pa.int64(), 0.1),
        "sale": ids(frame, pa.large_string()),
        "at": frame.times(pa.timestamp("ns")),
        "price": frame.numbers(pa.float32()),
        "weight": frame.numbers(pa.float64()),
        "small": frame.numbers(pa.uint16(), 0.2),
        "stock": frame.numbers(pa.int64(), 0.2),
        "big": frame.numbers(pa.uint32()),
        "seen": frame.times(pa.timestamp("ms"), 0.5),
        "cost": frame.pick([Decimal("5.50"), Decimal("0.01")], pa.decimal128(10, 2), 0.5),
        "sold": frame.pick([Decimal("0.1"), Decimal("123456789.123456"), Decimal(-3)], pa.decimal128(15, 6)),
        "prediction": frame.numbers(pa.float32()),
    }


def misfits(frame: Frame) -> dict[str, pa.Array]:
    """Columns that no row may have a value in, but in few: those without are valid."""
    few = lambda values, kind: frame.pick(values, kind, 0.1)  # noqa: E731
    columns = {
        **natural(frame),
        "price": frame.numbers(pa.int64()),
        "weight": frame.numbers(pa.int32()),
        "stock": few([1.0, math.nan, 2.5], pa.float64()),
        "since": few(["2024-05-01", "2024-13-01"], pa.string()),
        "seen": few(["2024-05-01T06:00:00Z", "2024-05-01", "yesterday"], pa.string()),
        "open": few(["true"], pa.string()),
        "note": few([date(2024, 5, 1)], pa.date32()),
        "cost": few([1.5], pa.float64()),
        "observed_at": frame.times(pa.timestamp("us"), 0.2),
    }
    del columns["big"], columns["prediction"]
    return columns


def stored(config: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that load writes, as sorted text, so that NaN, -0.0 and types are told apart."""
    found = {}
    for base in (tables.EVENTS, tables.OUTCOMES, tables.INCUMBENT, tables.DEAD_LETTERS):
        rows = delta.read_table(FleetStore.of(config), base)
        names = [name for name in rows.column_names if name not in NOT_COMPARED]
        found[base.name] = sorted(repr({name: row[name] for name in names}) for row in rows.to_pylist())
    return found


def loaded(root: Path, source: str, moment: datetime, patch: Any, coerce: bool) -> tuple[dict[str, int], Any]:
    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return moment

    patch.setattr(loading, "datetime", Then)  # dead letters say by which moment they were validated
    text = TEXT.format(root=root).replace("shards = 4", f"shards = 4\ncoerce = {str(coerce).lower()}")
    config = parse(text, "fleet.toml", {})
    return load(config, source).added, stored(config)


def all_doubtful(check: Any) -> Any:
    def doubtful(self: Any, batch: Any, place: Any, extra: Any = None, among: Any = None) -> Any:
        found = check(self, batch, place, extra, among)
        every = np.ones(batch.rows, dtype=np.bool_) if among is None else among
        return vectorized_validation.ValidatedColumns(found.valid.slice(0, 0), every)

    return doubtful


def texts(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """As a person writes them in a CSV: some in ways that only some readers take."""
    found = {name: column.cast(pa.string()).fill_null("") for name, column in columns.items() if name != "extra"}
    ways = {
        "at": [
            "2024-05-01T06:00:00Z",
            "2024-05-01 06:00:00+02:00",
            "2024-05-01",
            "2024-02-30",
            "soon",
            "20240501T0600",
        ],
        "since": ["2024-05-01", "2024-13-01", "20240501", "0000-01-01", "0001-01-01", "2024-05-01T00:00:00Z", ""],
        "seen": ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "1969-12-31 23:59"],
        "dept": ["1", "2", "3.0", "007", "-0", "1e2", " 4", "2147483648", "1_0"],
        "price": ["1.50", "-0", "1e400", "nan", ".5", "5.", "+1", "0x1F", "1e-400", "12345678901234567890.5", "1,5"],
        "weight": ["1.1", "3.4028235677973366e38", "1e39", "16777217"],
        "cost": ["5.50", "5.500", "005.5", "1e0", "-0.00", "123456789.00", ".5"],
        "open": ["true", "True", "FALSE", "yes", "1", ""],
        "big": ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "1.0", "9007199254740993.0"],
    }
    random = np.random.default_rng(3)
    odd = {"at": 0.1, "dept": 0.2}
    for name, cells in ways.items():
        usual = {"at": "2024-05-01T06:00:00.5Z", "dept": "7"}.get(name, "")
        drawn = random.choice(cells, ROWS)
        found[name] = pa.array(np.where(random.random(ROWS) < odd.get(name, 0.4), drawn, usual))
    return found


def written(columns: dict[str, pa.Array], folder: Path, kind: str) -> str:
    place = folder / f"rows.{kind}"
    table = pa.table(columns)
    if kind == "csv":
        arrow_csv.write_csv(table, place)
    else:
        pq.write_table(table, place)
    return str(place)


@pytest.mark.parametrize("coerce", [True, False])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (natural, "parquet"),
        (other_types, "parquet"),
        (misfits, "parquet"),
        (lambda frame: texts(natural(frame)), "csv"),
        (lambda frame: texts(natural(frame)), "parquet"),
        (lambda frame: texts(misfits(frame)), "csv"),
    ],
)
def test_both_paths_store_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, kind: str, coerce: bool
) -> None:
    source, moment = written(make(Frame(7)), tmp_path, kind), datetime.now(UTC)
    added, by_columns = loaded(tmp_path / "columns", source, moment, monkeypatch, coerce)
    with monkeypatch.context() as patch:
        validator = vectorized_validation.ColumnValidator
        patch.setattr(validator, "validate", all_doubtful(validator.validate))
        also_added, one_by_one = loaded(tmp_path / "rows", source, moment, patch, coerce)
    for name, rows in one_by_one.items():
        assert by_columns[name] == rows, name
    assert added == also_added
    if coerce or kind == "csv":
        assert min(added["events"], added["outcomes"], added["dead_letters"]) > 20
