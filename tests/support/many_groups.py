"""The tables of a fleet of many groups as two weekly rounds leave them, without Spark: 50,000 groups in some seconds.

Group number n is ``["s<n>"]``. The first round promotes a model for each group, the second one

- promotes another for most, each with a later decided_at and newer rows,
- refuses the challenger of one group in 20 (n % 20 == 1),
- records a failed fit for one in 50 (n % 50 == 2),
- found one in 100 without enough rows in both rounds (n % 100 == 3): such a group has no champion.

Then people pinned group 0 to its first model and rolled group 5 back. A file of `models` or `promotions` holds many
shards and is ordered by group.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

KEY = "a key of tests and benchmarks alone"
FEATURES = tuple(f"x{at}" for at in range(8))
START = datetime(2024, 5, 1, tzinfo=UTC)
SHARDS = 64
WEEK = timedelta(days=7)
FILES = 4
"""Files in which a round's rows stand, as of a round of four parts."""

TEXT = """\
[fleet]
name = "many"
group = ["shop"]
parents = [[]]
event_id = "id"
event_time = "at"
target = "sold"
features = {features}
shards = 64
[fleet.columns]
shop = "string"
sold = "double"
{columns}
[recipe]
estimator = "ridge"
[kafka]
events = "sales"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""


def key_of(number: int) -> str:
    return keys.encode([f"s{number:06}"])


def write_fleet(folder: Path, groups: int, *, events: int = 3, rounds: int = 2) -> Config:
    """Make folder/fleet.toml and its tables below folder/root; the signing key is KEY.

    events: rows of `events` per group.
    """
    columns = "\n".join(f'{name} = "double"' for name in FEATURES)
    text = TEXT.format(root=folder / "root", features=json.dumps(FEATURES), columns=columns)
    (folder / "fleet.toml").write_text(text, encoding="utf-8")
    config = read_config(folder / "fleet.toml", {})
    create_tables(FleetStore.of(config))
    _put_events(config, groups, events)
    for number in range(rounds):
        _put_round(config, groups, number)
    if rounds > 1:
        _put_people(config)
    return config


def model_id(group: int, round_number: int) -> str:
    """The name of the model that a round fitted for a group; by it models are in no order of groups."""
    return f"{(group * 2_654_435_761 + round_number * 40_503) % 2**32:08x}{group:028x}{round_number:028x}"


def _put_events(config: Config, groups: int, each: int) -> None:
    group = np.tile(np.arange(groups), each)
    rows = len(group)
    at = pa.array([START] * rows, pa.timestamp("us", "UTC"))
    group_keys, shops = pa.array([key_of(n) for n in range(groups)]), pa.array([f"s{n:06}" for n in range(groups)])
    known = {
        **_of_groups(group, group_keys),
        "event_id": pa.array(np.arange(rows)).cast(pa.string()),
        "event_time": at,
        "ingested_at": at,
        "ingested_on": pa.array([START.date()] * rows),
        "shop": shops.take(pa.array(group)),
        **{name: pa.array(np.random.default_rng(at).normal(size=rows)) for at, name in enumerate(FEATURES)},
    }
    _append(config, tables.EVENTS, "", rows, known)


def _put_round(config: Config, groups: int, number: int) -> None:
    group = np.arange(groups)
    group_keys = pa.array([key_of(n) for n in range(groups)])
    too_few = group % 100 == 3
    failed = (group % 50 == 2) & (number > 0)
    is_fitted = ~too_few & ~failed
    fitted = group[is_fitted]
    refused = (fitted % 20 == 1) & (number > 0)
    loss = np.random.default_rng(number).lognormal(2, 0.5, groups)
    _append(config, tables.VERDICTS, "batch", groups, _verdicts(group, group_keys, number))
    made = {"model_id": pa.array([model_id(n, number) for n in fitted]), **payloads(fitted, group_keys, number)}
    place = np.cumsum(is_fitted) - 1
    of_model = {name: values.take(pa.array(place, mask=~is_fitted)) for name, values in made.items()}
    status = np.select([too_few, failed], [1, 2], 0)
    models = _attempts(group, group_keys, number, status, loss)
    _append(config, tables.MODELS, "batch", groups, models | of_model)
    decisions = _decisions(fitted, group_keys, number, np.where(refused, "refused", "promoted"), loss[fitted])
    _append(config, tables.PROMOTIONS, "batch", len(fitted), decisions | made)
    counts = {
        "kind": "batch", "groups_in": groups, "fitted": len(fitted), "failed": int(failed.sum()),
        "too_few_rows": int(too_few.sum()), "kept": 0, "deferred": 0, "promoted": int((~refused).sum()),
        "unproven": 0, "refused": int(refused.sum()), "held": 0, "started_at": _at(number), "pins": "{}",
    }  # fmt: skip
    _append(config, tables.ROUNDS, "batch", 1, {**_of_round(number, 1), **{name: [v] for name, v in counts.items()}})


def _verdicts(group: np.ndarray, group_keys: pa.Array, number: int) -> dict[str, Any]:
    row = {"policy": "all", "decision": "fit", "reason": "the batch refits every group", "judged_at": _at(number)}
    row |= {"predicted_ms": 0.1}
    return _of_groups(group, group_keys) | _of_round(number, len(group)) | _repeated(row, len(group))


def _attempts(
    group: np.ndarray, group_keys: pa.Array, number: int, status: np.ndarray, losses: np.ndarray
) -> dict[str, Any]:
    """status: 0 fitted, 1 too few rows, 2 failed."""
    metrics = [
        f'{{"heldout_rows": 12, "challenger_loss": {loss:.9g}, "champion_loss": {loss * 1.01:.9g}, "train_loss": 1.0}}'
        for loss in losses
    ]
    row = {"recipe_id": "5" * 64, "rows": 60, "fit_ms": 0.1, "fitted_at": _at(number)}
    row |= {"trained_from": _at(number) - 2 * WEEK, "trained_through": _at(number) - WEEK}
    texts = {
        "status": ["fitted", "too_few_rows", "failed"],
        "error_class": [None, "TooFewRows", "ValueError"],
        "error": [None, "20 rows needed, 7 there", "Input X contains infinity"],
    }
    by_status = {name: pa.array(words).take(pa.array(status)) for name, words in texts.items()}
    of_groups = _of_groups(group, group_keys) | _of_round(number, len(group))
    return {**of_groups, **_repeated(row, len(group)), **by_status, "metrics": metrics}


def _decisions(
    fitted: np.ndarray, group_keys: pa.Array, number: int, decision: np.ndarray, losses: np.ndarray
) -> dict[str, Any]:
    row = {"epoch": 0, "rows_compared": 12, "by": "batch", "rows": 60, "fit_ms": 0.1, "decided_at": _at(number)}
    row |= {"trained_through": _at(number) - WEEK, "fitted_at": _at(number)}
    of_groups = _of_groups(fitted, group_keys) | _of_round(number, len(fitted))
    return {
        **of_groups,
        **_repeated(row, len(fitted)),
        "decision": decision.tolist(),
        "reason": [f"loss {loss:.6g} against {loss * 1.01:.6g} on 12 rows" for loss in losses],
        "challenger_loss": losses,
        "champion_loss": losses * 1.01,
    }


def _put_people(config: Config) -> None:
    expected = {"epoch": 1, "by": "ada", "reason": "by hand", "decided_at": _at(2), "clock": _at(2), "rows": 60}
    seen = {"trained_through": _at(0) - WEEK, "fitted_at": _at(0)}
    steps = [
        (0, "pinned", model_id(0, 0), "people-0", seen),
        (5, "promoted", model_id(5, 0), "people-1", seen),
        (5, "withdrawn", model_id(5, 1), "people-1", {}),
    ]
    rows = [
        {
            "shard": keys.shard_of(key_of(group), SHARDS),
            "group_key": key_of(group),
            "decision": decision,
            "model_id": name,
            "round_id": step,
            **more,
        }
        for group, decision, name, step, more in steps
    ]
    schema = arrow_schema(tables.PROMOTIONS)
    whole = [{name: (expected | {"batch_id": 0} | row).get(name) for name in schema.names} for row in rows]
    uri = FleetStore.of(config).directory(tables.PROMOTIONS, "people").uri
    write_deltalake(uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


def _at(number: int) -> datetime:
    return START + (number + 1) * WEEK


def _of_groups(group: np.ndarray, group_keys: pa.Array) -> dict[str, Any]:
    mine = group_keys.take(pa.array(group))
    return {"shard": pa.array([keys.shard_of(key, SHARDS) for key in mine.to_pylist()], pa.int32()), "group_key": mine}


def _of_round(number: int, rows: int) -> dict[str, Any]:
    return _repeated({"round_id": f"batch-{number}", "batch_id": number, "clock": _at(number)}, rows)


def _repeated(message: dict[str, Any], rows: int) -> dict[str, Any]:
    return {name: [value] * rows for name, value in message.items()}


def payloads(fitted: np.ndarray, group_keys: pa.Array, number: int) -> dict[str, pa.Array]:
    """A ridge for each group, signed; all of one round answer alike."""
    encoder = Encoder(tuple(Feature(name, "double") for name in FEATURES))
    coefficients = np.random.default_rng(number).normal(size=(1, len(FEATURES)))
    kind, payload = codec.dump(
        Model(encoder, Linear(Link.IDENTITY, np.array([float(number)]), coefficients, np.zeros(len(FEATURES))))
    )
    signer, named = Signer(KEY.encode()), group_keys.to_pylist()
    signatures = [signer.sign(Claim(named[n], model_id(n, number), kind), payload) for n in fitted]
    made = {"codec": [kind] * len(fitted), "payload": [payload] * len(fitted), "signature": signatures}
    return {name: pa.array(values) for name, values in made.items()}


def _append(config: Config, base: Contract, part: str, rows: int, known: dict[str, Any]) -> None:
    """Append columns; those not named are null. In FILES commits, as parts of a round."""
    place = FleetStore.of(config).directory(base, part)
    schema = arrow_schema(place.contract)
    columns = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(rows, f.type) for f in schema]
    whole = pa.Table.from_arrays(columns, schema=schema)
    step = max(1, -(-rows // FILES))
    for start in range(0, rows, step):
        write_deltalake(place.uri, whole.slice(start, step), mode="append")
