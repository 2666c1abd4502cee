"""A fleet of machines in two halls, small enough to work out by hand. Nothing of it is like the flights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from demo.scenario import parse_scenario
from spinney.core.config import parse

START = datetime(2020, 1, 5, tzinfo=UTC)

FLEET = """
[fleet]
name = "machines"
group = ["hall", "number"]
parents = [["hall"], []]
event_id = "id"
event_time = "at"
target = "heat"
features = ["load"]
label_delay = "1h"
shards = 2
[fleet.columns]
hall = "string"
number = "int"
load = "double"
heat = "double"
[fleet.ranges]
load = [0, 100]
[kafka]
events = "machines.events"
outcomes = "machines.outcomes"
[storage]
root = "work/machines"
"""

STORY = """
data = "machines.parquet"
label_at = "known_at"
unit = "kelvin"
seed = 7
[history]
from = 2020-01-01
until = 2020-01-05
[stream]
days = 4
[faults]
duplicates = 0.2
unmatched_outcomes = 2
dead_letters_each = 2
dead_letters = ["not_json", "null_value", "wrong_type", "out_of_range"]
[injected]
groups = 1
min_events_per_day = 2
after_days = 2
add = 5.0
"""


@pytest.fixture
def config():
    return parse(FLEET, "fleet.toml", {})


@pytest.fixture
def inside():
    """The same fleet with the label in the event."""
    return parse(FLEET.replace('outcomes = "machines.outcomes"\n', ""), "fleet.toml", {})


@pytest.fixture
def scenario():
    return parse_scenario(STORY, "demo.toml")


@pytest.fixture
def data():
    """Hall A has two machines and an event of each every hour; hall B one, with one event a day and no label after."""
    rows = []
    for hour in range(8 * 24):
        at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        for number in (1, 2):
            known = at + timedelta(minutes=90)
            rows.append(("A", number, f"A{number}-{hour:03d}", at, 10.0, 20.0 + number, known))
        if hour % 24 == 0:
            rows.append(("B", 1, f"B1-{hour:03d}", at, None, None, None))
    frame = pd.DataFrame(rows, columns=["hall", "number", "id", "at", "load", "heat", "known_at"])
    return frame.astype({"at": "datetime64[us, UTC]", "known_at": "datetime64[us, UTC]"})


WALL = datetime(2026, 1, 1, 12, tzinfo=UTC)
WATCHED = '{"champion_id": "a1-1", "watched_rows": 20, "watched_champion_loss": 3.0, "predecessor_loss": 4.0}'
DRAWN, BY_RANK = '{"rows_since":5,"queue":"random"}', '{"rows_since":4,"queue":"rank"}'
A1, A2, B1 = '["A","1"]', '["A","2"]', '["B","1"]'


def wall(seconds):
    return WALL + timedelta(seconds=seconds)


def frame(names, rows):
    """A table of these columns; times in UTC."""
    made = pd.DataFrame(rows, columns=names.split())
    for name in made.columns:
        if name in TIMES:
            made[name] = pd.to_datetime(made[name], utc=True)
    return made


TIMES = frozenset(
    {"event_time", "scored_at", "judged_at", "stale_since", "clock", "decided_at", "fitted_at", "trained_through"}
)


@pytest.fixture
def tables():
    """Two rounds of the stream after the history's own.

    r1: A1 for age: promoted, answering after 6 s. A2 for new rows: refused.
    r2: A1 for new rows: unproven, no event yet. B1, new: too few rows; a parent answers for it.
    """
    from demo.fleet_tables import FleetTables

    one, two = START + timedelta(days=1), START + timedelta(days=2)
    return FleetTables(
        events=frame("group_key event_id event_time", [(A1, "1", one), (A1, "2", two), (A2, "1", one), (B1, "1", one)]),
        outcomes=frame("group_key event_id", [(A1, "1"), (A2, "1")]),
        dead_letters=frame(
            "key value reason", [(b"k", b"{", "not_json"), (None, b"[", "not_json"), (b"t", None, "null_value")]
        ),
        predictions=frame(
            "group_key event_id event_time prediction lower upper model_id answered_by scored_at",
            [
                (A1, "1", one, 1.0, 0.0, 2.0, "a1-0", "own", wall(1)),
                (A1, "2", two, 1.0, 0.0, 2.0, "a1-1", "own", wall(9)),
                (A2, "1", one, 1.0, 0.5, 1.5, "a2-0", "own", wall(1)),
                (B1, "1", one, 1.0, None, None, "hall", "parent", wall(1)),
            ],
        ),
        verdicts=frame(
            "group_key round_id policy decision reason numbers stale_since judged_at clock",
            [
                (A1, "r1", "max_age", "fit", "8 days old", DRAWN, wall(3), wall(4), one),
                (A2, "r1", "new_rows", "fit", "5 new rows", DRAWN, wall(2), wall(4), one),
                (A1, "r2", "new_rows", "fit", "4 new rows", BY_RANK, wall(10), wall(14), two),
                (B1, "r2", "new_group", "fit", "no model yet", DRAWN, wall(10), wall(14), two),
            ],
        ),
        models=frame(
            "group_key round_id model_id status clock fitted_at metrics",
            [
                (A1, "h", "a1-0", "fitted", START, wall(-9), "{}"),
                (A2, "h", "a2-0", "fitted", START, wall(-9), "{}"),
                ('{"hall":"B"}', "h", "hall", "fitted", START, wall(-9), "{}"),
                (A1, "r1", "a1-1", "fitted", one, wall(4), "{}"),
                (A2, "r1", "a2-1", "fitted", one, wall(4), "{}"),
                (A1, "r2", "a1-2", "fitted", two, wall(14), WATCHED),
                (B1, "r2", None, "too_few_rows", two, wall(14), "{}"),
            ],
        ),
        promotions=frame(
            "group_key round_id model_id decision reason champion_loss challenger_loss rows_compared decided_at clock "
            "trained_through",
            [
                (A1, "h", "a1-0", "unproven", "first", None, 2.0, 5, wall(-9), START, START),
                (A2, "h", "a2-0", "unproven", "first", None, 2.0, 5, wall(-9), START, START),
                ('{"hall":"B"}', "h", "hall", "promoted", "first", None, 2.0, 5, wall(-9), START, START),
                (A1, "r1", "a1-1", "promoted", "not worse", 6.0, 3.0, 10, wall(4), one, one),
                (A2, "r1", "a2-1", "refused", "worse", 2.0, 3.0, 30, wall(4), one, one),
                (A1, "r2", "a1-2", "unproven", "thin", 99.0, 3.0, 2, wall(14), two, two),
            ],
        ),
        rounds=frame(
            "round_id kind groups_in fitted failed too_few_rows kept deferred seconds budget_seconds predicted_seconds",
            [
                ("h", "batch", 3, 3, 0, 0, 0, 0, '{"fit": 9.0}', None, None),
                ("r1", "stream", 2, 2, 0, 0, 0, 0, '{"plan": 0.5, "fit": 1.5}', 5.0, 1.0),
                ("r2", "stream", 3, 1, 0, 1, 0, 1, '{"plan": 0.25, "fit": 0.5}', 5.0, 0.75),
            ],
        ),
    )


@pytest.fixture
def statuses():
    """The same three groups: A1's last round promoted it, A2's refused; B1 has no model, its hall answers."""
    from spinney.core.reporting.group_status import State
    from spinney.fleet import GroupStatus

    states = {A1: State.FRESH, A2: State.REFUSED, B1: State.PARENT}
    return [GroupStatus(key, state, *[None] * 8) for key, state in states.items()]


@pytest.fixture
def ledger():
    """What was loaded and sent so that `tables` adds up."""
    from demo.invalid_records import record_digest
    from demo.ledger import Ledger

    return Ledger(
        loaded_events=frozenset(),
        loaded_outcomes=frozenset(),
        events=frozenset({(A1, "1"), (A1, "2"), (A2, "1"), (B1, "1")}),
        outcomes=frozenset({(A1, "1"), (A2, "1")}),
        event_duplicates=((A1, "1"),),
        outcome_duplicates=(),
        unmatched=frozenset(),
        dead={
            record_digest(b"k", b"{"): "not_json",
            record_digest(None, b"["): "not_json",
            record_digest(b"t", None): "null_value",
        },
    )
