"""A batch's messages are all acknowledged, or the batch fails. The client is a stand-in: no broker is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from spinney.core.errors import StoreError
from spinney.kafka import client as kafka
from spinney.kafka.publishing import Publisher

MESSAGES = [(f"k{n}".encode(), f"v{n}".encode()) for n in range(5)]


class Refusal:
    def str(self) -> str:
        return "Broker: Message size too large"


class Client:
    """Its queue holds two messages; refused: the keys that the broker does not take."""

    def __init__(self, settings: Mapping[str, Any], refused: tuple[bytes, ...], silent: int) -> None:
        self.answered: Callable[[Any, Any], None] = settings["on_delivery"]
        self.refused, self.silent = refused, silent
        self.queue: list[tuple[bytes, bytes]] = []
        self.taken: list[tuple[bytes, bytes]] = []

    def produce(self, topic: str, value: bytes, key: bytes) -> None:
        assert topic == "answers"
        if len(self.queue) == 2:
            raise BufferError
        self.queue.append((key, value))

    def poll(self, seconds: float) -> int:
        del seconds
        for key, value in self.queue:
            if key in self.refused:
                self.answered(Refusal(), None)
            else:
                self.taken.append((key, value))
        self.queue.clear()
        return 0

    def flush(self) -> int:
        self.poll(0)
        return self.silent


@pytest.fixture
def made(configured, monkeypatch) -> Callable[..., tuple[Publisher, list[Client]]]:
    def make(refused: tuple[bytes, ...] = (), silent: int = 0) -> tuple[Publisher, list[Client]]:
        clients: list[Client] = []

        def producer(_: Any, settings: Mapping[str, Any]) -> Client:
            clients.append(Client(settings, refused, silent))
            return clients[-1]

        monkeypatch.setattr(kafka, "producer", producer)
        return Publisher(configured().kafka, "answers"), clients

    return make


def test_every_message_is_sent_in_order_when_the_queue_is_full_too_and_one_client_serves_all_batches(made) -> None:
    publisher, clients = made()
    publisher.publish(MESSAGES[:3])
    publisher.publish(MESSAGES[3:])
    (client,) = clients
    assert client.taken == MESSAGES


@pytest.mark.parametrize(
    ("broken", "got"),
    [({"refused": (b"k3",)}, "Message size too large"), ({"silent": 2}, "2 messages without an answer")],
)
def test_one_message_that_the_broker_does_not_take_fails_the_batch(made, broken: dict[str, Any], got: str) -> None:
    publisher, _ = made(**broken)
    with pytest.raises(StoreError, match=f"topic answers: .* got .*{got}"):
        publisher.publish(MESSAGES)


def test_a_batch_after_a_failed_one_is_sent_by_a_client_that_knows_nothing_of_it(made) -> None:
    publisher, clients = made(refused=(b"k3",))
    with pytest.raises(StoreError, match="Message size too large"):
        publisher.publish(MESSAGES)
    publisher.publish(MESSAGES[:3])
    failed, second = clients
    assert second.taken == MESSAGES[:3]
    failed.answered(Refusal(), None)  # an answer to the failed batch that comes late
    publisher.publish(MESSAGES[4:])
    assert clients == [failed, second]
    assert second.taken == [*MESSAGES[:3], *MESSAGES[4:]]


def test_messages_that_could_not_be_made_leave_nothing_queued_for_the_next_batch(made) -> None:
    def broken() -> Iterator[tuple[bytes, bytes]]:
        yield MESSAGES[0]
        raise ValueError("no such answer")

    publisher, clients = made()
    with pytest.raises(ValueError, match="no such answer"):
        publisher.publish(broken())
    publisher.publish(MESSAGES[1:])
    assert [client.taken for client in clients] == [[], MESSAGES[1:]]
