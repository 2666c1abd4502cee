"""Send dead letters to their topics again, each at most once.

A record is sent with its original key and value, if it would be accepted now. What is about to be sent is first
recorded in the `ledger`. After an interrupted replay, the topics show which of its records arrived.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import KafkaException, Message, Producer

from schemas.tables import DEAD_LETTERS
from spinney.core.config import Kafka
from spinney.core.errors import Busy, StoreError
from spinney.core.records.rules import validation_settings
from spinney.kafka import client
from spinney.kafka.topic_reading import end_offsets, read_headers, topics_with_lost_records
from spinney.operations.dead_letters import ledger
from spinney.operations.dead_letters.assessment import REPEATED, STORED, RecordAssessor, RecordId, find_stored
from spinney.operations.dead_letters.ledger import Replay
from spinney.operations.dead_letters.letters import IDENTITY, DeadLetters, identities
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

HEADER = "spinney-replay"
FLUSH_SECONDS = 120.0
RECORDS = [*IDENTITY, "key", "value"]

REPLAYED = "sent again already"
UNSETTLED = "of an interrupted replay: `--yes` looks up in the topic what has arrived, and sends the others"


@dataclass(frozen=True)
class ReplayPlan:
    """Records that a replay would send.

    rows: the columns IDENTITY of each. left: reason -> number of records that are not sent.
    """

    rows: pa.Table
    left: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of dead letters that would be sent."""
        return int(self.rows.num_rows)


def plan_replay(store: FleetStore, letters: DeadLetters) -> ReplayPlan:
    """Divide the selected dead letters into those to send and those to leave. Nothing is sent.

    Raises StoreError: the configuration has columns that the fleet does not have.
    """
    charter.check_unchanged(store)
    assessor, refusals = RecordAssessor(store.record_schema, charter.original_columns_of(store)), _refusals(store)
    left: Counter[str] = Counter()
    names: list[RecordId] = []
    parts = [arrow_schema(DEAD_LETTERS).empty_table().select(IDENTITY)]
    for rows in letters.batches(RECORDS):
        records = zip(
            _refusal_reasons(rows, refusals), rows["topic"].to_pylist(), rows["value"].to_pylist(), strict=True
        )
        found = [why or assessor.name_of(topic, value) for why, topic, value in records]
        left.update(result for result in found if isinstance(result, str))
        names += [result for result in found if isinstance(result, RecordId)]
        parts.append(rows.filter(pa.array([isinstance(result, RecordId) for result in found])).select(IDENTITY))
    whys = _name_objections(store, names)
    left.update(why for why in whys if why is not None)
    sendable = pa.concat_tables(parts).filter(pa.array([why is None for why in whys], pa.bool_()))
    return ReplayPlan(sendable, dict(left.most_common()))


def _refusals(store: FleetStore) -> dict[str, pa.Array]:
    """Return reason -> identities of the records that are not sent for this reason."""
    begun = [identities(replay.rows) for replay in ledger.unfinished_replays(store)]
    return {REPLAYED: ledger.read_replayed(store), UNSETTLED: pa.concat_arrays([pa.array([], pa.string()), *begun])}


def _refusal_reasons(rows: pa.Table, refusals: Mapping[str, pa.Array]) -> list[str | None]:
    row_identities = identities(rows)
    found: list[str | None] = [None] * rows.num_rows
    for why, refused in refusals.items():
        is_refused = pc.is_in(row_identities, value_set=refused).to_pylist()
        found = [before or (why if is_so else None) for before, is_so in zip(found, is_refused, strict=True)]
    return found


def _name_objections(store: FleetStore, names: Sequence[RecordId]) -> list[str | None]:
    """Return why each id must not be sent, or None.

    A record whose id is stored already would be dropped as a duplicate, or count as a second event.
    """
    stored = find_stored(store, set(names))
    seen: set[RecordId] = set()
    found: list[str | None] = []
    for name in names:
        found.append(STORED if name in stored else REPEATED if name in seen else None)
        seen.add(name)
    return found


