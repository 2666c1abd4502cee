"""A thousand groups, five in a hundred of which crash, hang or exhaust the process that fits them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import misbehaving
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from misbehaving import Trouble

from batch import weekly
from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.recipes.recipe import Recipe
from spinney.core.reporting.group_status import State
from spinney.core.training.fit_attempt import model_id_of
from spinney.core.training.fitting import fit_groups
from spinney.core.training.training_set import select_training_set
from spinney.fleet import Fleet
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

GROUPS, ROWS, THIN = 1_000, 25, 10
FAST = {
    Trouble.RAISES: "ZeroDivisionError",
    Trouble.NOT_A_NUMBER: "NotFinite",
    Trouble.SYS_EXIT: "SystemExit",
    Trouble.INTERRUPTS: "KeyboardInterrupt",
    Trouble.OS_EXIT: "Exited",
    Trouble.ALLOCATES: "MemoryError",
    Trouble.LEAKS: "MemoryError",
    Trouble.FAULTS: "Killed",
    Trouble.ABORTS: "Killed",
    Trouble.KILLED: "Killed",
    Trouble.DIES_IN_ANSWERS: "Killed",
}
HANDLED = [Trouble.RAISES, Trouble.NOT_A_NUMBER, Trouble.ALLOCATES]
"""These do not end the process, and are the most."""

SLOW = {
    Trouble.SLEEPS: "TimedOut",
    Trouble.HANGS_IN_C: "TimedOut",
    Trouble.HANGS_IN_ANSWERS: "TimedOut",
}
HARMLESS = [Trouble.WARNS, Trouble.PRINTS, Trouble.FORKS]
"""These are fitted like any other."""

TEXT = """\
[fleet]
name = "machines"
group = ["machine"]
event_id = "reading"
event_time = "at"
target = "wear"
features = ["load", "trouble"]
shards = 8
[fleet.columns]
machine = "int"
load = "double"
trouble = "int"
wear = "double"
[recipe]
estimator = "misbehaving:moody"
min_rows = 8
time_limit = "800ms"
memory_limit_mib = 256
[kafka]
events = "readings"
[tracking]
mode = "off"
[storage]
root = "{root}"
"""


def troubles() -> np.ndarray:
    """The trouble of each group: 49 groups fail by it, 6 have a harmless one, at random places."""
    fast = np.resize(np.array([*FAST, *HANDLED, *HANDLED]), 46)
    bad = [*fast, *SLOW, *HARMLESS, *HARMLESS]
    out = np.zeros(GROUPS, dtype=np.int32)
    out[np.random.default_rng(3).choice(GROUPS - THIN, len(bad), replace=False)] = bad
    return out


def readings(of_group: np.ndarray) -> pd.DataFrame:
    """The last groups have too few."""
    random = np.random.default_rng(5)
    counts = np.where(np.arange(GROUPS) < GROUPS - THIN, ROWS, 3)
    machine = np.repeat(np.arange(GROUPS), counts)
    nth = np.concatenate([np.arange(count) for count in counts])
    start = pd.Timestamp("2024-05-01", tz="UTC")
    frame = pd.DataFrame({"machine": machine.astype("int32"), "load": random.normal(size=len(machine))})
    frame["trouble"] = of_group[machine]
    frame["wear"] = (1 + machine % 7) * frame["load"] + 0.1 * random.normal(size=len(machine))
    frame["group_key"] = [keys.encode([int(number)]) for number in machine]
    frame["event_id"] = [f"{number}-{n}" for number, n in zip(machine, nth, strict=True)]
    frame["event_time"] = (start + pd.to_timedelta(nth, unit="h")).astype("datetime64[us, UTC]")
    return frame


def put(config, frame: pd.DataFrame) -> None:
    place = FleetStore.of(config).directory(tables.EVENTS)
    first = frame["event_time"].iloc[0]
    shards = {key: keys.shard_of(key, config.fleet.shards) for key in frame["group_key"].unique()}
    whole = frame.assign(shard=frame["group_key"].map(shards).astype("int32"), ingested_on=first.date())
    whole = whole.assign(ingested_at=first, batch_id=0, topic="readings", kafka_partition=0, kafka_offset=0)
    schema = arrow_schema(place.contract)
    lacking = [name for name in schema.names if name not in whole]
    whole[lacking] = None
    write_deltalake(place.uri, pa.Table.from_pandas(whole, schema, preserve_index=False), mode="append")


@pytest.fixture
def fleet(spark, tmp_path, monkeypatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    spark.sparkContext.addPyFile(str(Path(misbehaving.__file__)))
    config = parse(TEXT.format(root=tmp_path / "root"), "fleet.toml", {})
    delta.create_tables(FleetStore.of(config))
    return config


def test_every_group_is_accounted_for_and_only_those_that_misbehave_have_failed(spark, fleet) -> None:
    of_group = troubles()
    frame = readings(of_group)
    put(fleet, frame)
    done = weekly.retrain(fleet, spark=spark)
    columns = ["group_key", "status", "error_class", "error", "model_id", "payload", "fit_ms", "rows"]
    attempts = delta.read_table(FleetStore.of(fleet), tables.MODELS, columns).to_pandas()

    # Every group once.
    machines = [keys.encode([number]) for number in range(GROUPS)]
    assert sorted(attempts["group_key"]) == sorted(machines)
    names = ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred")
    counts = {name: done[name] for name in names}
    print(json.dumps({**counts, "seconds": done["seconds"]}))  # noqa: T201
    assert counts == {
        "groups_in": 1_000, "fitted": 941, "failed": 49, "too_few_rows": 10, "kept": 0, "deferred": 0,
    }  # fmt: skip
    assert sum(counts[name] for name in names[1:]) == counts["groups_in"]

    # Those that fail are those that were made to, each for its own reason.
    mine = attempts.set_index("group_key").loc[machines].reset_index()
    expected = [{**FAST, **SLOW}.get(Trouble(each)) for each in of_group[: GROUPS - THIN]]
    assert mine["error_class"][: GROUPS - THIN].astype(object).where(lambda of: of.notna(), None).tolist() == expected
    print(Counter(mine["error_class"].dropna()), dict(mine["status"].value_counts()))  # noqa: T201
    assert set(mine["error_class"][GROUPS - THIN :]) == {"TooFewRows"}
    late = mine[mine["error_class"] == "TimedOut"]
    assert set(late["status"]) == {"timed_out"}
    assert (late["fit_ms"] >= 800).all()
    assert late["error"].str.startswith("no end within 0.8 s (recipe.time_limit) while ").all()

    # The others have the models that they have without them.
    recipe, clock = Recipe.of(fleet), done["clock"]
    healthy = frame[frame["group_key"].isin(mine["group_key"][mine["status"] == "fitted"])]
    healthy = healthy.rename(columns={"wear": "label"})
    whose = healthy["group_key"].unique().tolist()
    history = select_training_set(healthy, whose, recipe, clock)
    by_hand = {key: model_id_of(key, history.fingerprint(g), recipe.recipe_id) for g, key in enumerate(whose)}
    fitted = mine[mine["status"] == "fitted"].set_index("group_key")
    assert fitted["model_id"].to_dict() == by_hand
    some = pd.DataFrame({"group_key": [key for key in whose if of_group[int(key[2:-2])] == 0][::15]})
    few = healthy[healthy["group_key"].isin(some["group_key"])]
    alone = fit_groups(few, some, recipe, clock, signing_key.load_signer(FleetStore.of(fleet))).set_index("group_key")
    assert fitted.loc[some["group_key"], ["model_id", "payload"]].equals(alone[["model_id", "payload"]])

    # They are listed and told, and tried again when they are named.
    standing = {each.group_key: each for each in Fleet(fleet).groups()}
    assert {key for key, each in standing.items() if each.state == State.FAILED} == {
        key for key, why in zip(machines, expected, strict=False) if why
    }
    again = [mine["group_key"][mine["error_class"] == name].iloc[0] for name in ("TimedOut", "SystemExit")]
    text = str(Fleet(fleet).why(again[0]))
    assert "TimedOut: no end within 0.8 s (recipe.time_limit)" in text
    second = weekly.retrain(fleet, [*again, machines[-1]], spark=spark)
    assert [second[name] for name in names] == [3, 0, 2, 1, 0, 0]
    assert (second["clock"] - done["clock"]) == timedelta(0)
