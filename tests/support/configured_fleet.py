"""Fixtures of the tiers without Spark: a fleet of shops, and rows in its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

TEXT = """\
[fleet]
name = "shops"
group = ["shop", "dept"]
parents = [["dept"], []]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "brand"]
label_delay = "1h"
shards = {shards}
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
brand = "string"
sold = "double"
[fleet.ranges]
{ranges}
[kafka]
events = "sales"
outcomes = "sold"
[storage]
root = "{root}"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Config]:
    """A fleet of shops below this test's folder; its text may be changed before it is read."""

    def configure(*changes: tuple[str, str], root: str = "", shards: int = 4, ranges: str = "") -> Config:
        text = TEXT.format(root=root or tmp_path / "root", shards=shards, ranges=ranges)
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        return parse(text, "fleet.toml", {})

    return configure


@pytest.fixture
def put() -> Callable[..., None]:
    """Append rows without Spinney's writer and its checks, by shard; columns not named are null."""

    def append(config: Config, base: Contract, rows: list[Mapping[str, Any]], part: str = "") -> None:
        place = FleetStore.of(config).directory(base, part)
        schema = arrow_schema(place.contract)

        def sharded(row: Mapping[str, Any]) -> Mapping[str, Any]:
            key = row.get("group_key")
            return row if key is None else {**row, "shard": keys.shard_of(key, config.fleet.shards)}

        whole = [{name: sharded(row).get(name) for name in schema.names} for row in rows]
        write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")

    return append
