from __future__ import annotations

import socket

import pytest

from spinney.core.errors import SetupError
from spinney.local.broker.ports import LOOPBACK, answers, free_ports, require_free


def test_free_ports_differ_and_can_be_used() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        require_free(port, "test")


def test_a_taken_port_is_one_sentence_with_what_to_do() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        assert answers(port)
        expected = rf"^Kafka broker: port {port} on 127.0.0.1 is taken .*choose another port$"
        with pytest.raises(SetupError, match=expected):
            require_free(port, "Kafka broker")


def test_nobody_answers_at_a_free_port() -> None:
    assert not answers(free_ports(1)[0])
