"""What is fixed under a root, and from which offset on an edited range holds. Offsets stand as in Spark's files."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from spinney.core.errors import Busy, StoreError
from spinney.core.records.rules import ValidationSettings
from spinney.storage.charter import Charter, Edition, amend_charter, amend_when_idle, ensure_charter
from spinney.storage.layout import FleetStore
from spinney.storage.leases import held


def begun(config, query: str, batch: int, *sources: Any) -> None:
    """Write what Spark writes when it begins a batch."""
    folder = Path(config.storage.root) / "checkpoints" / query / "offsets"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [source if isinstance(source, str) else json.dumps(source) for source in sources]
    (folder / str(batch)).write_text("\n".join(["v1", '{"batchWatermarkMs":0,"batchTimestampMs":1}', *lines]))


DELTA_OFFSET = {"sourceVersion": 1, "reservoirId": "r", "reservoirVersion": 4, "index": -1, "isStartingVersion": False}


def test_the_first_charter_has_one_edition_from_the_start(configured) -> None:
    made = amend_charter(FleetStore.of(configured(ranges="price = [0, 10]")))
    assert made.editions == (Edition(ValidationSettings({"price": (0.0, 10.0)}), {}),)
    assert amend_charter(FleetStore.of(configured(ranges="price = [0, 10]"))) == made
    report = json.loads((Path(configured().storage.root) / "charter.json").read_text())
    assert report["fixed"]["kafka.outcomes"] == "sold"
    assert report["fixed"]["fleet.columns"]["dept"] == "int"


def test_a_fleet_has_an_identity_that_is_made_once_and_is_nobody_elses(configured, tmp_path: Path) -> None:
    first = ensure_charter(FleetStore.of(configured())).fleet_id
    assert uuid.UUID(first).version == 4
    assert ensure_charter(FleetStore.of(configured(ranges="price = [0, 10]"))).fleet_id == first
    assert amend_charter(FleetStore.of(configured(ranges="price = [0, 10]"))).fleet_id == first
    assert amend_charter(FleetStore.of(configured())).fleet_id == first
    assert ensure_charter(FleetStore.of(configured(root=str(tmp_path / "other")))).fleet_id != first


def test_of_two_that_make_the_charter_at_once_one_does(configured, monkeypatch) -> None:
    """The other's comes between the look and the write."""
    config, fsync = configured(), os.fsync
    others: list[Charter] = []

    def meanwhile(file: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        others.append(amend_charter(FleetStore.of(config)))
        fsync(file)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert [amend_charter(FleetStore.of(config))] == others


def test_what_may_change_at_any_time_is_not_in_it(configured) -> None:
    amend_charter(FleetStore.of(configured()))
    amend_charter(
        FleetStore.of(
            configured(
                ('features = ["price", "brand"]', 'features = ["price"]'), ('label_delay = "1h"', 'label_delay = "2h"')
            )
        )
    )


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("shards = 4", "shards = 8", "fleet.shards was 4 when it was made and is 8 now"),
        ('group = ["shop", "dept"]', 'group = ["dept", "shop"]', r'fleet.group was \["shop", "dept"\] .* is \["dept"'),
        ('event_id = "sale"', 'event_id = "ticket"', 'fleet.event_id was "sale" .* is "ticket"'),
        ('event_time = "at"', 'event_time = "time"', 'fleet.event_time was "at"'),
        ('target = "sold"', 'target = "sold"\nclock = "wall"', 'fleet.clock was "event" .* is "wall" now'),
        ('events = "sales"', 'events = "tills"', 'kafka.events was "sales" .* is "tills" now'),
        ('outcomes = "sold"', "", 'kafka.outcomes was "sold" when it was made and is null now'),
    ],
)
def test_a_fixed_fact_that_was_changed_is_refused(configured, before: str, after: str, says: str) -> None:
    amend_charter(FleetStore.of(configured()))
    with pytest.raises(StoreError, match=says + ".*[Pp]ut it back, or give the new fleet another storage.root"):
        amend_charter(FleetStore.of(configured((before, after))))


