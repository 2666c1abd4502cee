"""Which groups the stream's judge has called stale and not fitted since, by its stored verdicts."""

from __future__ import annotations

from pathlib import Path

from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.core import keys
from spinney.core.config import parse
from spinney.retraining.requested_verdicts import deferred_groups
from spinney.storage.layout import FleetStore

A, B, C = (f'["{name}","1"]' for name in "abc")


def test_a_group_is_deferred_whose_newest_verdict_of_the_stream_is(tmp_path: Path) -> None:
    past = Past(parse(fleet_toml(tmp_path), "fleet.toml", {}))
    store = FleetStore.of(past.config)
    assert deferred_groups(store, [A]) == {}

    def judged(batch_id: int, **decisions: str) -> None:
        at = {"judged_at": hour(batch_id), "batch_id": batch_id, "epoch": 0}
        rows = ({**at, "group_key": f'["{name}","1"]', "decision": said} for name, said in decisions.items())
        past.put(tables.VERDICTS, "stream", *rows)

    judged(1, a="deferred", b="deferred", c="fit", d="deferred")
    judged(3, c="deferred")
    judged(2, b="fresh", c="refused")
    # A batch refits groups beside the stream, whose judge has not seen it yet.
    past.put(tables.VERDICTS, "batch", {"group_key": A, "decision": "fit", "judged_at": hour(9), "batch_id": 9})
    shards = store.fleet.shards
    assert deferred_groups(store, [A, B, C, '["e","1"]']) == {key: keys.shard_of(key, shards) for key in (A, C)}