def carry_out_replay(store: FleetStore, kafka: Kafka, letters: DeadLetters) -> ReplayPlan:
    """Send the records of the plan that `plan_replay` returns, and return this plan.

    Raises Busy if another replay runs, the stream validates by older rules, or no broker answers. Raises StoreError as
    `plan_replay` does, or if the broker did not accept every record. The next replay does not repeat accepted records.
    """
    with leases.held(store, [leases.REPLAY]):
        charter.check_unchanged(store)
        _refuse_other_rules(store)
        settle_replays(store, kafka)
        found = plan_replay(store, letters)
        if found.count:
            ends = end_offsets(kafka, set(found.rows["topic"].to_pylist()))
            replay = Replay(uuid.uuid4().hex, found.rows, ends)
            ledger.begin_replay(store, replay)
            _send(kafka, letters, replay)
            ledger.end_replay(store, replay, range(found.count))
    return found


def _refuse_other_rules(store: FleetStore) -> None:
    """Raise Busy if a stream still runs with older rules: edited rules take effect at its next start."""
    stored = charter.load_charter(store)
    if stored is None or stored.editions[-1].settings == validation_settings(store.fleet):
        return
    try:
        with leases.held(store, charter.VALIDATING_QUERIES):
            return
    except Busy as error:
        raise Busy(
            f"dead letters of fleet {store.fleet.name}: the rules for records were edited after the stream started, "
            f"so it would reject by the old ones. Restart the stream first ({error})"
        ) from error


def settle_replays(store: FleetStore, kafka: Kafka) -> None:
    """Find out which records of interrupted replays arrived.

    If a topic has lost records meanwhile, all of its records count as sent, since they may have been read before.
    """
    for replay in ledger.unfinished_replays(store):
        own = f"{replay.replay_id}/"
        texts = (text for text in read_headers(kafka, replay.beginnings, HEADER) if text.startswith(own))
        arrived = {int(text.removeprefix(own)) for text in texts}
        # After reading: retention may remove records meanwhile.
        lost = topics_with_lost_records(kafka, replay.beginnings)
        arrived |= {at for at, topic in enumerate(replay.rows["topic"].to_pylist()) if topic in lost}
        ledger.end_replay(store, replay, arrived)


def _send(kafka: Kafka, letters: DeadLetters, replay: Replay) -> None:
    # The broker refuses whole batches: one record that is too large for the topic would fail others.
    producer = client.producer(kafka, {"batch.num.messages": 1})
    numbers = {text: at for at, text in enumerate(identities(replay.rows).to_pylist())}
    refused: list[str] = []

    def answered(error: object, message: Message) -> None:
        del message
        if error is not None:
            refused.append(str(error))

    sent = 0
    for text, row in _records(letters):
        if text in numbers:
            header = (HEADER, f"{replay.replay_id}/{numbers[text]}".encode())
            sent += 1
            why = _produce(producer, row, header, answered)
            refused += [] if why is None else [why]
    unanswered = producer.flush(FLUSH_SECONDS)
    if refused or unanswered or sent < len(numbers):
        why = refused[0] if refused else f"{unanswered} without an answer, {len(numbers) - sent} gone from the table"
        raise StoreError(
            f"dead letters: expected the broker to take all {len(numbers)}; got {why}. Run the replay again: what the "
            "topics have of this one is not sent a second time"
        )


def _records(letters: DeadLetters) -> Iterator[tuple[str, dict[str, object]]]:
    for rows in letters.batches(RECORDS):
        yield from zip(identities(rows).to_pylist(), rows.to_pylist(), strict=True)


def _produce(
    producer: Producer, row: Mapping[str, object], header: tuple[str, bytes], answered: Callable[..., None]
) -> str | None:
    """Hand a record to the client. Returns the error; None if the client took it."""
    while True:
        try:
            producer.produce(row["topic"], row["value"], row["key"], headers=[header], on_delivery=answered)
            producer.poll(0)
        except BufferError:  # the client's queue is full: let it send
            producer.poll(0.1)
        except KafkaException as error:
            return str(error.args[0].str())
        else:
            return None