def test_changed_columns_are_refused_by_name_and_lead_to_the_migration(configured) -> None:
    amend_charter(FleetStore.of(configured()))
    says = r'fleet.columns was \{"dept": "int"\} when it was made and is \{"dept": "bigint"\} now.*`spinney migrate`'
    with pytest.raises(StoreError, match=says):
        amend_charter(FleetStore.of(configured(('dept = "int"', 'dept = "bigint"'))))


def test_a_changed_loss_leads_to_the_migration(configured) -> None:
    amend_charter(FleetStore.of(configured()))
    says = 'fleet.loss was "absolute" when it was made and is "squared" now; stored losses .* `spinney migrate`'
    with pytest.raises(StoreError, match=says):
        amend_charter(FleetStore.of(configured(('target = "sold"', 'target = "sold"\nloss = "squared"'))))


def test_an_edit_holds_from_the_first_offset_that_neither_query_has_begun(configured) -> None:
    config = configured(ranges="price = [0, 10]")
    amend_charter(FleetStore.of(config))
    begun(config, "ingest", 2, {"sales": {"0": 100, "1": 5}}, {"sold": {"0": 7}})
    begun(config, "ingest", 10, {"sales": {"0": 120, "1": 9}}, {"sold": {"0": 8}})
    begun(config, "score", 3, {"sales": {"0": 130, "1": 6}}, DELTA_OFFSET, "-")
    edited = amend_charter(FleetStore.of(configured(ranges="price = [0, 20]")))
    assert edited.editions == (
        Edition(ValidationSettings({"price": (0.0, 10.0)}), {}),
        Edition(ValidationSettings({"price": (0.0, 20.0)}), {"sales": {"0": 130, "1": 9}, "sold": {"0": 8}}),
    )
    assert amend_charter(FleetStore.of(configured(ranges="price = [0, 20]"))) == edited


def test_going_back_to_the_old_range_is_an_edition_of_its_own(configured) -> None:
    config = configured(ranges="price = [0, 10]")
    amend_charter(FleetStore.of(config))
    amend_charter(FleetStore.of(configured(ranges="")))
    begun(config, "score", 0, {"sales": {"0": 4}}, "-", "-", "-")
    editions = amend_charter(FleetStore.of(config)).editions
    assert [dict(each.settings.ranges) for each in editions] == [{"price": (0.0, 10.0)}, {}, {"price": (0.0, 10.0)}]
    assert editions[2].since == {"sales": {"0": 4}}


def test_an_edit_waits_while_a_query_judges_by_the_old_ranges(configured) -> None:
    amend_charter(FleetStore.of(configured()))
    edited = configured(ranges="price = [0, 20]")
    with held(FleetStore.of(configured()), ["score"]):
        says = r"fleet shops: fleet.ranges was edited.* from one offset for ingest and score:.*query score"
        with pytest.raises(Busy, match=says):
            amend_when_idle(FleetStore.of(edited), ("ingest",))
        assert amend_when_idle(FleetStore.of(configured()), ("ingest",)).editions == (
            Edition(ValidationSettings(), {}),
        )
    assert len(amend_when_idle(FleetStore.of(edited), ("ingest",)).editions) == 2


def test_one_process_that_holds_both_queries_may_edit(configured) -> None:
    amend_charter(FleetStore.of(configured()))
    edited = configured(ranges="price = [0, 20]")
    with held(FleetStore.of(edited), ["ingest", "score"]):
        assert len(amend_when_idle(FleetStore.of(edited), ("ingest", "score")).editions) == 2


def test_who_does_not_judge_makes_the_charter_and_leaves_an_edit_to_those_who_do(configured) -> None:
    ensure_charter(FleetStore.of(configured(ranges="price = [0, 10]")))
    ensure_charter(FleetStore.of(configured(ranges="price = [0, 20]")))
    settings = ValidationSettings({"price": (0.0, 10.0)})
    assert amend_charter(FleetStore.of(configured(ranges="price = [0, 10]"))).editions == (Edition(settings, {}),)
    with pytest.raises(StoreError, match=r"fleet.shards was 4"):
        ensure_charter(FleetStore.of(configured(("shards = 4", "shards = 8"))))
