"""The calls to MLflow for a weekly batch, and their seconds, by the number of groups, in both modes.

The round's tables are written as a batch leaves them, without fitting: one model, signed for each group; one group
in fifty failed. MLflow's own server runs in a thread of this process, with SQLite and its artifacts behind HTTP, so the
seconds are its as well as ours. Calls are counted at the server. `paced` is what so many calls take at the default of
`tracking.calls_per_second`, 40: in mode `group` that is the time to expect. `files` is the size of what is uploaded.

Measured on 2 cores:

    mode      groups    calls   seconds   paced s  files kB
    round      1,000       14      0.24       0.3       173
    round     10,000       14      0.48       0.5       469
    round     50,000       14      0.70       0.7     1,687
    group        100      904      6.96      22.6       484
    group      1,000    8,896     44.08     222.4     3,606

Run: ``python benchmarks/tracking.py``, or ``--round 1000 --group 100`` for a quick look; ``--json`` for all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from spinney.storage.layout import FleetStore

# The server behind a counting layer is the tests' own.
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from mlflow_server import Layer, serving

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.storage import signing_key
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tracking import deliver

KEY = b"k" * 32
AT = datetime(2024, 5, 1, tzinfo=UTC)
FEATURES = tuple(f"x{at}" for at in range(8))
PER_SECOND = 40
"""The default of `tracking.calls_per_second`."""

TEXT = """\
[fleet]
name = "{name}"
group = ["shop"]
event_id = "id"
event_time = "at"
target = "late_min"
features = {features}
[fleet.columns]
shop = "string"
late_min = "double"
{columns}
[kafka]
events = "sales"
[storage]
root = "{root}"
[tracking]
uri = "{uri}"
mode = "{mode}"
calls_per_second = 10000
"""


def config_of(name: str, mode: str, uri: str, root: Path) -> Config:
    """Return a configuration that tracks in a mode to an MLflow server."""
    columns = "\n".join(f'{feature} = "double"' for feature in FEATURES)
    text = TEXT.format(name=name, mode=mode, uri=uri, root=root, features=json.dumps(FEATURES), columns=columns)
    return parse(text, "fleet.toml", {})


def write_round(config: Config, groups: int) -> None:
    """Write the tables of a finished batch of so many groups."""
    random, signer = np.random.default_rng(7), Signer(KEY)
    encoder = Encoder(tuple(Feature(name, "double") for name in FEATURES))
    linear = Linear(
        Link.IDENTITY, random.normal(size=1), random.normal(size=(1, len(FEATURES))), np.zeros(len(FEATURES))
    )
    name, payload = codec.dump(Model(encoder, linear))
    recipe = Recipe.of(config).recipe_id
    of_round = {"shard": 0, "round_id": "batch-0", "batch_id": 0, "clock": AT, "recipe_id": recipe, "fitted_at": AT}
    champion, ms = random.lognormal(2.3, 0.5, groups), random.lognormal(1, 1, groups)
    models, promotions = [], []
    for at in range(groups):
        key, model_id = keys.encode([f"s{at:06}"]), f"{at:064x}"
        if at % 50 == 0:
            models.append({**of_round, "group_key": key, "status": "failed", "error_class": "ValueError", "rows": 40})
            continue
        challenger = champion[at] * random.lognormal(-0.05, 0.15)
        metrics = {"heldout_rows": 8, "challenger_loss": challenger, "champion_loss": champion[at], "train_loss": 1.0}
        made = {"group_key": key, "model_id": model_id, "rows": 40, "fit_ms": ms[at], "trained_through": AT}
        models.append(
            {**of_round, **made, "status": "fitted", "metrics": json.dumps(metrics), "codec": name, "payload": payload}
            | {"signature": signer.sign(Claim(key, model_id, name), payload), "trained_from": AT}
        )
        decision = "promoted" if challenger < champion[at] * 1.05 else "refused"
        promotions.append({**of_round, **made, "epoch": 0, "decision": decision, "decided_at": AT, "by": "batch"})
    counts = {"groups_in": groups, "fitted": len(promotions), "failed": groups - len(promotions), "kind": "batch"}
    append(config, tables.MODELS, models)
    append(config, tables.PROMOTIONS, promotions)
    append(config, tables.ROUNDS, [{**of_round, **counts, "started_at": AT, "pins": '{"events": 7}'}])


def append(config: Config, base: Contract, rows: list[dict[str, Any]]) -> None:
    """Append rows to a table."""
    schema = arrow_schema(base)
    whole = [{name: row.get(name) for name in schema.names} for row in rows]
    write_deltalake(
        FleetStore.of(config).directory(base, "batch").uri, pa.Table.from_pylist(whole, schema=schema), mode="append"
    )


def measured(mode: str, groups: int, folder: Path, uri: str, layer: Layer) -> dict[str, Any]:
    """Deliver a batch of so many groups. Returns calls and seconds."""
    root = folder / f"{mode}-{groups}"
    config = config_of(f"{mode}-{groups}", mode, uri, root)
    delta.create_tables(FleetStore.of(config))
    write_round(config, groups)
    layer.reset()
    began = time.perf_counter()
    if deliver(config) != 1:
        raise SystemExit(f"mode {mode}, {groups} groups: expected one round delivered")
    took = time.perf_counter() - began
    calls = layer.calls.total()
    files = sum(file.stat().st_size for file in (folder / "artifacts").rglob("*") if file.is_file())
    for left in (root, folder / "artifacts"):
        shutil.rmtree(left)
    return {
        "mode": mode,
        "groups": groups,
        "calls": calls,
        "calls_per_group": round(calls / groups, 4),
        "seconds": round(took, 2),
        "paced_seconds": round(max(took, calls / PER_SECOND), 1),
        "artifact_kb": round(files / 1024),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def show(results: list[dict[str, Any]]) -> None:
    """Print the results as a table."""
    print(f"{'mode':<7} {'groups':>8} {'calls':>8} {'seconds':>9} {'paced s':>9} {'files kB':>9}")
    for result in results:
        sizes = f"{result['groups']:8,} {result['calls']:8,} {result['seconds']:9.2f}"
        print(f"{result['mode']:<7} {sizes} {result['paced_seconds']:9.1f} {result['artifact_kb']:9,}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--round", type=int, nargs="*", default=[1_000, 10_000, 50_000], help="groups, in mode round")
    parser.add_argument("--group", type=int, nargs="*", default=[100, 1_000], help="groups, in mode group")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ[signing_key.KEY] = KEY.decode()
    wanted = [("round", groups) for groups in asked.round] + [("group", groups) for groups in asked.group]
    with tempfile.TemporaryDirectory() as place, serving(Path(place)) as (uri, layer):
        measured("round", 3, Path(place), uri, layer)  # imports, the database's tables
        results = [measured(mode, groups, Path(place), uri, layer) for mode, groups in wanted]
    print(json.dumps(results, indent=2)) if asked.json else show(results)


if __name__ == "__main__":
    main()
