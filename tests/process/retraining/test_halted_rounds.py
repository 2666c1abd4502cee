"""A round in which much of a fleet fails or gets worse: it replaces no champion, and says so."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake
from edited_fleet import decided, editor, no_spark, sell

from batch.weekly import retrain
from schemas import tables
from spinney.cli import main
from spinney.core.config import Config
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, carry_out_override
from spinney.retraining.promotion_halt import halt_of, hold_replacements, tally_attempts
from spinney.retraining.round_gate import SCHEMA
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.readers.halted_rounds import describe_halt

SURE = '"champion_difference": {d}, "champion_difference_se": 0.01, "heldout_rows": 40'
BETTER = '{"challenger_loss": 1.0, "champion_loss": 2.0, ' + SURE.replace("{d}", "-1.0") + "}"
WORSE = '{"challenger_loss": 2.0, "champion_loss": 1.0, ' + SURE.replace("{d}", "1.0") + "}"


def break_labels(config: Config, stores: int) -> None:
    """The events of so many stores come once more, three days later, with labels whose sums overflow."""
    place = FleetStore.of(config).directory(tables.EVENTS)
    rows = delta.read_table(FleetStore.of(config), tables.EVENTS).to_pylist()
    again = [
        {
            **row,
            "event_id": f"again-{row['event_id']}",
            "event_time": row["event_time"] + timedelta(days=3),
            "sold": 1e308,
        }
        for row in rows
        if row["store"] < f"s{stores:03}"
    ]
    schema = delta.open_dataset(delta.open_existing(place)).schema
    write_deltalake(place.uri, pa.Table.from_pylist(again, schema=schema), mode="append")


def test_attempts_are_tallied_by_what_became_of_them() -> None:
    models = [
        ("a", "fitted", BETTER), ("b", "fitted", WORSE), ("c", "fitted", "{}"), ("d", "failed", None),
        ("e", "timed_out", None), ("f", "too_few_rows", None),
    ]  # fmt: skip
    columns = dict(zip(("group_key", "status", "metrics"), map(list, zip(*models, strict=True)), strict=True))
    decisions = pa.table({"group_key": ["a", "b", "c"], "decision": ["promoted", "refused", "refused"]})
    tally = tally_attempts(pa.table(columns), decisions)
    assert (tally.attempted, tally.failed, tally.worse) == (5, 2, 1)


def test_only_promotions_that_replace_a_champion_are_held_and_no_champion_is_withdrawn() -> None:
    rows = [("a", "promoted"), ("b", "unproven"), ("c", "refused"), ("new", "promoted"), ("k", "kept")]
    rows.insert(3, ("c", "withdrawn"))
    named = [{"group_key": key, "decision": decision, "reason": f"because of {key}"} for key, decision in rows]
    decisions = pa.Table.from_pylist(named, schema=SCHEMA)
    plan = pd.DataFrame({"group_key": ["a", "b", "c", "new", "k"], "champion_id": ["1", "2", "3", None, "4"]})
    held = hold_replacements(decisions, plan, "too much failed")
    assert held.schema == SCHEMA
    assert held.column("decision").to_pylist() == ["held", "held", "refused", "promoted", "kept"]
    assert held.column("reason").to_pylist() == [
        "halted: too much failed. Without the halt: promoted, because of a",
        "halted: too much failed. Without the halt: unproven, because of b",
        *(f"because of {key}" for key in ("c", "new", "k")),
    ]
    assert halt_of(held.column("reason")) == "too much failed"
    assert halt_of(decisions.column("reason")) is None


def test_a_batch_in_which_most_groups_fail_replaces_no_champion_but_fits_new_groups_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    edited = editor(tmp_path)
    sell(edited(), 30)
    first = retrain(edited(), spark=no_spark)
    assert first is not None
    assert first["halted"] is None
    assert describe_halt(FleetStore.of(edited())) is None

    break_labels(edited(), 25)
    sell(edited(), range(25, 40), first=30)
    with caplog.at_level(logging.WARNING, logger="spinney.retraining.rounds"):
        second = retrain(edited(), spark=no_spark)
    assert second is not None
    champions = {f'["s{store:03}"]' for store in range(30)}
    decisions = {row["group_key"]: row["decision"] for row in decided(edited())}
    of_champions = {key: decision for key, decision in decisions.items() if key in champions}
    assert second["failed"] == 25
    assert set(of_champions.values()) == {"held"}
    assert {decision for key, decision in decisions.items() if key not in champions} == {"unproven"}
    assert second["held"] == len(of_champions) == 5
    assert "of 40 groups 25 failed and 0 got a model" in second["halted"]
    assert second["halted"] in caplog.text
    described = describe_halt(FleetStore.of(edited()))
    assert described is not None
    assert described.startswith(f"the last round, batch-1, was halted and replaced no champion: {second['halted']}.")
    (tmp_path / "fleet.toml").write_text(edited().text, encoding="utf-8")
    shown = CliRunner().invoke(main, ["fleet", "--config", str(tmp_path / "fleet.toml"), "--state", "held"])
    assert shown.exit_code == 0, shown.output
    assert described in shown.stderr
    assert all(key.strip('["]') in shown.stdout for key in of_champions)

    (key, *_) = of_champions
    held = next(row for row in decided(edited()) if row["group_key"] == key)
    request = OverrideRequest(OverrideVerb.PROMOTE, (key,), model=held["model_id"])
    signer = signing_key.load_signer(FleetStore.of(edited()))
    (change,) = carry_out_override(
        FleetStore.of(edited()), signer, request, Attribution("ann", "the labels are right")
    ).steps
    assert (change.after, change.decision) == (held["model_id"], "promoted"), "a person releases what was held"
