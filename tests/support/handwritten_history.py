"""A fleet's past, written by hand: models that answer one number each, signed, and what was decided about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName, RoundKind
from spinney.core import keys
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.config import Config
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature
from spinney.retraining.round_request import RoundRequest
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

START = datetime(2024, 5, 1, tzinfo=UTC)
FEATURES = (Feature("price", "double"),)


def fleet_toml(root: object = "root", *, parents: str = "[]", kafka: str = "", more: str = "") -> str:
    """Shops by departments, with one feature. kafka: other keys of that section; more: other sections."""
    return f"""\
[fleet]
name = "shops"
group = ["shop", "dept"]
parents = {parents}
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price"]
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
sold = "double"
[kafka]
events = "sales"
{kafka}
[storage]
root = "{root}"
{more}"""


def hour(n: float) -> datetime:
    return START + timedelta(hours=n)


def constant(number: float) -> Model:
    return Model(Encoder(FEATURES), Linear(Link.IDENTITY, np.array([number]), np.zeros((1, 1)), np.zeros(1)))


@dataclass
class Past:
    """The config's tables are made; times are hours after START, on the wall as on the fleet's clock."""

    config: Config
    signer: Signer = field(default_factory=lambda: Signer(b"k" * 32))

    def __post_init__(self) -> None:
        create_tables(FleetStore.of(self.config))

    def put(self, base: Contract, part: str, *rows: Mapping[str, Any]) -> None:
        """Append rows without Spinney's writer and its checks, by shard; columns not named are null."""
        place = FleetStore.of(self.config).directory(base, part)
        schema = arrow_schema(place.contract)
        whole = [{name: self._sharded(row).get(name) for name in schema.names} for row in rows]
        write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")

    def _sharded(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        key = row.get("group_key")
        return row if key is None else {**row, "shard": keys.shard_of(key, self.config.fleet.shards)}

    def plan(self, kind: RoundKind, batch_id: int, group_keys: Sequence[str], at: datetime) -> str:
        """Store the plan to fit these groups as the query does; none: it takes no group. Returns the round's id."""
        place, name = FleetStore.of(self.config).directory(tables.VERDICTS, kind.value), f"{kind.value}-{batch_id}"
        schema = arrow_schema(place.contract)
        of_round = {"decision": "fit", "round_id": name, "judged_at": at, "epoch": 0, "batch_id": batch_id}
        rows = [self._sharded({**of_round, "group_key": key}) for key in group_keys]
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
        request = RoundRequest(name, len(rows), 0, {}, at, at, None, 1.0, {})
        query = QueryName.RETRAIN if kind == RoundKind.STREAM else QueryName.WEEKLY
        writer = delta.DirectoryWriter(place, query.value, "c1")
        writer.append(table, step="plan", batch_id=batch_id, notes=request.notes())
        return name

    def round(
        self,
        at: float,
        numbers: Mapping[str, float],
        *,
        decision: str = "promoted",
        epoch: int = 0,
        big: bool = False,
        reason: str = "passed",
        about_jump: bool | None = None,
        kind: str = "stream",
    ) -> dict[str, str]:
        """A round at this hour: for each group a model that answers its number. Returns the model_ids.

        A later one has a greater batch_id.

        big: the payloads are not carried by the promotions. about_jump: null as in rows of earlier versions.
        """
        models, promotions, names = [], [], {}
        for key, number in numbers.items():
            names[key] = f"{len(key):x}{int(number * 10):07x}{keys.shard_of(key, 4096):04x}"
            coded, payload = codec.dump(constant(number))
            signature = self.signer.sign(Claim(key, names[key], coded), payload)
            made = {"codec": coded, "payload": payload, "signature": signature}
            of_round = {
                "shard": 0, "group_key": key, "round_id": f"{kind}-{at:g}", "model_id": names[key],
                "batch_id": int(at * 60),
                "trained_through": hour(at - 1), "fitted_at": hour(at), "clock": hour(at), "rows": 40, "fit_ms": 1.0,
                "recipe_id": "by hand",
            }  # fmt: skip
            metrics = '{"challenger_loss": 1.5, "heldout_rows": 8}'
            models.append({**of_round, "status": "fitted", "metrics": metrics, **made})
            decided = {"epoch": epoch, "decision": decision, "decided_at": hour(at), "by": kind, "reason": reason}
            decided["about_jump"] = about_jump
            promotions.append({**of_round, **decided, "challenger_loss": 1.5, **({} if big else made)})
        self.put(tables.MODELS, kind, *models)
        self.put(tables.PROMOTIONS, kind, *promotions)
        self.put(tables.ROUNDS, kind, {"round_id": f"{kind}-{at:g}", "kind": kind, "started_at": hour(at)})
        return names

    def answers(self) -> dict[str, str | None]:
        """Each group's champion, by its model_id, from all rows that are there."""
        rows = delta.read_table(FleetStore.of(self.config), tables.PROMOTIONS).to_pylist()
        histories: dict[str, list[Promotion]] = {}
        for row in rows:
            histories.setdefault(row["group_key"], []).append(Promotion.from_row(row))
        found = {key: select_champion(history) for key, history in histories.items()}
        return {key: each.model_id if each else None for key, each in found.items()}

    def decided(self) -> list[dict[str, Any]]:
        """What people wrote, oldest first."""
        rows = delta.read_table(FleetStore.of(self.config), tables.PROMOTIONS).to_pylist()
        people = [row for row in rows if row["round_id"].startswith("people-")]
        return sorted(people, key=lambda row: (row["decided_at"], row["group_key"], row["decision"]))
